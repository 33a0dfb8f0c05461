"""Runs laid over each other: their curves, and the settings in which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from a3tune.storage import read_json_or_empty
from app.common.widgets import json_text
from app.tune.runs.event_reader import thinned
from app.tune.runs.updates import STATES
from app.tune.runs.view import RunView

MOST_OTHERS = 5
"""Runs over another at most: there are that many more colours."""
_CURVES = (
    ("training", "loss", "Training loss", False),
    ("validation", "loss", "Validation loss", False),
    ("validation", "accuracy", "Validation: answers exactly right", True),
    ("validation", "attention_mass", "Validation: attention inside the regions", True),
)
_LONGEST = 200


def run_comparison(shown: RunView, views: Sequence[RunView], names: Sequence[str]) -> dict[str, Any]:
    """What lays runs over one another, as plain JSON values.

    Args:
        shown: the run on show.
        views: all runs of the visitor.
        names: ids of those to lay over it; unknown ones, and more than `MOST_OTHERS`, are left out.

    Returns:
        "choices", the other runs, and "runs", the one on show and the chosen ones: "id", "title", "state" and "created"
        (seconds since 1970) of each, of "runs" "steps" too; "charts", each with its "title", whether "percent", and of
        each run the "points" and the "base" model's value, None where it has none; and "settings": name -> value in
        each of the runs, of those alone that differ.
    """
    others = [view for view in views if view.job.id != shown.job.id]
    runs = [shown, *[view for view in others if view.job.id in names][:MOST_OTHERS]]
    return {
        "choices": [_described(view) for view in others],
        "runs": [{**_described(view), "steps": view.events.steps} for view in runs],
        "charts": [
            {
                "title": title,
                "percent": percent,
                "points": [thinned(_curves(view, source).get(curve, {})) for view in runs],
                "base": [view.events.base.get(curve) if source == "validation" else None for view in runs],
            }
            for source, curve, title, percent in _CURVES
        ],
        "settings": differing([settings_of(view) for view in runs]),
    }


def settings_of(view: RunView) -> dict[str, Any]:
    """What a run was begun with: its settings, the "model", and the "data" with the number of questions; nothing of a
    run that has not begun."""
    record = read_json_or_empty(view.job.run / "run.json")
    model, data, config = (
        value if isinstance(value, Mapping) else {} for value in map(record.get, ("model", "data", "config"))
    )
    if not config:
        return {}
    named = {"model": model.get("source"), "model's fingerprint": model.get("fingerprint")}
    named |= {
        "data": data.get("path"),
        "questions": data.get("questions"),
        "data's fingerprint": data.get("fingerprint"),
    }
    return {**named, **config}


def differing(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Name -> value in each, None where it is not there; those that are the same in all are left out. Long values are
    cut, after they were compared."""
    names = dict.fromkeys(name for one in settings for name in one)
    told = {name: [one.get(name) for one in settings] for name in names}
    return {name: [_short(value) for value in values] for name, values in told.items() if _differ(values)}


def _differ(values: Sequence[Any]) -> bool:
    return len({json_text(value) for value in values}) > 1


def _short(value: Any) -> Any:
    text = json_text(value)
    return value if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _described(view: RunView) -> dict[str, Any]:
    created = view.job.record.get("created")
    return {"id": view.job.id, "title": view.job.title, "state": STATES[view.status][0], "created": created}


def _curves(view: RunView, source: str) -> Mapping[str, Mapping[int, float]]:
    return view.events.curves if source == "training" else view.events.validation
