"""One-click repairs of a data set: a clean table is written beside the data, which itself is left as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from a3tune.data.dataset import Dataset, Split, TrainingItem
from a3tune.data.read import split_dataset
from a3tune.data.report_marks import without_marks
from a3tune.data.table import TABLE_NAME, table_row, table_text
from a3tune.errors import DataError
from a3tune.storage import write_text

Repair = Literal["rows", "columns", "duplicates", "shared", "allow", "marks", "split"]

# Remarks: a run can use rows with these.
_REMARKS = (
    *("shared-image", "shared-question", "duplicate", "contradiction", "stray-columns", "left-out", "pickle", "option"),
    *("text-only", "no-answer", "report-marks", "empty-mask", "marks", "answers"),
)


@dataclass(frozen=True)
class Offer:
    """A repair that would change something.

    Attributes:
        repair: its name.
        what: what it does, in words.
        count: how many rows, columns or images it is about.
    """

    repair: Repair
    what: str
    count: int


def repairs_for(dataset: Dataset) -> tuple[Offer, ...]:
    """What can be repaired in a data set that was read with its images checked."""
    kinds = dataset.counts.kinds
    faulty = sum(count for kind, count in kinds.items() if kind not in _REMARKS) if dataset.counts.errors else 0
    unsplit = dataset.counts.splits.get("unsplit", 0)
    offers = [
        Offer("rows", f"leave out the rows with faults ({faulty:,} faults)", faulty if dataset.items else 0),
        Offer("shared", "keep images that are in two splits in the held-out one only", kinds.get("shared-image", 0)),
        Offer(
            "allow", "use images that are in two splits as they are, as VQA-RAD was published", _shared_errors(dataset)
        ),
        Offer("duplicates", "keep the first of rows that say the same", kinds.get("duplicate", 0)),
        Offer(
            "marks",
            "take marks of a report's form out of the answers (FINAL REPORT, ___)",
            kinds.get("report-marks", 0),
        ),
        Offer("columns", "leave out the columns that are not used", kinds.get("stray-columns", 0)),
        Offer("split", "write a split: a tenth of the images for validation", unsplit),
    ]
    return tuple(offer for offer in offers if offer.count)


def _shared_errors(dataset: Dataset) -> int:
    """How many images are in two splits, where that is an error; 0 where it is only told."""
    refused = any(fault.kind == "shared-image" and fault.severity == "error" for fault in dataset.faults)
    return dataset.counts.kinds.get("shared-image", 0) if refused else 0


def repair_dataset(
    dataset: Dataset,
    repairs: Iterable[Repair],
    folder: str | Path,
    *,
    root: Path | None = None,
    validation_share: float = 0.1,
    seed: int = 0,
) -> Path:
    """Write the usable rows as a plain table.

    Unused columns are always left out, since a plain table has none.

    Args:
        dataset: the data set as it was read, with its images checked.
        repairs: which repairs ("allow" is no matter of the table, but of how it is read); rows with faults can only be
            left out or corrected by hand, so "rows" has to be among them where there are any.
        folder: a folder for the table; images stay where they are.
        root: what images are named relative to; the data folder when None.
        validation_share, seed: as in `a3tune.data.read.split_dataset`.

    Returns:
        The table, to be read with ``images`` set to ``root``.

    Raises:
        DataError: nothing would be left, or rows with faults were to stay.
    """
    wanted = set(repairs)
    offered = {offer.repair for offer in repairs_for(dataset)}
    if "rows" in offered - wanted:
        raise DataError(
            expected="rows without faults",
            got=f"{dataset.counts.errors:,} faults would stay",
            remedy="Leave these rows out too, or correct them and upload the data again",
        )
    items: Sequence[TrainingItem] = dataset.items
    if several := next((item for item in items if item.others), None):
        raise DataError(
            expected="rows with one image each",
            got=f"{several.place} is about {len(several.images)} images, which repair does not write",
            remedy="Correct the data by hand",
        )
    if "duplicates" in wanted:
        items = list(
            {(item.image, item.context, item.question, item.answer): item for item in reversed(items)}.values()
        )[::-1]
    if "marks" in wanted:
        items = [replace(item, answer=without_marks(item.answer)) for item in items]
        items = [item for item in items if item.answer]
    if "shared" in wanted:
        items = _held_out(items, dataset.digests)
    repaired = dataset.with_items(items)
    if "split" in wanted:
        repaired = split_dataset(repaired, validation_share, seed)
    if not repaired.items:
        raise DataError(expected="rows to keep", got="None would be left", remedy="Correct the data by hand")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / TABLE_NAME
    base = (root or dataset.root).resolve()
    rows = (
        table_row(item, _name(item.image, base), "" if item.mask is None else _name(item.mask, base))
        for item in repaired.items
    )
    write_text(table, table_text(rows))
    return table


def _held_out(items: Sequence[TrainingItem], digests: Mapping[Path, str]) -> list[TrainingItem]:
    """All rows of an image in one split: test before validation before train."""
    splits: dict[str, Counter] = {}
    for item in items:
        splits.setdefault(digests[item.image], Counter())[item.split] += 1
    order: tuple[Split | None, ...] = ("test", "validation", "train", None)
    chosen = {digest: next(split for split in order if split in counts) for digest, counts in splits.items()}
    return [replace(item, split=chosen[digests[item.image]]) for item in items]


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
