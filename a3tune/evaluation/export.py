"""Results for a paper and for other programs: Markdown and LaTeX tables, files as lmms-eval writes them, and reports
as RadEval reads them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from a3tune.errors import RequestError
from a3tune.evaluation.comparisons import REPORTS
from a3tune.evaluation.items import EvaluatedItem
from a3tune.evaluation.presentation import PLAIN_METRICS
from a3tune.evaluation.report import NORMALISATIONS, Metric, Report
from a3tune.evaluation.report_metrics import TextMetric, is_report
from a3tune.evaluation.statistics import Difference, Interval
from a3tune.storage import write_json, write_text
from a3tune.wording import counted

EXPORTS = ("markdown", "latex", "lmms-eval", "radeval", "figures")
FIGURES = "figures"
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def export(kind: str, report: Report, items: Sequence[EvaluatedItem], folder: Path) -> list[Path]:
    """Write one of `EXPORTS` into a folder.

    Returns:
        The files; none where there is nothing of the kind, as reports in a set of short answers.

    Raises:
        RequestError: an unknown kind.
    """
    if kind == "markdown":
        return [_written(folder / "report.md", markdown_text(report))]
    if kind == "latex":
        return [_written(folder / "report.tex", latex_table(report))]
    if kind == "lmms-eval":
        return _lmms(report, items, folder)
    if kind == "radeval":
        return _radeval(items, folder)
    if kind == "figures":
        from a3tune.evaluation.figures import save_figures

        return save_figures(report, folder / FIGURES)
    raise RequestError(
        expected=f"one of {', '.join(EXPORTS)}", got=f"There is no export {kind!r}", remedy="Choose one of these"
    )


def main_metrics(report: Report) -> list[tuple[str, str]]:
    """(name, mode) of the overall numbers, in order, each once."""
    chosen = [metric for metric in report.metrics if not metric.group]
    return list(dict.fromkeys((metric.name, metric.mode) for metric in chosen))


def markdown_text(report: Report) -> str:
    """The whole report as Markdown: numbers, comparisons, break-downs, tables and where all of it comes from."""
    data = report.data
    splits = ", ".join(f"{split} {count:,}" for split, count in dict(data.get("splits") or {}).items())
    parts = [
        f"# Evaluation on {_cell(str(data.get('name')))}",
        f"{counted(data.get('questions', 0), 'question')} about {counted(data.get('images', 0), 'image')}, split "
        f"{data.get('split')}. "
        "Values with 95 % intervals over images (studentised bootstrap, images drawn)."
        + (f" Questions of all splits: {splits}." if splits else ""),
        "\n".join(f"- {text}" for text in NORMALISATIONS.values()),
        _table(
            ("metric", "mode", *report.systems),
            [
                (name, mode, *(_value(report.metric(system, name, mode)) for system in report.systems))
                for name, mode in main_metrics(report)
            ],
        ),
    ]
    rows: list[tuple[str, ...]]
    header: tuple[str, ...]
    if report.seeds:
        rows = [
            (s.recipe, s.name, s.mode, _number(s.spread.mean), _number(s.spread.deviation), ", ".join(s.systems))
            for s in report.seeds
        ]
        header = ("recipe", "metric", "mode", "mean over runs", "standard deviation over runs", "runs")
        parts += ["## Runs with other seeds (their spread is not over images)", _table(header, rows)]
    if report.comparisons:
        rows = [
            (c.before, c.after, c.name, c.mode, _difference(c.difference),
             *map(_p, (c.difference.p, c.difference.p_mcnemar, c.p_holm)), c.verdict)
            for c in report.comparisons
        ]  # fmt: skip
        header = ("before", "after", "metric", "mode", "difference", "p (permutation)", "p (McNemar)", "p (Holm)")
        parts += ["## Differences", _table((*header, "verdict"), rows)]
    if report.hallucination:
        rows = [
            (h.system, *(_number(x) for x in (h.accuracy, h.precision, h.recall, h.f1, h.yes_share, h.yes_bias)),
             _interval(h.affirmed), _interval(h.absent))
            for h in report.hallucination
        ]  # fmt: skip
        header = ("system", "accuracy", "precision", "recall", "F1", "yes share", "yes bias")
        header += ('"yes" where "no" is right', "absent findings affirmed")
        parts += ["## Hallucination (POPE)", _table(header, rows)]
    if report.reasons:
        cells = list(report.reasons[0].counts)
        rows = [(table.system, *(str(table.counts[cell]) for cell in cells)) for table in report.reasons]
        threshold = report.reasons[0].threshold
        parts += [
            f"## Right for the right reason (inside from {threshold:g} x chance on)",
            _table(("system", *cells), rows),
            _table(
                ("inside from", *(f"{table.system}: {cell}" for table in report.reasons for cell in cells)),
                [
                    (f"{step:g} x", *(str(table.sweep[place][1][cell]) for table in report.reasons for cell in cells))
                    for place, (step, _) in enumerate(report.reasons[0].sweep)
                ],
            ),
        ]
    if report.controls:
        rows = [
            (c.adapter, c.control, c.name, _number(c.with_image), _number(c.without_image), _difference(c.difference),
             _number(c.needed_image))
            for c in report.controls
        ]  # fmt: skip
        header = ("adapter", "control", "metric", "with image", "without", "difference", "right ones that need it")
        parts += ["## Controls", _table(header, rows)]
    if report.reports:
        rows = [(m.system, m.name, _text_value(m), str(m.reports), m.note) for m in report.reports]
        parts += [
            "## Reports (in the strict normalisation)",
            _table(("system", "metric", "value", "reports", "note"), rows),
        ]
    groups = list(dict.fromkeys((m.group, m.name, m.mode) for m in report.metrics if m.group))
    for group, name, mode in groups:
        values = dict.fromkeys(
            m.value_of_group for m in report.metrics if (m.group, m.name, m.mode) == (group, name, mode)
        )
        rows = [
            (value, *(_value(report.metric(system, name, mode, group, value)) for system in report.systems))
            for value in values
        ]
        parts += [f"## {name} ({mode}) by {group}", _table((group, *report.systems), rows)]
    if report.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in report.notes)]
    parts += ["## Made with", "```json\n" + json.dumps(report.provenance, indent=1, ensure_ascii=False) + "\n```"]
    return "\n\n".join(parts) + "\n"


def latex_table(report: Report) -> str:
    """The overall numbers as a LaTeX table for booktabs, in per cent, intervals below each value."""
    metrics = main_metrics(report)
    lines = [
        "% Values in per cent (relative mass: times chance; CIDEr: 0 to 10) with 95 % intervals over images; needs "
        "\\usepackage{booktabs}.",
        *(f"% {text}" for text in NORMALISATIONS.values()),
        f"\\begin{{tabular}}{{ll{'c' * len(report.systems)}}}",
        "\\toprule",
        " & ".join(["Metric", "Mode", *map(_latex, report.systems)]) + r" \\",
        "\\midrule",
    ]
    for name, mode in metrics:
        cells = []
        for system in report.systems:
            metric = report.metric(system, name, mode)
            cells.append(_latex_value(metric))
        lines.append(" & ".join([_latex(name.replace("_", " ")), _latex(mode), *cells]) + r" \\")
    for name in dict.fromkeys(text.name for text in report.reports if text.value is not None):
        found = {text.system: text for text in report.reports if text.name == name}
        cells = [_latex_text(found.get(system)) for system in report.systems]
        lines.append(" & ".join([_latex(name), REPORTS, *cells]) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _latex_value(metric: Metric | None) -> str:
    if metric is None or not math.isfinite(metric.interval.value):
        return "--"
    return _latex_interval(metric.interval.value, metric.interval.low, metric.interval.high, metric.name)


def _latex_text(text: TextMetric | None) -> str:
    if text is None or text.value is None:
        return "--"
    low, high = (math.nan if end is None else end for end in (text.low, text.high))
    return _latex_interval(text.value, low, high, text.name)


def _latex_interval(value: float, low: float, high: float, name: str) -> str:
    scale = 1 if name in PLAIN_METRICS else 100
    reach = f" {{\\scriptsize [{low * scale:.1f}, {high * scale:.1f}]}}" if math.isfinite(low) else ""
    return f"{value * scale:.1f}{reach}"


def _lmms(report: Report, items: Sequence[EvaluatedItem], folder: Path) -> list[Path]:
    """``results.json`` and a file of samples for each system."""
    task = re.sub(r"[^\w.-]+", "_", Path(str(report.data.get("name") or "data")).name) or "data"
    written = []
    for system in report.systems:
        chosen = [item for item in items if item.system == system]
        place = folder / "lmms_eval" / re.sub(r"[^\w.-]+", "_", system)
        place.mkdir(parents=True, exist_ok=True)
        numbers: dict[str, Any] = {"alias": task}
        for metric in report.metrics:
            if metric.system == system and not metric.group and math.isfinite(metric.interval.value):
                name = f"{metric.mode.replace(' ', '_')}_{metric.name}"
                numbers[f"{name},none"] = metric.interval.value
                half = (metric.interval.high - metric.interval.low) / (2 * 1.96)
                numbers[f"{name}_stderr,none"] = half if math.isfinite(half) else "N/A"
        write_json(
            place / "results.json",
            {
                "results": {task: numbers},
                "n-samples": {task: {"original": len(chosen), "effective": len(chosen)}},
                "configs": {
                    task: {"task": task, "test_split": report.data.get("split"), "output_type": "generate_until"}
                },
                "config": {"model": system, "model_args": "", "provenance": report.provenance},
            },
        )
        _lines(place / f"samples_{task}.jsonl", [_lmms_sample(item) for item in chosen])
        written += [place / "results.json", place / f"samples_{task}.jsonl"]
    return written


def _lmms_sample(item: EvaluatedItem) -> dict[str, Any]:
    said = item.prediction or ""
    scores = {f"{mode}_{name}": value for mode, found in item.scores.items() for name, value in found.items()}
    return {
        "doc_id": item.number,
        "doc": {"id": item.id, "question": item.question, "answer": item.answer, "image": item.image},
        "target": item.answer,
        "arguments": [[item.question, {}]],
        "resps": [[said]],
        "filtered_resps": [said],
        "doc_hash": item.image_sha256,
        **scores,
    }


def _radeval(items: Sequence[EvaluatedItem], folder: Path) -> list[Path]:
    """One object a line with "id", "system", "ref" and "hyp", for the metrics that need weights of their own."""
    rows = [
        {"id": item.id, "system": item.system, "ref": item.answer, "hyp": item.prediction}
        for item in items
        if item.prediction is not None and is_report(item)
    ]
    if not rows:
        return []
    _lines(folder / "radeval.jsonl", rows)
    return [folder / "radeval.jsonl"]


def _lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def _written(path: Path, text: str) -> Path:
    write_text(path, text)
    return path


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _value(metric: Metric | None) -> str:
    return "" if metric is None else _interval(metric.interval)


def _interval(found: Interval) -> str:
    if not math.isfinite(found.value):
        return ""
    return f"{found.value:.3f}{_reach(found)}"


def _difference(found: Difference) -> str:
    return f"{found.value:+.4f}{_reach(found)}" if math.isfinite(found.value) else ""


def _reach(found: Interval | Difference) -> str:
    return f" ({found.low:.3f} to {found.high:.3f})" if math.isfinite(found.low) else ""


def _p(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.3g}"


def _text_value(text: TextMetric) -> str:
    reach = "" if text.low is None or text.high is None else f" ({text.low:.3f} to {text.high:.3f})"
    return _number(text.value) + reach


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.3f}"
