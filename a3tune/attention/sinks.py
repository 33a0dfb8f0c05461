"""Attention sinks among the patches: tokens that draw weight in every row, whatever the words are about.

Transformers park attention they have no use for on a few tokens (Xiao et al., "Efficient Streaming Language Models
with Attention Sinks", ICLR 2024); among image tokens these are often background or border patches that carry no
content (Darcet et al., "Vision Transformers Need Registers", ICLR 2024; Kang et al., "See What You Are Told: Visual
Attention Sink in Large Multimodal Models", ICLR 2025, who find them by massive hidden activations). They outshine
what a word really looks at. The way here needs nothing but the maps, so it works for every model: a sink is a patch
whose mean weight over all rows and heads is an outlier *and* that stands high in most rows by itself. A patch that a
few words look at strongly meets the first condition but not the second.

Suppression is for display. It is never applied unasked, and metrics are computed on the raw maps.
"""

from __future__ import annotations

import numpy as np

from a3tune.errors import RequestError
from a3tune.types import AttentionMaps, PatchGrid

# The median absolute deviation of a normal distribution is its standard deviation over this.
_DEVIATION_SCALE = 1.4826


def find_sinks(maps: AttentionMaps, deviations: float = 6.0, constancy: float = 0.9) -> np.ndarray:
    """The patches that draw attention regardless of the word.

    Per patch, w is its weight averaged over all heads: one number for each row. A patch is a sink when

    1. the mean of w over all rows lies more than ``deviations`` robust standard deviations above the median patch
       (median absolute deviation x 1.4826; never below a tenth of the median, so that an almost flat map has no
       outliers), and
    2. in at least ``constancy`` of the rows, w is at least twice that row's median over the patches.

    With fewer than two rows constancy cannot be told, and no patch is a sink.

    Args:
        maps: attention of one sequence, all rows and heads.
        deviations: above 0; lower finds more.
        constancy: above 0, at most 1; lower finds more.

    Returns:
        bool [patches].

    Raises:
        RequestError: a threshold is out of range.
    """
    if not (deviations > 0 and 0 < constancy <= 1):
        raise RequestError(
            expected="deviations above 0 and a constancy above 0 and at most 1",
            got=f"deviations is {deviations} and constancy {constancy}",
            remedy="Leave both out for the defaults",
        )
    rows = maps.weights.mean(axis=(0, 1), dtype=np.float64)
    if len(rows) < 2 or rows.shape[1] == 0:
        return np.zeros(rows.shape[1], bool)
    means = rows.mean(axis=0)
    middle = np.median(means)
    spread = max(_DEVIATION_SCALE * np.median(np.abs(means - middle)), 0.1 * middle)
    outlier = means > middle + deviations * spread
    high = rows >= 2 * np.median(rows, axis=1, keepdims=True)
    # A row without any weight on the image says nothing; it counts against no patch and for none.
    told = rows.any(axis=1)
    constant = high[told].mean(axis=0) >= constancy if told.any() else np.zeros(rows.shape[1], bool)
    return outlier & constant


def surroundings(sinks: np.ndarray, grid: PatchGrid) -> dict[int, tuple[int, ...]]:
    """The patches that a sink is filled in from where sinks are suppressed: it takes their median.

    These are the up to eight patches around it in its tile that are no sinks, from the nearest ring that has any; none
    in a tile of sinks only, and for row separators, where a sink becomes 0. The weight removed is not given to other
    patches: the map sums to less than the raw one, by as much as the sinks held above their surroundings.

    Args:
        sinks: bool [patches] from :func:`find_sinks`.
        grid: where the patches lie, for who is whose neighbour.

    Returns:
        For each sink the patches around it, both ascending.

    Raises:
        RequestError: the grid has another number of patches.
    """
    sinks = np.asarray(sinks, dtype=bool)
    if sinks.shape != (grid.count,):
        raise RequestError(
            expected=f"sinks among the grid's {grid.count} patches",
            got=f"The sinks have shape {sinks.shape}",
            remedy="Use the patch grid that belongs to the maps",
        )
    found: dict[int, tuple[int, ...]] = {int(patch): () for patch in np.flatnonzero(sinks)}
    for tile in grid.tiles:
        index = tile.start + np.arange(tile.rows * tile.columns).reshape(tile.rows, tile.columns)
        for row, column in np.argwhere(sinks[index]):
            for reach in range(1, max(tile.rows, tile.columns)):
                ring = index[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
                around = ring[~sinks[ring]]
                if around.size:
                    found[int(index[row, column])] = tuple(around.tolist())
                    break
    return found
