"""Stored pixels <-> source pixels: files keep the grid that the picture was stored in, the rest works on square pixels.

The two grids cover the same area. Going to square pixels, a mask's value is taken at each new pixel's centre; going
back, from the exact mean over each stored pixel's area. As the square grid is never the coarser one (but for pictures
at the limit of 64 megapixels), a mask that goes there and back comes out bit by bit.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from a3tune.encoding import finite
from a3tune.errors import RequestError
from a3tune.images.limits import MAX_PIXELS
from a3tune.types import MedicalImage, Region, ScoredRegion, WeakLabels

MAX_ASPECT = 50.0
"""Pixels that are longer than this many widths (or wider) are taken for a slip of the header and left as they are."""


def square_size(height: int, width: int, aspect: float) -> tuple[int, int]:
    """(height, width) of the grid of square pixels over a grid whose pixels are ``aspect`` times as high as wide.

    The finer direction is kept, and the other gets more pixels; only beyond ``MAX_PIXELS`` both get fewer.
    """
    if not math.isfinite(aspect) or not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
        return height, width
    rows, columns = (height * aspect, width) if aspect > 1 else (height, width / aspect)
    shrink = math.sqrt(min(1.0, MAX_PIXELS / (rows * columns)))
    # Rounded down where the limit rules, so that it holds.
    whole = math.floor if shrink < 1 else round
    size = max(1, whole(rows * shrink)), max(1, whole(columns * shrink))
    # A difference that the grid cannot show needs no resampling.
    return (height, width) if size == (height, width) else size


def resample(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [height, width, 3] on a grid of ``size`` over the same area, by linear interpolation."""
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))


def mask_to_source(mask: np.ndarray, image: MedicalImage, name: str = "The mask") -> np.ndarray:
    """A mask of the stored picture on the image's own pixels.

    Args:
        mask: bool [stored height, stored width].
        image: the image that it belongs to.
        name: what to call the mask in the error.

    Returns:
        bool [height, width], source pixel frame.

    Raises:
        RequestError: it has another size than the stored picture.
    """
    height, width = image.stored_size
    if mask.shape != (height, width):
        raise RequestError(
            expected=f"a mask of the size that the picture is stored in, {width} x {height} pixels",
            got=f"{name} has {mask.shape[1]} x {mask.shape[0]} pixels",
            remedy="Draw the mask on the image itself and save it in its size",
        )
    if not image.is_resampled:
        return mask
    return mask[np.ix_(_nearest(height, image.height), _nearest(width, image.width))]


def mask_to_stored(mask: np.ndarray, image: MedicalImage) -> np.ndarray:
    """A mask on the image's pixels, bool [height, width], on the stored grid: pixels covered by half or more.

    A mask too thin to cover half of any stored pixel keeps those that it covers most, so none becomes empty.
    """
    if not image.is_resampled:
        return mask
    share = map_to_stored(mask.astype(np.float64), image)
    return share >= max(min(0.5, share.max()) - 1e-9, 1e-9)


def map_to_stored(values: np.ndarray, image: MedicalImage) -> np.ndarray:
    """Values [height, width] on the image's pixels as exact area means, float64 [stored height, stored width]."""
    for axis, count in enumerate(image.stored_size):
        if values.shape[axis] != count:
            values = _area_mean(values, count, axis)
    return values


def boxes_to_stored(boxes: np.ndarray, image: MedicalImage) -> np.ndarray:
    """float [n, 4] corners (x0, y0, x1, y1) in source pixels, in stored pixels."""
    height, width = image.stored_size
    return boxes * np.tile([width / image.width, height / image.height], 2)


def labels_to_stored(labels: WeakLabels, image: MedicalImage) -> WeakLabels:
    """The labels with masks and boxes on the stored grid."""
    if not image.is_resampled:
        return labels
    regions = [replace(item, region=_region_to_stored(item.region, image)) for item in labels.regions]
    return replace(labels, regions=tuple(regions))


def image_record(image: MedicalImage) -> dict[str, Any]:
    """The image as plain JSON values for a record whose boxes, masks and maps are in stored pixels.

    ``width`` and ``height`` are the stored grid, ``shown`` the grid that the model and the page have (equal but for
    pixels that are not square), ``spacing`` the stored pixels' distances (row, column) in millimetres, ``convention``
    that by which the model was given another picture than the one that is shown.
    """
    height, width = image.stored_size
    return {
        "width": width,
        "height": height,
        "coordinates": "stored pixels",
        "shown": {"width": image.width, "height": image.height},
        "spacing": list(image.spacing) if image.spacing else None,
        "sha256": image.sha256,
        "format": image.format,
        "modality": image.modality,
        "window": list(image.window) if image.window else None,
        "convention": image.convention,
        "frame": image.frame,
        "notes": list(image.notes),
    }


def _region_to_stored(region: Region, image: MedicalImage) -> Region:
    mask = mask_to_stored(region.mask, image)
    return Region(mask, None, region.predicted_iou, region.stability_score)


def _nearest(old: int, new: int) -> np.ndarray:
    """For each of ``new`` pixels over the same length the one of ``old`` that holds its centre."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def _area_mean(values: np.ndarray, count: int, axis: int) -> np.ndarray:
    values = np.moveaxis(values, axis, 0)
    total = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0, dtype=np.float64)])
    edges = np.linspace(0, len(values), count + 1)
    below = np.minimum(edges.astype(int), len(values) - 1)
    # The running sum between two pixel edges grows in proportion.
    at = total[below] + (total[below + 1] - total[below]) * (edges - below)[:, None]
    return np.moveaxis(np.diff(at, axis=0) * (count / len(values)), 0, axis)


def region_record(item: ScoredRegion) -> dict[str, Any]:
    """What files tell of a region that was ranked, as plain JSON values; its box as XYWH in the region's frame."""
    return {
        "box": list(item.region.box),
        "area": item.region.area,
        "score": finite(item.score),
        "rank": item.rank,
        "weight": finite(item.weight),
        "phrase": item.phrase,
    }
