"""Intervals and differences of numbers that are made from sums over all reports, as BLEU is, and are no mean over them.

As in `a3tune.evaluation.statistics` images are drawn, and the bootstrap is studentised: each draw's number is made from
the sums over the images drawn, and its standard error is the linearised one (delta method; for a ratio of sums the very
one that a mean over questions has there).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from a3tune.evaluation.statistics import (
    DRAWS,
    DRAWS_EACH,
    FEW,
    NO_DIFFERENCE,
    Difference,
    Interval,
    at_least_student,
    chunk,
    pivot_interval,
    power_of,
    wilson,
)

Function = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""float64 [..., k] sums over reports to the number [...], NaN where it is not defined, and its gradient [..., k]. All
sums doubled give the same number."""

# pycocoevalcap's, so that the number of all reports is its number.
_TINY, _SMALL = 1e-15, 1e-9
_ZERO = 1e-12
_NONE = 5e-4
"""A share below is told as 0.000."""


def ratio(above: Sequence[float], below: Sequence[float]) -> Function:
    """The ratio of two weighted sums: of statistics s, (above . s) / (below . s)."""
    top, bottom = np.asarray(above, np.float64), np.asarray(below, np.float64)

    def function(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(invalid="ignore", divide="ignore"):
            total = (sums @ bottom)[..., None]
            value = (sums @ top)[..., None] / total
            return value[..., 0], (top - value * bottom) / total

    return function


def bleu(order: int) -> Function:
    """BLEU up to an order, as pycocoevalcap counts it, of sums of `BLEU_STATISTICS`."""

    def function(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        said, right = sums[..., :1], sums[..., 1:2]
        shared, guessed = sums[..., 2 : 2 + order] + _TINY, sums[..., 6 : 6 + order] + _SMALL
        length = (said + _TINY) / (right + _SMALL)
        short = length < 1
        value = np.exp((np.log(shared) - np.log(guessed)).mean(axis=-1, keepdims=True))
        value = value * np.where(short, np.exp(1 - 1 / np.minimum(length, 1)), 1.0)
        gradient = np.zeros_like(sums)
        gradient[..., :1] = np.where(short, right / np.maximum(said, _SMALL) ** 2, 0)
        gradient[..., 1:2] = np.where(short, -1 / np.maximum(said, _SMALL), 0)
        # Where nothing is shared the number stays next to nothing, whichever images are drawn.
        gradient[..., 2 : 2 + order] = np.where(shared > 0.5, 1 / (order * shared), 0)
        gradient[..., 6 : 6 + order] = np.where(shared > 0.5, -1 / (order * guessed), 0)
        return value[..., 0], value * gradient

    return function


def corpus_interval(
    statistics: np.ndarray, images: Sequence[object], function: Function, *, seed: int = 0, draws: int = DRAWS
) -> Interval:
    """A number of all reports with its interval over images.

    Args:
        statistics: float64 [reports, k].
        images: which image each report is about.
        function: from sums of the statistics to the number, a share of 0 to 1.
        seed, draws: as `a3tune.evaluation.statistics.mean_interval`.
    """
    sums = _by_image(statistics, images)
    value = float(function(sums.sum(axis=0))[0])
    if not math.isfinite(value):
        return Interval(math.nan, math.nan, math.nan, len(statistics), len(sums))
    low, high = _interval(sums, function, value, seed, draws)
    if len(sums) >= FEW and (value < _NONE or round(value, 9) == 1):
        low, high = wilson(round(value), len(sums))
    return Interval(value, max(low, 0.0), min(high, 1.0), len(statistics), len(sums))


def corpus_difference(
    before: np.ndarray,
    after: np.ndarray,
    images: Sequence[object],
    function: Function,
    *,
    seed: int = 0,
    draws: int = DRAWS,
    comparisons: int = 1,
) -> Difference:
    """How a number of all reports differs between two systems that reported on the same images.

    Args:
        before, after: float64 [reports, k], statistics of the same reports.
        images, function, seed, draws: as `corpus_interval`.
        comparisons: as `a3tune.evaluation.statistics.paired_difference`.
    """
    first, second = _by_image(before, images), _by_image(after, images)
    width = first.shape[1]

    def change(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (old, back), (new, forth) = function(sums[..., :width]), function(sums[..., width:])
        return new - old, np.concatenate([-back, forth], axis=-1)

    both = np.concatenate([first, second], axis=1)
    was, now = float(function(first.sum(axis=0))[0]), float(function(second.sum(axis=0))[0])
    value = 0.0 if abs(now - was) < _ZERO else now - was
    if not math.isfinite(value):
        return NO_DIFFERENCE
    low, high = _interval(both, change, value, seed, draws)
    error = _error(both, change(both.sum(axis=0))[1])
    error = 0.0 if error < _ZERO else error
    low, high = at_least_student(low, high, value, error, len(both))
    detectable, needed = power_of(value, error, len(both))
    p = _permutation(first, second, function, value, seed, max(draws, DRAWS_EACH * comparisons))
    return Difference(was, now, value, low, high, p, None, detectable, needed, len(before), len(both))


def _by_image(statistics: np.ndarray, images: Sequence[object]) -> np.ndarray:
    """float64 [images, k], sums of each image's reports, images in the order in which they come."""
    places = {image: place for place, image in enumerate(dict.fromkeys(images))}
    sums = np.zeros((len(places), statistics.shape[1]))
    np.add.at(sums, [places[image] for image in images], statistics)
    return sums


def _error(sums: np.ndarray, gradient: np.ndarray) -> float:
    n = len(sums)
    return float(np.sqrt(n / (n - 1) * ((sums @ gradient) ** 2).sum())) if n > 1 else math.nan


def _interval(sums: np.ndarray, function: Function, value: float, seed: int, draws: int) -> tuple[float, float]:
    n = len(sums)
    if n < FEW:
        return math.nan, math.nan
    error = _error(sums, function(sums.sum(axis=0))[1])
    if error < _ZERO:
        return value, value
    generator = np.random.default_rng([seed, n])
    pivots = []
    for start in range(0, draws, chunk(n)):
        rows = min(chunk(n), draws - start)
        drawn = generator.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
        values, gradients = function(times @ sums)
        errors = np.sqrt(n / (n - 1) * (times * (gradients @ sums.T) ** 2).sum(axis=1))
        told = np.isfinite(values) & (errors > _ZERO)
        pivots.append((values - value)[told] / errors[told])
    return pivot_interval(np.concatenate(pivots), value, error, n, draws)


def _permutation(
    first: np.ndarray, second: np.ndarray, function: Function, value: float, seed: int, draws: int
) -> float:
    """Two-sided p of the difference under the two systems' reports exchanged image by image."""
    n = len(first)
    generator = np.random.default_rng([seed, n, 1])
    extreme = 0
    for start in range(0, draws, chunk(n)):
        swapped = generator.integers(0, 2, (min(chunk(n), draws - start), n)).astype(np.float64)
        moved = swapped @ (second - first)
        old, new = function(first.sum(axis=0) + moved)[0], function(second.sum(axis=0) - moved)[0]
        extreme += int((np.abs(np.nan_to_num(new - old)) >= abs(value) - _ZERO).sum())
    return (1 + extreme) / (1 + draws)
