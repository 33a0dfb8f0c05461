"""What a run tells in its growing ``events.jsonl``, added up."""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

STEP_CURVES = (
    "loss",
    "cross_entropy",
    "alignment",
    "balance",
    "attention_mass",
    "learning_rate",
    "gradient_norm",
    "samples_per_second",
    "memory_gib",
    "gpu_use",
)
"""What a run says of each step, and its charts show."""
VALIDATION_CURVES = ("loss", "accuracy", "closed_accuracy", "open_accuracy", "attention_mass")
MOST_POINTS = 400
"""Points of one curve that go to the browser: more than its pixels can tell apart helps nobody."""

_CHUNK = 16 << 20
_BATCH = ("image", "known", "regions", "pieces")
_EXAMPLE = ("kind", "image", "question", "answer", "prediction", "right", "probability", "mass")
_MOST_QUESTIONS = 8
_REMEMBERED = 64
_LARGEST, _LARGEST_COUNT = 1e300, 2**53


@dataclass(eq=False)
class Events:
    """What a run's events add up to.

    Attributes:
        steps: all steps of the run; 0 before it says so.
        step: the last step made.
        seconds_left: its own estimate; None before the second step.
        stage: what it is doing before the first step, in its words.
        labelled: (done, all) of the weak labels being made; None when none are.
        work: (what, done, all) of what it does between two steps; None when it told something else since.
        curves: name -> {step: value} of the training steps.
        validation: name -> {step: value}.
        base: name -> value of the base model's validation, before the first step.
        best_step: step of the best validation; None without one.
        watched_questions: asked again every few steps (see a3tune.training.attention_watch).
        attention: step -> the "attention" event of that step, a snapshot of the maps of these questions.
        batch: "size" and "questions" of the first batch (see a3tune.training.first_batch); empty before it is told.
        examples: "step" and "questions" of the best and worst answers (see a3tune.training.validation_examples).
        notes: what a person should know.
        resumed: whether the last start went on with an earlier one.
        generation: names this reading of the file; within one nothing that was told is taken back.
    """

    steps: int = 0
    step: int = 0
    seconds_left: float | None = None
    stage: str = ""
    labelled: tuple[int, int] | None = None
    work: tuple[str, int, int] | None = None
    curves: dict[str, dict[int, float]] = field(default_factory=lambda: {name: {} for name in STEP_CURVES})
    validation: dict[str, dict[int, float]] = field(default_factory=lambda: {name: {} for name in VALIDATION_CURVES})
    base: dict[str, float] = field(default_factory=dict)
    best_step: int | None = None
    watched_questions: list[dict[str, Any]] = field(default_factory=list)
    attention: dict[int, dict[str, Any]] = field(default_factory=dict)
    batch: dict[str, Any] = field(default_factory=dict)
    examples: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    resumed: bool = False
    generation: str = field(default_factory=lambda: secrets.token_hex(4))

    def add(self, event: Mapping[str, Any]) -> None:
        """Take one event in."""
        kind, step = event.get("event"), _count(event.get("step"))
        self.work = None
        if kind == "step" and step is not None:
            left = event.get("seconds_left")
            self.step, self.seconds_left = step, float(left) if _is_number(left) else None
            self.steps = _count(event.get("steps")) or self.steps
            _note(self.curves, event, step)
        elif kind == "base_validation":
            self.base = {name: float(event[name]) for name in VALIDATION_CURVES if _is_number(event.get(name))}
        elif kind == "validation" and step is not None:
            _note(self.validation, event, step)
            self.best_step = step if event.get("best") else self.best_step
        elif kind == "training" and step is not None:
            self.steps, self.step = _count(event.get("steps")) or 0, step
            self.resumed, self.stage, self.labelled, self.seconds_left = bool(event.get("resumed")), "", None, None
        elif kind == "progress":
            self.stage = str(event.get("text", ""))
        elif kind == "work":
            self.work = (str(event.get("what", "")), _count(event.get("done")) or 0, _count(event.get("count")) or 0)
        elif kind == "labels":
            self.labelled = (_count(event.get("done")) or 0, _count(event.get("count")) or 0)
        elif kind == "watched" and isinstance(event.get("questions"), list):
            self.watched_questions = [question for question in event["questions"] if isinstance(question, dict)]
        elif kind == "batch" and isinstance(event.get("questions"), list):
            told = [one for one in _questions(event["questions"], _BATCH) if _are_records(one["pieces"])]
            self.batch = {"size": _count(event.get("size")) or 0, "questions": told}
        elif kind == "examples" and step is not None and isinstance(event.get("questions"), list):
            self.examples = {"step": step, "questions": _questions(event["questions"], _EXAMPLE)}
        elif kind == "attention" and step is not None:
            self.attention[step] = dict(event)
        elif kind == "note" and event.get("text") not in self.notes:
            self.notes.append(str(event.get("text")))


class EventReader:
    """Reads the growing files of events; of each only what is new. Not for several threads at once."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, tuple[int, int, Events]] = OrderedDict()

    def read(self, path: Path) -> Events:
        """All events of a file so far; none when there is no file."""
        try:
            facts = path.stat()
        except OSError:
            self._known.pop(path, None)
            return Events()
        inode, offset, events = self._known.get(path, (facts.st_ino, 0, Events()))
        # A run that goes on at a checkpoint writes the file anew, without the steps that it will make again.
        if inode != facts.st_ino or facts.st_size < offset:
            offset, events = 0, Events()
        with path.open("rb") as stream:
            stream.seek(offset)
            while chunk := stream.read(_CHUNK):
                whole = chunk[: chunk.rfind(b"\n") + 1]
                if not whole:
                    break
                offset += len(whole)
                stream.seek(offset)
                for line in whole.split(b"\n"):
                    with suppress(ValueError, TypeError, AttributeError, RecursionError):
                        events.add(json.loads(line, parse_constant=_refuse, parse_float=_finite))
        self._known[path] = (facts.st_ino, offset, events)
        self._known.move_to_end(path)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return events

    def forget(self, place: Path) -> None:
        """Drop what is known of the files in a folder."""
        for path in [path for path in self._known if path.is_relative_to(place)]:
            del self._known[path]


def thinned(points: Mapping[int, float], most: int = MOST_POINTS) -> list[list[float]]:
    """[step, value] of a curve, neighbours averaged where there are more than ``most`` points."""
    steps = sorted(points)
    size = -(-len(steps) // most) if steps else 1
    groups = [steps[start : start + size] for start in range(0, len(steps), size)]
    return [[group[-1], _rounded(sum(points[step] for step in group) / len(group))] for group in groups]


def _questions(told: list[Any], keys: Sequence[str]) -> list[dict[str, Any]]:
    """No more questions than a run tells of, each with these facts alone."""
    return [{key: one.get(key) for key in keys} for one in told[:_MOST_QUESTIONS] if isinstance(one, dict)]


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _rounded(value: float) -> float:
    """To six digits that count: a learning rate is as small as it is."""
    return float(f"{value:.6g}")


def _note(curves: dict[str, dict[int, float]], event: Mapping[str, Any], step: int) -> None:
    for name, curve in curves.items():
        if _is_number(event.get(name)):
            curve[step] = float(event[name])


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and abs(value) <= _LARGEST


def _count(value: Any) -> int | None:
    """A whole number that a browser can count with; None for anything else."""
    return value if isinstance(value, int) and 0 <= value <= _LARGEST_COUNT else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _finite(digits: str) -> float:
    if abs(number := float(digits)) > _LARGEST:
        raise ValueError(f"{digits[:40]} is too large")
    return number
