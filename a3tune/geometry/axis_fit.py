"""The map from processor pixels to source pixels along one axis, fitted to what a processor makes of a ramp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Grey levels that leave room on both sides, so that the overshoot of sharp resampling filters is not clipped.
DARK, LIGHT = 40, 215
FEW_PIXELS = 16
"""An axis of so few pixels shows no ramp after enlargement."""

# The widest resampling filter (Lanczos) reaches 3 pixels; within that distance of a border ramps are bent.
_FILTER_REACH = 3


@dataclass(frozen=True)
class AxisMap:
    """``source = offset + scale * processor`` along one axis, both counted from a pixel's leading edge."""

    offset: float
    scale: float


class Span(NamedTuple):
    """The pixels along an axis over which the ramp rises; it is level on both sides."""

    first: int
    last: int

    def share(self, pixel: np.ndarray) -> np.ndarray:
        return np.clip((pixel - self.first) / (self.last - self.first), 0, 1)

    def source(self, share: np.ndarray) -> np.ndarray:
        """Source coordinate of a point whose ramp has this share; pixel i has its centre at i + 0.5."""
        return self.first + share * (self.last - self.first) + 0.5


def fit_axis(
    coverage: np.ndarray, ramp: np.ndarray, size: int, span: Span, steps: Callable[[], np.ndarray]
) -> AxisMap | None:
    """The map along the second axis of a tile, or None when the tile shows too little of the image.

    Args:
        coverage, ramp: float [m, n], responses to the light channel and to the ramp along the second axis.
        size: source pixels along the axis.
        span: where the ramp rises.
        steps: gives the responses to the steps along the axis, float [size - 1, m, n]; called for few pixels only.
    """
    count = coverage.shape[1]
    cover, others = coverage.sum(axis=0), coverage.sum(axis=1)
    inside = cover > 0.5 * cover.max()
    level = float(np.median(cover[inside]))
    if inside.sum() < 6:
        # A sliver may cover no pixel fully; how much a full one would have follows from the other axis.
        high = others > 0.5 * others.max()
        if high.sum() >= 6:
            level = float(others.sum() / np.median(others[high]))
    first, last = np.flatnonzero(inside)[[0, -1]]
    places = np.arange(count) + 0.5

    slack = 0.0
    if size > FEW_PIXELS:
        # Rows that padding was blended into carry its rounding errors: they count only where there are no others.
        full = others > 0.5 * others.max()
        full &= np.abs(others / np.median(others[full]) - 1) < 0.005
        rows = full if full.sum() >= 3 else slice(None)
        with np.errstate(divide="ignore", invalid="ignore"):
            source = span.source(ramp[rows].sum(axis=0) / coverage[rows].sum(axis=0))
        if full.sum() < 3:
            slack = 1.5 * (span.last - span.first) / ((LIGHT - DARK) * float(coverage.max()))
        clean = np.abs(cover / level - 1) < 0.02
        run = np.flatnonzero(clean)
        if run.size:
            clean[: run[0] + _FILTER_REACH] = False
            clean[max(0, run[-1] + 1 - _FILTER_REACH) :] = False
        middle, reach = (span.first + span.last + 1) / 2, (span.last + 1 - span.first) / 2 - _FILTER_REACH
        clean &= np.nan_to_num(np.abs(source - middle), nan=np.inf) < reach
        if clean.sum() >= 6 and np.ptp(source[clean]) >= 4:
            return _line(places[clean], source[clean], count, size, slack)
    if cover[0] < 0.02 * level and cover[-1] < 0.02 * level:
        # Padded on both sides: all of the axis is in this tile, so its length is the sum of the coverage.
        scale = size / float(cover.sum() / level)
        return AxisMap(size / 2 - scale * float(places @ cover / cover.sum()), scale)
    if size <= FEW_PIXELS:
        return _fit_steps(cover, steps(), first, last + 1, size)
    if inside.sum() >= 3:
        return _line(places[inside], source[inside], count, size, slack)
    return None


def _fit_steps(cover: np.ndarray, steps: np.ndarray, start: int, stop: int, size: int) -> AxisMap:
    """The map of an axis of few source pixels, from the places where the borders between them show.

    Where fewer than two borders show, the tile shows parts of at most two pixels along the axis, and the
    map is right to within one source pixel, which no mask or map in source pixels can tell from exact. Where all of
    the tile shows the same blend of several source pixels, it is as long as so many equal shares would be.
    """
    count = len(cover)
    shares = steps.sum(axis=1)[:, start:stop] / cover[start:stop] if size > 1 else np.empty((0, stop - start))
    borders, places = [], []
    for border, share in enumerate(shares, start=1):
        if share[0] < 0.5 <= share[-1]:
            after = int(np.argmax(share >= 0.5))
            before = after - 1
            fraction = (0.5 - share[before]) / (share[after] - share[before])
            borders.append(border)
            places.append(start + 0.5 + before + fraction)
    if len(borders) < 2 and start > 0:
        borders.insert(0, 0)
        places.insert(0, start)
    if len(borders) < 2 and stop < count:
        borders.append(size)
        places.append(stop)
    if len(borders) >= 2:
        return _line(np.array(places), np.array(borders, dtype=float), count, size)
    if len(borders) == 1:
        scale = 1 / max(places[0] - start, stop - places[0])
        return AxisMap(borders[0] - scale * places[0], scale)
    weights = np.clip(-np.diff(np.concatenate([[1.0], shares.mean(axis=1), [0.0]])), 0, None)
    weights /= weights.sum()
    length = min(1 / float(weights @ weights), float(size))
    if length < 1.5:
        first, length = float(weights.argmax()), 1.0
    else:
        length = float(size) if length > 0.85 * size else length
        first = float(np.clip(weights @ (np.arange(size) + 0.5) - length / 2, 0, size - length))
    scale = length / (stop - start)
    return AxisMap(first - scale * start, scale)


def _line(places: np.ndarray, source: np.ndarray, count: int, size: int, slack: float = 0.0) -> AxisMap:
    """The least-squares line; ``slack`` is the measuring error in source pixels where it is large."""
    centre = places.mean()
    slope = float((places - centre) @ (source - source.mean()) / ((places - centre) ** 2).sum())
    offset = float(source.mean() - slope * centre)
    # A tile that ends within the measuring error of the image's border ends at the border.
    end = offset + slope * count
    near = max(0.15 * abs(slope), slack)
    start_at, end_at = (0.0 if abs(offset) < near else offset), (float(size) if abs(end - size) < near else end)
    return AxisMap(start_at, (end_at - start_at) / count)


def explains(axis_map: AxisMap, coverage: np.ndarray, ramp: np.ndarray, size: int, span: Span) -> bool:
    """Whether the map predicts the ramp at (almost) every pixel that lies in the image."""
    if not (np.isfinite(axis_map.scale) and axis_map.scale > 0):
        return False
    if size == 1:
        return True
    expected = span.share(axis_map.offset + axis_map.scale * (np.arange(coverage.shape[1]) + 0.5) - 0.5)
    inside = coverage > 0.5 * coverage.max()
    errors = np.abs(ramp - expected * coverage)[inside] / coverage[inside]
    typical, most = 0.03, 0.08
    if size <= FEW_PIXELS:
        # Between few pixels sharp filters ripple, and the map itself is right to one source pixel only.
        typical, most = max(0.08, 0.5 / (size - 1)), max(0.25, 1 / (size - 1))
    rounding = 1 / ((LIGHT - DARK) * coverage.max())
    # A pixel that is partly padding shows the mean of its part in the image: up to half a pixel beside its centre.
    half = 0.5 * axis_map.scale / (span.last - span.first)
    typical, most = max(typical, half / 2) + rounding, max(most, half) + 2 * rounding
    return bool(np.median(errors) < typical and np.quantile(errors, 0.95) < most)
