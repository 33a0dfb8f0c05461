"""Faults that show only when the images are looked at, or when all rows are looked at together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from a3tune.data.checks import question_words
from a3tune.data.dataset import TrainingItem
from a3tune.data.formats.faults import FaultLog, Severity
from a3tune.data.masks import counting_values, is_located, true_mask
from a3tune.errors import A3TuneError, Cancelled, ImageError, RequestError
from a3tune.images import ImageDescription, describe_image, load_image
from a3tune.images.masks import mask_labels
from a3tune.progress import Progress, no_progress
from a3tune.storage import file_digest
from a3tune.wording import counted


@dataclass(frozen=True)
class ImageFacts:
    """What opening the images told.

    Attributes:
        items: the items whose image and mask can be used.
        digests: image -> SHA-256 of its file.
        sizes: ((height, width) of the smallest image, of the largest) in pixels; None without images.
        formats: image format -> images.
    """

    items: tuple[TrainingItem, ...]
    digests: dict[Path, str]
    sizes: tuple[tuple[int, int], tuple[int, int]] | None
    formats: dict[str, int]


def open_images(
    items: Sequence[TrainingItem],
    log: FaultLog,
    *,
    on_progress: Progress = no_progress,
    should_stop: Callable[[], bool] | None = None,
) -> ImageFacts:
    """Open every image and mask once; each that cannot be used is one fault, at the first row that names it.

    Raises:
        Cancelled: ``should_stop`` said so.
    """
    rows = Counter(path for item in items for path in item.images)
    seen: dict[Path, ImageDescription | None] = {}
    digests: dict[Path, str] = {}
    targets, kept = _TargetChecks(log), []
    for number, item in enumerate(items):
        if should_stop is not None and should_stop():
            raise Cancelled
        if number % 50 == 0:
            on_progress("Looking through the images", number / len(items))
        fit = []
        for part in item.parts:
            if part.image not in seen:
                seen[part.image] = _describe(part, part.image, "image", log, rows[part.image] - 1, digests)
            picture = seen[part.image]
            fit.append(picture is not None and targets.fits(part, picture))
        if all(fit):
            kept.append(item)
    pictures = [picture for path in digests if (picture := seen[path]) is not None]
    sizes = sorted(((picture.height, picture.width) for picture in pictures), key=lambda size: size[0] * size[1])
    return ImageFacts(
        tuple(kept),
        digests,
        (sizes[0], sizes[-1]) if sizes else None,
        dict(Counter(picture.format for picture in pictures)),
    )


def _describe(
    item: TrainingItem, path: Path, field: str, log: FaultLog, more: int, digests: dict[Path, str]
) -> ImageDescription | None:
    try:
        description = describe_image(path)
        digests[path] = file_digest(path)
    except (ImageError, RequestError) as error:
        problem, remedy = error.got, error.remedy
    except OSError as error:
        problem, remedy = f"cannot be read ({error.strerror})", "Check the file and its rights"
    else:
        return description
    others = f" ({more} more rows use it)" if more else ""
    log.add("unreadable-image", item.file, item.line, field, f"{path.name}: {problem}{others}", remedy)
    return None


class _TargetChecks:
    """Whether masks and boxes lie on their images; every mask is opened once for each image that it belongs to.

    Args:
        log: takes what is wrong.
    """

    def __init__(self, log: FaultLog) -> None:
        self._log = log
        self._described: dict[Path, ImageDescription | None] = {}
        self._values: dict[Path, set[int]] = {}
        self._located: dict[tuple[object, ...], bool | A3TuneError] = {}

    def fits(self, item: TrainingItem, picture: ImageDescription) -> bool:
        size = f"{picture.width} x {picture.height}"
        for x, y, width, height in item.boxes:
            if x + width > picture.width or y + height > picture.height:
                what = f"the box {x:g}, {y:g}, {width:g}, {height:g} reaches beyond the image of {size} pixels"
                self._add("boxes", item, "boxes", what, "Give boxes in pixels of the image itself")
                return False
        if item.mask is None:
            return True
        try:
            located = is_located(item.mask)
            marked = self._marks_there(item) if located else self._marks_picture(item, item.mask, picture)
        except (A3TuneError, OSError, ValueError) as error:
            told = error if isinstance(error, A3TuneError) else None
            what = told.got if told else f"{item.mask.name} cannot be read as a mask"
            self._add("mask", item, "mask", what, told.remedy if told else "Save it as an 8-bit PNG in grey")
            return False
        if marked is False:
            what = f"{item.mask.name} marks nothing on its image"
            self._add("empty-mask", item, "mask", what, "Nothing, if nothing is to be seen there", "warning")
        return marked is not None

    def _marks_picture(self, item: TrainingItem, path: Path, picture: ImageDescription) -> bool | None:
        """Whether a mask that is a picture marks anything; None where it cannot be used, which is in the log."""
        if path not in self._described:
            self._described[path] = _describe(item, path, "mask", self._log, 0, {})
        mask = self._described[path]
        if mask is None:
            return None
        if (mask.height, mask.width) != (picture.height, picture.width):
            what = f"{path.name} has {mask.width} x {mask.height} pixels, its image has {picture.width} x "
            what += str(picture.height)
            self._add("mask-size", item, "mask", what, "Give a mask of the image's own size")
            return None
        if path not in self._values:
            self._values[path] = set(np.unique(mask_labels(path)).tolist()) - {0}
        counting = counting_values(item)
        return bool(self._values[path] & set(counting) if counting else self._values[path])

    def _marks_there(self, item: TrainingItem) -> bool:
        """Whether a mask that says where it lies marks anything on the item's image.

        Raises:
            A3TuneError: it lies elsewhere, has no such segment, or cannot be read.
        """
        key = (item.image, item.mask, item.mask_values, item.segment)
        if key not in self._located:
            try:
                self._located[key] = true_mask(replace(item, boxes=()), load_image(item.image)) is not None
            except A3TuneError as error:
                self._located[key] = error
        found = self._located[key]
        if isinstance(found, A3TuneError):
            raise found
        return found

    def _add(
        self, kind: str, item: TrainingItem, field: str, what: str, remedy: str, severity: Severity = "error"
    ) -> None:
        self._log.add(kind, item.file, item.line, field, what, remedy, severity)


def find_shared_images(
    items: Iterable[TrainingItem], digests: dict[Path, str], log: FaultLog, *, allowed: bool
) -> None:
    """A fault for every image that is trained on and also validated or tested on.

    Args:
        items: the items.
        digests: image -> SHA-256 of its file: copies under another name are found too. Without an entry, only the
            file itself counts.
        log: takes the faults.
        allowed: the split is wanted so (VQA-RAD was published with such a one): a single warning that counts them.
    """
    items = tuple(items)
    uses: dict[object, dict[str, TrainingItem]] = {}
    for part in (part for item in items if item.split is not None for part in item.parts):
        uses.setdefault(digests.get(part.image, part.image), {}).setdefault(str(part.split), part)
    shared = [by_split for by_split in uses.values() if len(by_split) > 1]
    trained = [by_split for by_split in shared if "train" in by_split]
    if allowed:
        _count_shared_questions(items, digests, log)
        if trained:
            item = trained[0]["train"]
            what = f"{counted(len(trained), 'image is', 'images are')} in train and in another split"
            remedy = "Keep it to compare with published figures; else split by image"
            log.add("shared-image", item.file, 0, "split", what, remedy, "warning")
        return
    for by_split in shared:
        other = next(by_split[split] for split in ("test", "validation") if split in by_split)
        first = next(item for split, item in by_split.items() if split != other.split)
        same = "" if first.image == other.image else f", there as {first.image.name}"
        what = f"{other.image.name} is in {other.split} and in {first.split} ({first.place}{same})"
        log.add(
            "shared-image", other.file, other.line, "split", what,
            "Keep all rows of an image in one split, or set allow_shared_images",
            "error" if "train" in by_split else "warning",
        )  # fmt: skip


def _count_shared_questions(items: Sequence[TrainingItem], digests: dict[Path, str], log: FaultLog) -> None:
    """A warning that counts the held-out questions that are asked about the same image in train too."""

    def asked(item: TrainingItem) -> tuple[object, ...]:
        return *(digests.get(path, path) for path in item.images), item.context, question_words(item.question)

    trained = {asked(item) for item in items if item.split == "train"}
    again = [item for item in items if item.split in ("validation", "test") and asked(item) in trained]
    if again:
        number = counted(len(again), "held-out question is", "held-out questions are")
        what = f"{number} asked about the same image in train too"
        remedy = "Keep them to compare with published figures; else leave them out of one split"
        log.add("shared-question", again[0].file, 0, "split", what, remedy, "warning")
