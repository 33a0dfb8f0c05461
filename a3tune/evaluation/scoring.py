"""Evaluations that ask no model: somebody else's answers, and two finished evaluations beside each other."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from a3tune.errors import DataError, RequestError
from a3tune.evaluation.comparisons import Comparison, compare_pairs
from a3tune.evaluation.items import ITEMS_NAME, EvaluatedItem, read_items, write_items
from a3tune.evaluation.predictions import Prediction, bring_to_questions, read_predictions
from a3tune.evaluation.questions import EvaluationData
from a3tune.evaluation.report import Report, finite, make_report, read_report, write_report
from a3tune.storage import file_digest, write_json

COMPARISON_NAME = "comparison.json"
_DEFINING = ("masks", "critical_heads")
"""Settings that decide what a number of attention means."""


@dataclass(frozen=True)
class FolderComparison:
    """Two finished evaluations of the same questions.

    Attributes:
        before, after: the folders' names.
        questions: how many both have.
        only_before, only_after: how many one alone has.
        settings: name -> (before, after) of the settings that differ.
        notes: what could not be compared for their sake, in words.
        comparisons: every system of the first against the system of that name in the second, or where the names differ
            and each has a single one, these two.
    """

    before: str
    after: str
    questions: int
    only_before: int
    only_after: int
    settings: dict[str, tuple[Any, Any]]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()


def score_predictions(path: Path, data: EvaluationData, out: Path, *, seed: int = 0) -> Report:
    """Score the answers in a file, of each system where it has several, and write items, report and table.

    Raises:
        DataError: the answers cannot be read or do not fit the data.
        RequestError: the folder holds an evaluation of a model.
    """
    if (out / "evaluation.json").exists():
        raise RequestError(
            expected="a new folder", got=f"{out} holds an evaluation of a model", remedy="Choose another with --out"
        )
    by_system: dict[str, list[Prediction]] = {}
    for prediction in read_predictions(path):
        by_system.setdefault(prediction.system or path.stem, []).append(prediction)
    items: list[EvaluatedItem] = []
    notes: list[str] = []
    for system, predictions in by_system.items():
        brought, told = bring_to_questions(predictions, data, system)
        items += brought
        notes += [f"{system}: {note}" if len(by_system) > 1 else note for note in told]
    facts = {
        "format": 1,
        "settings": {
            "data": data.identity(),
            "predictions": {"name": path.name, "sha256": file_digest(path)},
            "seed": seed,
        },
    }
    report = make_report(items, data.record(), facts, seed=seed)
    report = replace(report, notes=(*notes, *report.notes))
    out.mkdir(parents=True, exist_ok=True)
    write_items(out / ITEMS_NAME, items)
    write_report(report, out)
    return report


def compare_folders(before: Path, after: Path, *, out: Path | None = None, seed: int = 0) -> FolderComparison:
    """Compare the results in two folders question by question.

    Questions are the same where id, words and image are. Settings that differ are told; attention is compared only
    where it was measured against the same masks and in as many heads.

    Args:
        before, after: folders that an evaluation was written to.
        out: folder for ``comparison.json``; not written when None.
        seed: of the draws of intervals and tests.

    Raises:
        DataError: a folder holds no finished evaluation, the two share no question, or count another answer as right.
    """
    first, second = read_items(before / ITEMS_NAME), read_items(after / ITEMS_NAME)
    settings = [read_report(folder)["provenance"].get("settings", {}) for folder in (before, after)]
    keys = dict.fromkeys(_key(item) for item in first), dict.fromkeys(_key(item) for item in second)
    shared = [key for key in keys[0] if key in keys[1]]
    if not shared:
        raise DataError(
            expected="two evaluations of the same questions",
            got=f"{before} and {after} share none",
            remedy="Evaluate both on the same data and split",
        )
    answers = [{_key(item): item.answer for item in items} for items in (first, second)]
    changed = [key for key in shared if answers[0][key] != answers[1][key]]
    if changed:
        raise DataError(
            expected="two evaluations that count the same answers as right",
            got=f"{len(changed):,} of {len(shared):,} questions have another right answer in {after}; the first: "
            f"{changed[0][0]}",
            remedy="Evaluate both on the same data",
        )
    differing = {
        name: (settings[0].get(name), settings[1].get(name))
        for name in dict.fromkeys((*settings[0], *settings[1]))
        if settings[0].get(name) != settings[1].get(name)
    }
    notes: tuple[str, ...] = ()
    apart = [name for name in _DEFINING if name in differing and None not in differing[name]]
    if apart:
        first, second = (tuple(replace(item, attention={}) for item in items) for items in (first, second))
        told = " and ".join(f"{name.replace('_', ' ')} ({' and '.join(map(str, differing[name]))})" for name in apart)
        notes = (f"Attention is not compared: it was measured with other {told}.",)
    sets = [{one["name"]: one for one in found.get("head_sets") or ()} for found in settings]
    unlike = [name for name in sets[0] if name in sets[1] and sets[0][name] != sets[1][name]]
    if unlike:
        ends = tuple(f", {name}" for name in unlike)
        first, second = (
            tuple(
                replace(
                    item, attention={part: found for part, found in item.attention.items() if not part.endswith(ends)}
                )
                for item in items
            )
            for items in (first, second)
        )
        notes += (f"Attention in {' and '.join(unlike)} is not compared: these are other heads.",)
    numbers = {key: number for number, key in enumerate(shared)}
    systems = [list(dict.fromkeys(item.system for item in items)) for items in (first, second)]
    pairs = [(name, name) for name in systems[0] if name in systems[1]]
    if not pairs or (len(systems[0]) == len(systems[1]) == 1):
        pairs = [(systems[0][0], systems[1][0])]
    sides = [
        (
            _named(first, one, f"{one} ({before.name})", numbers),
            _named(second, other, f"{other} ({after.name})", numbers),
        )
        for one, other in pairs
    ]
    result = FolderComparison(
        str(before),
        str(after),
        len(shared),
        len(keys[0]) - len(shared),
        len(keys[1]) - len(shared),
        differing,
        tuple(compare_pairs(sides, seed=seed)),
        notes,
    )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / COMPARISON_NAME, comparison_record(result))
    return result


def comparison_record(found: FolderComparison) -> dict[str, Any]:
    """A comparison as plain JSON values."""
    return finite(asdict(found))


def _key(item: EvaluatedItem) -> tuple[str, str, str]:
    return item.id, item.question, item.image_sha256


def _named(
    items: tuple[EvaluatedItem, ...], system: str, name: str, numbers: dict[tuple[str, str, str], int]
) -> list[EvaluatedItem]:
    return [
        replace(item, system=name, number=numbers[_key(item)])
        for item in items
        if item.system == system and _key(item) in numbers
    ]
