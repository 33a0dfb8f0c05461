"""Figures of a report for papers: numbers with their intervals, and how questions move between the cells of
`a3tune.evaluation.right_reason`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline

from a3tune.evaluation.presentation import CELL_COLOURS, METRIC_TITLES, SYSTEM_COLOURS
from a3tune.evaluation.report import Report
from a3tune.evaluation.right_reason import CELLS, Transitions

_SHOWN = (
    *((name, "strict", METRIC_TITLES[name]) for name in ("accuracy", "recall", "exact_match")),
    ("attention_mass", "given answer", "mass, right answer"),
    ("attention_mass", "generated answer", "mass, own answer"),
)
_MARKERS = "os^DvP"
"""A shape for each round through the colours, so that no two systems look alike."""
_GAP = 0.03


def save_figures(report: Report, folder: Path) -> list[Path]:
    """Write the figures as PNG and PDF.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"numbers": numbers_figure(report)}
    for number, moved in enumerate(report.transitions, 1):
        figures[f"transitions_{number}"] = transitions_figure(moved)
    written = []
    for name, figure in figures.items():
        for ending in ("png", "pdf"):
            path = folder / f"{name}.{ending}"
            # No date inside: the same report gives the same bytes.
            metadata = {"CreationDate": None} if ending == "pdf" else None
            figure.savefig(path, dpi=200, bbox_inches="tight", metadata=metadata)
            written.append(path)
    return written


def numbers_figure(report: Report) -> Figure:
    """The main numbers of every system as dots with their 95 % intervals, in per cent."""
    shown = [
        (name, mode, words) for name, mode, words in _SHOWN if any(report.metric(s, name, mode) for s in report.systems)
    ]
    figure = _figure(1.6 + 1.35 * max(len(shown), 1) + 1.6, 3.2)
    axes = figure.add_subplot()
    count = len(report.systems)
    for place, system in enumerate(report.systems):
        points = []
        for column, (name, mode, _) in enumerate(shown):
            metric = report.metric(system, name, mode)
            if metric is not None and math.isfinite(metric.interval.value):
                points.append((column + (place - (count - 1) / 2) * min(0.12, 0.7 / count), metric.interval))
        if not points:
            continue
        values = [100 * found.value for _, found in points]
        ends = [
            [
                100 * abs(found.value - end) if math.isfinite(end) else 0.0
                for _, found in points
                for end in (end_of(found),)
            ]
            for end_of in (lambda found: found.low, lambda found: found.high)
        ]
        colour = SYSTEM_COLOURS[place % len(SYSTEM_COLOURS)]
        marker = _MARKERS[place // len(SYSTEM_COLOURS) % len(_MARKERS)]
        axes.errorbar(
            [x for x, _ in points], values, yerr=ends, fmt=marker, ms=4, lw=1.2, capsize=2, color=colour, label=system
        )
    axes.set_xticks(range(len(shown)), [words for *_, words in shown], rotation=20, ha="right", fontsize=8)
    axes.set_ylabel("per cent", fontsize=8)
    axes.set_ylim(0, 100)
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(axis="y", lw=0.4, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    return figure


def transitions_figure(moved: Transitions) -> Figure:
    """An alluvial picture: the cells before on the left, after on the right, bands by their number."""
    figure = _figure(6.4, 3.6)
    axes = figure.add_subplot()
    total = sum(count for *_, count, _ in moved.flows)
    before, after = (
        {cell: sum(flow[2] for flow in moved.flows if flow[side] == cell) for cell in CELLS} for side in (0, 1)
    )
    scale = (1 - _GAP * (len(CELLS) - 1)) / total
    tops = [_tops([column[cell] * scale for cell in CELLS]) for column in (before, after)]
    left, right = (dict(zip(CELLS, column, strict=True)) for column in tops)
    for x, column, places, side in ((0.0, before, left, "right"), (0.96, after, right, "left")):
        for cell in CELLS:
            _block(axes, x, places[cell], column[cell] * scale, cell, column[cell], side)
    for first in CELLS:
        for second in CELLS:
            count = next((flow[2] for flow in moved.flows if flow[:2] == (first, second)), 0)
            if count:
                _band(axes, left[first], right[second], count * scale, CELL_COLOURS[first])
                left[first] -= count * scale
                right[second] -= count * scale
    axes.set_title(
        f"{moved.before} → {moved.after}, {total:,} questions; inside from {moved.threshold:g} × chance on", fontsize=9
    )
    axes.set_xlim(-0.34, 1.34)
    axes.set_ylim(-0.02, 1.02)
    axes.axis("off")
    return figure


def _tops(heights: Sequence[float]) -> list[float]:
    tops, top = [], 1.0
    for height in heights:
        tops.append(top)
        top -= height + _GAP
    return tops


def _block(axes: Axes, x: float, top: float, height: float, cell: str, count: int, side: str) -> None:
    axes.add_patch(Rectangle((x, top - height), 0.04, height, color=CELL_COLOURS[cell], lw=0))
    if count:
        place = x - 0.015 if side == "right" else x + 0.055
        axes.text(place, top - height / 2, f"{cell} ({count:,})", ha=side, va="center", fontsize=8)


def _band(axes: Axes, left: float, right: float, height: float, colour: str) -> None:
    points = [
        (0.04, left), (0.5, left), (0.5, right), (0.96, right),
        (0.96, right - height), (0.5, right - height), (0.5, left - height), (0.04, left - height), (0.04, left),
    ]  # fmt: skip
    curve = Outline.CURVE4
    codes = [Outline.MOVETO, curve, curve, curve, Outline.LINETO, curve, curve, curve, Outline.CLOSEPOLY]
    axes.add_patch(PathPatch(Outline(points, codes), facecolor=colour, alpha=0.35, lw=0))


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure
