"""What every segmenter hands out, and the small store that keeps an image's embedding at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def region_from_mask(
    mask: np.ndarray, *, predicted_iou: float | None = None, stability_score: float | None = None
) -> Region | None:
    """A region whose box is the tightest around ``mask`` (bool [height, width]); None for an empty mask."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    box = (x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1)
    return Region(np.asarray(mask, dtype=bool), box, predicted_iou, stability_score)


def pack_regions(regions: Sequence[Region], height: int, width: int) -> dict[str, Any]:
    """Regions of one image as arrays for an .npz file, each mask's pixels as bits."""
    bits = np.zeros((len(regions), -(-height * width // 8)), dtype=np.uint8)
    for row, region in zip(bits, regions, strict=True):
        row[:] = np.packbits(region.mask.ravel())
    quality = [(region.predicted_iou, region.stability_score) for region in regions]
    return {
        "shape": np.array([height, width], dtype=np.int64),
        "masks": bits,
        "quality": np.array(quality, dtype=np.float64).reshape(-1, 2),
    }


def unpack_regions(entry: Mapping[str, np.ndarray], image: MedicalImage) -> tuple[Region, ...]:
    """What `pack_regions` packed, each box drawn tightly around its mask; files without "quality" are read too.

    Raises:
        ValueError: it belongs to an image of another size, or a mask is empty.
        KeyError: an array is missing.
    """
    shape = (image.height, image.width)
    if tuple(entry["shape"]) != shape:
        raise ValueError("the entry belongs to an image of another size")
    packed = entry["masks"]
    masks = np.unpackbits(packed, axis=1, count=image.height * image.width).astype(bool).reshape(-1, *shape)
    quality = entry["quality"] if "quality" in entry else np.full((len(packed), 2), np.nan)
    regions = []
    for mask, numbers in zip(masks, quality, strict=True):
        predicted, stability = (None if np.isnan(number) else float(number) for number in numbers)
        region = region_from_mask(mask, predicted_iou=predicted, stability_score=stability)
        if region is None:
            raise ValueError("a mask is empty")
        regions.append(region)
    return tuple(regions)


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
