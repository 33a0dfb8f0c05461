"""What a page is told of runs: the list, the charts, and what is new of the run on show."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from a3tune.encoding import data_url
from app.common.widgets import json_text
from app.engine.ids import JobId
from app.tune.runs.event_reader import ATTENTION, WATCHED, thinned
from app.tune.runs.view import RunView

STATES = {
    "queued": ("Waiting", ""),
    "preparing": ("Preparing", ""),
    "training": ("Training", ""),
    "stopping": ("Stopping", ""),
    "finished": ("Finished", "good"),
    "stopped": ("Stopped, kept", "good"),
    "cancelled": ("Cancelled", ""),
    "failed": ("Ended early", "bad"),
    "elsewhere": ("From another machine", ""),
}
_MORE = ("rate", "gradient", "speed", "memory", "gpu")
"""Charts that are shown on request."""
_CHARTS = (
    (
        "loss",
        "Training loss and its parts",
        False,
        (
            ("training.loss", "all"),
            ("training.cross_entropy", "words"),
            ("training.alignment", "alignment"),
            ("training.balance", "balance"),
        ),
    ),
    (
        "accuracy",
        "Validation: answers exactly right",
        True,
        (
            ("validation.accuracy", "all"),
            ("validation.closed_accuracy", "closed"),
            ("validation.open_accuracy", "open"),
        ),
    ),
    (
        "mass",
        "Attention inside the regions",
        True,
        (("training.attention_mass", "training"), ("validation.attention_mass", "validation")),
    ),
    ("validation", "Validation loss", False, (("validation.loss", "loss"),)),
    ("rate", "Learning rate", False, (("training.learning_rate", "rate"),)),
    ("gradient", "Norm of the gradient, before clipping", False, (("training.gradient_norm", "norm"),)),
    ("speed", "Samples a second", False, (("training.samples_per_second", "samples"),)),
    ("memory", "Memory in GiB", False, (("training.memory_gib", "taken"),)),
    ("gpu", "Work of the GPU", True, (("training.gpu_use", "share of the time"),)),
)


def run_choices(views: Sequence[RunView]) -> list[tuple[str, JobId]]:
    """(words, id) of every run."""
    return [(f"{view.job.title} · {STATES[view.status][0].lower()}", view.job.id) for view in views]


def charts() -> list[dict[str, Any]]:
    """The curves' charts: "key", "title", "percent", "more" for those on request, and "series" with the "name" and
    "curve" of each."""
    return [
        {
            "key": key,
            "title": title,
            "percent": percent,
            "more": key in _MORE,
            "series": [{"name": name, "curve": of} for of, name in series],
        }
        for key, title, percent, series in _CHARTS
    ]


def follow_value(view: RunView, visitor: str, turn: int) -> str:
    """Which run the part in the browser is to follow: a JSON text.

    Args:
        view: the run.
        visitor: the visitor's secret, with which the part asks for news.
        turn: another number each time, so that the part asks at once.
    """
    # The part says when the run has moved on from the stamp, which is what the page's buttons show by now.
    return json_text({"visitor": visitor, "run": view.job.id, "stamp": view.stamp, "turn": turn})


def run_news(view: RunView, seen: Mapping[str, Any]) -> dict[str, Any]:
    """What a page does not know yet about a run, as plain JSON values.

    Args:
        view: the run.
        seen: the "at" of the last news that the page took in; empty before the first.

    Returns:
        "at"; "spent", the time of work so far in words; "whole", when what was known is to be forgotten; and of the
        following what is new: "head" (where the run stands), "log", "points" of each curve, "watched" questions and
        "snapshots" of the attention to them, and with their pictures the first "batch" (see
        `a3tune.training.first_batch`) and the best and worst "examples" (see `a3tune.training.validation_examples`).
    """
    events = view.events
    generation = f"{view.job.id} {events.generation}"
    whole = seen.get("generation") != generation
    before = {} if whole else seen
    at: dict[str, Any] = {"generation": generation}
    news: dict[str, Any] = {"at": at, "whole": whole, "spent": view.spent}
    for name, value in (("head", _head(view)), ("log", view.log)):
        at[name] = zlib.crc32(json_text(value).encode())
        if before.get(name) != at[name]:
            news[name] = value
    points = {}
    for source, curves in (("training", events.curves), ("validation", events.validation)):
        at[source] = max((next(reversed(curve)) for curve in curves.values() if curve), default=-1)
        for name, curve in curves.items():
            new = _after(curve, _step(before.get(source)))
            if new:
                points[f"{source}.{name}"] = thinned(new)
    if points:
        news["points"] = points
    questions = events.watched_questions
    at["watched"], at["attention"] = len(questions), next(reversed(events.attention), -1)
    if questions and before.get("watched") != at["watched"]:
        paths = [view.job.run / "watch" / f"{number}.png" for number in range(len(questions))]
        # Without its pictures there is nothing to lay the maps on.
        if all(path.is_file() for path in paths):
            news["watched"] = {
                "questions": [{key: question.get(key) for key in WATCHED} for question in questions],
                "pictures": [data_url(path.read_bytes(), "png") for path in paths],
            }
        else:
            at["watched"] = 0
    for name, told in (("batch", events.batch), ("examples", events.examples)):
        at[name] = zlib.crc32(json_text(told).encode())
        if told and before.get(name) != at[name]:
            news[name] = {**told, "pictures": _pictures(view.job.run / name, told)}
    snapshots = _after(events.attention, _step(before.get("attention"))).values()
    if snapshots:
        news["snapshots"] = [{key: one.get(key) for key in ATTENTION} for one in snapshots]
    return news


def _head(view: RunView) -> dict[str, Any]:
    state, tone = STATES[view.status]
    events = view.events
    return {
        "name": view.job.id,
        "status": view.status,
        "state": state,
        "tone": tone,
        "words": view.words,
        "left": view.left,
        "step": events.step,
        "steps": events.steps,
        "share": round(view.share, 4),
        "notes": events.notes,
        "base": {f"validation.{name}": value for name, value in events.base.items()},
        "live": view.live,
        "stamp": view.stamp,
    }


def _pictures(folder: Path, told: Mapping[str, Any]) -> list[str]:
    """The picture of each question as an address of the browser's; "" where it is gone."""
    step = f"{told['step']}-" if "step" in told else ""
    paths = [folder / f"{step}{number}.png" for number in range(len(told["questions"]))]
    return [data_url(path.read_bytes(), "png") if path.is_file() else "" for path in paths]


def _step(value: Any) -> int:
    """A step that a browser knows; before all steps when it is none."""
    return value if isinstance(value, int) else -1


def _after(told: Mapping[int, Any], step: int) -> dict[int, Any]:
    """What was told after a step; steps come in order, so only the end is looked at."""
    new: list[tuple[int, Any]] = []
    for number in reversed(told):
        if number <= step:
            break
        new.append((number, told[number]))
    return dict(reversed(new))
