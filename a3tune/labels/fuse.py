"""From ranked regions to one target: their union, or a soft one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from a3tune.errors import LabelError
from a3tune.types import Region, ScoredRegion


def union_mask(regions: Sequence[Region | ScoredRegion]) -> np.ndarray:
    """bool [height, width]: the pixels that lie in any of the regions."""
    masks = _masks(regions)
    return np.logical_or.reduce(masks)


def soft_target(regions: Sequence[ScoredRegion], height: int, width: int) -> np.ndarray:
    """A target whose pixels weigh as much as the regions that hold them.

    Each pixel gets the softmax weights of its regions, summed and divided by the sum over all given
    regions: 1 where all of them agree, 0 outside, so that a single region gives its own mask.

    Returns:
        float32 [height, width], 0 to 1.
    """
    target = np.zeros((height, width), dtype=np.float64)
    total = sum(scored.weight for scored in regions)
    if total <= 0:
        return target.astype(np.float32)
    for mask, scored in zip(_masks(regions), regions, strict=True):
        target += mask * (scored.weight / total)
    return target.clip(0.0, 1.0).astype(np.float32)


def _masks(regions: Sequence[Region | ScoredRegion]) -> list[np.ndarray]:
    if not regions:
        raise LabelError(expected="at least one region", got="No region was chosen", remedy="Switch a region on")
    masks = [entry.region.mask if isinstance(entry, ScoredRegion) else entry.mask for entry in regions]
    if len({mask.shape for mask in masks}) > 1:
        raise LabelError(
            expected="regions of one image",
            got=f"The masks have different sizes: {sorted({mask.shape for mask in masks})}",
            remedy="Use the regions of a single image",
        )
    return masks
