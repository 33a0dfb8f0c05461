"""Rows out of Excel workbooks (.xlsx), in which tables are kept in clinics, through openpyxl."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import date, time
from pathlib import Path
from typing import Any

import openpyxl
from openpyxl.utils.exceptions import InvalidFileException

from a3tune.data.formats.faults import FaultLog, RowNumber
from a3tune.data.formats.rows import MAX_FILE_BYTES, Row, Source
from a3tune.wording import listed

_ERRORS = frozenset(("#N/A", "#VALUE!", "#REF!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!"))
_FAULTS = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, InvalidFileException, SyntaxError)


def open_excel_source(path: Path, file: str, log: FaultLog) -> Source:
    """Open the first sheet of a workbook that has rows; values as the sheet shows them, formulas as last computed.

    Args:
        path: the file.
        file: the same, relative to the data folder.
        log: takes what is wrong with the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_FILE_BYTES:
            log.add("large-file", file, 0, "", f"unpacks to {size >> 20} MiB, more than 1024", "Save it as CSV")
            return Source(path, file, None, iter(()))
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        for sheet in book.worksheets:
            # The size that a writer notes may be wrong, and rows beyond it would be left out.
            sheet.reset_dimensions()
        tables = [sheet for sheet in book.worksheets if any(map(_has_values, sheet.iter_rows(values_only=True)))]
        rows = enumerate(tables[0].iter_rows(values_only=True) if tables else (), start=1)
        top, header = next(((line, row) for line, row in rows if _has_values(row)), (0, None))
    except _FAULTS as error:
        what = f"is not an Excel workbook that can be read ({' '.join(str(error).split())[:120]})"
        log.add("syntax", file, 0, "", what, 'Save it again, or as "CSV UTF-8"')
        return Source(path, file, None, iter(()))
    if header is None:
        log.add("empty-file", file, 0, "", "the workbook is empty", "Export the data again")
        return Source(path, file, None, iter(()))
    if len(tables) > 1:
        names = [sheet.title for sheet in tables[1:]]
        what = f"only its first sheet is read; left out: {listed(names)}"
        log.add("left-out", file, 0, "", what, "Nothing, if they are no data", "warning")
    columns = tuple(_text(name).strip().lower() for name in header)
    while columns and not columns[-1]:
        columns = columns[:-1]
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        what = f"the header names {listed(twice)} more than once"
        log.add("header", file, top, twice[0], what, "Rename or remove one of them")
    return Source(path, file, columns, _rows(rows, columns, file, log))


def _rows(
    rows: Iterator[tuple[int, tuple[Any, ...]]], columns: tuple[str, ...], file: str, log: FaultLog
) -> Iterator[Row]:
    number = 1
    try:
        for number, cells in rows:
            failed = [name for name, cell in zip(columns, cells, strict=False) if cell in _ERRORS]
            if failed:
                what = "holds an error of Excel, not a value"
                log.add("excel-error", file, RowNumber(number), failed[0], what, "Correct the formula or the value")
                continue
            texts = [_text(cell) for cell in cells[: len(columns)]]
            texts += [""] * (len(columns) - len(texts))
            if any(text.strip() for text in texts):
                yield Row(file, RowNumber(number), dict(zip(columns, texts, strict=True)))
    except _FAULTS as error:
        what = f"cannot be read after row {number} ({' '.join(str(error).split())[:120]})"
        log.add("syntax", file, RowNumber(number), "", what, 'Save it again, or as "CSV UTF-8"')


def _has_values(row: tuple[Any, ...]) -> bool:
    return any(cell is not None for cell in row)


def _text(value: Any) -> str:
    """A cell as text; whole numbers without a fraction, dates as ISO 8601 writes them."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, date | time) else str(value)
