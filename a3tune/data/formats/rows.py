"""Rows out of JSON, JSON Lines and CSV files, each with the line on which it stands.

Nothing here knows what a field means. Whatever is wrong with a file as such (its encoding, its syntax, its quotes)
goes to the fault log, and reading goes on with the next row where there is one.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from a3tune.data.formats.faults import FaultLog
from a3tune.wording import brief, listed

MAX_FILE_BYTES = 1 << 30
"""Largest file of rows: they are held in memory while they are checked."""

_SPACE = re.compile(r"[ \t\r\n]*")
_DELIMITERS = ",;\t"


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in a file.

    Attributes:
        file: the file, relative to the data folder.
        line: line on which the row begins, from 1 (of a Parquet file the row number).
        fields: column or key -> value; CSV columns in lower case without outer spaces, their values as text.
        group: of a JSON file made of several lists, the key of the row's list; else "".
    """

    file: str
    line: int
    fields: Mapping[str, object]
    group: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that is being read.

    Attributes:
        path: where it is.
        file: the same, relative to the data folder.
        columns: the columns of a table, None where every row has its own keys.
        rows: the rows; can be read once.
    """

    path: Path
    file: str
    columns: tuple[str, ...] | None
    rows: Iterator[Row]


def open_text_source(path: Path, file: str, log: FaultLog) -> Source:
    """Open a ``.json``, ``.jsonl``, ``.csv`` or ``.tsv`` file; its faults go to ``log`` while rows are taken."""
    text = read_text(path, file, log)
    if not text.strip():
        if not log.totals["error"]:
            log.add("empty-file", file, 0, "", "the file is empty", "Export the data again")
        return Source(path, file, None, iter(()))
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _csv_source(path, file, text, log)
    lines = suffix == ".jsonl" or _is_json_lines(text)
    return Source(path, file, None, _json_line_rows(text, file, log) if lines else _json_rows(text, file, log))


def read_text(path: Path, file: str, log: FaultLog) -> str:
    """A file's text; "" when it cannot be read, with the reason in ``log``. Bytes that are not UTF-8 become U+FFFD."""
    try:
        size = path.stat().st_size
        raw = path.read_bytes() if size <= MAX_FILE_BYTES else b""
    except OSError as error:
        log.add("unreadable-file", file, 0, "", f"cannot be read ({error.strerror})", "Check the rights of the file")
        return ""
    if size > MAX_FILE_BYTES:
        log.add("large-file", file, 0, "", f"has {size >> 20} MiB, more than 1024", "Split it into several files")
        return ""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        log.add("encoding", file, 0, "", "is UTF-16, not UTF-8", 'Save it as "CSV UTF-8" or as UTF-8 text')
        return ""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        for number, line in enumerate(raw.split(b"\n"), start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                what = f"byte 0x{line[error.start]:02x} at byte {error.start + 1} of the line is not UTF-8"
                log.add("encoding", file, number, "", what, "Save the file as UTF-8 text")
        # Reading goes on, so that the other faults come to light in the same pass.
        return raw.decode("utf-8-sig", "replace")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


_decoder = json.JSONDecoder(parse_constant=_no_constant)


def _is_json_lines(text: str) -> bool:
    """Whether a file is one object after the other, whatever its name says."""
    start = _skip(text, 0)
    if text[start : start + 1] != "{":
        return False
    line = text[start : max(start, text.find("\n", start))]
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return text[_skip(text, start + len(line)) :][:1] == "{"


def _json_line_rows(text: str, file: str, log: FaultLog) -> Iterator[Row]:
    # Not splitlines: JSON strings may hold the line separators of Unicode.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = _decoder.decode(line)
        except json.JSONDecodeError as error:
            what = f"is not JSON: {error.msg} at column {error.colno}"
            log.add("syntax", file, number, "", what, "Correct the line")
            continue
        except (ValueError, RecursionError) as error:
            log.add("syntax", file, number, "", f"is not JSON: {_reason(error)}", "Correct the line")
            continue
        row = _row(file, number, value, "", log)
        if row is not None:
            yield row


def _json_rows(text: str, file: str, log: FaultLog) -> Iterator[Row]:
    try:
        for group, line, value in _Walk(text).elements():
            row = _row(file, line, value, group, log)
            if row is not None:
                yield row
    except json.JSONDecodeError as error:
        what = f"is not JSON: {error.msg} at column {error.colno}"
        log.add("syntax", file, error.lineno, "", what, "Correct the file at this place; what follows was not read")
    except (ValueError, RecursionError) as error:
        log.add("syntax", file, 0, "", f"is not JSON: {_reason(error)}", "Correct the file")


def _row(file: str, line: int, value: object, group: str, log: FaultLog) -> Row | None:
    if isinstance(value, dict):
        return Row(file, line, value, group)
    log.add("row-type", file, line, "", f"expected an object in braces, not {brief(value)}", "Correct the row")
    return None


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:120]


def _skip(text: str, position: int) -> int:
    return _SPACE.match(text, position).end()


class _Walk:
    """A walk over the outer brackets of a JSON text.

    The standard decoder gives no positions, so the brackets are walked here and only the elements are given to it:
    lines are counted once, from element to element.
    """

    def __init__(self, text: str) -> None:
        self.text, self.position = text, 0
        self._line, self._counted = 1, 0
        self.skip()

    def elements(self) -> Iterator[tuple[str, int, object]]:
        """(group, line, value) of every element of the outer list, or of the lists in the outer object."""
        if self._take("["):
            yield from self._list("")
        elif self._take("{"):
            closed = self._take("}")
            while not closed:
                if self.text[self.position : self.position + 1] != '"':
                    raise json.JSONDecodeError(
                        "Expecting property name enclosed in double quotes", self.text, self.position
                    )
                key = self._value()
                self._expect(":")
                if self._take("["):
                    yield from self._list(key)
                else:
                    self._value()
                closed = self._take("}")
                if not closed:
                    self._expect(",")
        else:
            self._value()
        if self.position != len(self.text):
            raise json.JSONDecodeError("Extra data", self.text, self.position)

    def _list(self, group: str) -> Iterator[tuple[str, int, object]]:
        closed = self._take("]")
        while not closed:
            line = self._line_here()
            yield group, line, self._value()
            closed = self._take("]")
            if not closed:
                self._expect(",")

    def skip(self) -> None:
        self.position = _skip(self.text, self.position)

    def _take(self, sign: str) -> bool:
        """Step over ``sign`` and white space if it stands here."""
        taken = self.text.startswith(sign, self.position)
        if taken:
            self.position += 1
            self.skip()
        return taken

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise json.JSONDecodeError(f"Expecting '{sign}' delimiter", self.text, self.position)

    def _value(self) -> object:
        value, self.position = _decoder.raw_decode(self.text, self.position)
        self.skip()
        return value

    def _line_here(self) -> int:
        self._line += self.text.count("\n", self._counted, self.position)
        self._counted = self.position
        return self._line


def delimiter_of(text: str) -> str:
    """What separates the fields of a table: of comma, semicolon and tab the one that its first line has most of."""
    first = text.lstrip("\r\n").split("\n", 1)[0]
    return max(_DELIMITERS, key=first.count)


def _csv_source(path: Path, file: str, text: str, log: FaultLog) -> Source:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text), strict=True)
    records = _csv_records(reader, file, log)
    header = next(records, None)
    columns = tuple(name.strip().lower() for name in header[1]) if header else ()
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        what = f"the header names {listed(twice)} more than once"
        log.add("header", file, header[0], twice[0], what, "Rename or remove one of them")
    return Source(path, file, columns, _csv_rows(records, columns, file, log))


def _csv_records(reader: Iterator[list[str]], file: str, log: FaultLog) -> Iterator[tuple[int, list[str]]]:
    """(line on which it begins, cells) of every record that is not blank."""
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            remedy = 'Put the field in double quotes and write quotes inside it twice: ""'
            log.add("quotes", file, start, "", f"the quotes are broken ({error})", remedy)
            continue
        if any(cell.strip() for cell in cells):
            yield start, cells


def _csv_rows(
    records: Iterator[tuple[int, list[str]]], columns: tuple[str, ...], file: str, log: FaultLog
) -> Iterator[Row]:
    for line, cells in records:
        if len(cells) != len(columns):
            if len(cells) > len(columns) and not any(cell.strip() for cell in cells[len(columns) :]):
                cells = cells[: len(columns)]
            else:
                what = f"has {len(cells)} fields, the header has {len(columns)}"
                log.add("fields", file, line, "", what, "Put fields that hold the separator in double quotes")
                continue
        yield Row(file, line, dict(zip(columns, cells, strict=True)))
