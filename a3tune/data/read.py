"""A data set from disk, checked to the last row before any model is loaded."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from a3tune.data.checks import RowChecker
from a3tune.data.dataset import DataCounts, Dataset, Split, TrainingItem, count_items
from a3tune.data.formats.column_names import OPTION_LETTERS
from a3tune.data.formats.faults import FaultLog
from a3tune.data.formats.files import SPLITS, split_of_path
from a3tune.data.formats.image_files import PictureFinder
from a3tune.data.formats.layouts import LAYOUTS, Draft, Layout
from a3tune.data.formats.sources import LaidOut, find_sources, holds_parquet
from a3tune.data.image_checks import find_shared_images, open_images
from a3tune.errors import Cancelled, DataError
from a3tune.images.isolation import isolable, writing
from a3tune.progress import Progress, no_progress
from a3tune.wording import counted, listed


def read_dataset(
    path: str | Path,
    layout: str = "auto",
    *,
    images: str | Path | None = None,
    check_images: bool = True,
    allow_shared_images: bool = False,
    unpack_to: str | Path | None = None,
    several_images: bool = False,
    on_progress: Progress = no_progress,
    should_stop: Callable[[], bool] | None = None,
) -> Dataset:
    """Read a data set and find everything that is wrong with it.

    Faults do not stop the reading: they are listed in the result, with file and line, and
    `Dataset.raise_for_faults` turns them into one error. Nothing is executed or written, except for pictures that
    stand inside Parquet files, which go to ``unpack_to``.

    Args:
        path: a file of rows, or a folder; of a folder the files nearest to its top are taken. Images must lie in the
            folder (of a file: in the folder that holds it) or in ``images``.
        layout: a name in `a3tune.data.formats.layouts.LAYOUTS`, or "auto" to tell it from the keys.
        images: folder that the names of images are relative to, where it lies elsewhere.
        check_images: open every image (and mask): finds damaged files, wrong sizes, and copies of one image in
            two splits; takes some milliseconds an image. Without it, only that the files exist.
        allow_shared_images: images may be in train and in another split; else each is an error, except in VQA-RAD's
            own layout, which was published with such a split. Allowed, they are a single warning.
        unpack_to: folder for pictures that stand inside Parquet files.
        several_images: take rows that name several images (`TrainingItem.others`); else each is a fault, so that nobody
            uses the first of them without a word.
        on_progress: told which share of the images is opened.
        should_stop: asked between files and images; True ends the work.

    Raises:
        DataError: nothing is there, or nothing of it is recognised as a data set.
        Cancelled: ``should_stop`` said so.
    """
    path, unpack = Path(path), Path(unpack_to) if unpack_to is not None else None
    elsewhere = [Path(folder) for folder in (images, unpack) if folder is not None]
    if images is not None and not elsewhere[0].is_dir():
        raise DataError(
            got=f"{images} is not a folder", expected="the folder that the images lie in", remedy="Check the path"
        )
    if unpack is not None and holds_parquet(path):
        tables = _unpack_tables(path, layout, elsewhere, unpack, several_images, should_stop=should_stop)
    else:
        tables = _read_tables(path, layout, elsewhere, several_images, should_stop=should_stop)
    items, log = list(tables.items), tables.log
    counts = DataCounts(tables.rows, tables.skipped, 0, 0, {}, {}, 0, 0, {})
    digests: dict[Path, str] = {}
    if check_images:
        facts = open_images(items, log, on_progress=on_progress, should_stop=should_stop)
        items, digests = list(facts.items), facts.digests
        counts = replace(counts, sizes=facts.sizes, formats=facts.formats)
    shared = allow_shared_images or LAYOUTS[tables.layout].shares_images
    find_shared_images(items, digests, log, allowed=shared)
    on_progress("Looking through the images", 1.0)
    counts = replace(
        counts,
        errors=log.totals["error"],
        warnings=log.totals["warning"],
        kinds=dict(log.kinds),
        **count_items(tuple(items)),
    )
    return Dataset(tables.layout, tables.root, tables.files, tuple(items), log.kept, counts)


@dataclass(frozen=True)
class Tables:
    """What the files of rows of a data set say, before any image is opened.

    Attributes:
        root: the data folder.
        layout: name of the layout.
        files: files of rows, relative to ``root``.
        rows, skipped: rows read, and left out on purpose.
        items: questions without an error of their own.
        log: what is wrong so far.
    """

    root: Path
    layout: str
    files: tuple[str, ...]
    rows: int
    skipped: int
    items: tuple[TrainingItem, ...]
    log: FaultLog


def _read(
    path: Path,
    layout: str,
    elsewhere: list[Path],
    unpack: Path | None,
    several: bool,
    should_stop: Callable[[], bool] | None,
) -> Tables:
    log = FaultLog()
    root, chosen, found = find_sources(path, layout, log, unpack)
    checker = RowChecker(several)
    items: list[TrainingItem] = []
    rows = skipped = 0
    for entry in found:
        if should_stop is not None and should_stop():
            raise Cancelled
        read, left, good = _read_rows(entry, root, elsewhere, checker)
        rows, skipped = rows + read, skipped + left
        items += good
        log.extend(entry.log)
    files = tuple(entry.source.file for entry in found)
    if not items and not log.totals["error"]:
        what = f"none of the {rows} rows can be used" + (
            f" ({skipped} were left out: not in English, without an image or without an answer)" if skipped else ""
        )
        log.add("no-rows", files[0], 0, "", what, "Check that this is the right data")
    return Tables(root, chosen.name, files, rows, skipped, tuple(items), log)


@isolable
def _read_tables(
    path: Path, layout: str, elsewhere: list[Path], several: bool, *, should_stop: Callable[[], bool] | None = None
) -> Tables:
    return _read(path, layout, elsewhere, None, several, should_stop)


@writing
def _unpack_tables(
    path: Path,
    layout: str,
    elsewhere: list[Path],
    unpack: Path,
    several: bool,
    *,
    should_stop: Callable[[], bool] | None = None,
) -> Tables:
    return _read(path, layout, elsewhere, unpack, several, should_stop)


def _read_rows(
    entry: LaidOut, root: Path, elsewhere: list[Path], checker: RowChecker
) -> tuple[int, int, list[TrainingItem]]:
    """(rows read, rows left out on purpose, items) of one file."""
    source, layout, log = entry.source, entry.layout, entry.log
    if layout is None:
        return 0, 0, []
    header_fault = source.columns is not None and bool(entry.missing)
    if source.columns is not None and entry.missing:
        more = len(entry.missing) > 1
        what = f"the column{'s' if more else ''} {listed(entry.missing)} {'are' if more else 'is'} missing"
        remedy = f"Name the columns {', '.join(layout.required)}; there are: {listed(source.columns)}"
        log.add("columns", source.file, 1, entry.missing[0], what, remedy)
    elif source.columns is not None and layout.known is not None:
        stray = [name or "(no name)" for name in source.columns if name not in layout.known]
        if stray:
            what = f"columns that are not used: {listed(stray)}"
            log.add("stray-columns", source.file, 1, stray[0], what, "Nothing, if they may be ignored", "warning")
    finder = _finder(layout, root, source.path.parent, elsewhere)
    default = split_of_path(source.file) if layout.split_from_path else None
    rows = skipped = 0
    items = []
    doubted: set[Path] = set()
    several: list[Draft] = []
    for row in source.rows:
        rows += 1
        if header_fault:
            continue
        errors = log.totals["error"]
        drafts = layout.drafts(row, log)
        several += [draft for draft in drafts if draft.unused_images]
        for draft in drafts:
            item = checker.check(draft, finder, default, log)
            if item is not None:
                items.append(_marked(item, layout, log, doubted))
        skipped += not drafts and log.totals["error"] == errors
    if several:
        unused = sum(draft.unused_images for draft in several)
        what = (
            f"{counted(len(several), 'row')} {'names' if len(several) == 1 else 'name'} several images: the first of "
            f"each is used, {counted(unused, 'other')} {'is' if unused == 1 else 'are'} not"
        )
        remedy = "Nothing, if the first shows what the answer says: a report is asked for about one view"
        first = several[0]
        log.add("first-image", source.file, first.row.line, first.name("image"), what, remedy, "warning")
    for folder, count in finder.loose.items():
        what = (
            f"{counted(count, 'file')} {'is' if count == 1 else 'are'} named in a folder {folder}, which is not there: "
            f"{'that' if count == 1 else 'those'} of the same name beside it {'is' if count == 1 else 'are'} taken"
        )
        log.add("loose-images", source.file, 0, "image", what, "Nothing, if these are what is meant", "warning")
    letters = [item for item in items if len(item.answer) == 1 and item.answer.lower() in OPTION_LETTERS]
    if 2 * len(letters) > len(items) and len({item.answer for item in letters}) > 1:
        what = (
            f"{len(letters):,} of {len(items):,} answers are letters, and the rows have no options that they stand for"
        )
        remedy = "Put the options into a column options, or write the answers out"
        log.add("option", source.file, letters[0].line, "answer", what, remedy, "warning")
    return rows, skipped, items


def _marked(item: TrainingItem, layout: Layout, log: FaultLog, doubted: set[Path]) -> TrainingItem:
    """The item with the marks that the layout keeps beside its image, where the row itself names none.

    Args:
        doubted: images about whose marks a warning was given; takes this one.
    """
    if layout.marks is None or item.mask is not None or item.boxes or item.others:
        return item
    marks = layout.marks(item.image, item.question)
    if marks.doubt and item.image not in doubted:
        doubted.add(item.image)
        what = f"the boxes beside {item.image.parent.name}/{item.image.name} {marks.doubt}; they are not used"
        log.add("marks", item.file, item.line, "boxes", what, "Nothing: weak labels take their place", "warning")
    return replace(item, mask=marks.mask, mask_values=marks.values, boxes=marks.boxes)


@isolable
def missing_images(path: Path) -> tuple[str, ...]:
    """The names of images that the rows of a data set give and that do not lie in its folder, each once; none where
    pictures stand inside its Parquet files.

    Raises:
        DataError: nothing of it is recognised as a data set.
    """
    log = FaultLog()
    root, _, found = find_sources(path, "auto", log, None)
    missing: dict[str, None] = {}
    for entry in found:
        if entry.layout is None or entry.missing:
            continue
        finder = _finder(entry.layout, root, entry.source.path.parent, [])
        for row in entry.source.rows:
            for draft in entry.layout.drafts(row, entry.log):
                if isinstance(draft.image, str) and draft.image.strip():
                    place = finder.find(draft.image)
                    if isinstance(place, tuple) and place[0] == "missing-image":
                        missing[draft.image] = None
    return () if any("packed-images" in entry.log.kinds for entry in found) else tuple(missing)


def _finder(layout: Layout, root: Path, beside: Path, elsewhere: list[Path]) -> PictureFinder:
    bases = [*elsewhere, root, beside]
    bases += [base / folder for base in (*elsewhere, root, beside) for folder in layout.folders]
    # A folder around all of it, as archives have, or several: names may be relative to any of them.
    around = [folder for folder in beside.parents if folder.is_relative_to(root) and folder != root]
    bases += [base / folder for base in around for folder in ("", *layout.folders)]
    return PictureFinder((root, *elsewhere), bases)


def split_dataset(dataset: Dataset, validation_share: float = 0.1, seed: int = 0) -> Dataset:
    """Give every item a split: by image, so that no image is trained on and validated on. Images that a question is
    about together stay together.

    Splits that the data set gives stay. Items without one join the split that their image is already in. If there is
    no validation yet, images of the rest are drawn for it: in the order of a hash of seed and image content, so that
    the draw is the same on every machine, whatever the files are called and in whatever order they come.

    Args:
        dataset: a data set whose images exist.
        validation_share: share of the images that becomes validation, 0 to below 1; at least one image when it is
            above 0 and there are two.
        seed: another number, another draw.

    Raises:
        DataError: the share is out of range, or an image can no longer be read.
    """
    if not 0 <= validation_share < 1:
        raise DataError(
            got=f"validation_share is {validation_share}",
            expected="a share of 0 to below 1",
            remedy="0.1 is a tenth of the images",
        )
    splits = {item.split for item in dataset.items}
    if None not in splits and ("validation" in splits or validation_share == 0):
        return dataset
    groups = image_groups(dataset.items, dataset.digests)
    given: dict[str, Split] = {}
    # Held-out splits win: an image that is tested on must not be trained on.
    for split in SPLITS:
        given.update((groups[item.image], split) for item in dataset.of(split))
    free: dict[str, int] = defaultdict(int)
    for item in dataset.items:
        if given.get(groups[item.image], "train") == "train":
            free[groups[item.image]] += 1
    drawn: set[str] = set()
    if "validation" not in splits and len(free) > 1 and validation_share > 0:
        order = sorted(free, key=lambda digest: hashlib.sha256(f"{seed}:{digest}".encode()).digest())
        drawn = set(order[: min(len(free) - 1, max(1, round(validation_share * len(free))))])

    def split_of(item: TrainingItem) -> Split:
        group = groups[item.image]
        if group in drawn:
            return "validation"
        return item.split or given.get(group, "train")

    return dataset.with_items(replace(item, split=split_of(item)) for item in dataset.items)


def image_groups(items: Sequence[TrainingItem], digests: Mapping[Path, str]) -> dict[Path, str]:
    """Image -> a text that is the same for all images that questions are about together, directly or through others,
    and another for each other image: the lowest of their digests.

    Args:
        digests: SHA-256 of each image's file.
    """
    above: dict[str, str] = {}

    def top(digest: str) -> str:
        while above.get(digest, digest) != digest:
            digest = above[digest]
        return digest

    for item in items:
        tops = sorted({top(digests[path]) for path in item.images})
        above.update(dict.fromkeys(tops, tops[0]))
    return {path: top(digests[path]) for item in items for path in item.images}
