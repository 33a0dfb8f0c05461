"""Keep what decoders have to say about a file out of every log and terminal.

pydicom, nibabel and Pillow report oddities as warnings and log lines that quote header values: names, dates and
identifiers of patients. None of that may leave the reader, so both channels are closed while a file is read.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_LOGGERS = ("pydicom", "nibabel", "nibabel.global", "PIL", "imagecodecs", "tifffile")

# Warning filters and logger levels belong to the whole process: without the lock two threads that read files at the
# same time could restore them in the wrong order and leave the process silent for good, or a reader talking.
_LOCK = threading.RLock()


@contextmanager
def silence_decoders() -> Iterator[None]:
    """Drop warnings and the decoders' log lines; one thread at a time."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loggers = [logging.getLogger(name) for name in _LOGGERS]
        levels = [logger.level for logger in loggers]
        _set_levels(loggers, [logging.CRITICAL + 1] * len(loggers))
        try:
            yield
        finally:
            _set_levels(loggers, levels)


def _set_levels(loggers: Sequence[logging.Logger], levels: Sequence[int]) -> None:
    # Each change has every logger of the process forget what it may skip: one change for all of them is enough.
    *others, last = zip(loggers, levels, strict=True)
    for logger, level in others:
        logger.level = level
    last[0].setLevel(last[1])


@contextmanager
def silence_terminal() -> Iterator[None]:
    """Drop what C code writes to standard error meanwhile.

    libtiff, as Pillow builds it, prints every fault of a damaged file there and cannot be told otherwise. The
    redirection holds for the whole process, so use it inside `silence_decoders` and only around such a decoder's call.
    """
    try:
        terminal = os.dup(2)
    except OSError:
        # A program without a console has no standard error to keep clean.
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)
