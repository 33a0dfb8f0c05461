"""What a person is told when a file from outside could not be read within the limits."""

from __future__ import annotations

from a3tune.errors import A3TuneError, DataError, ImageError
from a3tune.images.decode_limits import MEMORY_VARIABLE, SECONDS_VARIABLE

_SMALLER = {
    False: "Scale the picture down or open a part of it",
    True: "Split the data set, or start the run from the command line on the folder itself",
}
_AGAIN = {
    False: "Export it again from the program that made it, or open a part of it",
    True: "Export it again from the program that made it, or split it",
}
_BROKEN = {
    False: ("a complete, unaltered picture file", "Open it in the program that made it and export it as PNG"),
    True: ("a complete, unaltered table or archive", "Save it again, or as CSV and ZIP"),
}


def refusal(why: str, *, data: bool, seconds: float, memory: int) -> A3TuneError:
    """The error about a file whose reading was ended.

    Args:
        why: "memory", "time", or anything else for what broke off.
        data: whether it is a data set's archive or tables, not a picture.
        seconds, memory: what it was allowed; bytes.
    """
    kind = DataError if data else ImageError
    if why == "memory":
        return kind(
            got="Reading the file took too much memory and was ended",
            expected=f"a file that can be read with {memory / 2**30:.3g} GiB",
            remedy=f"{_SMALLER[data]}; who runs this server can allow more memory ({MEMORY_VARIABLE}, in GiB)",
        )
    if why == "time":
        return kind(
            got="Reading the file took too long and was ended",
            expected=f"a file of this size that can be read in {seconds:.3g} seconds",
            remedy=f"{_AGAIN[data]}; who runs this server can allow more time ({SECONDS_VARIABLE})",
        )
    expected, remedy = _BROKEN[data]
    return kind(got="The decoder broke off while it read the file", expected=expected, remedy=remedy)


def too_many(data: bool, waiting: float) -> A3TuneError:
    """The error when a file gets no turn within so many seconds."""
    return (DataError if data else ImageError)(
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
