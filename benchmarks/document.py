"""A document in docs/ whose figures a script writes between two marks."""

from __future__ import annotations

from pathlib import Path

MARK, END = "<!-- figures -->", "<!-- end of figures -->"


def write_between(document: Path, text: str) -> None:
    """Put the text between the document's marks.

    Raises:
        SystemExit: it has none; it is left as it was.
    """
    before, mark, rest = document.read_text(encoding="utf-8").partition(MARK)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise SystemExit(f"{document} has no {MARK} ... {END}")
    document.write_text(f"{before}{MARK}\n\n{text.strip()}\n\n{END}{after}", encoding="utf-8")
