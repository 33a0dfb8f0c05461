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

from a3tune.storage import whole_lines
from a3tune.training.event_log import LONGEST_LINE

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
WATCHED = ("question", "answer", "width", "height", "tiles", "target")
"""What a run says of a watched question."""
ATTENTION = ("step", "maps", "mass", "right")
"""What it says of all of them at a step."""

# A run that came from elsewhere may tell anything: no part of a line and no number of them takes more memory than this.
# What this project's own runs tell is far smaller.
_LONGEST_TEXT, _MOST_NOTES, _MOST_PARTS = 2000, 100, 20_000
_MOST_SNAPSHOTS, _SNAPSHOT = 64, 1 << 18
_KEPT_POINTS = 10 * MOST_POINTS
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
            self.stage = _text(event.get("text", ""))
        elif kind == "work":
            self.work = (_text(event.get("what", "")), _count(event.get("done")) or 0, _count(event.get("count")) or 0)
        elif kind == "labels":
            self.labelled = (_count(event.get("done")) or 0, _count(event.get("count")) or 0)
        elif kind == "watched" and isinstance(event.get("questions"), list):
            self.watched_questions = _questions(event["questions"], WATCHED)
        elif kind == "batch" and isinstance(event.get("questions"), list):
            told = [one for one in _questions(event["questions"], _BATCH) if _are_records(one["pieces"])]
            self.batch = {"size": _count(event.get("size")) or 0, "questions": told}
        elif kind == "examples" and step is not None and isinstance(event.get("questions"), list):
            self.examples = {"step": step, "questions": _questions(event["questions"], _EXAMPLE)}
        elif kind == "attention" and step is not None and _are_maps(event.get("maps")):
            self.attention[step] = {key: event.get(key) for key in ATTENTION if _is_small(event.get(key))}
            if len(self.attention) > _MOST_SNAPSHOTS:
                del self.attention[next(iter(self.attention))]
        elif kind == "note" and (text := _text(event.get("text"))) not in self.notes:
            self.notes = [*self.notes, text][-_MOST_NOTES:]


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
            for size, line in whole_lines(stream, LONGEST_LINE):
                offset += size
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
    kept = [one for one in told[:_MOST_QUESTIONS] if isinstance(one, dict)]
    return [{key: one.get(key) if _is_small(one.get(key)) else None for key in keys} for one in kept]


def _text(value: Any) -> str:
    return str(value)[:_LONGEST_TEXT] if isinstance(value, (str, int, float)) else ""


def _are_maps(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and len(value) <= _MOST_QUESTIONS and sum(map(len, map(str, value))) <= _SNAPSHOT


def _is_small(value: Any) -> bool:
    """Whether a value has no more parts than a run tells of: each takes many times the memory of its two letters."""
    left, count = [value], 0
    while left:
        inner = left.pop()
        children = list(inner.values() if isinstance(inner, dict) else inner if isinstance(inner, list) else ())
        count += len(children)
        if count > _MOST_PARTS:
            return False
        left += children
    return True


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _rounded(value: float) -> float:
    """To six digits that count: a learning rate is as small as it is."""
    return float(f"{value:.6g}")


def _note(curves: dict[str, dict[int, float]], event: Mapping[str, Any], step: int) -> None:
    for name, curve in curves.items():
        if _is_number(event.get(name)):
            curve[step] = float(event[name])
            if len(curve) > _KEPT_POINTS:
                kept = thinned(curve, _KEPT_POINTS // 2)
                curve.clear()
                curve.update((int(last), mean) for last, mean in kept)


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
