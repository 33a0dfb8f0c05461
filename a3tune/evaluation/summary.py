"""Results in a few lines for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from a3tune.evaluation.comparisons import Comparison, named
from a3tune.evaluation.presentation import METRIC_TITLES
from a3tune.evaluation.report import Metric, Report
from a3tune.evaluation.report_metrics import TextMetric
from a3tune.evaluation.scoring import FolderComparison
from a3tune.wording import counted

_COLUMNS = (
    *((METRIC_TITLES[name], name, "strict") for name in ("accuracy", "recall", "f1", "exact_match")),
    ("mass, given", "attention_mass", "given answer"),
    ("mass, own", "attention_mass", "generated answer"),
)


def report_text(report: Report) -> str:
    """The systems' main numbers with their intervals, the verdicts and the notes."""
    modes = dict.fromkeys(metric.mode for metric in report.metrics if ", " in metric.mode)
    short = {"given answer": "given", "generated answer": "own"}
    columns = [*_COLUMNS]
    for mode in modes:
        when, _, heads = mode.partition(", ")
        columns.append((f"mass, {short.get(when, when)}, {heads}", "attention_mass", mode))
    rows = [("", *(title for title, _, _ in columns))]
    for system in report.systems:
        rows.append((system, *(_shown(report.metric(system, name, mode)) for _, name, mode in columns)))
    used = [place for place in range(len(rows[0])) if place == 0 or any(row[place] != "-" for row in rows[1:])]
    widths = [max(len(row[place]) for row in rows) for place in used]
    data = report.data
    lines = [
        f"{counted(data.get('questions', 0), 'question')} about {counted(data.get('images', 0), 'image')} of "
        f"{data.get('name')}, split {data.get('split')}; strict normalisation; 95 % intervals over images, in per cent:"
    ]
    lines += [
        "  ".join(row[place].ljust(width) for place, width in zip(used, widths, strict=True)).rstrip() for row in rows
    ]
    told = {(name, mode): title for title, name, mode in columns}
    lines += [
        f"{seeds.recipe}, {told[seeds.name, seeds.mode]}: {seeds.spread.mean:.1%} on average, standard deviation "
        f"{seeds.spread.deviation:.1%} over {len(seeds.systems)} runs with other seeds."
        for seeds in report.seeds
        if (seeds.name, seeds.mode) in told
    ]
    lines += _verdicts(report.comparisons)
    for found in report.hallucination:
        absent = f"affirms {found.absent.value:.1%} of absent findings, " if math.isfinite(found.absent.value) else ""
        if math.isfinite(found.affirmed.value):
            lines.append(
                f"{found.system}: {absent}says yes to {found.affirmed.value:.1%} of what is answered with no, yes-bias "
                f"{found.yes_bias:+.1%}."
            )
    for control in report.controls:
        name, mode = named(control.name)
        needed = "" if math.isnan(control.needed_image) else f"; {control.needed_image:.1%} of the right ones need it"
        lines.append(
            f"{control.adapter}, control {control.control}, {name} ({mode}): {control.with_image:.1%} with the image, "
            f"{control.without_image:.1%} without{needed}."
        )
    lines += _reports(report)
    lines += list(report.notes)
    return "\n".join(lines)


def _reports(report: Report) -> list[str]:
    """A line for each system's report metrics, and one for each reason why some were not measured."""
    lines, reasons = [], dict[str, list[str]]()
    for system in report.systems:
        own = [metric for metric in report.reports if metric.system == system]
        known = [f"{metric.name} {metric.value:.3f}{_reach(metric)}" for metric in own if metric.value is not None]
        lines += [f"{system}, {counted(own[0].reports, 'report')}: {', '.join(known)}."] if own else []
        for metric in own:
            if metric.note and metric.name not in reasons.setdefault(metric.note, []):
                reasons[metric.note].append(metric.name)
    return lines + [f"{', '.join(names)}: {note}." for note, names in reasons.items()]


def _reach(metric: TextMetric) -> str:
    return "" if metric.low is None or metric.high is None else f" ({metric.low:.3f} to {metric.high:.3f})"


def comparison_text(found: FolderComparison) -> str:
    """What differs between two evaluations, and the verdicts."""
    lines = [f"{found.questions:,} questions in both ({found.only_before:,} and {found.only_after:,} in one alone)."]
    lines += [f"{name}: {_brief(before)} -> {_brief(after)}" for name, (before, after) in found.settings.items()]
    lines += [*_verdicts(found.comparisons), *found.notes]
    return "\n".join(lines)


def _verdicts(comparisons: Sequence[Comparison]) -> list[str]:
    return [
        f"{entry.before} -> {entry.after}, {entry.name} ({entry.mode}): {entry.verdict} (p {entry.p_holm:.3g}, Holm"
        f"{_mcnemar(entry.difference.p_mcnemar)})."
        for entry in comparisons
    ]


def _mcnemar(p: float | None) -> str:
    return "" if p is None else f"; McNemar, by itself, {p:.3g}"


def _shown(metric: Metric | None) -> str:
    if metric is None or not math.isfinite(metric.interval.value):
        return "-"
    found = metric.interval
    reach = f" ({found.low * 100:.1f} to {found.high * 100:.1f})" if math.isfinite(found.low) else ""
    return f"{found.value * 100:.1f}{reach}"


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else text[:97] + "..."
