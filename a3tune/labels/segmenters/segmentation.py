"""What every segmenter hands out, and the small store that keeps an image's embedding at hand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np

from a3tune.errors import LabelError
from a3tune.types import MedicalImage, Region

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The regions that one segmenter found in one image, before any filter.

    Attributes:
        regions: regions in the order of the segmenter, masks in source pixels.
        segmenter: display name of the segmenter.
        height, width: size of the image in pixels.
        notes: what happened on the way, in words.
    """

    regions: tuple[Region, ...]
    segmenter: str
    height: int
    width: int
    notes: tuple[str, ...] = field(default=())


@runtime_checkable
class Segmenter(Protocol):
    """Finds regions in an image: all of them, or the one inside a box.

    Attributes:
        name: display name.
        digest: changes whenever the weights change.
        parameters: every setting that changes the regions, as a flat dict of plain values.
    """

    name: str
    digest: str

    @property
    def parameters(self) -> dict[str, object]: ...

    def segment(self, image: MedicalImage) -> Segmentation: ...

    def segment_box(self, image: MedicalImage, box: Box) -> Region:
        """The region inside a box that was drawn by hand.

        Args:
            image: the image.
            box: (x, y, width, height) in source pixels, exclusive edges; cut to the image.

        Raises:
            LabelError: the box lies outside, or nothing in it stands out.
        """
        ...

    def forget(self, sha256: str) -> None:
        """Drop what is kept in memory of the image with this digest; not while it is being segmented."""
        ...


def region_from_mask(
    mask: np.ndarray,
    *,
    predicted_iou: float | None = None,
    stability_score: float | None = None,
    size: tuple[int, int] | None = None,
) -> Region | None:
    """A region whose box is the tightest around ``mask``; None for an empty mask.

    Args:
        mask: bool [h, w] on the source pixels, or on a coarser grid over the same area.
        size: (height, width) of the image in source pixels; that of the mask when None.
    """
    region = Region(np.asarray(mask, dtype=bool), None, predicted_iou, stability_score, size)
    return region if region.place[2] else None


def pack_regions(regions: Sequence[Region], height: int, width: int) -> dict[str, Any]:
    """Regions of one image as arrays for an .npz file, pixels as bits: ``masks``, a row for each whole mask, or where
    one is drawn on a coarser grid ``bits`` within the boxes, one after the other, and ``places`` (x, y, width, height,
    grid height, grid width) of the boxes."""
    shape = (height, width)
    quality = [(region.predicted_iou, region.stability_score) for region in regions]
    arrays = {
        "shape": np.array(shape, dtype=np.int64),
        "quality": np.array(quality, dtype=np.float64).reshape(-1, 2),
    }
    if any(region.grid != shape for region in regions):
        places = np.array([(*region.place, *region.grid) for region in regions], dtype=np.int64)
        return arrays | {"bits": np.concatenate([region.bits for region in regions]), "places": places}
    bits = np.zeros((len(regions), -(-height * width // 8)), dtype=np.uint8)
    for row, region in zip(bits, regions, strict=True):
        row[:] = np.packbits(region.mask)
    return arrays | {"masks": bits}


def unpack_regions(entry: Mapping[str, np.ndarray], image: MedicalImage) -> tuple[Region, ...]:
    """What `pack_regions` packed, each box drawn tightly around its mask; files without "quality" are read too.

    Raises:
        ValueError: it belongs to an image of another size, a mask is empty, or a box lies outside.
        KeyError: an array is missing.
    """
    shape = (image.height, image.width)
    if tuple(entry["shape"]) != shape:
        raise ValueError("the entry belongs to an image of another size")
    masks = _whole_masks(entry["masks"], shape) if "masks" in entry else _placed_masks(entry["bits"], entry["places"])
    count = len(entry["masks"] if "masks" in entry else entry["places"])
    quality = entry["quality"] if "quality" in entry else np.full((count, 2), np.nan)
    regions = []
    for mask, numbers in zip(masks, quality, strict=True):
        if any(found > own for found, own in zip(mask.shape, shape, strict=True)):
            raise ValueError("a mask is finer than the image")
        predicted, stability = (None if np.isnan(number) else float(number) for number in numbers)
        region = region_from_mask(mask, predicted_iou=predicted, stability_score=stability, size=shape)
        if region is None:
            raise ValueError("a mask is empty")
        regions.append(region)
    return tuple(regions)


def _whole_masks(packed: np.ndarray, shape: tuple[int, int]) -> Iterator[np.ndarray]:
    if packed.ndim != 2 or packed.shape[1] != -(-math.prod(shape) // 8):
        # Bits that are not there would be read as outside.
        raise ValueError("the masks are cut short")
    for row in packed:
        yield np.unpackbits(row, count=math.prod(shape)).astype(bool).reshape(shape)


def _placed_masks(bits: np.ndarray, places: np.ndarray) -> Iterator[np.ndarray]:
    start = 0
    for x, y, width, height, grid_height, grid_width in places.tolist():
        if not (x >= 0 and y >= 0 and x + width <= grid_width and y + height <= grid_height):
            raise ValueError("a box lies outside its image")
        end = start + -(-width * height // 8)
        if end > len(bits):
            raise ValueError("the masks are cut short")
        mask = np.zeros((grid_height, grid_width), dtype=bool)
        part = np.unpackbits(bits[start:end], count=width * height).astype(bool).reshape(height, width)
        mask[y : y + height, x : x + width] = part
        start = end
        yield mask


def mask_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two bool masks of one shape; 0 when both are empty."""
    either = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / either if either else 0.0


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest 8-connected part of a bool mask, its holes kept; the mask itself when it has one part."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    return labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())


def check_box(box: Box, height: int, width: int) -> Box:
    """A drawn box (x, y, width, height) in source pixels, exclusive edges, cut to the image.

    Raises:
        LabelError: the box has no pixel in the image.
    """
    try:
        x, y, box_width, box_height = (int(value) for value in box)
    except (TypeError, ValueError, OverflowError) as error:
        raise LabelError(
            expected="a box as four numbers x, y, width, height in pixels",
            got=f"The box is {box!r}",
            remedy="Draw the box again",
        ) from error
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + box_width, width), min(y + box_height, height)
    if right <= left or bottom <= top:
        raise LabelError(
            expected=f"a box with at least one pixel inside the image of {width} x {height}",
            got=f"The box x {x}, y {y}, width {box_width}, height {box_height} lies outside or is empty",
            remedy="Draw the box over the image",
        )
    return left, top, right - left, bottom - top


def check_contrast(image: MedicalImage) -> None:
    """Refuse an image in which nothing can be told apart.

    Raises:
        LabelError: every pixel has the same value.
    """
    if image.pixels.min() == image.pixels.max():
        raise LabelError(
            expected="an image with visible structures",
            got=f"Every pixel of the image has the same value ({int(image.pixels.flat[0])})",
            remedy="Check the file, the frame and the grey-value window",
        )


def region_in_box(region: Region | None, box: Box) -> Region:
    """What was found in a box that was drawn by hand.

    Raises:
        LabelError: nothing.
    """
    if region is None:
        x, y, width, height = box
        raise LabelError(
            expected="a box around one structure",
            got=f"Nothing stands out in the box x {x}, y {y}, width {width}, height {height}",
            remedy="Draw the box closer around the structure",
        )
    return region
