"""The report of `benchmarks.attention_tuning`: tables, paired differences, the choice on validation, and the figure."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from a3tune.bundle import DEMO_MODEL
from a3tune.evaluation.statistics import Difference, Interval, mean_interval, paired_difference
from a3tune.storage import read_json
from a3tune.training.config_file import load_config
from benchmarks.document import write_between
from benchmarks.measured import Measurements

BASE, LORA, EQUAL, EXPERTS = "base", "lora", "lora, as many numbers", "experts, no alignment"
PICTURE = "attention_tuning.png"
MASS_GAIN = 1.3
EXPERTS_MARGIN = -1.0

_TOPICS = ("presence", "organ", "modality", "location", "side", "count", "report")
_COLUMNS = ("all", "closed", "open", *_TOPICS, "mass", "pointing")
_PLACED = ("mass", "pointing")
_OTHERS = (LORA, EQUAL, EXPERTS)


@dataclass(frozen=True, eq=False)
class Measured:
    """What the runs of one variant did on one set.

    Attributes:
        seeds: of the runs, in order; None for the base model.
        images: the phantom of each question.
        values: column -> float [runs, questions], in per cent; NaN where a question does not count for it.
    """

    seeds: tuple[int | None, ...]
    images: list[int]
    values: dict[str, np.ndarray]

    def mean(self, column: str) -> float:
        """Over runs and questions; NaN where none counts."""
        known = self.values[column][np.isfinite(self.values[column])]
        return float(known.mean()) if len(known) else float("nan")

    def spread(self, column: str) -> float:
        """Standard deviation over runs in points; NaN with one run."""
        means = np.nanmean(self.values[column], axis=1)
        return float(means.std(ddof=1)) if len(means) > 1 else float("nan")

    def interval(self, column: str) -> Interval:
        """Of the mean, over images; runs are kept."""
        return mean_interval(self.values[column].mean(axis=0), self.images)


def read_measured(kept: Measurements, name: str, origins: Mapping[str, object]) -> dict[str, Measured]:
    """variant -> what was measured with it on a set, over the phantoms that all runs have been asked about.

    Args:
        kept: the measurements.
        name: the set's.
        origins: by variant what its measurements have to come from.

    Raises:
        SystemExit: one comes from another base model or other settings.
    """
    records = list(kept.of_set(name))
    if not records:
        return {}
    for record in records:
        if origins.get(record.about["variant"]) != record.origin:
            raise SystemExit(
                f"{kept.path(record.run, name)} was measured with another base model or other settings than those of"
                " today. Remove it and measure again."
            )
    shared = set.intersection(*(set(record.columns["phantom"]) for record in records))
    found: dict[str, dict[int | None, list[dict[str, Any]]]] = defaultdict(dict)
    for record in records:
        rows = [row for row in record.rows if row["phantom"] in shared]
        found[record.about["variant"]][record.about["seed"]] = rows
    return {
        variant: Measured(
            tuple(entries),
            [row["phantom"] for row in next(iter(entries.values()))],
            {column: np.array([_column(rows, column) for rows in entries.values()]) for column in _COLUMNS},
        )
        for variant, entries in found.items()
    }


def _column(rows: Sequence[dict[str, Any]], column: str) -> list[float]:
    if column in _PLACED:
        return [np.nan if row[column] is None else 100 * row[column] for row in rows]
    return [100.0 * row["right"] if column in ("all", row["type"], row["topic"]) else np.nan for row in rows]


def difference(first: Measured, second: Measured, column: str) -> Difference | None:
    """``first`` less ``second`` over the seeds that both have; None where they share none.

    The interval is over images, the same for both. The runs are kept, so it says what other images would change, not
    other seeds.
    """
    shared = [seed for seed in first.seeds if seed in second.seeds or None in second.seeds]
    if not shared:
        return None
    means = [
        measured.values[column][[seed is None or seed in shared for seed in measured.seeds]].mean(axis=0)
        for measured in (second, first)
    ]
    return paired_difference(*means, first.images)


def in_words(change: Difference) -> str:
    """ "+2.3 (+1.2 to +3.5)"."""
    return f"{change.value:+.1f} ({change.low:+.1f} to {change.high:+.1f})"


def demands(measured: dict[str, Measured], variant: str) -> dict[str, bool]:
    """Each demand on the default, and whether a variant meets it; empty where what it is compared with is missing."""
    if not {variant, LORA, EXPERTS} <= set(measured):
        return {}
    own, lora, experts = (measured[name] for name in (variant, LORA, EXPERTS))
    gain, apart = difference(own, lora, "all"), difference(own, experts, "all")
    kinds = [difference(own, lora, kind) for kind in ("closed", "open")]
    if gain is None or apart is None:
        return {}
    return {
        "answers above lora's": gain.low > 0,
        "neither closed nor open below": all(kind is not None and kind.high >= 0 for kind in kinds),
        "not below the experts alone": apart.value >= EXPERTS_MARGIN and apart.high >= 0,
        f"attention at least {MASS_GAIN} x lora's": own.mean("mass") >= MASS_GAIN * lora.mean("mass"),
    }


def table(measured: dict[str, Measured], order: Sequence[str]) -> list[str]:
    """A row for each variant: means over seeds, and all answers less those of each baseline."""
    lines = [
        f"| | seeds | {' | '.join(_COLUMNS)} | {' | '.join(f'all, less {other}' for other in _OTHERS)} |",
        f"|---|---{'|---:' * len(_COLUMNS)}{'|---' * len(_OTHERS)}|",
    ]
    for variant in order:
        if variant not in measured:
            continue
        own = measured[variant]
        cells = [f"{own.mean(column):.1f}" for column in _COLUMNS]
        if not np.isnan(own.spread("all")):
            cells[0] += f" ± {own.spread('all'):.1f}"
        for other in _OTHERS:
            change = difference(own, measured[other], "all") if other in measured and variant != other else None
            cells.append("" if change is None or variant == BASE else in_words(change))
        seeds = " ".join(str(seed) for seed in own.seeds if seed is not None)
        lines.append(f"| {variant} | {seeds} | {' | '.join(cells)} |")
    return lines


def variation_table(measured: Mapping[str, Measured], default: str, variations: Sequence[str]) -> list[str]:
    """A row for each variation: answers and attention less those of the default with the same seeds."""
    there = [name for name in variations if name in measured]
    if default not in measured or not there:
        return []
    lines = [f"| | seeds | all, less {default} | mass, less {default} |", "|---|---|---|---|"]
    for name in there:
        changes = [difference(measured[name], measured[default], column) for column in ("all", "mass")]
        cells = ["" if change is None else in_words(change) for change in changes]
        lines.append(f"| {name} | {' '.join(map(str, measured[name].seeds))} | {' | '.join(cells)} |")
    return [*lines, ""]


def draw(measured: dict[str, Measured], curves: dict[int, Sequence[tuple[float, str]]], path: Path) -> None:
    """The trade-off: answers exactly right against attention mass, one line for each number of heads.

    Points of fewer seeds than the others are hollow; a ring is around the preset's.

    Args:
        measured: on one set.
        curves: number of heads -> (ratio, variant), the ratios rising.
        path: the picture's.
    """
    preset = load_config("demo")
    figure = Figure(figsize=(7.2, 4.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    named = [name for variants in curves.values() for _, name in variants if name in measured]
    seeds = [len(measured[name].seeds) for name in named]
    most = max(seeds, default=0)
    for (heads, variants), colour in zip(curves.items(), ("#0b6e99", "#c2571a"), strict=False):
        points = [(ratio, measured[name]) for ratio, name in variants if name in measured]
        places = [(own.mean("mass"), own.mean("all")) for _, own in points]
        if places:
            axes.plot(*zip(*places, strict=True), "o-", color=colour, label=f"a3, {heads} heads")
        for (ratio, own), place in zip(points, places, strict=True):
            axes.annotate(f"{ratio:g}", place, (5, 5), textcoords="offset points", fontsize=8, color=colour)
            if len(own.seeds) < most:
                axes.plot(*place, "o", color=colour, markerfacecolor="white")
            if (heads, ratio) == (preset.top_heads, preset.ratio):
                axes.plot(*place, "o", color=colour, markersize=13, fillstyle="none", label="the preset")
    if seeds and min(seeds) < most:
        axes.plot([], [], "o", color="#555555", markerfacecolor="white", label=f"hollow: {min(seeds)} of {most} seeds")
    for name, mark, colour in ((LORA, "s", "#555555"), (EQUAL, "D", "#999999"), (EXPERTS, "^", "#2e7d32")):
        if name in measured:
            own = measured[name]
            right = own.interval("all")
            bars = [[right.value - right.low], [right.high - right.value]]
            style = {"fmt": mark, "color": colour, "label": name, "capsize": 3, "elinewidth": 0.8}
            axes.errorbar(own.mean("mass"), right.value, bars, **style)
    if BASE in measured:
        own = measured[BASE]
        axes.set_title(f"base: {own.mean('all'):.1f} % right, mass {own.mean('mass'):.1f} %", fontsize=9)
    axes.set_xlabel("attention mass inside the structure asked about, %")
    axes.set_ylabel("answers exactly right, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path)


def write_report(
    kept: Measurements,
    document: Path,
    origins: Mapping[str, object],
    curves: dict[int, Sequence[tuple[float, str]]],
    order: Sequence[str],
    runs: tuple[int, int],
    variations: tuple[str, Sequence[str]],
    last: Callable[[dict[str, Measured]], list[str]] = lambda measured: [],
) -> int:
    """Write the figures between the document's marks, and the picture beside it; returns an exit status.

    Args:
        kept: what was measured.
        document: with the marks.
        origins: by variant what its measurements have to come from.
        curves: number of heads -> (ratio, variant), the ratios rising.
        order: of the variants in the tables.
        runs: how many there are, and how many there will be.
        variations: the default, and what varies it.
        last: a section more, of what was measured on test phantoms.
    """
    validation = read_measured(kept, "validation", origins)
    if not validation:
        print(f"Nothing measured on validation phantoms in {kept.folder}", file=sys.stderr)
        return 1
    config = load_config("demo")
    base = read_json(DEMO_MODEL / "figures.json")["recipe"]
    lines = [
        f"Runs: {runs[0]} of {runs[1]}, each of {config.max_steps} steps of {config.batch_size} questions, on the base"
        f" model taught {base['language_steps']} steps.",
        "",
        f"![Answers against attention, validation phantoms](images/{PICTURE})",
        "",
    ]
    picture = document.parent / "images" / PICTURE
    picture.parent.mkdir(exist_ok=True)
    draw(validation, curves, picture)
    for name, title in (
        ("validation", "Validation phantoms: what the default was chosen by"),
        ("standard", "Test phantoms"),
        ("shifted", "Shifted test phantoms: markers, tubes, noise and window differ from training"),
    ):
        measured = read_measured(kept, name, origins)
        if measured:
            lines += [f"## {title}", "", _size(measured), "", *table(measured, order), ""]
            lines += [*_verdicts(measured, order), "", *variation_table(measured, *variations)]
    lines += last(read_measured(kept, "standard", origins))
    write_between(document, "\n".join(lines))
    return 0


def _size(measured: dict[str, Measured]) -> str:
    one = next(iter(measured.values()))
    placed = int(np.isfinite(one.values["mass"][0]).sum())
    return f"{len(set(one.images))} phantoms, {len(one.images)} questions, {placed} of them about something visible."


def _verdicts(measured: dict[str, Measured], order: Sequence[str]) -> list[str]:
    words: Callable[[bool], str] = lambda met: "yes" if met else "no"  # noqa: E731
    rows = {variant: demands(measured, variant) for variant in order if variant.startswith("a3")}
    rows = {variant: met for variant, met in rows.items() if met}
    if not rows:
        return []
    names = list(next(iter(rows.values())))
    return [
        f"| | {' | '.join(names)} | attention x lora's |",
        f"|---{'|---' * len(names)}|---:|",
        *(
            f"| {variant} | {' | '.join(words(value) for value in met.values())} | "
            f"{measured[variant].mean('mass') / measured[LORA].mean('mass'):.2f} |"
            for variant, met in rows.items()
        ),
    ]
