"""Rows out of Parquet files, in which data sets on hubs are handed out, with their pictures inside or beside them."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet

from a3tune.data.formats.faults import FaultLog, RowNumber
from a3tune.data.formats.rows import Row, Source
from a3tune.storage import find_stand_in, write_bytes
from a3tune.wording import listed

_BATCH = 64
_PICTURE = "image"


def open_parquet_source(path: Path, file: str, log: FaultLog, unpack_to: Path | None) -> Source:
    """Open a Parquet file; pictures inside it are written to ``unpack_to`` as their rows are taken.

    Args:
        path: the file.
        file: the same, relative to the data folder.
        log: takes what is wrong with the file.
        unpack_to: folder for the pictures, named by the SHA-256 of their bytes; None when none may be written.
    """
    try:
        table = pyarrow.parquet.ParquetFile(path)
        columns = tuple(name.strip().lower() for name in table.schema_arrow.names)
        if twice := sorted({name for name in columns if columns.count(name) > 1}):
            what = f"the header names {listed(twice)} more than once"
            log.add("header", file, 0, twice[0], what, "Rename or remove one of them")
            return Source(path, file, columns, iter(()))
    except (OSError, pyarrow.ArrowException) as error:
        found = find_stand_in(path)
        told = f"is not a Parquet file that can be read ({' '.join(str(error).split())[:120]})"
        what, remedy = (f"is {found.what}", found.remedy) if found else (told, "Download or export it again")
        log.add("syntax", file, 0, "", what, remedy)
        return Source(path, file, None, iter(()))
    return Source(path, file, columns, _rows(table, columns, file, log, unpack_to))


def _rows(
    table: pyarrow.parquet.ParquetFile, columns: tuple[str, ...], file: str, log: FaultLog, unpack_to: Path | None
) -> Iterator[Row]:
    number = 0
    try:
        for batch in table.iter_batches(batch_size=_BATCH):
            for values in batch.to_pylist():
                number += 1
                # pandas writes a missing value as NaN.
                fields = {
                    name.strip().lower(): None if isinstance(value, float) and math.isnan(value) else value
                    for name, value in values.items()
                }
                row = Row(file, RowNumber(number, fields.get("id")), fields)
                for name, value in fields.items():
                    fields[name] = _named(value, row, log, unpack_to)
                yield row
    except (OSError, pyarrow.ArrowException) as error:
        what = f"cannot be read after row {number} ({' '.join(str(error).split())[:120]})"
        log.add("syntax", file, RowNumber(number), "", what, "Download or export it again")


def _named(value: object, row: Row, log: FaultLog, unpack_to: Path | None) -> object:
    """A picture, or a list of them, as names of files; what is a name already stays."""
    if isinstance(value, list):
        return [_named(one, row, log, unpack_to) for one in value]
    if isinstance(value, bytes):
        return _picture_name({"bytes": value}, row, log, unpack_to)
    if isinstance(value, dict) and value and value.keys() <= {"bytes", "path"}:
        return _picture_name(value, row, log, unpack_to)
    return value


def _picture_name(picture: dict, row: Row, log: FaultLog, unpack_to: Path | None) -> object:
    """The name of the picture's file: as given, or of the file that its bytes were written to."""
    content = picture.get("bytes")
    if not isinstance(content, bytes):
        return picture.get("path")
    if unpack_to is None:
        if row.line == 1:
            remedy = "Name a folder that the pictures may be unpacked to"
            log.add("packed-images", row.file, row.line, _PICTURE, "the pictures are inside the file", remedy)
        return picture.get("path")
    suffix = os.path.splitext(str(picture.get("path") or ""))[1].lower()
    name = hashlib.sha256(content).hexdigest() + (suffix if suffix[1:].isalnum() and len(suffix) < 6 else ".png")
    target = unpack_to / name
    if not target.exists():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(target, content, sync=False)
        except OSError as error:
            what = f"the picture cannot be written to {unpack_to.name} ({error.strerror})"
            log.add("unpack", row.file, row.line, _PICTURE, what, "Make room, or name another folder")
            return None
    return name
