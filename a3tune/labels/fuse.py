"""From ranked regions to one target: selection, union, overlap removal, soft weights, patches.

Everything here is a pure function of numpy arrays and the shared value objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from PIL import Image

from a3tune.errors import LabelError, RequestError
from a3tune.geometry.patch_grid import to_patches
from a3tune.labels.segmenters.segmentation import mask_iou, region_from_mask
from a3tune.types import PatchGrid, Region, ScoredRegion, WeakLabels


def top_k(labels: WeakLabels, k: int) -> tuple[ScoredRegion, ...]:
    """The k best regions, best first; all of them when there are fewer.

    Raises:
        RequestError: k is below 1.
    """
    if k < 1:
        raise RequestError(expected="at least 1 region to keep", got=f"k is {k}", remedy="Choose 1 or more")
    return labels.regions[:k]


def union(regions: Sequence[Region | ScoredRegion]) -> np.ndarray:
    """bool [height, width]: the pixels that lie in any of the regions."""
    masks = _masks(regions)
    return np.logical_or.reduce(masks)


def remove_overlap(
    regions: Sequence[ScoredRegion], *, mode: Literal["pixels", "regions"] = "pixels", iou: float = 0.5
) -> tuple[ScoredRegion, ...]:
    """Let better ranked regions win where regions overlap.

    Args:
        regions: ranked regions, best first.
        mode: "pixels": a region loses the pixels that a better one holds, and goes when none are left;
            "regions": a region goes whole when its IoU with a better one reaches ``iou``.
        iou: the limit for "regions", 0 to 1.
    """
    kept: list[ScoredRegion] = []
    taken: np.ndarray | None = None
    for scored in regions:
        mask = scored.region.mask
        if mode == "regions":
            if all(mask_iou(mask, other.region.mask) < iou for other in kept):
                kept.append(scored)
            continue
        rest = mask if taken is None else mask & ~taken
        taken = mask if taken is None else taken | mask
        if rest.any():
            kept.append(scored if rest is mask else _with_mask(scored, rest))
    return tuple(kept)


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


def patch_targets(
    target: np.ndarray, grid: PatchGrid, *, mode: Literal["area", "nearest"] = "area", normalize: bool = False
) -> np.ndarray:
    """Bring a target in source pixels to the image tokens of a model.

    Args:
        target: bool or float [height, width], source pixel frame.
        grid: where each patch lies in the image.
        mode: "area" averages over each patch's own area, "nearest" samples its centre.
        normalize: scale the result to sum 1, as a distribution over the patches.

    Returns:
        float32 [patches].

    Raises:
        LabelError: ``normalize`` was asked for and the target reaches no patch.
    """
    values = to_patches(np.asarray(target, dtype=np.float32), grid, mode=mode)
    if not normalize:
        return values
    total = float(values.sum())
    if total <= 0:
        raise LabelError(
            expected="a target that reaches at least one image token",
            got="The target is empty on the model's patches",
            remedy='Choose a larger region, or the mode "area", which keeps thin regions',
        )
    return (values / total).astype(np.float32)


def sampled_target(mask: np.ndarray, side: int) -> np.ndarray:
    """The method's own way from mask to target, for parity: one sampled pixel per cell, no average.

    The mask is resized to 224 x 224 and then to side x side, both to the nearest pixel, by Pillow, whose
    rounding decides which pixel is read (A3Tune, ACL 2025: 16 cells for CLIP at 224, 24 at 336). It takes
    a 256 x 256 mask; structures thinner than a cell may vanish.

    Args:
        mask: bool [height, width].
        side: cells along one side.

    Returns:
        float32 [side, side], 0 or 1.
    """
    image = Image.fromarray(np.asarray(mask, dtype=np.uint8) * 255)
    image = image.resize((224, 224), Image.Resampling.NEAREST).resize((side, side), Image.Resampling.NEAREST)
    return (np.asarray(image) > 0).astype(np.float32)


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


def _with_mask(scored: ScoredRegion, mask: np.ndarray) -> ScoredRegion:
    old = scored.region
    region = region_from_mask(mask, predicted_iou=old.predicted_iou, stability_score=old.stability_score)
    return replace(scored, region=region)
