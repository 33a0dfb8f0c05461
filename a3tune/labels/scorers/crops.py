"""What a scorer is shown of a region: the region alone, as the method has it, or the region and its surroundings.

A3Tune shows BiomedCLIP the region on black, cut to its box (Focus on What Matters: A3Tune, ACL 2025). Such a crop has
lost size, place and neighbours, by which readers tell a cyst from bowel. A model that was trained for it can be shown
all three in the three channels of one picture, because radiology images are grey.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np

from a3tune.errors import LabelError
from a3tune.types import MedicalImage, Region

CropStyle = Literal["region", "surroundings"]
"""How a scorer's crops are made: see :func:`crop` and :func:`crop_with_surroundings`."""

VIEW_SIDE = 64
_CONTEXT = 2.5


def crop(image: MedicalImage, region: Region) -> np.ndarray:
    """The region on black, cut to its box: uint8 [box height, box width, 3]. The method's own crop.

    Raises:
        LabelError: the region is empty or belongs to an image of another size.
    """
    x, y, width, height = region.box
    window = np.s_[y : y + height, x : x + width]
    inside = _checked(image, region)[window]
    return image.pixels[window] * inside[:, :, None]


def crop_with_surroundings(image: MedicalImage, region: Region) -> np.ndarray:
    """Three grey views of a region as the channels of one square picture.

    First the region on black, its box made square; then a square around it of 2.5 times the box's longer side; last
    the whole image. In the second and third view the region's pixels have the upper half of the grey scale
    (128 + value / 2) and all others the lower half (value / 2), so that the outline shows whatever the brightness.
    What lies outside the image is black.

    Returns:
        uint8 [64, 64, 3].

    Raises:
        LabelError: the region is empty or belongs to an image of another size.
    """
    mask = _checked(image, region)
    grey = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
    x, y, width, height = region.box
    longest = max(width, height)
    centre = (x + width / 2, y + height / 2)
    marked = np.right_shift(grey.astype(np.uint8), 1) + mask.astype(np.uint8) * np.uint8(128)
    views = (
        _square(grey * mask, centre, longest),
        _square(marked, centre, max(_CONTEXT * longest, 8)),
        _square(marked, (image.width / 2, image.height / 2), max(image.height, image.width)),
    )
    return np.stack(views, axis=2)


CROPS: dict[CropStyle, Callable[[MedicalImage, Region], np.ndarray]] = {
    "region": crop,
    "surroundings": crop_with_surroundings,
}


def _checked(image: MedicalImage, region: Region) -> np.ndarray:
    if region.size != (image.height, image.width):
        raise LabelError(
            expected=f"a mask of {image.width} x {image.height} pixels, like the image",
            got=f"The mask has {region.size[1]} x {region.size[0]}",
            remedy="Use the regions of this image",
        )
    if not region.area:
        raise LabelError(expected="a region with at least one pixel", got="The region is empty", remedy="Leave it out")
    return region.mask


def _square(picture: np.ndarray, centre: tuple[float, float], side: float) -> np.ndarray:
    """A square part of uint8 [h, w] around a point, at ``VIEW_SIDE`` pixels; smoothed first where it shrinks."""
    left, top = round(centre[0] - side / 2), round(centre[1] - side / 2)
    size = max(1, round(side))
    right, bottom = left + size, top + size
    height, width = picture.shape
    part = picture[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    part = cv2.copyMakeBorder(
        part,
        max(-top, 0),
        max(bottom - height, 0),
        max(-left, 0),
        max(right - width, 0),
        cv2.BORDER_CONSTANT,
        value=0,
    )
    shrinks = size > VIEW_SIDE
    return cv2.resize(part, (VIEW_SIDE, VIEW_SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
