"""Does a map say what the answer rests on? The arithmetic of two checks; the passes of the model are made elsewhere.

Deletion and insertion (Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC
2018): patches are hidden, or shown, in the order of the map, and the probability of the answer is followed. A map that
marks what the answer rests on makes it fall fast (small area under the deletion curve) and rise fast (large area under
the insertion curve), compared with patches in random order.

Randomised weights (Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018): a map that stays the same when
what the model has learnt is destroyed does not depend on it. Likeness is Spearman's rank correlation.
"""

from __future__ import annotations

import numpy as np

from a3tune.errors import RequestError


def patch_order(weights: np.ndarray) -> np.ndarray:
    """The patches from the highest weight to the lowest; equal ones keep their order.

    Args:
        weights: float [patches].

    Returns:
        int64 [patches].
    """
    return np.argsort(-np.asarray(weights, dtype=np.float64), kind="stable")


def curve_shares(steps: int) -> np.ndarray:
    """The shares of patches at which a curve is read: ``steps`` equal steps from 0 to 1, float64 [steps + 1].

    Raises:
        RequestError: fewer than two steps.
    """
    if steps < 2:
        raise RequestError(expected="at least two steps", got=f"{steps} were asked for", remedy="Choose 10 or so")
    return np.linspace(0.0, 1.0, steps + 1)


def first_patches(order: np.ndarray, share: float) -> np.ndarray:
    """The first patches of an order, rounded to whole patches.

    Args:
        order: int [patches], every patch once.
        share: 0 to 1.

    Returns:
        bool [patches].
    """
    chosen = np.zeros(len(order), dtype=bool)
    chosen[order[: round(share * len(order))]] = True
    return chosen


def area_under(shares: np.ndarray, values: np.ndarray) -> float:
    """Area under a curve by the trapezoid rule, over shares from 0 to 1.

    Args:
        shares, values: float [points] each, shares ascending.
    """
    shares, values = np.asarray(shares, dtype=np.float64), np.asarray(values, dtype=np.float64)
    return float(((values[1:] + values[:-1]) / 2 * np.diff(shares)).sum())


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation of two maps, -1 to 1; NaN where one of them is the same everywhere.

    Args:
        one, other: float [patches]; equal values share the mean of their ranks.
    """
    first, second = _ranks(one), _ranks(other)
    first, second = first - first.mean(), second - second.mean()
    spread = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / spread) if spread > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[place.reshape(-1)]
