"""Tables whose columns have other names: what they likely hold, and copies with the names that are understood."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from a3tune.data.dataset import Dataset
from a3tune.data.formats.column_names import USUAL_NAMES
from a3tune.data.formats.faults import FaultLog
from a3tune.data.formats.layouts import LAYOUTS
from a3tune.data.formats.rows import open_text_source, read_text, table_start
from a3tune.data.intake import cannot_write
from a3tune.errors import DataError
from a3tune.images.isolation import isolable, writing
from a3tune.wording import listed

REQUIRED = LAYOUTS["table"].required
NAMED = (*REQUIRED, "answer_type", "split")
"""The columns that can be named on a click; the first ones have to be."""

_SUFFIXES = (".csv", ".tsv")
_SAMPLE = 50
_PICTURE = re.compile(r".+\.(png|jpe?g|tiff?|bmp|webp|dcm|dicom|nii|nii\.gz)", re.IGNORECASE)


@dataclass(frozen=True)
class Naming:
    """The columns of a data set's tables, and what they are likely to hold.

    Attributes:
        files: the tables, relative to the data folder; all have the same columns.
        columns: their names in the files, in lower case.
        guess: what is understood ("image", "question", ...) -> the column that likely holds it.
        sample: column -> a value of it.
    """

    files: tuple[str, ...]
    columns: tuple[str, ...]
    guess: dict[str, str]
    sample: dict[str, str]


def naming_for(dataset: Dataset) -> Naming | None:
    """The columns to choose from, when a data set's tables lack columns that are needed; None when they do not, or
    differ from each other, or are no CSV or TSV files."""
    if "columns" not in dataset.counts.kinds:
        return None
    files = tuple(file for file in dataset.files if PurePosixPath(file).suffix.lower() in _SUFFIXES)
    tables = [_table_head(dataset.root / file, file) for file in files]
    headers = {columns for columns, _ in tables}
    if len(headers) != 1 or len(files) < len(dataset.files):
        return None
    columns = tuple(name for name in tables[0][0] or () if name)
    if len(columns) < len(REQUIRED) or len(set(columns)) < len(columns):
        return None
    rows = tables[0][1]
    values = {name: [str(row[name]).strip() for row in rows if str(row[name]).strip()] for name in columns}
    sample = {name: found[0][:80] if found else "" for name, found in values.items()}
    return Naming(files, columns, _guess(columns, values), sample)


def rename_columns(dataset: Dataset, names: Mapping[str, str], folder: str | Path) -> Path:
    """Copy a data set's tables with other column names; the rows stay as they are, line by line.

    Args:
        dataset: the data set as it was read.
        names: what is understood ("image", "question", "answer", "answer_type", "split") -> the column that holds it.
        folder: a folder for the copies; images stay where they are.

    Returns:
        ``folder``, to be read with ``images`` set to the data folder.

    Raises:
        DataError: a column that is needed is not named, there is none of that name, or one is named twice.
    """
    naming = naming_for(dataset)
    if naming is None:
        raise DataError(
            expected="tables (CSV) that all have the same columns",
            got="The columns of this data cannot be named here",
            remedy="Name the columns image, question and answer in the files, and upload them again",
        )
    chosen = {wanted: name for wanted, name in names.items() if name}
    missing = [wanted for wanted in REQUIRED if wanted not in chosen]
    strange = [name for name in chosen.values() if name not in naming.columns]
    strange += [wanted for wanted in chosen if wanted not in NAMED]
    twice = sorted({name for name in chosen.values() if list(chosen.values()).count(name) > 1})
    if missing or strange or twice:
        got = (
            f"no column is named for {listed(missing)}"
            if missing
            else f"there is no column {listed(strange)}"
            if strange
            else f"the column {listed(twice)} is chosen more than once"
        )
        raise DataError(
            expected=f"a column of its own for each of {listed(REQUIRED)}",
            got=got[0].upper() + got[1:],
            remedy=f"Choose among {listed(naming.columns)}",
        )
    new = {name: wanted for wanted, name in chosen.items()}
    # A column that has a name which another one gets must give it up.
    new.update({name: f"former {name}" for name in naming.columns if name in chosen and name not in new})
    try:
        for file in naming.files:
            _rename(dataset.root / file, Path(folder) / file, new)
    except OSError as error:
        raise cannot_write(Path(folder), error) from error
    return Path(folder)


@isolable
def _table_head(path: Path, file: str) -> tuple[tuple[str, ...] | None, list[dict[str, object]]]:
    """The columns of a table, and its first rows."""
    table = open_text_source(path, file, FaultLog())
    return table.columns, [dict(row.fields) for row in islice(table.rows, _SAMPLE)]


@writing
def _rename(source: Path, target: Path, names: Mapping[str, str]) -> None:
    text = read_text(source, source.name, FaultLog())
    delimiter, start = table_start(text)
    # Blank lines stay, so that a fault further down is told with the line that it has in the file.
    text = "\n" * bool(start) + text[start:]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header = next(cells for cells in reader if any(cell.strip() for cell in cells))
    written = io.StringIO(newline="")
    new = [names.get(cell.strip().lower(), cell) for cell in header]
    csv.writer(written, delimiter=delimiter, lineterminator="\n").writerow(new)
    lines = io.StringIO(text, newline="").readlines()
    before = "\n" * (reader.line_num - 1)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(before + written.getvalue() + "".join(lines[reader.line_num :]), encoding="utf-8", newline="")


def _guess(columns: tuple[str, ...], values: Mapping[str, list[str]]) -> dict[str, str]:
    plain = {name: re.sub(r"[^a-z0-9]+", "_", name).strip("_") for name in columns}
    guess: dict[str, str] = {}
    pictures = [name for name in columns if values[name] and all(_PICTURE.fullmatch(value) for value in values[name])]
    for wanted, usual in USUAL_NAMES.items():
        free = [name for name in columns if name not in guess.values()]
        order = [name for word in usual for name in free if plain[name] == word]
        order += [name for word in usual for name in free if len(word) > 2 and word in plain[name]]
        if wanted == "image":
            order = [name for name in order if name in pictures] + pictures + order
        if order:
            guess[wanted] = order[0]
    return guess
