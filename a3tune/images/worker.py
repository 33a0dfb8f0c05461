"""The process that reads files for another one: it is asked over standard input and answers over standard output.

It can do little harm: it may write no file, or none above a size where it unpacks, and dump no core, what decoders
print goes nowhere, and it ends by itself when nobody asks any more.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import importlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from a3tune.errors import A3TuneError, AdapterError, DataError, ImageError, ImageMemoryError
from a3tune.images.decode_limits import PATIENCE
from a3tune.images.decode_refusals import no_memory, too_large, unreadable
from a3tune.images.messages import TooLarge, receive, send

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_READERS = tuple(f"a3tune.images.{name}" for name in ("load", "target_mask", "masks", "values", "dicom_source"))
_DATA_READERS = ("a3tune.data.archive", "a3tune.data.column_renaming", "a3tune.data.read")
_ADAPTER_READERS = ("a3tune.adapters.safetensors_header",)
# How long after its end a request may still run, in seconds, where nobody is left who would end this process.
_ALONE = 10.0
# Within how many seconds, or a third of those that it has, a file must be refused for being tried again.
_SOON = 1.0
# How often it is told how far the work is, in seconds.
_INTERVAL = 0.1


def error_of(module: str) -> type[A3TuneError]:
    """What a reader's module raises: `ImageError` about pictures, `DataError` about data sets and archives,
    `AdapterError` about adapters."""
    if module in _ADAPTER_READERS:
        return AdapterError
    return DataError if module in _DATA_READERS else ImageError


def reads_pictures(module: str) -> bool:
    """Whether a reader's module reads pictures, no data sets, archives or adapters."""
    return error_of(module) is ImageError


def serve(memory: int, written: int) -> None:
    """Answer requests until there are no more.

    A request is (module, name of a function, arguments, keywords, seconds, how many bytes the reply may take, whether
    it is to tell how far it is); a reply is (True, result) or (False, A3TuneError), before which come any number of
    (None, progress). The first reply comes unasked, once everything is loaded.

    Args:
        memory: how many bytes may be taken beyond those that the loaded decoders take, where the system can hold it;
            four times as many for finding out whether a file that was refused lacked only memory.
        written: how many bytes a file may take that is written.
    """
    asked, told = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the program in the terminal, which ends this one
    for module in (*_READERS, *_DATA_READERS, *_ADAPTER_READERS):
        importlib.import_module(module)
    _limit(memory, written)
    send(told, (True, None))
    with contextlib.suppress(EOFError, OSError):
        while True:
            module, name, args, kwargs, seconds, output, tells = receive(asked, trusted=True)
            faulthandler.dump_traceback_later(PATIENCE * seconds + _ALONE, exit=True, file=nowhere)
            begun = time.process_time()
            reply = _answer(module, name, args, kwargs | ({"on_progress": _teller(told)} if tells else {}))
            taken = time.process_time() - begun
            if reads_pictures(module) and taken < max(_SOON, seconds / 3) and _looks_damaged(reply[1]):
                reply = _with_more_memory(reply, functools.partial(_answer, module, name, args, kwargs))
            faulthandler.cancel_dump_traceback_later()
            try:
                send(told, reply, output)
            except TooLarge:
                send(told, (False, too_large(error_of(module), output)))
            del reply


def _teller(told: BinaryIO) -> Callable[[str, float], None]:
    """A `Progress` that the other side hears now and then."""
    last = 0.0

    def tell(what: str, share: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _INTERVAL:
            last = now
            send(told, (None, (what, share)))

    return tell


def _answer(module: str, name: str, args: tuple, kwargs: dict[str, Any]) -> tuple[bool, object]:
    try:
        return True, getattr(importlib.import_module(module), name)(*args, **kwargs)
    except A3TuneError as error:
        # Alone: what it was raised from may quote the file.
        error.__cause__ = error.__context__ = None
        return False, error
    except MemoryError:
        return False, no_memory(error_of(module))
    except Exception:
        return False, unreadable(error_of(module))


def _looks_damaged(value: object) -> bool:
    return isinstance(value, ImageError) and not isinstance(value, ImageMemoryError)


def _with_more_memory(refused: tuple[bool, object], again: Callable[[], tuple[bool, object]]) -> tuple[bool, object]:
    """A refusal, or the error about memory where the file is read differently with more memory.

    A decoder of C that is given no memory fails as it does at damaged bytes, and says nothing else.
    """
    if resource is None:
        return refused
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == hard:
        return refused
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    try:
        good, value = again()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return refused if not good and str(value) == str(refused[1]) else (False, no_memory(ImageError))


def _limit(memory: int, written: int) -> None:
    if resource is None:
        return
    taken = 0
    with contextlib.suppress(OSError, ValueError):
        # Pages of 4 KiB or more; other systems than Linux neither tell nor hold this limit.
        with open("/proc/self/statm", encoding="ascii") as facts:
            taken = int(facts.read().split()[0]) * resource.getpagesize()
        # The rest, up to the hard limit, is for telling a lack of memory from damage.
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory, taken + 4 * memory))
    for limit, most in ((resource.RLIMIT_FSIZE, written), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (most, most))
