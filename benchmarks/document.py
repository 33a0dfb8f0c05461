"""A document in docs/ whose figures a script writes between two marks."""

from __future__ import annotations

from pathlib import Path


def write_between(document: Path, text: str, name: str = "figures") -> None:
    """Put the text between the document's marks, ``<!-- name -->`` and ``<!-- end of name -->``.

    Raises:
        SystemExit: it has none; it is left as it was.
    """
    opening, closing = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, mark, rest = document.read_text(encoding="utf-8").partition(opening)
    _, end, after = rest.partition(closing)
    if not mark or not end:
        raise SystemExit(f"{document} has no {opening} ... {closing}")
    document.write_text(f"{before}{opening}\n\n{text.strip()}\n\n{closing}{after}", encoding="utf-8")
