"""Marks that a hospital's system leaves in a report's text: headings of its form, and blanks for what was taken out so
that nobody is named."""

from __future__ import annotations

import re

_HEADING = (
    r"\b(?:(?:FINAL|PRELIMINARY|PROVISIONAL) (?:RADIOLOGY )?(?:REPORT|ADDENDUM)|WET READ(?: VERSION #?\d+)?)\b"
    r"(?:[ \t]*[:.])?"
    # In small letters only where nothing else stands in the line.
    r"|^[ \t]*(?i:(?:final|preliminary|provisional) (?:radiology )?report)[ \t]*:?[ \t]*$"
)
# MIMIC-CXR has ___, its forerunners [** **], Open-i's reports XXXX; programs that take names out write words.
_BLANK = r"_{2,}|\[\*\*.*?\*\*\]|\b(?:X{4,}|x{4,})\b|[\[<](?i:redacted|de-?identified)[\]>]"
# What follows a heading in its line stays: many files have a whole report in one line.
_MARKS = re.compile(f"{_BLANK}|{_HEADING}", re.MULTILINE)


def first_mark(report: str) -> str | None:
    """The first mark in a report's text; None where there is none."""
    found = _MARKS.search(report)
    return None if found is None else found[0].strip()


def without_marks(report: str) -> str:
    """A report's text without its marks, its lines with single spaces."""
    lines = (" ".join(line.split()) for line in _MARKS.sub(" ", report).splitlines())
    return "\n".join(line for line in lines if line)
