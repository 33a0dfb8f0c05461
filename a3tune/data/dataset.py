"""The value objects of a checked data set: its items, its counts and its faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from a3tune.data.file_digests import FileDigests
from a3tune.data.formats.faults import DataFault, FaultLog, place_of
from a3tune.data.formats.files import Split
from a3tune.errors import DataError
from a3tune.progress import Progress, no_progress
from a3tune.wording import counted

AnswerType = Literal["closed", "open"]

_SHOWN = 5


Boxes = tuple[tuple[float, float, float, float], ...]
"""(x, y, width, height) of each box, in source pixels."""


@dataclass(frozen=True, slots=True)
class MarkedImage:
    """One more image of a question about several, with what is marked in it; see `TrainingItem`."""

    image: Path
    mask: Path | None = None
    boxes: Boxes = ()


@dataclass(frozen=True, slots=True)
class TrainingItem:
    """One question about one image, or about several, with its answer.

    Attributes:
        image: the image's file, inside the data folder; of several the first. What must not pass over the others takes
            `images` or `parts`.
        question: the question, without the marker ``<image>``.
        answer: the answer.
        answer_type: "closed" (yes or no, or one of given options) or "open".
        split: "train", "validation", "test", or None where the data set does not say.
        file: file of the row, relative to the data folder.
        line: line of the row, from 1, or its number (`a3tune.data.formats.faults.RowNumber`).
        identifier: the data set's own id of the row; "" where it has none.
        organ: organ or location that the data set names ("HEAD", "Lung"); "" where it names none.
        modality: modality that the data set names ("MRI"); "" where it names none.
        mask: file of a mask of where to look, or None: a picture of the image's size (any value above 0 counts), or a
            NIfTI volume, DICOM segmentation or structure set that lies where the image does.
        mask_values: the values of the mask that count (see `a3tune.images.masks.mask_labels`), of a segmentation or
            structure set the numbers; all above 0 when empty.
        segment: number or name of the one segment or structure of the mask that counts, instead of ``mask_values``.
        part: what part of the data set the question belongs to, such as a kind of hallucination; "" where it has none.
        boxes: where to look, as (x, y, width, height) in source pixels.
        context: the turns before, question, answer, question, ...; the images stand before the first of them.
        others: further images that the question is about, in their order behind ``image``, each with its own mask and
            boxes; ``mask_values`` and ``segment`` count for all.
    """

    image: Path
    question: str
    answer: str
    answer_type: AnswerType
    split: Split | None
    file: str
    line: int
    identifier: str = ""
    organ: str = ""
    modality: str = ""
    mask: Path | None = None
    boxes: Boxes = ()
    context: tuple[str, ...] = ()
    mask_values: tuple[int, ...] = ()
    segment: str = ""
    part: str = ""
    others: tuple[MarkedImage, ...] = ()

    @property
    def images(self) -> tuple[Path, ...]:
        """The files of all images that the question is about, in their order."""
        return (self.image, *(other.image for other in self.others))

    @property
    def parts(self) -> tuple[TrainingItem, ...]:
        """The item once for each image, as if that were its only one."""
        if not self.others:
            return (self,)
        marked = (MarkedImage(self.image, self.mask, self.boxes), *self.others)
        return tuple(replace(self, image=one.image, mask=one.mask, boxes=one.boxes, others=()) for one in marked)

    @property
    def image_name(self) -> str:
        """The file name of its image, of several all of them."""
        return "; ".join(path.name for path in self.images)

    @property
    def place(self) -> str:
        """Where the row stands, in words."""
        return place_of(self.file, self.line)


@dataclass(frozen=True)
class DataCounts:
    """How much there is.

    Attributes:
        rows: rows read.
        skipped: rows left out on purpose: not in English, without an image, or without an answer as published.
        items: questions that can be used.
        images: different images that they use.
        splits: split -> questions; questions without one under "unsplit".
        answer_types: "closed" and "open" -> questions.
        errors, warnings: faults of each severity.
        kinds: kind of fault -> how many.
        sizes: ((height, width) of the smallest image, of the largest) in pixels; None before images were opened.
        formats: image format -> images; empty before images were opened.
        several: questions that are about several images.
    """

    rows: int
    skipped: int
    items: int
    images: int
    splits: dict[str, int]
    answer_types: dict[str, int]
    errors: int
    warnings: int
    kinds: dict[str, int]
    sizes: tuple[tuple[int, int], tuple[int, int]] | None = None
    formats: dict[str, int] | None = None
    several: int = 0


@dataclass(frozen=True)
class Dataset:
    """A data set as it was read: what can be used, and everything that is wrong with the rest.

    Attributes:
        layout: name of the layout.
        root: the data folder.
        files: files of rows, relative to ``root``.
        items: questions without an error of their own, in the order of the files.
        faults: the first faults in words, errors first; ``counts`` holds the totals.
        counts: how much there is.
        digests: of its images and masks, as far as anything asked for them.
    """

    layout: str
    root: Path
    files: tuple[str, ...]
    items: tuple[TrainingItem, ...]
    faults: tuple[DataFault, ...]
    counts: DataCounts
    digests: FileDigests = field(default_factory=FileDigests, compare=False, repr=False)

    def of(self, split: Split) -> tuple[TrainingItem, ...]:
        """The items of one split."""
        return tuple(item for item in self.items if item.split == split)

    def with_items(self, items: Iterable[TrainingItem]) -> Dataset:
        """The same data set with other items, counted anew."""
        items = tuple(items)
        return replace(self, items=items, counts=replace(self.counts, **count_items(items)))

    def with_faults(self, log: FaultLog) -> Dataset:
        """The same data set with the faults of ``log`` added."""
        merged = FaultLog(limit=max(log.limit, len(self.faults)))
        counts = self.counts
        kinds = Counter(counts.kinds)
        kinds.update(log.kinds)
        for fault in (*self.faults, *log.kept):
            merged.add(fault.kind, fault.file, fault.line, fault.field, fault.what, fault.remedy, fault.severity)
        counts = replace(
            counts,
            errors=counts.errors + log.totals["error"],
            warnings=counts.warnings + log.totals["warning"],
            kinds=dict(kinds),
        )
        return replace(self, faults=merged.kept, counts=counts)

    def raise_for_faults(self) -> None:
        """End here when the data set has an error.

        Raises:
            DataError: the first errors with file and line, and how many there are in all.
        """
        if not self.counts.errors:
            return
        errors = [fault for fault in self.faults if fault.severity == "error"]
        shown = "; ".join(str(fault) for fault in errors[:_SHOWN])
        rest = self.counts.errors - min(_SHOWN, len(errors))
        raise DataError(
            got=f"The data has {counted(self.counts.errors, 'fault')}: {shown}"
            + (f"; and {rest:,} more" if rest else ""),
            expected="rows that name an image in the data folder, a question and an answer",
            remedy=errors[0].remedy if len({fault.remedy for fault in errors}) == 1 else "Correct these rows",
        )

    def check_lengths(
        self,
        count_tokens: Callable[[TrainingItem], int],
        most: int,
        *,
        on_progress: Progress = no_progress,
    ) -> Dataset:
        """The data set with a fault for every item that is longer than a model takes.

        Args:
            count_tokens: tokens of an item's whole prompt with its image and answer.
            most: how many tokens the model takes.
            on_progress: told how far it is.
        """
        log, kept = FaultLog(), []
        for number, item in enumerate(self.items):
            if number % 500 == 0:
                on_progress("Counting tokens", number / len(self.items))
            tokens = count_tokens(item)
            if tokens <= most:
                kept.append(item)
                continue
            what = f"question and answer take {tokens:,} tokens with the image, the model takes {most:,}"
            log.add("too-long", item.file, item.line, "question", what, "Shorten them, or raise max_length")
        return self.with_items(kept).with_faults(log) if log.kinds else self


def count_items(items: tuple[TrainingItem, ...]) -> dict[str, Any]:
    """The fields of `DataCounts` that follow from the items."""
    return {
        "items": len(items),
        "images": len({image for item in items for image in item.images}),
        "several": sum(bool(item.others) for item in items),
        "splits": dict(Counter(item.split or "unsplit" for item in items)),
        "answer_types": dict(Counter(item.answer_type for item in items)),
    }
