"""What one system did with one question, as it stands in ``items.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from a3tune.errors import DataError
from a3tune.evaluation.systems import GREEDY
from a3tune.storage import write_text
from a3tune.wording import counted

ITEMS_NAME = "items.jsonl"
GROUPS = ("answer_type", "topic", "organ", "modality", "structure", "part")
"""What results are broken down by."""
TIE = 1e-4
"""Where the best two next tokens are closer than this in logits, the batch size may decide which one is written."""


@dataclass(frozen=True)
class EvaluatedItem:
    """One question answered by one system.

    Attributes:
        id: the question's name, unique in the data set.
        number: its place among the questions that were asked.
        system: name of the system (`a3tune.evaluation.systems.System.name`), or of the file of predictions.
        image: the image's path in the data folder; of several all, with "; " between.
        image_sha256: `a3tune.evaluation.questions.EvaluationQuestion.image_digest`; "" where it is not at hand.
        question, answer: as the data set has them.
        answer_type: "closed" or "open".
        prediction: what was answered; None where nothing could be asked (``gap`` says why).
        options: among which the answer was to be chosen.
        groups: what results are broken down by.
        scores: mode -> metric -> 0 to 1 (see `a3tune.evaluation.vqa`).
        attention: "given" and "generated" -> numbers of `a3tune.attention.metrics.measure` and "image_share" while the
            right answer, or the model's own, is written, of the critical heads; of another set of heads by its name
            behind a comma, "given, all heads". Empty where it was not read.
        adapter, decoding, control: the system's parts.
        masks: "true", "weak" or "none": what the attention was measured against.
        ending: "end" or "length".
        margin: how close the second choice of a token came; None where it is not known.
        gap: why there is no prediction, or no attention; "" where nothing is missing.
    """

    id: str
    number: int
    system: str
    image: str
    image_sha256: str
    question: str
    answer: str
    answer_type: str
    prediction: str | None
    options: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    attention: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    adapter: str = ""
    decoding: str = GREEDY
    control: str = ""
    masks: str = "none"
    ending: str = "end"
    margin: float | None = None
    gap: str = ""

    def value(self, name: str) -> float:
        """A number by its dotted name, "strict.accuracy" or "given.attention_mass"; NaN where it is not defined."""
        part, _, metric = name.rpartition(".")
        found = {**self.scores, **self.attention}.get(part, {}).get(metric)
        return math.nan if found is None else float(found)

    @property
    def further_attention(self) -> tuple[str, ...]:
        """The parts of ``attention`` that are of other heads than the critical ones."""
        return tuple(part for part in self.attention if ", " in part)

    @property
    def cluster(self) -> str:
        """What tells the item's image from others."""
        return self.image_sha256 or self.image or self.id

    @property
    def right(self) -> bool:
        """Whether the answer is right in the strict mode: closed accuracy, or exact match of an open answer."""
        scores = self.scores.get("strict", {})
        return bool(scores.get("accuracy", scores.get("exact_match", 0.0)))


def data_notes(data: Mapping[str, Any]) -> tuple[str, ...]:
    """What a reader must know of the data (`a3tune.evaluation.questions.EvaluationData.record`), in words."""
    notes = []
    if data.get("left_out"):
        first = f" The first: {data['gaps'][0]}" if data.get("gaps") else ""
        notes.append(f"The data has {counted(data['left_out'], 'fault')}: rows with one are not in any number.{first}")
    overlap = data.get("overlap_with_training")
    if overlap and any(overlap.values()):
        notes.append(
            f"Shared with training, of {counted(data['questions'], 'question')}: the image {overlap['images']:,}, the "
            f"wording {overlap['questions']:,}, both together {overlap['pairs']:,}, with the very same answer "
            f"{overlap['exact']:,}."
        )
    return tuple(notes)


def write_items(path: Path, items: Iterable[EvaluatedItem]) -> None:
    """Write one JSON object a line, whole or not at all."""
    write_text(path, "".join(json.dumps(asdict(item), ensure_ascii=False, allow_nan=False) + "\n" for item in items))


def shared_questions(
    first: Sequence[EvaluatedItem], other: Sequence[EvaluatedItem]
) -> list[tuple[EvaluatedItem, EvaluatedItem]]:
    """The items of two systems about the same questions, in the order of the first."""
    theirs = {item.number: item for item in other}
    return [(item, theirs[item.number]) for item in first if item.number in theirs]


def read_items(path: Path) -> tuple[EvaluatedItem, ...]:
    """What `write_items` wrote.

    Raises:
        DataError: there is no such file, or a line of it is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            expected=f"a finished evaluation with {ITEMS_NAME}",
            got=f"{path} cannot be read: {getattr(error, 'strerror', None) or error}",
            remedy="Name the folder that was given to --out",
        ) from error
    items = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            items.append(item_of(entry))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DataError(
                expected="lines that an evaluation wrote",
                got=f"Line {number} of {path.name} is none",
                remedy="Start the evaluation again, which writes the file anew",
            ) from error
    return tuple(items)


def item_of(entry: Mapping[str, Any]) -> EvaluatedItem:
    """The item of one line.

    Raises:
        ValueError, TypeError, KeyError: a field is missing or of another kind.
    """
    known = {name: entry[name] for name in EvaluatedItem.__dataclass_fields__ if name in entry}
    item = EvaluatedItem(**{**known, "options": tuple(entry.get("options", ()))})
    texts = (
        *(item.id, item.system, item.image, item.image_sha256, item.question, item.answer, item.answer_type, item.gap),
        *(item.adapter, item.decoding, item.control, item.masks, item.ending, *item.options),
        *(text for pair in item.groups.items() for text in pair),
    )
    if not all(isinstance(text, str) for text in texts) or not isinstance(item.prediction, str | None):
        raise TypeError("a text is something else")
    if type(item.number) is not int or not isinstance(item.margin, int | float | None):
        raise TypeError("a number is something else")
    if item.answer_type not in ("closed", "open"):
        raise ValueError("an unknown answer type")
    for numbers in (*item.scores.values(), *item.attention.values()):
        if not all(value is None or isinstance(value, int | float) for value in numbers.values()):
            raise TypeError("a number is something else")
    return item
