"""Numbers, names and values as they stand in messages."""

import reprlib
from collections.abc import Iterable

RESEARCH_NOTICE = "Research use only. Not a medical device, not for diagnosis or treatment."
"""What every page and every picture of a person's image says."""
WARNING = "WARNING"
"""How a remark begins that nobody may miss: the adapter at work was made for another base model."""

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 80


def counted(number: int, one: str, many: str | None = None) -> str:
    """ "1 fault" or "2,000 faults".

    Args:
        number: how many.
        one: the word for one of them.
        many: the word for none or several; ``one`` with an s when None.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def byte_words(count: float) -> str:
    """ "1.5 GiB" or "12.0 MiB"."""
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.1f} MiB"


def brief(value: object) -> str:
    """A value from a file as it can stand in a message: quoted, without control characters, never long."""
    return _brief.repr(value)


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names separated by commas, the end of a long list as a number."""
    names = list(names)
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
