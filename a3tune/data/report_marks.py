"""Marks that a hospital's system leaves in a report's text: headings of its form, and blanks for what was taken out so
that nobody is named."""

from __future__ import annotations

import re

_HEADING = r"\b(?:FINAL (?:REPORT|ADDENDUM)|WET READ)\b"
# MIMIC-CXR has ___, its forerunners [** **], Open-i's reports XXXX.
_BLANK = r"_{2,}|\[\*\*.*?\*\*\]|\b(?:X{4,}|x{4,})\b"
# A heading that begins a line goes with what it says before its colon or the line's end.
_MARKS = re.compile(rf"{_BLANK}|^[ \t]*{_HEADING}[^\n]*?(?:\n|:|$)|{_HEADING}", re.MULTILINE)


def first_mark(report: str) -> str | None:
    """The first mark in a report's text; None where there is none."""
    found = _MARKS.search(report)
    return None if found is None else found[0].strip()


def without_marks(report: str) -> str:
    """A report's text without its marks, its lines with single spaces."""
    lines = (" ".join(line.split()) for line in _MARKS.sub(" ", report).splitlines())
    return "\n".join(line for line in lines if line)
