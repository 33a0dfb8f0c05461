"""What a file really is, told from its first bytes: files of rows are often saved under another ending."""

from __future__ import annotations

from typing import NamedTuple

from a3tune.storage import stand_in_of

_SAMPLE = 4096


class ForeignContent(NamedTuple):
    """Content that is no text.

    Attributes:
        what: what it is, as the end of a sentence about the file.
        remedy: what to do, without a full stop.
    """

    what: str
    remedy: str


_TEXT_REMEDY = 'Save it as "CSV UTF-8" or as UTF-8 text'
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an old Excel workbook (.xls) or another Office file, not text",
     'Save it as "Excel workbook (.xlsx)" or as "CSV UTF-8"'),
    (b"PAR1", "is a Parquet file, not text", "Name it .parquet"),
    (b"\x1f\x8b", "is compressed with gzip, not text", "Unpack it"),
    (b"BZh", "is compressed with bzip2, not text", "Unpack it"),
    (b"\xfd7zXZ\x00", "is compressed with xz, not text", "Unpack it"),
    (b"(\xb5/\xfd", "is compressed with zstd, not text", "Unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive, not text", "Unpack it"),
    (b"Rar!", "is a RAR archive, not text", "Unpack it"),
    (b"\x89PNG", "is a PNG picture, not text", "Give the table that names it"),
    (b"\xff\xd8\xff", "is a JPEG picture, not text", "Give the table that names it"),
    (b"SQLite format 3\x00", "is an SQLite database, not text", "Export the table as CSV"),
    (b"%PDF-", "is a PDF file, not text", "Give the table itself, as CSV"),
    (b"ARROW1", "is an Arrow file, not text", "Save it as Parquet"),
)  # fmt: skip


def kind_of_content(raw: bytes) -> ForeignContent | None:
    """What the bytes of a file are when they are no UTF-8 text; None when they may be."""
    if raw.startswith(b"PK\x03\x04"):
        if b"xl/" in raw:
            return ForeignContent("is an Excel workbook (.xlsx), not text", 'Name it .xlsx, or save it as "CSV UTF-8"')
        if b"opendocument" in raw[:200]:
            return ForeignContent("is an OpenDocument file, not text", 'Save it as "CSV UTF-8" or as .xlsx')
        return ForeignContent("is a ZIP archive, not text", "Unpack it")
    for signature, what, remedy in _SIGNATURES:
        if raw.startswith(signature):
            return ForeignContent(what, remedy)
    if raw.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return ForeignContent("is UTF-32, not UTF-8", _TEXT_REMEDY)
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return ForeignContent("is UTF-16, not UTF-8", _TEXT_REMEDY)
    if found := stand_in_of(raw[:_SAMPLE]):
        return ForeignContent(f"is {found.what}", found.remedy)
    head = raw[:_SAMPLE]
    if 0 not in head:
        return None
    for width, name in ((4, "UTF-32"), (2, "UTF-16")):
        # Latin letters are zero in all bytes but one, which stands in the same place in each.
        shares = sorted(head[place::width].count(0) / max(1, len(head[place::width])) for place in range(width))
        if shares[0] < 0.1 and shares[1] > 0.6:
            return ForeignContent(f"is {name}, not UTF-8", _TEXT_REMEDY)
    return ForeignContent("holds zero bytes: it is no text, or it was damaged", "Export the data again as CSV or JSON")
