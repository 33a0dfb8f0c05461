"""The result of an evaluation as value objects, made from its items, written as ``report.json`` and ``report.csv``."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from a3tune.errors import DataError
from a3tune.evaluation.comparisons import REPORTS, Comparison, compare_pairs, named
from a3tune.evaluation.hallucination import Hallucination, hallucination
from a3tune.evaluation.items import GROUPS, TIE, EvaluatedItem, data_notes, shared_questions
from a3tune.evaluation.report_metrics import TextMetric, measure_reports
from a3tune.evaluation.right_reason import ReasonTable, Transitions, reason_table, transitions
from a3tune.evaluation.seeds import SeedSpread, seed_spreads
from a3tune.evaluation.statistics import Difference, Interval, mean_interval, paired_difference
from a3tune.evaluation.vqa import MODES, OPEN_METRICS
from a3tune.storage import read_json, write_json, write_text
from a3tune.wording import counted

REPORT_NAME, TABLE_NAME = "report.json", "report.csv"
FORMAT = 1
MOST_GROUPS = 30
"""How many values of a group are told; the commonest ones."""

CLOSED = ("strict.accuracy", "reference.accuracy", "strict.verbatim")
OPEN = tuple(f"{mode}.{metric}" for mode in MODES for metric in OPEN_METRICS)
_MAP_METRICS = (
    "attention_mass",
    "touched_mass",
    "relative_mass",
    "pointing_game",
    "iou",
    "area_under_curve",
    "image_share",
)
ATTENTION = tuple(f"{when}.{metric}" for when in ("given", "generated") for metric in _MAP_METRICS)
BROKEN_DOWN = ("strict.accuracy", "strict.recall", "strict.exact_match", "given.attention_mass")
NORMALISATIONS = {
    "strict": "strict: NFKC, lower case, marks to spaces, number words to digits, articles dropped, and 'Assistant:' "
    "before an answer",
    "reference": "reference: VQA evaluation as A3Tune's research code applies it, its faults included",
}


@dataclass(frozen=True)
class Metric:
    """One number of one system.

    Attributes:
        system: whose.
        name: "accuracy", "recall", "attention_mass", ...
        mode: "strict" or "reference"; for attention "given answer" or "generated answer", with the name of the set of
            heads behind a comma where it is not that of the critical heads.
        normalisation: how texts were made comparable; for attention what the place is known from.
        group, value_of_group: what it is broken down by ("topic", "side"); both "" for all questions.
        interval: the mean with its interval over images.
    """

    system: str
    name: str
    mode: str
    normalisation: str
    group: str
    value_of_group: str
    interval: Interval


@dataclass(frozen=True)
class ControlResult:
    """What is left of an adapter's answers without its image.

    Attributes:
        adapter, control: which.
        name: the number that is compared.
        with_image, without_image: its mean over the same questions.
        needed_image: share of the questions answered right with the image that are not right without it; NaN where
            none is answered right.
        difference: with less without.
    """

    adapter: str
    control: str
    name: str
    with_image: float
    without_image: float
    needed_image: float
    difference: Difference


@dataclass(frozen=True)
class Report:
    """Everything that an evaluation found.

    Attributes:
        systems: the systems' names, the first one is what others are compared with.
        metrics: all numbers.
        comparisons: the first system against each other one on the same images.
        controls: each adapter against itself without its image.
        hallucination, reasons, transitions, reports: see their modules; `reports` are those of answers that are
            reports.
        seeds: mean and spread of the overall numbers over adapters that are one recipe's runs with other seeds.
        notes: what a reader must know, in words: gaps, ties, what could not be measured.
        data: `EvaluationData.record`.
        provenance: what it was made with.
    """

    systems: tuple[str, ...]
    metrics: tuple[Metric, ...]
    comparisons: tuple[Comparison, ...]
    controls: tuple[ControlResult, ...]
    hallucination: tuple[Hallucination, ...]
    reasons: tuple[ReasonTable, ...]
    transitions: tuple[Transitions, ...]
    reports: tuple[TextMetric, ...]
    seeds: tuple[SeedSpread, ...]
    notes: tuple[str, ...]
    data: Mapping[str, Any]
    provenance: Mapping[str, Any]

    def metric(self, system: str, name: str, mode: str = "strict", group: str = "", value: str = "") -> Metric | None:
        """One number; None where the report has none."""
        wanted = (system, name, mode, group, value)
        for metric in self.metrics:
            if (metric.system, metric.name, metric.mode, metric.group, metric.value_of_group) == wanted:
                return metric
        return None


def make_report(
    items: Sequence[EvaluatedItem], data: Mapping[str, Any], provenance: Mapping[str, Any], *, seed: int = 0
) -> Report:
    """Everything that follows from the items.

    Args:
        items: of all systems, a system's together; the first system's come first.
        data: `EvaluationData.record`, or what stands for it.
        provenance: see `a3tune.evaluation.provenance`.
        seed: of the draws of intervals and tests.

    Raises:
        DataError: there is no item.
    """
    by_system: dict[str, list[EvaluatedItem]] = {}
    for item in items:
        by_system.setdefault(item.system, []).append(item)
    if not by_system:
        raise DataError(expected="at least one question", got="There is none", remedy="Choose another split")
    shown = {name: found for name, found in by_system.items() if not found[0].control}
    metrics = [metric for name, found in by_system.items() for metric in _metrics(name, found, seed)]
    first, *others = shown.values()
    tables = [reason_table(name, found) for name, found in shown.items()]
    pope = [hallucination(name, found, seed=seed) for name, found in by_system.items()]
    moved = [transitions(first, found) for found in others if found[0].decoding == first[0].decoding]
    texts = measure_reports(shown)
    return Report(
        tuple(by_system),
        tuple(metrics),
        tuple(compare_pairs([(first, other) for other in others], seed=seed, reports=texts)),
        tuple(_controls(by_system, seed)),
        tuple(found for found in pope if found is not None),
        tuple(table for table in tables if table is not None),
        tuple(found for found in moved if found is not None),
        tuple(measured.metric(seed) for found in texts.values() for measured in found),
        tuple(seed_spreads({(m.system, m.name, m.mode): m.interval.value for m in metrics if not m.group})),
        (*_adapter_notes(provenance), *_notes(by_system, data)),
        data,
        provenance,
    )


def write_report(report: Report, folder: Path) -> None:
    """Write ``report.json`` and ``report.csv``, each whole or not at all."""
    write_json(folder / REPORT_NAME, {"format": FORMAT, **finite(asdict(report))})
    write_text(folder / TABLE_NAME, metrics_csv(report))


def read_report(folder: str | Path) -> dict[str, Any]:
    """What `write_report` wrote, as plain JSON values.

    Raises:
        DataError: there is none, or it is damaged or of another version.
    """
    path = Path(folder) / REPORT_NAME
    try:
        found = read_json(path)
        if found.get("format") != FORMAT:
            raise ValueError(f"it is of format {found.get('format')!r}")
        _check_settings(found)
    except (OSError, ValueError) as error:
        raise DataError(
            expected=f"the folder of a finished evaluation, with {REPORT_NAME}",
            got=f"{path} cannot be read: {getattr(error, 'strerror', None) or error}",
            remedy="Name the folder that was given to --out, and let the evaluation finish first",
        ) from error
    return found


def _check_settings(found: dict[str, Any]) -> None:
    """Refuse a report without what two of them are compared by.

    Raises:
        ValueError: it lacks that.
    """
    made = found.get("provenance")
    settings = made.get("settings", {}) if isinstance(made, dict) else None
    sets = (settings.get("head_sets") or []) if isinstance(settings, dict) else None
    if not isinstance(sets, list) or not all(
        isinstance(one, dict) and isinstance(one.get("name"), str) for one in sets
    ):
        raise ValueError("it does not say with which settings it was made")


def metrics_csv(report: Report) -> str:
    """All numbers as a table."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    columns = ("system", "metric", "mode", "normalisation", "group", "group_value", "value", "low", "high")
    writer.writerow((*columns, "questions", "images"))
    for metric in report.metrics:
        found = metric.interval
        numbers = ["" if not math.isfinite(value) else repr(value) for value in (found.value, found.low, found.high)]
        told = (metric.system, metric.name, metric.mode, metric.normalisation, metric.group, metric.value_of_group)
        writer.writerow((*told, *numbers, found.questions, found.images))
    for text in report.reports:
        numbers = ["" if value is None else repr(value) for value in (text.value, text.low, text.high)]
        told = (text.system, text.name, REPORTS, NORMALISATIONS["strict"], "", "")
        writer.writerow((*told, *numbers, text.reports, text.images))
    return stream.getvalue()


def _metrics(system: str, items: Sequence[EvaluatedItem], seed: int) -> list[Metric]:
    found = []
    masks = {"true": "true masks", "weak": "weak labels", "none": "no masks"}[items[0].masks]
    further = [
        f"{part}.{metric}"
        for part in dict.fromkeys(p for item in items for p in item.further_attention)
        for metric in _MAP_METRICS
    ]
    for dotted in (*CLOSED, *OPEN, *ATTENTION, *further):
        name, mode = named(dotted)
        told = NORMALISATIONS.get(mode, masks if name != "image_share" else "no masks needed")
        overall = _mean(items, dotted, seed)
        if not overall.questions:
            continue
        found.append(Metric(system, name, mode, told, "", "", overall))
        for group in GROUPS if dotted in BROKEN_DOWN else ("structure",) if _by_structure(dotted) else ():
            for value in _common_values(items, group):
                part = [item for item in items if item.groups.get(group) == value]
                interval = _mean(part, dotted, seed)
                if interval.questions:
                    found.append(Metric(system, name, mode, told, group, value, interval))
    return found


def _by_structure(dotted: str) -> bool:
    """Where a model looks is broken down by what was asked after, in every one of its numbers and sets of heads."""
    return dotted.rpartition(".")[0].partition(", ")[0] == "given"


def _mean(items: Sequence[EvaluatedItem], dotted: str, seed: int) -> Interval:
    return mean_interval([item.value(dotted) for item in items], [item.cluster for item in items], seed=seed)


def _common_values(items: Sequence[EvaluatedItem], group: str) -> list[str]:
    counts: dict[str, int] = {}
    for item in items:
        if item.groups.get(group):
            counts[item.groups[group]] = counts.get(item.groups[group], 0) + 1
    return sorted(counts, key=lambda value: (-counts[value], value))[:MOST_GROUPS]


def _controls(by_system: Mapping[str, Sequence[EvaluatedItem]], seed: int) -> list[ControlResult]:
    shown = [found for found in by_system.values() if not found[0].control and found[0].adapter]
    # By both: the adapter's answers in another way of decoding are others.
    plain = {(found[0].adapter, found[0].decoding): found for found in shown}
    results = []
    for found in by_system.values():
        own = plain.get((found[0].adapter, found[0].decoding))
        if not found[0].control or own is None:
            continue
        pairs = shared_questions(own, found)
        for dotted in ("strict.accuracy", "strict.recall", "strict.exact_match"):
            seen = [item.value(dotted) for item, _ in pairs]
            unseen = [item.value(dotted) for _, item in pairs]
            difference = paired_difference(unseen, seen, [item.cluster for item, _ in pairs], seed=seed)
            if not difference.questions:
                continue
            right = [b for a, b in zip(seen, unseen, strict=True) if a == 1 and math.isfinite(b)]
            needed = sum(b < 1 for b in right) / len(right) if right else math.nan
            results.append(
                ControlResult(
                    found[0].adapter, found[0].control, dotted, difference.after, difference.before, needed, difference
                )
            )
    return results


def _adapter_notes(provenance: Mapping[str, Any]) -> list[str]:
    """What is to be said about whether adapters were made for the base model."""
    adapters = provenance.get("settings", {}).get("adapters", [])
    return [f"{adapter['name']}: {adapter['note']}" for adapter in adapters if adapter.get("note")]


def _notes(by_system: Mapping[str, Sequence[EvaluatedItem]], data: Mapping[str, Any]) -> list[str]:
    notes = list(data_notes(data))
    first = next(iter(by_system.values()))
    for kind in ("closed", "open"):
        if not any(item.answer_type == kind for item in first):
            notes.append(f"There is no {kind} question: its numbers are left out.")
    masks = first[0].masks
    if masks != "none" and not any(math.isfinite(item.value("given.attention_mass")) for item in first):
        notes.append(f"No question has a place to look at ({masks} masks): attention inside it is left out.")
    for name, items in by_system.items():
        gaps = [item for item in items if item.prediction is None]
        if gaps:
            without = counted(len(gaps), "question")
            notes.append(f"{name}: {without} without an answer; the first: {gaps[0].id}: {gaps[0].gap}")
        partly = [item for item in items if item.prediction is not None and item.gap]
        if partly:
            told = counted(len(partly), "answer")
            notes.append(f"{name}: {told} in part; the first: {partly[0].id}: {partly[0].gap}")
        cut = sum(item.ending == "length" for item in items)
        if cut:
            notes.append(f"{name}: {counted(cut, 'answer')} cut at the length limit.")
        ties = sum(item.margin is not None and item.margin < TIE for item in items)
        if ties:
            notes.append(
                f"{name}: in {counted(ties, 'answer')} two next tokens were within {TIE:g} of each other; another "
                "batch size may word these differently."
            )
    return notes


def finite(value: Any) -> Any:
    """The same with None for numbers that are not finite, which JSON has no word for."""
    if isinstance(value, dict):
        return {name: finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
