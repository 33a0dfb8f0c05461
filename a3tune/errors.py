"""The errors that reach a person: each says what was expected, what came and what to do."""

from __future__ import annotations

import errno
import re
from typing import Any

# What torch says without an error of its own: its allocator of the CPU and Apple's, the libraries of NVIDIA, and the
# system where it maps a file.
_WORDS = (
    *("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "alloc_failed"),
    "bad_alloc",
)


class A3TuneError(Exception):
    """Base of every error that a user's input or machine can cause.

    Args:
        expected: what the operation needs, in the reader's words.
        got: what it was given instead.
        remedy: what the reader can do about it.

    ``str(error)`` is one line: ``<got>. Expected <expected>. <remedy>.`` Line breaks that a wrapped
    message brought along are folded into spaces, so a command line can print it as it is.
    """

    def __init__(self, *, expected: str, got: str, remedy: str) -> None:
        self.expected, self.got, self.remedy = (_one_line(text) for text in (expected, got, remedy))
        super().__init__(f"{_sentence(self.got)} Expected {_sentence(self.expected)} {_sentence(self.remedy)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.expected, self.got, self.remedy)


class ImageError(A3TuneError):
    """A file is not an image that can be shown: damaged, empty, too large, of an unknown kind."""


class ImageMemoryError(ImageError):
    """Reading a file takes more memory than there is, or than it may take."""


class ModelError(A3TuneError):
    """A checkpoint cannot be loaded, or a model cannot do what is asked of it."""


class NotEnoughMemoryError(A3TuneError):
    """Memory, of a device or of the machine, ran out in the middle of some work; what the work had taken is free."""


class LabelError(A3TuneError):
    """Weak labels cannot be made: no segmenter, no scorer, an unusable prompt or mask."""


class AdapterError(A3TuneError):
    """An adapter does not fit its base model, or cannot do what is asked of it."""


class DataError(A3TuneError):
    """A data file or a configuration is not what a run needs."""


class RequestError(A3TuneError):
    """An argument or a choice on the page is outside what is possible."""


class EmptyTargetError(RequestError):
    """A mask fits its image and marks nothing on what is shown of it."""


class DicomWebError(A3TuneError):
    """A DICOMweb server cannot be asked, or does not answer as it should, or with more than it may."""


class Cancelled(A3TuneError):
    """The person asked for the work to stop; nothing went wrong."""

    def __init__(self) -> None:
        super().__init__(
            expected="the work to go on to its end", got="The work was cancelled", remedy="Start it again when you like"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


class FirstBatchShown(Cancelled):
    """A run that was to show its first batch alone has done so, and ends before its first step."""


def _one_line(text: str) -> str:
    return " ".join(str(text).split())


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _rebuild(kind: type[A3TuneError], expected: str, got: str, remedy: str) -> A3TuneError:
    return kind(expected=expected, got=got, remedy=remedy)


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of a device or of the machine, ran out."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # By its name, since whoever asks may not have loaded torch.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def lack_in_words(error: BaseException) -> str:
    """The first sentence of what such an error says, without the place in torch's sources that some begin with."""
    said = re.sub(r"^\[[^]]*\]\s*", "", str(error)).split(". ")[0].rstrip(".")
    return f"There was too little: {said or type(error).__name__}"
