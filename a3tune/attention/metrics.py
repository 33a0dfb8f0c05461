"""Numbers that say where a map looks: attention mass in a target, pointing game, overlap, entropy.

Every function takes non-negative ``weights`` [..., patches] (one map, maps per head [layers, heads, patches], ...)
and, where a target is asked for, its ``coverage`` [patches], 0 to 1: the share of each patch that the target covers
(see :func:`a3tune.geometry.patch_grid.to_patches`). They work in any flattened frame: a map and a mask in source
pixels do as well, and are the better choice where tiles of patches overlap and patches differ in size.

A number that is not defined is NaN, never a made-up 0: on a map without any weight, or for a target that no patch
shows. Nothing here warns or raises for such maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from a3tune.attention.critical_heads import head_maps, head_set_map
from a3tune.errors import RequestError
from a3tune.types import AttentionMaps, Head

ThresholdRule = Literal["maximum", "quantile", "area"]


def attention_mass(weights: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Share of a map's weight that falls inside the target: ``sum_j w_j c_j / sum_j w_j``.

    This is the ratio that A3Tune (ACL 2025) aligns in its mass loss, and the "energy-based pointing game" of
    Wang et al., "Score-CAM", CVPR Workshops 2020.

    Args:
        weights: float [..., patches].
        coverage: float or bool [patches], 0 to 1.

    Returns:
        float64 [...], 0 to 1; NaN for a map without weight and for an empty target.
    """
    weights, coverage = _checked(weights, coverage)
    if not coverage.any():
        return np.full(weights.shape[:-1], np.nan)
    return _divide(weights @ coverage, weights.sum(axis=-1))


def relative_mass(weights: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Attention mass in the target over the mass that a uniform map would have there: 1 is chance level.

    ``attention_mass / mean_j c_j``: comparable between small and large targets.

    Args, Returns: as :func:`attention_mass`, but 0 to patches / covered patches.
    """
    weights, coverage = _checked(weights, coverage)
    return _divide(attention_mass(weights, coverage), coverage.mean())


def pointing_game(weights: np.ndarray, coverage: np.ndarray, inside: float = 0.5) -> np.ndarray:
    """Whether the map's highest point lies in the target: 1 hit, 0 miss.

    Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016 (IJCV 2018); the mean over items is
    the pointing accuracy. Two choices are made for patches: a patch lies in the target when its coverage is at least
    ``inside`` times the highest coverage of any patch (so that targets smaller than a patch can be hit), and when n
    patches share the maximum, the result is the share of them that lie inside (the expected hit rate of a random
    choice among them, so a flat map earns no luck from the order of patches).

    Args:
        weights: float [..., patches].
        coverage: float or bool [patches], 0 to 1.
        inside: above 0, at most 1.

    Returns:
        float64 [...], 0 to 1; NaN for a map without weight and for an empty target.
    """
    weights, coverage = _checked(weights, coverage)
    target = target_patches(coverage, inside)
    highest = weights.max(axis=-1, keepdims=True)
    at_maximum = (weights == highest) & (highest > 0)
    hits = (at_maximum & target).sum(axis=-1)
    return _divide(hits, at_maximum.sum(axis=-1)) if target.any() else np.full(weights.shape[:-1], np.nan)


def intersection_over_union(
    weights: np.ndarray,
    coverage: np.ndarray,
    threshold: float = 0.5,
    rule: ThresholdRule = "maximum",
    inside: float = 0.5,
) -> np.ndarray:
    """Overlap of the map's bright patches with the target's patches: |bright and target| / |bright or target|.

    Bright patches are chosen by ``rule``:

    * ``"maximum"``: weight at least ``threshold`` times the map's maximum, as in the localisation protocol of Zhou et
      al., "Learning Deep Features for Discriminative Localization", CVPR 2016 (who take 0.2);
    * ``"quantile"``: the ``threshold`` share of patches with the highest weights (at least one);
    * ``"area"``: as many of the highest patches as the target has, which needs no threshold (``threshold`` unused).

    Under the last two a tie at the border brings all tied patches in. Since the result depends on the threshold
    (Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", CVPR 2020), report it with it.

    Args:
        weights: float [..., patches].
        coverage: float or bool [patches], 0 to 1.
        threshold: above 0, at most 1.
        rule: see above.
        inside: which patches count as the target's, as in :func:`pointing_game`.

    Returns:
        float64 [...], 0 to 1; NaN for a map without weight and for an empty target.

    Raises:
        RequestError: an unknown rule, or a threshold out of range.
    """
    weights, coverage = _checked(weights, coverage)
    _check_share("threshold", threshold)
    target = target_patches(coverage, inside)
    if not target.any():
        return np.full(weights.shape[:-1], np.nan)
    if rule == "maximum":
        cut = threshold * weights.max(axis=-1, keepdims=True)
    elif rule in ("quantile", "area"):
        patches = weights.shape[-1]
        count = int(target.sum()) if rule == "area" else max(1, round(threshold * patches))
        cut = np.partition(weights, patches - count, axis=-1)[..., patches - count, None]
    else:
        raise RequestError(
            expected='a rule out of "maximum", "quantile" and "area"',
            got=f"The threshold rule is {rule!r}",
            remedy="Choose one of these",
        )
    bright = (weights >= cut) & (weights > 0)
    overlap = _divide((bright & target).sum(axis=-1), (bright | target).sum(axis=-1))
    return np.where(weights.sum(axis=-1) > 0, overlap, np.nan)


def area_under_curve(weights: np.ndarray, coverage: np.ndarray, inside: float = 0.5) -> np.ndarray:
    """How well a map's values part the target's patches from the others: the area under the ROC curve, 0.5 by chance.

    The share of pairs of one patch in the target and one outside in which the first has the higher weight, ties
    counting half (Mann and Whitney 1947): free of any threshold.

    Args:
        weights: float [..., patches].
        coverage: float or bool [patches], 0 to 1.
        inside: which patches count as the target's, as in :func:`pointing_game`.

    Returns:
        float64 [...], 0 to 1; NaN for a map without weight, for an empty target and for one that fills the image.
    """
    weights, coverage = _checked(weights, coverage)
    target = target_patches(coverage, inside)
    if not target.any() or target.all():
        return np.full(weights.shape[:-1], np.nan)
    others = np.sort(weights[..., ~target], axis=-1).reshape(-1, int((~target).sum()))
    chosen = weights[..., target].reshape(-1, int(target.sum()))
    wins = [
        (np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")).sum() / 2
        for low, high in zip(others, chosen, strict=True)
    ]
    pairs = np.where(weights.sum(axis=-1) > 0, others.shape[1] * chosen.shape[1], 0)
    return _divide(np.array(wins, np.float64).reshape(weights.shape[:-1]), pairs)


def normalised_entropy(weights: np.ndarray) -> np.ndarray:
    """How spread out a map is: Shannon entropy over its maximum, 0 (one patch) to 1 (uniform).

    ``-sum_j p_j log p_j / log n`` with ``p_j = w_j / sum w`` (Pielou's evenness, 1966). With one patch it is 0.

    Args:
        weights: float [..., patches].

    Returns:
        float64 [...], 0 to 1; NaN for a map without weight.
    """
    weights = np.asarray(weights, dtype=np.float64)
    share = _divide(weights, weights.sum(axis=-1, keepdims=True))
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    scale = np.log(weights.shape[-1]) if weights.shape[-1] > 1 else 1.0
    # Rounding may leave 1 + 1e-16, and the sum of one patch is -0.0; NaN passes through.
    return np.clip(-(share * logs).sum(axis=-1) / scale, 0.0, 1.0) + 0.0


def target_patches(coverage: np.ndarray, inside: float = 0.5) -> np.ndarray:
    """The patches that count as the target's: coverage at least ``inside`` times the highest coverage.

    Args:
        coverage: float or bool [..., patches], 0 to 1.
        inside: above 0, at most 1.

    Returns:
        bool [..., patches]; all False for an empty target.

    Raises:
        RequestError: ``inside`` is out of range.
    """
    _check_share("inside", inside)
    coverage = np.asarray(coverage, dtype=np.float64)
    return (coverage > 0) & (coverage >= inside * coverage.max(axis=-1, keepdims=True))


def measure(weights: np.ndarray, coverage: np.ndarray | None = None, threshold: float = 0.5) -> dict[str, np.ndarray]:
    """All the numbers of this module at once, for one map or many.

    Args:
        weights: float [..., patches].
        coverage: float or bool [patches], 0 to 1, or None when no target is known.
        threshold: for the overlap, as a share of each map's maximum.

    Returns:
        float64 [...] under "entropy", and with a target "attention_mass", "relative_mass", "pointing_game", "iou"
        (at ``threshold``), "iou_area" (as many patches as the target has), "area_under_curve" and "touched_mass": the
        attention mass when every patch that the target touches counts whole. A map cannot be finer than its patches:
        of a structure smaller than a patch, "attention_mass" counts most as outside.
    """
    numbers = {"entropy": normalised_entropy(weights)}
    if coverage is not None:
        numbers["attention_mass"] = attention_mass(weights, coverage)
        numbers["relative_mass"] = relative_mass(weights, coverage)
        numbers["pointing_game"] = pointing_game(weights, coverage)
        numbers["iou"] = intersection_over_union(weights, coverage, threshold)
        numbers["iou_area"] = intersection_over_union(weights, coverage, rule="area")
        numbers["area_under_curve"] = area_under_curve(weights, coverage)
        numbers["touched_mass"] = attention_mass(weights, np.asarray(coverage) > 0)
    return numbers


def measure_heads(
    maps: AttentionMaps,
    coverage: np.ndarray | None = None,
    rows: Sequence[int] | np.ndarray | None = None,
    threshold: float = 0.5,
) -> dict[str, np.ndarray]:
    """:func:`measure` for every head by itself, on its mean over the chosen rows.

    Args:
        maps: attention of one sequence.
        coverage, threshold: as :func:`measure`.
        rows: indices on the row axis or a bool mask; all rows when None.

    Returns:
        float64 [layers, heads] per name.

    Raises:
        RequestError: no row is chosen, or one does not exist.
    """
    every = [Head(layer, head) for layer in range(maps.layers) for head in range(maps.heads)]
    weights = head_maps(maps, every, rows).reshape(maps.layers, maps.heads, -1)
    return measure(weights, coverage, threshold)


def measure_head_set(
    maps: AttentionMaps,
    heads: Sequence[Head],
    coverage: np.ndarray | None = None,
    rows: Sequence[int] | np.ndarray | None = None,
    threshold: float = 0.5,
) -> dict[str, float]:
    """:func:`measure` for a head set, on its mean map, plus its mean share of attention on the image.

    Args:
        maps, coverage, rows, threshold: as :func:`measure_heads`.
        heads: the head set.

    Returns:
        Plain floats; those of :func:`measure` and "image_share". NaN where a number is not defined.

    Raises:
        RequestError: no head or row is chosen, or one does not exist.
    """
    weights = head_set_map(maps, heads, rows)
    numbers = {name: float(value) for name, value in measure(weights, coverage, threshold).items()}
    numbers["image_share"] = float(weights.sum(dtype=np.float64))
    return numbers


def _checked(weights: np.ndarray, coverage: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weights, coverage = np.asarray(weights, dtype=np.float64), np.asarray(coverage, dtype=np.float64)
    if coverage.ndim != 1 or weights.ndim == 0 or weights.shape[-1:] != coverage.shape or coverage.size == 0:
        raise RequestError(
            expected="a target with one coverage for each patch of the map",
            got=f"The map has shape {weights.shape} and the target {coverage.shape}",
            remedy="Bring the mask to the map's own patch grid first",
        )
    return weights, coverage


def _check_share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise RequestError(
            expected=f"{name} above 0 and at most 1", got=f"{name} is {value}", remedy="Choose a share, such as 0.5"
        )


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    numerator, denominator = np.broadcast_arrays(
        np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    )
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
