"""What a person is told when a file from outside could not be read within the limits."""

from __future__ import annotations

from collections.abc import Mapping

from a3tune.errors import A3TuneError, AdapterError, DataError, ImageError, ImageMemoryError
from a3tune.images.decode_limits import MEMORY_VARIABLE, SECONDS_VARIABLE

Kind = type[A3TuneError]

_ADAPTER_AGAIN = "Save the adapter again with PEFT"
_SMALLER: Mapping[Kind, str] = {
    ImageError: "Scale the picture down or open a part of it",
    DataError: "Split the data set, or start the run from the command line on the folder itself",
    AdapterError: _ADAPTER_AGAIN,
}
_AGAIN: Mapping[Kind, str] = {
    ImageError: "Export it again from the program that made it, or open a part of it",
    DataError: "Export it again from the program that made it, or split it",
    AdapterError: _ADAPTER_AGAIN,
}
_BROKEN: Mapping[Kind, tuple[str, str]] = {
    ImageError: ("a complete, unaltered picture file", "Open it in the program that made it and export it as PNG"),
    DataError: ("a complete, unaltered table or archive", "Save it again, or as CSV and ZIP"),
    AdapterError: ("a complete, unaltered weight file", _ADAPTER_AGAIN),
}
# What gave more than it may: what it was, what may be, and what to do.
_LARGE: Mapping[Kind, tuple[str, str, str]] = {
    ImageError: (
        "What the file holds is too large to be shown",
        "a picture that takes at most {} MiB",
        "Scale the picture down, or open a part of it",
    ),
    DataError: ("The data holds too many rows, or too much text in them", "rows that take at most {} MiB", ""),
    AdapterError: ("The weight file names too much", "names that take at most {} MiB", _ADAPTER_AGAIN),
}


def refusal(why: str, kind: Kind, *, seconds: float, memory: int) -> A3TuneError:
    """The error about a file whose reading was ended.

    Args:
        why: "memory", "time", or anything else for what broke off.
        kind: `ImageError` for a picture, `DataError` for a data set's archive or tables, `AdapterError`.
        seconds, memory: what it was allowed; bytes.
    """
    if why == "memory":
        return kind(
            got="Reading the file took too much memory and was ended",
            expected=f"a file that can be read with {memory / 2**30:.3g} GiB",
            remedy=f"{_SMALLER[kind]}; who runs this server can allow more memory ({MEMORY_VARIABLE}, in GiB)",
        )
    if why == "time":
        return kind(
            got="Reading the file took too long and was ended",
            expected=f"a file of this size that can be read in {seconds:.3g} seconds",
            remedy=f"{_AGAIN[kind]}; who runs this server can allow more time ({SECONDS_VARIABLE})",
        )
    expected, remedy = _BROKEN[kind]
    return kind(got="The decoder broke off while it read the file", expected=expected, remedy=remedy)


def unreadable(kind: Kind) -> A3TuneError:
    """The error about a file that a reader failed at in a way that it does not know."""
    expected, remedy = _BROKEN[kind]
    return kind(got="The file cannot be read", expected=expected, remedy=remedy)


def no_memory(kind: Kind) -> A3TuneError:
    """The error about a file whose reader got no more memory."""
    if kind is ImageError:
        return ImageMemoryError(
            got="There is not enough memory to read the file",
            expected="a picture that fits into the memory that reading may take",
            remedy="Scale the picture down, or open a part of it",
        )
    return kind(
        got="There is not enough memory to read the file",
        expected="a file that fits into the memory that reading may take",
        remedy=_SMALLER[kind],
    )


def too_large(kind: Kind, output: int) -> A3TuneError:
    """The error about a file of which more would have to be handed over than so many bytes."""
    got, expected, remedy = _LARGE[kind]
    return kind(got=got, expected=expected.format(output >> 20), remedy=remedy or _SMALLER[kind])


def too_many(kind: Kind, waiting: float) -> A3TuneError:
    """The error when a file gets no turn within so many seconds."""
    return kind(
        got="Too many files are being read at the moment",
        expected=f"a turn within {waiting:g} seconds",
        remedy="Try again in a minute",
    )


def could_not_start() -> ImageError:
    """The error when there is no process that could read a file."""
    return ImageError(
        got="The process that reads files could not be started",
        expected="memory and rights for a further Python process",
        remedy="Try again; who runs this server finds out more from its machine's state",
    )
