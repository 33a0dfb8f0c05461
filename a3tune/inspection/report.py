"""Pictures and a one-page report of what a viewer shows: one map, or two on one scale with their difference."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from a3tune.attention.critical_heads import head_set_map
from a3tune.figures.colour_tables import DIFFERENCE_MAP
from a3tune.figures.overlay import outline, overlay
from a3tune.figures.plots import Caption, attention_figure, difference_figure, printable
from a3tune.geometry.patch_grid import to_source
from a3tune.images.measures import measure_words
from a3tune.inspection.inspect import Inspection
from a3tune.inspection.views import AdapterView
from a3tune.types import Head, MedicalImage
from a3tune.wording import RESEARCH_NOTICE, counted

# Small images are enlarged to this many pixels on the longer edge, so that a map does not come out as a few dots.
LEAST_EDGE = 1024
REFERENCE_WORDS = "Dashed line: the reference mask"
_EVIDENCE = (
    "Shares are of a word's attention, per patch. Attention is evidence about a model, not a proof of why it answered "
    "as it did."
)
_COMMAND_LINES = 3
_MEASURE_COLOUR = "#7dd3fc"
# Where the command begins, as a share of the page's height.
_LOWEST = 0.085
_A4 = (8.27, 11.69)  # inches


@dataclass(frozen=True, eq=False)
class Side:
    """One map that is shown.

    Attributes:
        inspection: image, question and model.
        view: whose attention.
        heads, rows: the map is the mean over these, see :func:`a3tune.attention.critical_heads.head_set_map`.
        head_words: the head set in words, such as "8 critical heads".
        row_words: the words in words, such as "mean of the answer".
        right_answer: of the question; "" where it is not known.
    """

    inspection: Inspection
    view: AdapterView
    heads: tuple[Head, ...]
    rows: tuple[int, ...]
    head_words: str
    row_words: str
    right_answer: str = ""

    def values(self) -> np.ndarray:
        """The map, float32 [patches]."""
        return head_set_map(self.view.maps, self.heads, self.rows)

    def caption(self) -> str:
        """Model, adapter, heads, words and method in one line."""
        parts = (self.inspection.model, f"adapter: {self.view.adapter}", self.head_words, self.row_words)
        return " · ".join((*parts, "raw attention"))


@dataclass(frozen=True)
class MapStyle:
    """How maps are coloured: ``opacity`` 0 to 1, a colour map's name, ``smooth`` or patch by patch, how far the image
    is dimmed behind them (0 to 1), and whether ``each`` of two maps has a scale of its own."""

    opacity: float = 0.85
    colours: str = "plasma"
    smooth: bool = True
    dim: float = 0.45
    each: bool = False


def full_size_pictures(sides: Sequence[Side], style: MapStyle) -> dict[str, np.ndarray]:
    """The image, and each map over it, on one scale; the difference as well where there are two.

    Args:
        sides: one or two maps of the same image.
        style: colours.

    Returns:
        uint8 [height, width, 3] by name: at the image's own size, or enlarged to ``LEAST_EDGE``.
    """
    pictures = {"image": _enlarged(sides[0].inspection.image.pixels)}
    maps = [_in_source(side, style.smooth) for side in sides]
    for letter, side, (values, upper) in zip("AB", sides, multiples(sides, style), strict=False):
        pixels = pictures["image"]
        name = f"{letter}_{side.view.adapter}" if len(sides) > 1 else side.view.adapter
        grown = _grown(values, pixels.shape[:2], style.smooth)
        pictures[name] = overlay(pixels, grown, style.opacity, style.colours, 0.0, upper, fade=True, dim=style.dim)
    if len(sides) == 2:
        change = _grown(maps[1] - maps[0], pictures["image"].shape[:2], style.smooth)
        limit = float(np.abs(change).max()) or 1.0
        pictures["difference"] = overlay(
            pictures["image"], change, style.opacity, DIFFERENCE_MAP, -limit, limit, fade=True, dim=style.dim
        )
    return pictures


def shown_figure(
    sides: Sequence[Side],
    masks: Sequence[np.ndarray],
    style: MapStyle,
    measures: Sequence[Mapping[str, Any]] = (),
    reference: np.ndarray | None = None,
) -> Figure:
    """The maps on show as a figure with colour bars in the maps' own numbers and a caption.

    Args:
        sides: one or two maps of the same image.
        masks: bool [height, width] each, outlined.
        style: colours.
        measures: their records (see :meth:`a3tune.images.measures.Measure.record`), drawn and numbered.
        reference: bool [height, width], where the answer lies, outlined by a dashed white line; None for nothing.
    """
    figure = _maps_figure(sides, masks, style)
    for axes in figure.axes:
        if axes.images:
            _draw_measures(axes, measures, sides[0].inspection.image)
            _draw_reference(axes, reference)
    if reference is not None:
        figure.text(0.99, 0.995, REFERENCE_WORDS, fontsize=7, ha="right", va="top")
    return figure


def _maps_figure(sides: Sequence[Side], masks: Sequence[np.ndarray], style: MapStyle) -> Figure:
    pixels = sides[0].inspection.image.pixels
    maps = [_in_source(side, style.smooth) for side in sides]
    first = sides[0]
    if len(sides) == 1:
        caption = Caption(
            first.inspection.model, first.view.adapter, first.head_words, first.row_words, first.inspection.question
        )
        return attention_figure(
            pixels, maps[0], caption, masks=masks, title=f"Answer: {first.view.answer}", name=style.colours
        )
    names = (f"A: {sides[0].view.adapter}", f"B: {sides[1].view.adapter}")
    questions = " / ".join(dict.fromkeys(side.inspection.question for side in sides))
    adapters = [side.view.adapter for side in sides]
    caption = Caption(first.inspection.model, adapters, first.head_words, first.row_words, questions)
    return difference_figure(pixels, maps[0], maps[1], caption, names=names, masks=masks, name=style.colours)


def page_figure(
    sides: Sequence[Side],
    masks: Sequence[np.ndarray],
    numbers: Sequence[tuple[str, Sequence[str]]],
    style: MapStyle,
    command: str,
    measures: Sequence[Mapping[str, Any]] = (),
    reference: np.ndarray | None = None,
    ranks: Sequence[int] = (),
    made: str = "",
) -> Figure:
    """One A4 page: question, answers, pictures on one scale, numbers, the heads, and how it was made.

    Args:
        sides: one or two maps of the same image.
        masks: bool [height, width] each, outlined on the pictures.
        numbers: rows of the table: a name and one text for each side.
        style: colours.
        command: the command line that makes the inspection again.
        measures: their records (see :meth:`a3tune.images.measures.Measure.record`), drawn, numbered and told.
        reference: bool [height, width], where the answer lies, outlined by a dashed white line; None for nothing.
        ranks: of the masks' regions, written into them.
        made: when and with what the page was made.
    """
    figure = Figure(figsize=_A4)
    FigureCanvasAgg(figure)
    first = sides[0]
    image = first.inspection.image
    _text(figure, 0.955, "Where the model looks", 15, "bold")
    about = [image.modality or image.format, f"{image.width} × {image.height} pixels", f"SHA-256 {image.sha256[:16]} …"]
    _text(figure, 0.935, f"{first.inspection.model} · " + " · ".join(about), 8)
    top = 0.919
    for piece in textwrap.wrap(printable(made), 135):
        _text(figure, top, piece, 7)
        top -= 0.011
    top -= 0.004
    asked = None
    for letter, side in zip("AB", sides, strict=False):
        name = f"{letter} · {side.view.adapter}" if len(sides) > 1 else side.view.adapter
        lines = [] if side.inspection.question == asked else [f"Question: {side.inspection.question}"]
        if lines and side.right_answer:
            lines.append(f"Reference answer: {side.right_answer}")
        for line in [*lines, f"Answer ({name}): {side.view.answer or '(empty)'}"]:
            for piece in textwrap.wrap(printable(line), 105, max_lines=3, placeholder=" …"):
                _text(figure, top, piece, 9.5)
                top -= 0.016
        top -= 0.005
        asked = side.inspection.question
    maps = [_in_source(side, style.smooth) for side in sides]
    panels: list[tuple[np.ndarray, str, tuple[str, float, float] | None]] = [(image.pixels, "image", None)]
    for letter, side, (values, upper) in zip("AB", sides, multiples(sides, style), strict=False):
        drawn = overlay(image.pixels, values, style.opacity, style.colours, 0.0, upper, fade=True, dim=style.dim)
        panels.append(
            (
                drawn,
                f"{letter}: {side.view.adapter}" if len(sides) > 1 else side.view.adapter,
                (style.colours, 0.0, upper),
            )
        )
    if len(sides) == 2:
        change = maps[1] - maps[0]
        limit = float(np.abs(change).max()) or 1.0
        panels.append(
            (
                overlay(image.pixels, change, style.opacity, DIFFERENCE_MAP, -limit, limit, fade=True, dim=style.dim),
                "B − A",
                (DIFFERENCE_MAP, -limit, limit),
            )
        )
    columns = 2
    rows = (len(panels) + 1) // 2
    height = 0.245 if rows == 2 else 0.33
    for place, (pixels, name, scale) in enumerate(panels):
        left = 0.07 + 0.46 * (place % columns)
        bottom = top - height * (1 + place // columns) + 0.02
        axes = figure.add_axes((left, bottom, 0.36, height - 0.035))
        axes.imshow(outline(pixels, masks), interpolation="nearest")
        _draw_ranks(axes, masks, ranks)
        _draw_measures(axes, measures, image)
        _draw_reference(axes, reference)
        axes.set_title(printable(name), fontsize=8.5, parse_math=False)
        axes.set_axis_off()
        if scale is not None:
            bar = figure.add_axes((left + 0.375, bottom, 0.01, height - 0.035))
            figure.colorbar(ScalarMappable(Normalize(*scale[1:]), scale[0]), cax=bar)
            bar.tick_params(labelsize=6)
            bar.set_title("share" if scale[0] == DIFFERENCE_MAP else "× even", fontsize=6)
    top -= rows * height
    for side in sides:
        for piece in textwrap.wrap(printable(side.caption()), 125):
            _text(figure, top, piece, 7.5)
            top -= 0.012
    numbered = f"Outlined: {counted(len(ranks), 'region')}, each with its rank" if ranks else ""
    told = [words for words in (numbered, REFERENCE_WORDS if reference is not None else "") if words]
    if told:
        _text(figure, top, ". ".join(told), 7.5)
        top -= 0.012
    _text(figure, top - 0.012, "Numbers", 10, "bold")
    for place, (name, texts) in enumerate([("", [side.view.adapter for side in sides]), *numbers]):
        level = top - 0.03 - 0.0145 * place
        figure.text(0.07, level, printable(name), fontsize=8, parse_math=False)
        for column, text in enumerate(texts):
            figure.text(0.32 + 0.11 * column, level, printable(text), fontsize=8, parse_math=False)
    for place, side in enumerate(sides):
        axes = figure.add_axes((0.58 + 0.18 * place, max(0.1, top - 0.17), 0.15, 0.13))
        heads = _draw_heads(axes, side)
        if place:
            axes.set_yticks([])
        else:
            axes.set_ylabel("layer", fontsize=6)
    bar = figure.add_axes((0.58 + 0.18 * len(sides) - 0.02, max(0.1, top - 0.17), 0.01, 0.13))
    figure.colorbar(heads, cax=bar)
    bar.tick_params(labelsize=6)
    level = top - 0.03 - 0.0145 * (len(numbers) + 1.7)
    for place, words in enumerate(_measure_lines(measures, int((level - _LOWEST) / 0.0115))):
        _text(figure, level - 0.0115 * place, words, 7)
    lines = textwrap.wrap(printable(command), 118)
    if len(lines) > _COMMAND_LINES:
        # A command that is cut would make something else: the archive has it whole.
        lines = ["The command is too long for this page; the ZIP archive has it."]
    for place, piece in enumerate(lines):
        _text(figure, 0.073 - 0.011 * place, piece, 6.5, family="monospace")
    _text(figure, 0.032, RESEARCH_NOTICE, 7)
    _text(figure, 0.02, _EVIDENCE, 7)
    return figure


def _draw_ranks(axes: Axes, masks: Sequence[np.ndarray], ranks: Sequence[int]) -> None:
    for mask, rank in zip(masks, ranks, strict=bool(ranks)):
        # Where the region is widest.
        inside = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)
        row, column = np.unravel_index(inside.argmax(), inside.shape)
        dark = [withStroke(linewidth=2.5, foreground="black")]
        style: dict[str, Any] = {"fontsize": 7, "color": "white", "ha": "center", "va": "center"}
        axes.text(column - 1, row - 1, str(rank), path_effects=dark, clip_on=True, **style)


def _draw_reference(axes: Axes, mask: np.ndarray | None) -> None:
    if mask is not None and mask.any() and not mask.all():
        drawn = axes.contour(mask, levels=[0.5], colors="white", linewidths=1.0, linestyles="dashed")
        drawn.set_path_effects([withStroke(linewidth=2.0, foreground="black")])


def _measure_lines(measures: Sequence[Mapping[str, Any]], room: int) -> list[str]:
    """Each measure by its number, beside the grids of heads, as many as there is room for; the rest is counted."""
    lines: list[str] = []
    for number, told in enumerate(measures, 1):
        pieces = textwrap.wrap(printable(f"{number}. {measure_words(told)}"), 66, subsequent_indent="    ")
        last = number == len(measures)
        if len(lines) + len(pieces) + (not last) > room:
            return [*lines, f"{len(measures) - number + 1} of {len(measures)} measures are in the ZIP archive only."]
        lines += pieces
    return lines


def _draw_measures(axes: Axes, measures: Sequence[Mapping[str, Any]], image: MedicalImage) -> None:
    height, width = image.stored_size
    grow = np.array([image.width / width, image.height / height])
    dark = [withStroke(linewidth=2.5, foreground="black")]
    stroke: dict[str, Any] = {"linewidth": 1.2, "path_effects": dark}
    for number, told in enumerate(measures, 1):
        # Axes count from the middle of the first pixel.
        start, end = (np.array(told[point]) * grow - 0.5 for point in ("from", "to"))
        corner, size = np.minimum(start, end), np.abs(end - start)
        if told["kind"] == "ruler":
            axes.add_line(Line2D([start[0], end[0]], [start[1], end[1]], color=_MEASURE_COLOUR, marker="|", **stroke))
        elif told["kind"] == "rectangle":
            axes.add_patch(Rectangle(tuple(corner), *size, fill=False, edgecolor=_MEASURE_COLOUR, **stroke))
        else:
            axes.add_patch(Ellipse(tuple(corner + size / 2), *size, fill=False, edgecolor=_MEASURE_COLOUR, **stroke))
        place = np.maximum(start, end)
        axes.text(
            place[0],
            place[1],
            str(number),
            color=_MEASURE_COLOUR,
            fontsize=7,
            va="top",
            path_effects=dark,
            clip_on=True,
        )


def _draw_heads(axes: Axes, side: Side) -> AxesImage:
    """The grid of heads on the scale that all grids share, 0 to 1."""
    drawn = axes.imshow(side.view.visual_ratio, cmap="viridis", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    rows, columns = np.asarray(side.view.critical_heads).T
    axes.scatter(columns, rows, s=9, facecolors="white", edgecolors="black", linewidths=0.6)
    axes.set_title(printable(f"visual ratio, {side.view.adapter}"), fontsize=7, parse_math=False)
    axes.set_xlabel("head (dots: critical)", fontsize=6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=6)
    return drawn


def _text(
    figure: Figure, height: float, words: str, size: float, weight: str = "normal", family: str = "sans-serif"
) -> None:
    figure.text(0.07, height, printable(words), fontsize=size, fontweight=weight, family=family, parse_math=False)


def _in_source(side: Side, smooth: bool) -> np.ndarray:
    return to_source(side.values(), side.inspection.grid, smooth=smooth)


def multiples(sides: Sequence[Side], style: MapStyle) -> list[tuple[np.ndarray, float]]:
    """Each side's map in the source frame as multiples of what an even map would give each patch, and the highest on
    its scale, above 0."""
    maps = [_in_source(side, style.smooth) / (float(side.values().mean()) or 1.0) for side in sides]
    tops = [float(np.nanmax(values)) or 1.0 for values in maps]
    return list(zip(maps, tops if style.each else [max(tops)] * len(tops), strict=True))


def _enlarged(pixels: np.ndarray) -> np.ndarray:
    times = -(-LEAST_EDGE // max(pixels.shape[:2]))
    if times <= 1:
        return pixels
    return cv2.resize(pixels, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)


def _grown(values: np.ndarray, shape: tuple[int, int], smooth: bool) -> np.ndarray:
    if values.shape == shape:
        return values
    return cv2.resize(values, shape[::-1], interpolation=cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST)
