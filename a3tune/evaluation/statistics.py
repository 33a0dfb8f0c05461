"""How far the numbers of an evaluation can be trusted: intervals, tests and the smallest difference that would show.

Questions about one image are not independent: an image that is hard is hard for all of them. So images are drawn, not
questions ("clustered"): Cameron, Gelbach and Miller, "Bootstrap-Based Improvements for Inference with Clustered
Errors", Review of Economics and Statistics 90 (2008).

A number is the mean over questions, as published scores are; every array here holds one value for each question, NaN
where the number is not defined for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, ndtri, stdtrit

from a3tune.errors import RequestError

LEVEL = 0.95
POWER = 0.8
DRAWS = 2000
DRAWS_EACH = 400
"""Permutations for each comparison of a report: the smallest p is then 0.0025 after Holm's correction."""
FLAT = 0.01
"""From this share of draws without any spread on (one wrong answer among many right ones), a bootstrap is no guide."""
ROUNDING = 1e-5
"""A question whose number changes by less is unchanged: attention that is read in other passes differs by as much, and
always in one direction where the passes do."""
FEW = 3
"""Fewer images than this tell nothing about the spread between images."""


@dataclass(frozen=True)
class Interval:
    """A mean over questions with its interval over images.

    Attributes:
        value: the mean; NaN without a question.
        low, high: the interval of `LEVEL`; NaN with fewer than three images.
        questions, images: how many there are.
    """

    value: float
    low: float
    high: float
    questions: int
    images: int


@dataclass(frozen=True)
class Difference:
    """What changed between two systems on the same questions.

    Attributes:
        before, after: the means over the questions that both have.
        value: after minus before.
        low, high: its interval of `LEVEL` over images.
        p: two-sided, from a permutation test that swaps the two systems image by image.
        p_mcnemar: exact McNemar test over questions, for numbers that are 0 or 1; None for others. It takes questions
            for independent and is told beside ``p`` because papers give it.
        detectable: the smallest difference that this set would have shown with a power of `POWER`.
        images_needed: images of this kind with which ``value`` would show with that power; None where it is 0.
        questions, images: how many there are.
    """

    before: float
    after: float
    value: float
    low: float
    high: float
    p: float
    p_mcnemar: float | None
    detectable: float
    images_needed: int | None
    questions: int
    images: int


NO_DIFFERENCE = Difference(*(math.nan,) * 6, None, math.nan, None, 0, 0)
"""Of two systems that have no question in common."""


@dataclass(frozen=True)
class Spread:
    """Several runs of one recipe under other seeds: not to be mixed up with an interval over images.

    Attributes:
        mean, deviation: over the runs; the deviation of a single run is NaN.
        low, high: Student's interval of `LEVEL` of the mean over runs.
        values: one for each run.
    """

    mean: float
    deviation: float
    low: float
    high: float
    values: tuple[float, ...]


def mean_interval(
    values: Sequence[float] | np.ndarray, images: Sequence[object], *, seed: int = 0, draws: int = DRAWS
) -> Interval:
    """The mean with a bootstrap interval over images.

    The interval is the studentised bootstrap of the ratio of sums over drawn images: percentiles alone fall short with
    few images. Where nearly all images agree, draws without any spread are common and a bootstrap is no guide: the
    interval is then Student's, and for values of 0 and 1 Wilson's with as many questions as would have the same
    standard error if they were independent (all right or all wrong: with as many as there are images).

    Args:
        values: [questions], NaN where undefined.
        images: which image each question is about.
        seed: of the draws.
        draws: how many.
    """
    sums, counts = _by_image(values, images)
    total = counts.sum()
    if not len(sums):
        return Interval(math.nan, math.nan, math.nan, 0, 0)
    value = float(sums.sum() / total)
    low, high = _interval(sums, counts, value, seed, draws)
    error = _standard_error(sums, counts, value)
    # A smoothed BLEU of nothing in common is some 1e-78.
    if len(sums) >= FEW and np.isin(np.asarray(values, np.float64)[_finite(values)].round(12), (0.0, 1.0)).all():
        if round(value, 12) in (0.0, 1.0):
            low, high = wilson(round(value, 12), len(sums))
        elif (low, high) == student(value, error, len(sums)):
            # As many independent questions as would have this error.
            low, high = wilson(value, value * (1 - value) / error**2)
    # What is measured is a share, or an amount that cannot be below 0, as attention in multiples of an even map's;
    # NaN stays NaN.
    if not (np.asarray(values, np.float64) < 0).any():
        low = max(low, 0.0)
        if not (np.asarray(values, np.float64) > 1).any():
            high = min(high, 1.0)
    return Interval(value, low, high, int(total), len(sums))


def paired_difference(
    before: Sequence[float] | np.ndarray,
    after: Sequence[float] | np.ndarray,
    images: Sequence[object],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    comparisons: int = 1,
) -> Difference:
    """How two systems differ on the questions that both answered.

    Args:
        before, after: [questions], NaN where undefined; only questions with both count, and changes below `ROUNDING`
            are none.
        images, seed, draws: as `mean_interval`.
        comparisons: for how many p will be corrected: the permutation test draws as often as it takes for the smallest
            p that it can find to stay small after that.

    Raises:
        RequestError: the two are not of one length.
    """
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if first.shape != second.shape or len(first) != len(images):
        raise RequestError(
            expected="two lists of numbers about the same questions",
            got=f"{len(first)} and {len(second)} numbers for {len(images)} questions",
            remedy="Compare results on the same data and split",
        )
    both = np.isfinite(first) & np.isfinite(second)
    first, second = first[both], second[both]
    kept = [image for image, there in zip(images, both, strict=True) if there]
    changes = second - first
    changes[np.abs(changes) < ROUNDING] = 0.0
    sums, counts = _by_image(changes, kept)
    if not len(sums):
        return NO_DIFFERENCE
    total = counts.sum()
    value = float(sums.sum() / total)
    low, high = _interval(sums, counts, value, seed, draws)
    binary = bool(np.isin(np.concatenate([first, second]), (0.0, 1.0)).all())
    # The linearised standard error of a ratio of sums over images.
    error = _standard_error(sums, counts, value)
    # Few questions change, so the bootstrap alone falls short: Student's interval is the least.
    low, high = at_least_student(low, high, value, error, len(sums))
    detectable, needed = power_of(value, error, len(sums))
    return Difference(
        float(first.mean()),
        float(second.mean()),
        value,
        low,
        high,
        _permutation(sums, seed, max(draws, DRAWS_EACH * comparisons)),
        mcnemar(first, second) if binary else None,
        detectable,
        needed,
        len(first),
        len(sums),
    )


def at_least_student(low: float, high: float, value: float, error: float, n: int) -> tuple[float, float]:
    """An interval of a difference, no narrower than Student's where its standard error over ``n`` images is known."""
    if not math.isfinite(error):
        return low, high
    least = student(value, error, n)
    return min(low, least[0]), max(high, least[1])


def power_of(value: float, error: float, n: int) -> tuple[float, int | None]:
    """The smallest difference that ``n`` images show with `POWER`, and how many images would show one of ``value``;
    None where that is not known."""
    detectable = float(ndtri(0.5 + LEVEL / 2) + ndtri(POWER)) * error
    known = value and math.isfinite(error)
    return detectable, max(FEW, math.ceil(n * (detectable / value) ** 2)) if known else None


def mcnemar(before: Sequence[float] | np.ndarray, after: Sequence[float] | np.ndarray) -> float:
    """Exact two-sided McNemar test of two lists of 0 and 1 about the same questions: twice the binomial tail of the
    rarer change; 1 where none differ."""
    first, second = np.asarray(before) > 0.5, np.asarray(after) > 0.5
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm 1979), in the same order; NaN stays and is not counted."""
    # With pandas it takes a second to load, and a tuning run, with one adapter to compare, needs none of it.
    from statsmodels.stats.multitest import multipletests

    known = [index for index, value in enumerate(p_values) if math.isfinite(value)]
    corrected = [math.nan] * len(p_values)
    if known:
        adjusted = multipletests([p_values[index] for index in known], method="holm")[1]
        for index, value in zip(known, adjusted, strict=True):
            corrected[index] = float(value)
    return corrected


def spread_of_runs(values: Sequence[float]) -> Spread:
    """Mean and spread over runs that differ in their seed alone."""
    array = np.asarray(values, np.float64)
    mean, n = float(array.mean()), len(array)
    deviation = float(array.std(ddof=1)) if n > 1 else math.nan
    reach = float(stdtrit(n - 1, 0.5 + LEVEL / 2)) * deviation / math.sqrt(n) if n > 1 else math.nan
    return Spread(mean, deviation, mean - reach, mean + reach, tuple(float(value) for value in array))


def is_told_apart(p: float, low: float, high: float) -> bool:
    """Whether a difference of this p and interval is told from none: by both."""
    return p < 1 - LEVEL and (low > 0 or high < 0)


def verdict(difference: Difference, p: float | None = None, *, points: bool = True) -> str:
    """What a difference says, in words that its numbers carry.

    Args:
        difference: from `paired_difference`.
        p: corrected for several comparisons; the difference's own when None.
        points: whether the number is a share, told in percentage points.
    """
    p = difference.p if p is None else p
    scale, unit = (100.0, " points") if points else (1.0, "")
    images = f"{difference.images} images"
    if not difference.images:
        return "cannot be compared: no question has this number on both sides"
    if difference.images < FEW or not math.isfinite(difference.low):
        return f"cannot be told from {difference.images} image{'s' * (difference.images != 1)}"
    size = f"{abs(difference.value) * scale:.3g}{unit}"
    if is_told_apart(p, difference.low, difference.high):
        word = "higher" if difference.value > 0 else "lower"
        reach = sorted(abs(edge) * scale for edge in (difference.low, difference.high))
        return f"{word} by {size} ({reach[0]:.3g} to {reach[1]:.3g}), told apart by {images}"
    if difference.value == 0 and difference.detectable == 0:
        return f"the same on every one of {images}"
    words = f"not told apart by {images}"
    if difference.images_needed is not None and difference.images_needed > difference.images:
        words += f": a difference of {size} would need about {_rounded(difference.images_needed)}"
    if points and difference.detectable > 1:
        return f"{words}; so few could have shown no difference at all"
    return f"{words}; they could have shown {difference.detectable * scale:.3g}{unit}"


def _by_image(values: Sequence[float] | np.ndarray, images: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
    """float64 [images], the sum of the values of each image, and how many there are; undefined ones left out."""
    places: dict[object, int] = {}
    sums: list[float] = []
    counts: list[int] = []
    for value, image in zip(np.asarray(values, np.float64), images, strict=True):
        if not np.isfinite(value):
            continue
        place = places.setdefault(image, len(places))
        if place == len(sums):
            sums.append(0.0)
            counts.append(0)
        sums[place] += float(value)
        counts[place] += 1
    return np.array(sums), np.array(counts, np.float64)


def _standard_error(sums: np.ndarray, counts: np.ndarray, value: float) -> float:
    if len(sums) < 2:
        return math.nan
    rest = sums - value * counts
    return float(np.sqrt(len(sums) / (len(sums) - 1) * (rest**2).sum()) / counts.sum())


def _interval(sums: np.ndarray, counts: np.ndarray, value: float, seed: int, draws: int) -> tuple[float, float]:
    """The studentised bootstrap interval of sum over count, images drawn with replacement."""
    n = len(sums)
    if n < FEW:
        return math.nan, math.nan
    error = _standard_error(sums, counts, value)
    if error == 0:
        return value, value
    generator = np.random.default_rng([seed, n])
    pivots = []
    for start in range(0, draws, chunk(n)):
        drawn = generator.integers(0, n, (min(chunk(n), draws - start), n))
        some, many = sums[drawn], counts[drawn]
        totals = many.sum(axis=1)
        means = some.sum(axis=1) / totals
        rest = some - means[:, None] * many
        errors = np.sqrt(n / (n - 1) * (rest**2).sum(axis=1)) / totals
        pivots.append((means - value)[errors > 0] / errors[errors > 0])
    return pivot_interval(np.concatenate(pivots), value, error, n, draws)


def pivot_interval(pivots: np.ndarray, value: float, error: float, n: int, draws: int) -> tuple[float, float]:
    """The studentised interval from the pivots of drawn sets, or Student's where too many of these have none.

    Args:
        pivots: (value of a drawn set - value) / its standard error, float64 [those that have one].
        value, error: of the set itself.
        n: how many images it has.
        draws: how many sets were drawn.
    """
    if len(pivots) < (1 - FLAT) * draws:
        return student(value, error, n)
    least = float(stdtrit(n - 1, 0.5 + LEVEL / 2))
    below, above = np.quantile(pivots, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # Few images with few distinct values make heavy tails of the pivot: no wider than three times Student's.
    above, below = min(float(above), 3 * least), max(float(below), -3 * least)
    return value - above * error, value - below * error


def _permutation(sums: np.ndarray, seed: int, draws: int) -> float:
    """Two-sided p of the sum under signs drawn for each image; (1 + as extreme) / (1 + draws)."""
    n, observed = len(sums), abs(sums.sum())
    if n == 0:
        return math.nan
    generator = np.random.default_rng([seed, n, 1])
    extreme = 0
    tolerance = 1e-12 * max(1.0, float(np.abs(sums).sum()))
    for start in range(0, draws, chunk(n)):
        signs = generator.integers(0, 2, (min(chunk(n), draws - start), n)) * 2 - 1
        extreme += int((np.abs(signs @ sums) >= observed - tolerance).sum())
    return (1 + extreme) / (1 + draws)


def chunk(n: int) -> int:
    """How many draws of ``n`` images are made at once."""
    return max(1, 2_000_000 // n)


def student(value: float, error: float, n: int) -> tuple[float, float]:
    """Student's interval of `LEVEL` of a mean over ``n`` images with its standard error."""
    reach = float(stdtrit(n - 1, 0.5 + LEVEL / 2)) * error
    return value - reach, value + reach


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    return np.isfinite(np.asarray(values, np.float64))


def wilson(value: float, n: float) -> tuple[float, float]:
    """Wilson's interval of `LEVEL` of a share of ``n`` independent questions."""
    z = float(ndtri(0.5 + LEVEL / 2))
    centre = (value + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _rounded(number: int) -> str:
    digits = max(0, len(str(number)) - 2)
    return f"{round(number, -digits):,} images"
