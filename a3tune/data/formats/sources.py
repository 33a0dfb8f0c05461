"""From a file or folder to the files of rows in it, each with its layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from a3tune.data.formats.excel import open_excel_source
from a3tune.data.formats.faults import FaultLog
from a3tune.data.formats.files import (
    ARCHIVE_SUFFIXES,
    EXCEL_SUFFIXES,
    PARQUET_SUFFIX,
    PICKLE_SUFFIXES,
    ROW_SUFFIXES,
    files_by_depth,
    is_pair_list,
    is_tabbed_list,
)
from a3tune.data.formats.layouts import LAYOUTS, Layout, recognise
from a3tune.data.formats.parquet import open_parquet_source
from a3tune.data.formats.rows import Source, open_pair_list, open_tabbed_list, open_text_source
from a3tune.errors import DataError
from a3tune.wording import listed

_EXPECTED = (
    "a CSV, Excel (.xlsx), JSON, JSON Lines or Parquet file, or a folder with one, with image, question and answer, "
    "in LLaVA's form, or as published with VQA-RAD, SLAKE, PathVQA, PMC-VQA, VQA-Med, OmniMedVQA, MedXpertQA, "
    "MIMIC-CXR-VQA, MedHEval or R2Gen's reports"
)
_PICKLE = "is a pickle, which can run any code when it is opened, and is never opened here"
_OWN_FILES = (Path("labels/settings.json"), Path("truth/masks.csv"))
"""What `a3tune labels` and the sample's true masks write beside the data: no rows of questions."""
_PICKLE_REMEDY = "Convert it to CSV, JSON or Parquet on a machine where you trust it"


@dataclass(frozen=True)
class LaidOut:
    """A file of rows and what its rows mean.

    Attributes:
        source: the file.
        layout: its layout; None when nothing could be read of it.
        log: what is wrong with the file so far; more comes while its rows are taken.
        missing: required columns that its header lacks.
    """

    source: Source
    layout: Layout | None
    log: FaultLog
    missing: tuple[str, ...] = ()


def find_sources(path: Path, layout: str, log: FaultLog, unpack_to: Path | None) -> tuple[Path, Layout, list[LaidOut]]:
    """Files of rows at ``path``: the file itself, or those nearest to the top of the folder.

    Returns:
        The data folder, the layout of all its files, and the files.

    Raises:
        DataError: nothing is there, nothing is recognised, or files of several layouts are.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise DataError(
            got=f"The layout {layout!r} is unknown", expected=f"auto, {', '.join(LAYOUTS)}", remedy="Choose one"
        )
    chosen = LAYOUTS.get(layout)
    if path.is_file():
        _refuse_file(path)
        found = [_open(path, path.name, chosen, unpack_to, sole=True)]
        root = path.parent
    elif path.is_dir():
        root = path
        found = _first_level(root, chosen, log, unpack_to)
    else:
        raise DataError(got=f"{path} does not exist", expected=_EXPECTED, remedy="Check the path")
    layouts = {entry.layout.name: entry.layout for entry in found if entry.layout is not None}
    if len(layouts) > 1 and set(layouts) != {"pathvqa", "table"}:
        files = (f"{entry.source.file} ({entry.layout.name})" for entry in found if entry.layout is not None)
        raise DataError(
            got=f"{path} holds files of several layouts: {listed(files)}",
            expected="one data set",
            remedy="Name the layout, or give the file itself",
        )
    if layouts:
        return root, next(iter(layouts.values())), found
    if any(entry.log.totals["error"] for entry in found):
        return root, chosen or LAYOUTS["table"], found
    named_otherwise = [_as_table(entry) for entry in found if _may_be_table(entry)]
    if chosen is None and named_otherwise:
        return root, LAYOUTS["table"], named_otherwise
    raise DataError(
        got=f"Nothing in {path.name} is a data set that is recognised"
        + (f" (looked at {listed((entry.source.file for entry in found), 5)})" if found else ""),
        expected=_EXPECTED,
        remedy="Name the columns image, question and answer",
    )


def holds_parquet(path: Path) -> bool:
    """Whether a file of rows, or any in a folder, is a Parquet file, in which pictures may be packed."""
    if path.is_dir():
        return any(file.suffix.lower() == PARQUET_SUFFIX for files in files_by_depth(path) for file in files)
    return path.suffix.lower() == PARQUET_SUFFIX


def _may_be_table(entry: LaidOut) -> bool:
    """Whether a table has room for image, question and answer, whatever its columns are called."""
    columns = [name for name in entry.source.columns or () if name]
    return len(columns) >= len(LAYOUTS["table"].required)


def _as_table(entry: LaidOut) -> LaidOut:
    layout = LAYOUTS["table"]
    missing = layout.missing(entry.source.columns or ())
    return replace(entry, layout=layout, missing=missing)


def _refuse_file(path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix in PICKLE_SUFFIXES:
        raise DataError(got=f"{path.name} {_PICKLE}", expected=_EXPECTED, remedy=_PICKLE_REMEDY)
    if suffix in ARCHIVE_SUFFIXES:
        raise DataError(got=f"{path.name} is an archive", expected=_EXPECTED, remedy="Unpack it and give the folder")
    if suffix not in ROW_SUFFIXES and not is_pair_list(path.name):
        raise DataError(
            got=f"{path.name} has the ending {suffix!r}" if suffix else f"{path.name} has no ending",
            expected=_EXPECTED,
            remedy=f"Name it by what it is: {', '.join(ROW_SUFFIXES)}",
        )


def _first_level(root: Path, chosen: Layout | None, log: FaultLog, unpack_to: Path | None) -> list[LaidOut]:
    """The files of the first depth that has a data set, or something that was meant to be one."""
    strange: list[LaidOut] = []
    pickles: list[str] = []
    depths = files_by_depth(root)
    for files in depths:
        found: list[LaidOut] = []
        tables = [entry for entry in strange if _may_be_table(entry)]
        for path in files:
            file = path.relative_to(root).as_posix()
            if path.suffix.lower() in PICKLE_SUFFIXES:
                pickles.append(file)
                continue
            entry = _open(path, file, chosen, unpack_to)
            (strange if entry.layout is None and not entry.log.totals["error"] else found).append(entry)
        if found and tables and chosen is None and all(entry.missing for entry in found):
            # Both lack columns: rather the table nearer to the top, whose columns may only have other names.
            return tables
        if found:
            for entry in strange:
                what = "holds no rows of a known layout and was left out"
                log.add("left-out", entry.source.file, 0, "", what, "Nothing, if it is no data", "warning")
            for file in pickles:
                log.add("pickle", file, 0, "", _PICKLE, _PICKLE_REMEDY, "warning")
            _tell_deeper([path for deeper in depths for path in deeper], root, found, log)
            return found
    if pickles:
        raise DataError(got=f"{pickles[0]} {_PICKLE}", expected=_EXPECTED, remedy=_PICKLE_REMEDY)
    return strange


def _tell_deeper(paths: list[Path], root: Path, found: list[LaidOut], log: FaultLog) -> None:
    """A warning about files of rows further down, those left aside that lie among the images."""
    among = {folder.lower() for entry in found if entry.layout is not None for folder in entry.layout.folders}
    files = [path.relative_to(root) for path in paths if path.suffix.lower() in ROW_SUFFIXES]
    files = [
        file for file in files if not among & {part.lower() for part in file.parts[:-1]} and file not in _OWN_FILES
    ]
    if files:
        what = f"of the files of rows only those nearest to the top are read; left out: {listed(map(str, files), 5)}"
        remedy = "Put them beside the others if they belong to the data"
        log.add("left-out", found[0].source.file, 0, "", what, remedy, "warning")


def _open(path: Path, file: str, chosen: Layout | None, unpack_to: Path | None, sole: bool = False) -> LaidOut:
    log = FaultLog()
    if path.suffix.lower() == PARQUET_SUFFIX:
        source = open_parquet_source(path, file, log, unpack_to)
    elif path.suffix.lower() in EXCEL_SUFFIXES:
        source = open_excel_source(path, file, log)
    elif is_pair_list(path.name):
        source = open_pair_list(path, file, log)
    else:
        tabbed = open_tabbed_list(path, file, log) if is_tabbed_list(path.name) else None
        source = tabbed or open_text_source(path, file, log, lambda fields: recognise(fields, fields) is not None)
    first = next(source.rows, None)
    keys: Mapping[str, object] | tuple[str, ...] = source.columns or (first.fields if first else ())
    rows: Iterator = source.rows if first is None else chain([first], source.rows)
    source = replace(source, rows=rows)
    if chosen is not None:
        layout = chosen if chosen.fits(keys) or (sole and keys) else None
    else:
        layout = recognise(keys, first.fields if first else {}) or _nearly(keys)
    missing = () if layout is None else layout.missing(keys)
    if layout is not None and missing and not layout.signs.isdisjoint(keys):
        what = f"is {layout.title} without {listed(missing)}, which its authors' own script puts in"
        log.add("columns", file, 0, missing[0], what, "Run the script of the data set, and give what it writes")
        source = replace(source, rows=iter(()))
    if layout is not None and first is None and not log.totals["error"]:
        log.add("no-rows", file, 0, "", "has a header and no rows", "Add rows")
    return LaidOut(source, layout, log, missing)


def _nearly(keys: Mapping[str, object] | tuple[str, ...]) -> Layout | None:
    """The layout that a key of its own or most of the required keys speak for, so that what is missing can be named."""
    for layout in LAYOUTS.values():
        if not layout.signs.isdisjoint(keys):
            return layout
    shares = {layout: 1 - len(layout.missing(keys)) / len(layout.required) for layout in LAYOUTS.values()}
    best = max(shares, key=lambda layout: (shares[layout], layout.name == "table"))
    return best if shares[best] > 0.5 else None
