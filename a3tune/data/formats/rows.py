"""Rows out of JSON, JSON Lines and CSV files, each with the line on which it stands, or its number.

Nothing here knows what a field means. Whatever is wrong with a file as such (its encoding, its syntax, its quotes)
goes to the fault log, and reading goes on with the next row where there is one.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from a3tune.data.formats.faults import FaultLog, RowNumber
from a3tune.data.formats.json_text import DECODER, JsonWalk, named_twice, skip_space
from a3tune.data.formats.signatures import kind_of_content
from a3tune.wording import brief, listed

MAX_FILE_BYTES = 1 << 30
"""Largest file of rows: they are held in memory while they are checked."""

_LINE_END = re.compile(r"\r\n|\n|\r")
_DELIMITERS = ",;\t|"
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[ \t]*(?:\r\n|\n|\r|$)', re.IGNORECASE)
_IDENTIFIERS = ("id", "qid", "question_id", "qa_id", "uid")


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in a file.

    Attributes:
        file: the file, relative to the data folder.
        line: line on which the row begins, from 1, or the row's number (`RowNumber`) where lines tell nothing.
        fields: column or key -> value; columns and keys in lower case without outer spaces, values of a table as text.
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


def open_text_source(
    path: Path, file: str, log: FaultLog, is_row: Callable[[Mapping[str, object]], bool] = lambda fields: False
) -> Source:
    """Open a ``.json``, ``.jsonl``, ``.csv`` or ``.tsv`` file; its faults go to ``log`` while rows are taken.

    Args:
        path: the file.
        file: the same, relative to the data folder.
        log: takes what is wrong with the file.
        is_row: whether the one object of a JSON file, its keys in lower case, is a row; else its lists hold rows.
    """
    text = read_text(path, file, log)
    if not text.strip():
        if not log.totals["error"]:
            log.add("empty-file", file, 0, "", "the file is empty", "Export the data again")
        return Source(path, file, None, iter(()))
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _csv_source(path, file, text, log)
    lines = suffix == ".jsonl" or _is_json_lines(text)
    rows = _json_line_rows(text, file, log) if lines else _json_rows(text, file, log, is_row)
    return Source(path, file, None, rows)


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
    kind = kind_of_content(raw)
    if kind is not None:
        log.add("encoding", file, 0, "", kind.what, kind.remedy)
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


def _is_json_lines(text: str) -> bool:
    """Whether a file is one object after the other, whatever its name says."""
    start = skip_space(text, 0)
    if text[start : start + 1] != "{":
        return False
    line = _LINE_END.split(text[start:], maxsplit=1)[0]
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return text[skip_space(text, start + len(line)) :][:1] == "{"


def _json_line_rows(text: str, file: str, log: FaultLog) -> Iterator[Row]:
    # Not splitlines: JSON strings may hold the line separators of Unicode.
    for number, line in enumerate(_LINE_END.split(text), start=1):
        if not line.strip():
            continue
        try:
            value = DECODER.decode(line)
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


def _json_rows(text: str, file: str, log: FaultLog, is_row: Callable[[Mapping[str, object]], bool]) -> Iterator[Row]:
    elements: list[tuple[str, int, object]] = []
    alone: list[object] | None = None
    try:
        whole = JsonWalk(text).whole()
        alone = None if whole is None else _rows_of_object(whole, is_row)
        if alone is None:
            for element in JsonWalk(text).elements():
                # One by one, so that those before a fault of the syntax count.
                elements.append(element)
        else:
            elements = [("", number, value) for number, value in enumerate(alone, start=1)]
    except json.JSONDecodeError as error:
        what = f"is not JSON: {error.msg} at column {error.colno}"
        log.add("syntax", file, error.lineno, "", what, "Correct the file at this place; what follows was not read")
    except (ValueError, RecursionError) as error:
        log.add("syntax", file, 0, "", f"is not JSON: {_reason(error)}", "Correct the file")
    # Lines tell rows apart only where each row has one of its own.
    shared = alone is not None or "\n" not in text.strip() or len({line for _, line, _ in elements}) < len(elements)
    for number, (group, line, value) in enumerate(elements, start=1):
        row = _row(file, RowNumber(number, _identifier(value)) if shared else line, value, group, log)
        if row is not None:
            yield row


def _rows_of_object(whole: dict[str, object], is_row: Callable[[Mapping[str, object]], bool]) -> list[object] | None:
    """The rows of a JSON file that is one object: itself, the objects in it by their ids, or its columns (as pandas
    writes them); None where its lists hold the rows."""
    values = list(whole.values())
    first = values[0] if values else None
    if isinstance(first, dict) and all(isinstance(value, dict) for value in values) and is_row(_lower(first)):
        return list(values)
    if not is_row(_lower(whole)):
        return None
    if isinstance(first, list) and all(isinstance(value, list) and len(value) == len(first) for value in values):
        columns = {key: value for key, value in whole.items() if isinstance(value, list)}
        return [{key: column[place] for key, column in columns.items()} for place in range(len(first))]
    if isinstance(first, dict) and all(isinstance(value, dict) and value.keys() == first.keys() for value in values):
        indexed = {key: value for key, value in whole.items() if isinstance(value, dict)}
        return [{key: column[place] for key, column in indexed.items()} for place in first]
    return [whole]


def _lower(fields: Mapping[str, object]) -> dict[str, object]:
    return {key.strip().lower(): value for key, value in fields.items()}


def _identifier(value: object) -> object:
    """The row's own id, whatever the case of its key."""
    if not isinstance(value, dict):
        return ""
    keys = {key.strip().lower(): found for key, found in value.items()}
    return next((keys[name] for name in _IDENTIFIERS if isinstance(keys.get(name), (str, int))), "")


def _row(file: str, line: int, value: object, group: str, log: FaultLog) -> Row | None:
    if not isinstance(value, dict):
        log.add("row-type", file, line, "", f"expected an object in braces, not {brief(value)}", "Correct the row")
        return None
    fields = {key.strip().lower(): found for key, found in value.items()}
    if len(fields) < len(value):
        twice = sorted(
            {key for key in value if sum(key.strip().lower() == other.strip().lower() for other in value) > 1}
        )
        what = f"names one key in several spellings: {listed(twice)}"
        log.add("header", file, line, twice[0], what, "Keep one of them")
        return None
    if (key_named_twice := named_twice(value)) is not None:
        what = f"names the key {brief(key_named_twice)} more than once, each time with a value of its own"
        log.add("header", file, line, key_named_twice, what, "Keep one of them")
        return None
    for key, found in fields.items():
        if _has_no_number(found):
            what = "holds NaN or Infinity, which is no value that JSON knows"
            log.add("not-a-number", file, line, key, what, "Correct the value, or write null where there is none")
            return None
    return Row(file, line, fields, group)


def _has_no_number(value: object) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, list) and any(_has_no_number(inner) for inner in value)


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:120]


def table_start(text: str) -> tuple[str, int]:
    """What separates the fields of a table, and at which character its first row begins.

    Excel's own first line, ``sep=;``, says it; else it is of comma, semicolon, tab and bar the one that the first
    line has most of.
    """
    told = _SEPARATOR_LINE.match(text)
    if told:
        return told[1], told.end()
    first = _LINE_END.split(text.lstrip("\r\n"), maxsplit=1)[0]
    return max(_DELIMITERS, key=first.count), 0


def _csv_source(path: Path, file: str, text: str, log: FaultLog) -> Source:
    delimiter, start = table_start(text)
    # A line stays in the place of Excel's own, so that the others keep their numbers.
    reader = csv.reader(io.StringIO("\n" * bool(start) + text[start:], newline=""), delimiter=delimiter, strict=True)
    records = _csv_records(reader, file, log)
    header = next(records, None)
    columns = tuple(name.strip().lower() for name in header[1]) if header else ()
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if header and twice:
        what = f"the header names {listed(twice)} more than once"
        log.add("header", file, header[0], twice[0], what, "Rename or remove one of them")
    return Source(path, file, columns, _csv_rows(records, columns, file, log))


def _csv_records(reader: Any, file: str, log: FaultLog) -> Iterator[tuple[int, list[str]]]:
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


_PAIR_CATEGORIES = ("modality", "plane", "organ", "abnormality")


def _is_category(field: str, following: str) -> bool:
    """Whether a field behind the image is the question's category, the question following it."""
    asks = [text.strip().endswith("?") for text in (field, following)]
    return field.strip().casefold() in _PAIR_CATEGORIES or asks == [False, True]


def open_pair_list(path: Path, file: str, log: FaultLog) -> Source:
    """Open one of VQA-Med's lists: image, question and answer of each line between bars, in some years with the
    question's category after the image, in others with several answers, of which the first counts, and no header."""

    def rows() -> Iterator[Row]:
        for number, line in enumerate(read_text(path, file, log).split("\n"), start=1):
            if not line.strip():
                continue
            cells = line.rstrip("\r").split("|")
            if len(cells) > 3 and _is_category(cells[1], cells[2]):
                del cells[1]
            if len(cells) < 3:
                what = f"has {len(cells)} fields between bars, expected image|question|answer"
                log.add("fields", file, number, "", what, "Correct the line")
                continue
            if len(cells) > 3:
                what = f"gives {len(cells) - 2} answers; the first one counts"
                log.add("answers", file, number, "answer", what, "Nothing, if the first one is to be learnt", "warning")
            yield Row(file, number, dict(zip(("image", "question", "answer"), cells, strict=False)))

    return Source(path, file, ("image", "question", "answer"), rows())


def open_tabbed_list(path: Path, file: str, log: FaultLog) -> Source | None:
    """Open one of VQA-Med 2018's lists: number, image, question and answer of each line between tabs, no header, and
    quotes that are characters like others. None for any other table under such a name."""
    unread = FaultLog()
    lines = read_text(path, file, unread).replace("\r\n", "\n").split("\n")
    number, *others = lines[0].split("\t")
    if unread.totals["error"] or not number.strip().isdigit() or len(others) < 2:
        return None
    columns = ("id", "image", "question", "answer")

    def rows() -> Iterator[Row]:
        for place, line in enumerate(lines, start=1):
            cells = line.split("\t")
            if len(cells) == len(columns):
                yield Row(file, place, dict(zip(columns, cells, strict=True)))
            elif line.strip():
                what = f"has {len(cells)} fields between tabs, expected number, image, question and answer"
                log.add("fields", file, place, "", what, "Correct the line")

    return Source(path, file, columns, rows())
