"""The questions of an evaluation: which split, what was left out and why, and what the split shares with training."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from a3tune.data.dataset import Dataset, TrainingItem
from a3tune.data.formats.files import SPLITS
from a3tune.data.read import image_groups, read_dataset, split_dataset
from a3tune.errors import DataError
from a3tune.evaluation.items import GROUPS, data_notes
from a3tune.evaluation.multiple_choice import options_of
from a3tune.evaluation.text_normalisation import normalise_strict
from a3tune.progress import Progress, no_progress
from a3tune.wording import listed

GROUPS_TABLE = Path("groups", "groups.csv")
"""A table beside the data's own with the columns image and question, and any of `GROUPS`."""
_SHOWN_GAPS = 20

# A question's first match names its topic.
_TOPICS = tuple(
    (name, re.compile(pattern, re.IGNORECASE))
    for name, pattern in (
        ("report", r"\b(describe|report|findings of this|what does the (image|picture|scan) show|caption)\b"),
        ("count", r"\b(how many|number of|count)\b"),
        ("modality", r"\b(modality|type of (scan|image|imaging)|kind of (image|scan)|(ct|mri?|x-?ray|ultrasound) (scan|"
         r"image)\b.*\?|imaging (technique|method)|is (this|the image) an? \w+( \w+)? (scan|radiograph))"),
        ("plane", r"\b(plane|axial|coronal|sagittal|projection|view)\b"),
        ("side", r"\b(which|what|on the|left|right) (\w+ )?side\b|\bon the (patient's )?(left|right)\b"),
        ("location", r"\b(where|location|located|position|region of|which (lobe|part|zone|quadrant))\b"),
        ("size", r"\b(enlarged|size|dilated|bigger|larger|smaller|cardiomegaly)\b"),
        ("organ", r"\b(which|what) (organ|organs|organ system)\b"),
        ("colour", r"\b(colou?r)\b"),
        ("abnormality", r"\b(what|which) (is )?(abnormal\w*|disease|lesion|pathology|diagnosis)\b"),
        ("presence", r"^\W*(is|are|does|do|can|could|has|have|was|were|any)\b|\b(evidence of|present)\b"),
    )
)  # fmt: skip
_ARTICLE = r"(?:(?:an?|any|the|some)\s+)?"
_SUBJECTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"^(?:is|are) there {_ARTICLE}(?:evidence of )?{_ARTICLE}(.+?)(?: (?:in|on|at|within) .*)?\?",
        rf"^can you see {_ARTICLE}(.+?)(?: (?:in|on|at|within) .*)?\?",
        rf"^does the (?:image|picture|scan) (?:show|contain) {_ARTICLE}(.+?)(?: (?:in|on) .*)?\?",
        rf"^where (?:is|are) {_ARTICLE}(.+?)(?: located)?\?",
        rf"^what is the (?:location|number) of {_ARTICLE}(.+?)\?",
        rf"^(?:on )?which side is {_ARTICLE}(.+?)(?: on)?\?",
        rf"^is {_ARTICLE}(.+?) (?:on|in|enlarged|normal|abnormal)\b",
        r"^how many (.+?) (?:are|can|do|is)\b",
    )
)


@dataclass(frozen=True)
class EvaluationQuestion:
    """One question of the split.

    Attributes:
        number: its place among the questions that are asked, from 0.
        identifier: unique in the data set: its own id where that is unique, else file and line.
        item: the question as the data set gives it.
        options: among which the answer is to be chosen; empty where there are none.
        groups: name in `GROUPS` -> value; names without one are left out.
        image_digest: SHA-256 of the image's file; of images that questions are about together, the lowest of them.
    """

    number: int
    identifier: str
    item: TrainingItem
    options: tuple[str, ...]
    groups: Mapping[str, str]
    image_digest: str


@dataclass(frozen=True)
class Overlap:
    """How much of the split stands in the training split too.

    Attributes:
        images: questions of whose images one (the very same file content) is trained on.
        questions: questions whose wording is trained on, about whatever image.
        pairs: questions whose images and wording are trained on together.
        exact: questions whose images, wording and answer are trained on together.
    """

    images: int
    questions: int
    pairs: int
    exact: int


@dataclass(frozen=True)
class EvaluationData:
    """What an evaluation asks.

    Attributes:
        name: as the user named the data.
        layout: name of the layout.
        split: "train", "validation", "test" or "all".
        questions: what is asked.
        gaps: what cannot be asked, each in words with its place; the first twenty.
        left_out: how many cannot be asked.
        overlap: with the training split; None where that is what is asked, or there is none.
        splits: split -> how many questions the whole data set has.
        digest: SHA-256 over everything that is asked, images included.
        root: the data folder.
    """

    name: str
    layout: str
    split: str
    questions: tuple[EvaluationQuestion, ...]
    gaps: tuple[str, ...]
    left_out: int
    overlap: Overlap | None
    splits: Mapping[str, int]
    digest: str
    root: Path

    def identity(self) -> dict[str, str]:
        """What tells it from other data, as plain JSON values."""
        return {"name": self.name, "layout": self.layout, "split": self.split, "sha256": self.digest}

    def record(self) -> dict[str, Any]:
        """As plain JSON values, without the questions."""
        kinds = Counter(question.item.answer_type for question in self.questions)
        return {
            **self.identity(),
            "questions": len(self.questions),
            "images": len({question.image_digest for question in self.questions}),
            "answer_types": dict(kinds),
            "splits": dict(self.splits),
            "left_out": self.left_out,
            "gaps": list(self.gaps),
            "overlap_with_training": None if self.overlap is None else asdict(self.overlap),
        }

    def notes(self) -> tuple[str, ...]:
        """What a reader must know of it, in words."""
        return data_notes(self.record())


def read_evaluation_data(
    path: str | Path,
    split: str | None = None,
    *,
    name: str | None = None,
    layout: str = "auto",
    images: str | Path | None = None,
    unpack_to: str | Path | None = None,
    most: int | None = None,
    held_out: tuple[float, int] | None = None,
    on_progress: Progress = no_progress,
    should_stop: Callable[[], bool] | None = None,
) -> EvaluationData:
    """Read the questions of one split; rows that cannot be used become gaps that are told and counted.

    Args:
        path: a file of rows or a folder, in any layout that tuning reads.
        split: "train", "validation", "test" or "all"; None for the test split, else the validation split, else all
            (the validation split first where ``held_out`` is given).
        name: what the data is called in the report; the path when None.
        layout, images, unpack_to: as `a3tune.data.read.read_dataset`.
        most: ask no more than so many questions, drawn by a hash of each so that the same are drawn every time: rows in
            a regular order (open, closed, open) would bias every n-th.
        held_out: validation share and seed of a tuning run: rows without a split are divided as it divided them.
        on_progress, should_stop: as `read_dataset`.

    Raises:
        DataError: there is no such split, or nothing in it can be asked.
    """
    dataset = read_dataset(
        path,
        layout,
        images=images,
        unpack_to=unpack_to,
        allow_shared_images=True,
        several_images=True,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    if held_out is not None:
        dataset = split_dataset(dataset, *held_out)
    split = _chosen_split(dataset, split, ("validation", "test") if held_out is not None else ("test", "validation"))
    items = dataset.items if split == "all" else tuple(item for item in dataset.items if item.split == split)
    if not items:
        dataset.raise_for_faults()
    if most is not None and most < len(items):
        chosen = sorted(range(len(items)), key=lambda place: _draw(items[place]))[:most]
        items = tuple(items[place] for place in sorted(chosen))
    groups_of = image_groups(items, dataset.digests)
    extra = _group_table(dataset)
    names = Counter(item.identifier for item in items)
    places: Counter[str] = Counter()
    questions = []
    for number, item in enumerate(items):
        place = f"{item.file}:{item.line}"
        places[place] += 1
        # A row may hold a whole conversation.
        place += f"/{places[place]}" if places[place] > 1 else ""
        identifier = item.identifier if item.identifier and names[item.identifier] == 1 else place
        groups = _groups(item, extra.get((item.image_name, item.question), {}))
        options = options_of(item.question, item.answer)
        questions.append(EvaluationQuestion(number, identifier, item, options, groups, groups_of[item.image]))
    overlap = None
    training = dataset.of("train")
    if split not in ("train", "all") and training:
        overlap = _overlap(questions, training, dataset.digests)
    faults = [fault for fault in dataset.faults if fault.severity == "error"]
    splits: Counter[str] = Counter(item.split or "unsplit" for item in dataset.items)
    return EvaluationData(
        name or str(path),
        dataset.layout,
        split,
        tuple(questions),
        tuple(str(fault) for fault in faults[:_SHOWN_GAPS]),
        dataset.counts.errors,
        overlap,
        splits,
        _digest(questions, dataset.digests),
        dataset.root,
    )


def topic_of(question: str) -> str:
    """What kind of thing a question asks, told from its words: "presence", "location", "side", ...; "other"."""
    return next((name for name, pattern in _TOPICS if pattern.search(question)), "other")


def subject_of(question: str) -> str:
    """What a question is about, told from its words: "right lung" of "Where is the right lung?"; "" where its form is
    not known."""
    first = question.strip().splitlines()[0] if question.strip() else ""
    match = next((found for found in (pattern.search(first) for pattern in _SUBJECTS) if found), None)
    return match[1].strip().casefold() if match and len(match[1].split()) <= 4 else ""


def _draw(item: TrainingItem) -> bytes:
    """A number without relation to the order or kind of a question, the same on every machine."""
    return hashlib.sha256(f"{item.image_name}\n{item.file}\n{item.line}\n{item.question}".encode()).digest()


def _chosen_split(dataset: Dataset, split: str | None, first: tuple[str, ...]) -> str:
    there = [name for name in SPLITS if dataset.of(name)]
    if split is None:
        return next((name for name in first if name in there), "all")
    if split == "all" or split in there:
        return split
    raise DataError(
        expected=f"one of its splits: {listed(there) or 'it has none'}, or all",
        got=f"The data has no questions of the split {split!r}",
        remedy="Choose one of these with --split" if there else "Leave --split out, or write a column split",
    )


def _groups(item: TrainingItem, told: Mapping[str, str]) -> dict[str, str]:
    groups = {
        "answer_type": item.answer_type,
        "topic": topic_of(item.question),
        "organ": item.organ,
        "modality": item.modality,
        "structure": subject_of(item.question),
        "part": item.part,
    }
    groups.update(told)
    return {name: groups[name] for name in GROUPS if groups.get(name)}


def _group_table(dataset: Dataset) -> dict[tuple[str, str], dict[str, str]]:
    """By name of the image and question; the table lies in the data folder, or beside the rows where these lie deeper,
    as in an archive with one folder around all."""
    root = dataset.root
    beside = (folder for file in dataset.files for folder in (root / file).parents if folder.is_relative_to(root))
    places = (folder / GROUPS_TABLE for folder in dict.fromkeys((root, *beside)))
    table = next((place for place in places if place.exists()), None)
    if table is None:
        return {}
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            expected="a table with the columns image and question and what to break results down by",
            got=f"{GROUPS_TABLE} cannot be read: {error}",
            remedy="Write it again, or take it away",
        ) from error
    return {
        (Path(row.get("image") or "").name, row.get("question") or ""): {
            name: row[name] for name in GROUPS if row.get(name)
        }
        for row in rows
    }


def _overlap(
    questions: Iterable[EvaluationQuestion], training: Iterable[TrainingItem], digests: Mapping[Path, str]
) -> Overlap:
    images: set[str] = set()
    words, pairs, exact = set(), set(), set()
    for item in training:
        shown, question = tuple(digests[path] for path in item.images), normalise_strict(item.question)
        images.update(shown)
        words.add(question)
        pairs.add((shown, question))
        exact.add((shown, question, normalise_strict(item.answer)))
    counts = [0, 0, 0, 0]
    for asked in questions:
        shown = tuple(digests[path] for path in asked.item.images)
        question = normalise_strict(asked.item.question)
        shared = (
            any(digest in images for digest in shown),
            question in words,
            (shown, question) in pairs,
            (shown, question, normalise_strict(asked.item.answer)) in exact,
        )
        counts = [count + there for count, there in zip(counts, shared, strict=True)]
    return Overlap(*counts)


def _digest(questions: Iterable[EvaluationQuestion], digests: Mapping[Path, str]) -> str:
    digest = hashlib.sha256()
    for question in questions:
        item = question.item
        mask = "" if item.mask is None else digests[item.mask]
        facts = (question.identifier, question.image_digest, item.question, item.answer, item.answer_type, mask)
        digest.update(repr((*facts, item.boxes, item.mask_values, item.segment, item.context)).encode())
        if item.others:
            files = [digests[path] for part in item.parts for path in (part.image, part.mask) if path]
            digest.update(repr((files, [other.boxes for other in item.others])).encode())
    return digest.hexdigest()
