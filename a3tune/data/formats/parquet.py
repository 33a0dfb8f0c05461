"""Rows out of Parquet files, in which data sets on hubs are handed out, with their pictures inside or beside them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet

from a3tune.data.formats.faults import FaultLog
from a3tune.data.formats.rows import Row, Source
from a3tune.storage import write_bytes

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
        columns = tuple(table.schema_arrow.names)
    except (OSError, pyarrow.ArrowException) as error:
        what = f"is not a Parquet file that can be read ({' '.join(str(error).split())[:120]})"
        log.add("syntax", file, 0, "", what, "Download or export it again")
        return Source(path, file, None, iter(()))
    return Source(path, file, columns, _rows(table, columns, file, log, unpack_to))


def _rows(
    table: pyarrow.parquet.ParquetFile, columns: tuple[str, ...], file: str, log: FaultLog, unpack_to: Path | None
) -> Iterator[Row]:
    number = 0
    try:
        for batch in table.iter_batches(batch_size=_BATCH):
            for fields in batch.to_pylist():
                number += 1
                picture = fields.get(_PICTURE)
                if isinstance(picture, dict):
                    fields[_PICTURE] = _picture_name(picture, file, number, log, unpack_to)
                yield Row(file, number, fields)
    except (OSError, pyarrow.ArrowException) as error:
        what = f"cannot be read after row {number} ({' '.join(str(error).split())[:120]})"
        log.add("syntax", file, number, "", what, "Download or export it again")


def _picture_name(picture: dict, file: str, number: int, log: FaultLog, unpack_to: Path | None) -> object:
    """The name of the picture's file: as given, or of the file that its bytes were written to."""
    content = picture.get("bytes")
    if not isinstance(content, bytes):
        return picture.get("path")
    if unpack_to is None:
        if number == 1:
            remedy = "Name a folder that the pictures may be unpacked to"
            log.add("packed-images", file, number, _PICTURE, "the pictures are inside the file", remedy)
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
            log.add("unpack", file, number, _PICTURE, what, "Make room, or name another folder")
            return None
    return name
