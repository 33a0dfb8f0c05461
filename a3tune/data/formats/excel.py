"""Rows out of Excel workbooks (.xlsx), in which tables are kept in clinics, through openpyxl."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from datetime import date, time
from pathlib import Path
from typing import Any

from a3tune.data.formats.faults import FaultLog, RowNumber
from a3tune.data.formats.rows import MAX_FILE_BYTES, Row, Source
from a3tune.data.formats.signatures import kind_of_content
from a3tune.storage import DAMAGED_ARRAYS
from a3tune.wording import listed

_UNCOMPUTED = object()
_ERRORS = frozenset(("#N/A", "#VALUE!", "#REF!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!"))


def open_excel_source(path: Path, file: str, log: FaultLog) -> Source:
    """Open the first sheet of a workbook that has rows; values as the sheet shows them, formulas as last computed.

    Args:
        path: the file.
        file: the same, relative to the data folder.
        log: takes what is wrong with the file.
    """
    try:
        head = path.read_bytes()[:4096]
        if head and not head.startswith(b"PK"):
            found = kind_of_content(head)
            what, remedy = found or ("is text, not an Excel workbook", "Name it .csv, .tsv or .json, by what it is")
            log.add("encoding", file, 0, "", what, remedy)
            return Source(path, file, None, iter(()))
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_FILE_BYTES:
            log.add("large-file", file, 0, "", f"unpacks to {size >> 20} MiB, more than 1024", "Save it as CSV")
            return Source(path, file, None, iter(()))
        # Values as last computed, and beside them the formulas, which tell a value that never was from an empty cell.
        values, formulas = (_sheets(path, computed=computed) for computed in (True, False))
        tables = [place for place, sheet in enumerate(formulas) if any(map(_has_values, _cells(sheet)))]
        both = [(values[place], formulas[place]) for place in tables[:1]]
        # A program that computes at all leaves a value at some formula; a formula without one then is empty on purpose.
        empty = None if any(map(_is_computed, both)) else _UNCOMPUTED
        pairs = (pair for sheets in both for pair in zip(*map(_cells, sheets), strict=True))
        rows = ((line, _marked(known, given, empty)) for line, (known, given) in enumerate(pairs, start=1))
        top, header = next(((line, row) for line, row in rows if _has_values(row)), (0, None))
    except DAMAGED_ARRAYS as error:
        what = f"is not an Excel workbook that can be read ({' '.join(str(error).split())[:120]})"
        log.add("syntax", file, 0, "", what, 'Save it again, or as "CSV UTF-8"')
        return Source(path, file, None, iter(()))
    if header is None:
        log.add("empty-file", file, 0, "", "the workbook is empty", "Export the data again")
        return Source(path, file, None, iter(()))
    if len(tables) > 1:
        names = [values[place].title for place in tables[1:]]
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
            unknown = [name for name, cell in zip(columns, cells, strict=False) if cell is _UNCOMPUTED]
            if unknown:
                what = "holds a formula that was never computed, so that its value is not in the file"
                remedy = "Open the workbook in Excel or LibreOffice and save it, or replace formulas by their values"
                log.add("excel-formula", file, RowNumber(number), unknown[0], what, remedy)
                continue
            failed = [name for name, cell in zip(columns, cells, strict=False) if cell in _ERRORS]
            if failed:
                what = "holds an error of Excel, not a value"
                log.add("excel-error", file, RowNumber(number), failed[0], what, "Correct the formula or the value")
                continue
            texts = [_text(cell) for cell in cells[: len(columns)]]
            texts += [""] * (len(columns) - len(texts))
            if any(text.strip() for text in texts):
                yield Row(file, RowNumber(number), dict(zip(columns, texts, strict=True)))
    except DAMAGED_ARRAYS as error:
        what = f"cannot be read after row {number} ({' '.join(str(error).split())[:120]})"
        log.add("syntax", file, RowNumber(number), "", what, 'Save it again, or as "CSV UTF-8"')


def _sheets(path: Path, *, computed: bool) -> list[Any]:
    # A slow library, which hardly any data set needs.
    import openpyxl

    # From a stream, since openpyxl goes by the name's ending.
    book = openpyxl.load_workbook(io.BytesIO(path.read_bytes()), read_only=True, data_only=computed)
    for sheet in book.worksheets:
        # The size that a writer notes may be wrong, and rows beyond it would be left out.
        sheet.reset_dimensions()
    return list(book.worksheets)


def _cells(sheet: Any) -> Iterator[tuple[Any, ...]]:
    return sheet.iter_rows(values_only=True)


def _is_computed(sheets: tuple[Any, Any]) -> bool:
    """Whether any cell of a sheet has another value than its formula."""
    return any(
        value is not None and value != formula
        for rows in zip(*map(_cells, sheets), strict=True)
        for value, formula in zip(*rows, strict=True)
    )


def _marked(values: tuple[Any, ...], formulas: tuple[Any, ...], empty: object) -> tuple[Any, ...]:
    """A row's values, with ``empty`` where a formula has none."""
    return tuple(
        empty if value is None and formula is not None else value
        for value, formula in zip(values, formulas, strict=True)
    )


def _has_values(row: tuple[Any, ...]) -> bool:
    return any(cell is not None for cell in row)


def _text(value: Any) -> str:
    """A cell as text; whole numbers without a fraction, dates as ISO 8601 writes them."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, date | time) else str(value)
