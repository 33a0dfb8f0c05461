"""Matplotlib figures of maps and masks, for reports; each can stand alone.

Figures are built on :class:`matplotlib.figure.Figure` directly, never on pyplot, whose global state is not safe when
several requests draw at once.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import MaxNLocator

from a3tune.figures.colour_tables import DIFFERENCE_MAP, limits
from a3tune.figures.overlay import check_same_frame, difference_limit, outline, overlay
from a3tune.types import Head


@dataclass(frozen=True)
class Caption:
    """What a figure shows, so that it can stand alone in a report.

    Attributes:
        model: the model's display name.
        adapter: the adapter's name, "base" for none; several names for a figure that compares.
        heads: the head set that the map is the mean of, or its name in words; None where it does not apply.
        words: whose attention is shown, such as "mean of the answer" or a quoted word; None for all text tokens.
        question: the question asked, or None.
    """

    model: str
    adapter: str | Sequence[str]
    heads: Sequence[Head] | str | None = None
    words: str | None = None
    question: str | None = None

    def text(self) -> str:
        """One line: model, adapter, head set and words, each by name."""
        names = [self.adapter] if isinstance(self.adapter, str) else list(dict.fromkeys(self.adapter))
        listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
        parts = [self.model, f"{'adapters' if len(names) > 1 else 'adapter'}: {listed}"]
        if isinstance(self.heads, str):
            parts.append(self.heads)
        elif self.heads is not None and len(self.heads) == 1:
            parts.append(f"layer {self.heads[0][0]}, head {self.heads[0][1]}")
        elif self.heads is not None:
            parts.append(f"mean of {len(self.heads)} heads")
        parts.append("all text tokens" if self.words is None else self.words)
        return " · ".join(parts)


def head_grid_figure(
    visual_ratio: np.ndarray, critical_heads: Sequence[Head] = (), caption: Caption | None = None
) -> Figure:
    """Layers x heads heat map of the visual attention ratio, critical heads ringed.

    Args:
        visual_ratio: float [layers, heads], 0 to 1.
        critical_heads: the heads to ring.
        caption: names for the title.

    Returns:
        A figure of its own, with the scale as a colour bar in per cent.
    """
    layers, heads = visual_ratio.shape
    figure = _figure(max(4.2, min(9.0, 1.9 + 0.24 * heads)), max(3.0, min(9.0, 1.7 + 0.24 * layers)))
    axes = figure.add_subplot()
    shown = axes.imshow(100 * visual_ratio, cmap="viridis", vmin=0, interpolation="nearest", aspect="equal")
    if len(critical_heads):
        rows, columns = np.asarray(critical_heads, dtype=float).T
        # A light ring on a dark one stands out on every colour of the map. One unit of data is one cell.
        for colour, width in (("black", 2.6), ("white", 1.2)):
            axes.scatter(
                columns,
                rows,
                s=_ring_area(figure, layers, heads),
                facecolors="none",
                edgecolors=colour,
                linewidths=width,
                gid=f"critical-heads-{colour}",
            )
    axes.set_xlabel("head")
    axes.set_ylabel("layer")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(shown, ax=axes, label="attention on the image, %")
    ringed = f" ({len(critical_heads)} critical heads ringed)" if len(critical_heads) else ""
    _title(figure, f"Visual attention ratio per head{ringed}", caption)
    return figure


def attention_figure(
    image: np.ndarray,
    values: np.ndarray,
    caption: Caption,
    *,
    masks: Sequence[np.ndarray] = (),
    title: str = "Where the model looks",
    label: str = "attention weight",
    name: str = "inferno",
    opacity: float = 0.6,
    lower: float | None = 0.0,
    upper: float | None = None,
) -> Figure:
    """The image beside the map over it, with a colour bar in the map's own numbers.

    Args:
        image: uint8 [height, width, 3], RGB.
        values: float [height, width] in the same frame.
        caption: what is shown; it goes into the title.
        masks: bool [height, width] each, outlined on both pictures.
        title: first line of the title.
        label: what the numbers of the colour bar are.
        name, opacity, lower, upper: as in :func:`overlay`. Give the same ``lower`` and ``upper`` to figures that are
            to be compared.

    Returns:
        A figure of its own.

    Raises:
        RequestError: as :func:`overlay` and :func:`outline`.
    """
    lower, upper = limits(values, lower, upper)
    blended = overlay(image, values, opacity, name, lower, upper)
    figure, axes = _image_row(image, 2)
    _show(axes[0], outline(image, masks), "image")
    _show(axes[1], outline(blended, masks), "attention over the image")
    _colour_bar(figure, axes[1], name, lower, upper, label)
    _title(figure, title, caption)
    return figure


def difference_figure(
    image: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    caption: Caption,
    *,
    names: tuple[str, str] = ("before", "after"),
    masks: Sequence[np.ndarray] = (),
    label: str = "attention weight",
    name: str = "inferno",
    opacity: float = 0.6,
) -> Figure:
    """Two maps of one image on one scale, and their difference (second less first) on a symmetric one.

    Args:
        image: uint8 [height, width, 3], RGB.
        before, after: float [height, width] in the same frame.
        caption: what is shown; it goes into the title.
        names: headings of the two maps.
        masks, label, name, opacity: as in :func:`attention_figure`.

    Returns:
        A figure of its own.

    Raises:
        RequestError: as :func:`overlay` and :func:`outline`.
    """
    check_same_frame(image, before)
    check_same_frame(image, after)
    _, upper = limits(np.stack([before, after]), 0.0, None)
    difference = after.astype(np.float64) - before
    limit = difference_limit((difference,))
    figure, axes = _image_row(image, 3)
    for axis, values, heading in zip(axes, (before, after), names, strict=False):
        _show(axis, outline(overlay(image, values, opacity, name, 0.0, upper), masks), heading)
        _colour_bar(figure, axis, name, 0.0, upper, label)
    blended = overlay(image, difference, max(opacity, 0.85), DIFFERENCE_MAP, -limit, limit, fade=True)
    _show(axes[2], outline(blended, masks), f"{names[1]} − {names[0]}")
    _colour_bar(figure, axes[2], DIFFERENCE_MAP, -limit, limit, f"difference of {label}")
    _title(figure, "Where attention went", caption)
    return figure


def comparison_figure(
    image: np.ndarray,
    maps: Sequence[np.ndarray],
    headings: Sequence[str],
    caption: Caption,
    *,
    masks: Sequence[np.ndarray] = (),
    title: str = "Where attention went",
    label: str = "attention weight",
    name: str = "inferno",
    opacity: float = 0.6,
) -> Figure:
    """Any number of maps of one image side by side, on one colour scale.

    Args:
        image: uint8 [height, width, 3], RGB.
        maps: float [height, width] each, in the same frame.
        headings: one for each map.
        caption: what is shown; it goes into the title.
        masks, title, label, name, opacity: as in :func:`attention_figure`.

    Returns:
        A figure of its own.

    Raises:
        RequestError: as :func:`overlay` and :func:`outline`.
    """
    for values in maps:
        check_same_frame(image, values)
    _, upper = limits(np.stack(maps), 0.0, None)
    figure, axes = _image_row(image, len(maps) + 1)
    _show(axes[0], outline(image, masks), "image")
    for axis, values, heading in zip(axes[1:], maps, headings, strict=True):
        _show(axis, outline(overlay(image, values, opacity, name, 0.0, upper), masks), heading)
    _colour_bar(figure, axes[-1], name, 0.0, upper, label)
    _title(figure, title, caption)
    return figure


def save_figure(figure: Figure, path: str | Path) -> tuple[Path, Path]:
    """Write a figure as PNG (150 dots an inch) and as SVG (text as outlines, no date inside).

    Args:
        figure: any figure of this module.
        path: where to; its suffix, if ".png" or ".svg", is left out, and the folder must exist.

    Returns:
        The paths of the PNG and of the SVG file.

    Raises:
        OSError: the files cannot be written.
    """
    path = Path(path)
    stem = path.with_suffix("") if path.suffix.lower() in (".png", ".svg") else path
    png, svg = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".svg")
    figure.savefig(png, dpi=150, format="png")
    figure.savefig(svg, dpi=150, format="svg", metadata={"Date": None})
    return png, svg


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _image_row(image: np.ndarray, count: int) -> tuple[Figure, Any]:
    aspect = float(np.clip(image.shape[1] / image.shape[0], 0.4, 2.5))
    figure = _figure(count * (3.3 * aspect**0.5 + 0.5), 3.3 / aspect**0.5 + 1.1)
    return figure, figure.subplots(1, count)


def _show(axis: Axes, picture: np.ndarray, heading: str) -> None:
    # Pictures far from square would be a line: no longer edge than 2.5 times the shorter, as the frame is shaped.
    ratio = picture.shape[1] / picture.shape[0]
    axis.imshow(picture, interpolation="nearest", aspect="equal" if 0.4 <= ratio <= 2.5 else "auto")
    axis.set_title(printable(heading), fontsize="medium", parse_math=False)
    axis.set_axis_off()


def _colour_bar(figure: Figure, axis: Axes, name: str, lower: float, upper: float, label: str) -> None:
    scale = Normalize(lower, upper if upper > lower else lower + 1)
    bar = figure.colorbar(ScalarMappable(scale, matplotlib.colormaps[name]), ax=axis, fraction=0.05, pad=0.02)
    bar.set_label(label)
    bar.ax.ticklabel_format(scilimits=(-2, 3))


def _ring_area(figure: Figure, layers: int, heads: int) -> float:
    width, height = figure.get_size_inches()
    cell = 72 * min((width - 1.9) / heads, (height - 1.7) / layers)
    return max(6.0, (0.72 * cell) ** 2)


def _title(figure: Figure, title: str, caption: Caption | None) -> None:
    columns = max(30, int(figure.get_size_inches()[0] * 13))
    lines = textwrap.wrap(printable(title), columns) or [""]
    if caption is not None:
        lines += textwrap.wrap(printable(caption.text()), columns)
        if caption.question is not None:
            lines += textwrap.wrap(printable(f"Question: {caption.question}"), columns)
    figure.suptitle("\n".join(lines), fontsize="medium", parse_math=False)


@lru_cache(maxsize=1)
def _font_characters() -> frozenset[int]:
    return frozenset(FT2Font(findfont("DejaVu Sans")).get_charmap())


def printable(text: str) -> str:
    """The text with line breaks, and characters that the figure's font cannot draw, as escapes."""
    known = _font_characters()
    return "".join(
        letter if letter.isprintable() and ord(letter) in known else letter.encode("unicode_escape").decode()
        for letter in text
    )
