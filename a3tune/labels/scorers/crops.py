"""What a scorer is shown of a region: the region alone, as the method has it, or the region and its surroundings.

A3Tune shows BiomedCLIP the region on black, cut to its box (Focus on What Matters: A3Tune, ACL 2025). Such a crop has
lost size, place and neighbours, by which readers tell a cyst from bowel. A model that was trained for it can be shown
all three in the three channels of one picture, because radiology images are grey.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import cv2
import numpy as np

from a3tune.errors import LabelError
from a3tune.labels.segmenters.working_size import region_at, working_image
from a3tune.types import MedicalImage, Region

CropStyle = Literal["region", "surroundings"]
"""How a scorer's crops are made: see :func:`crop` and :func:`crop_with_surroundings`."""

VIEW_SIDE = 64
OVERVIEW_SIDE = 512
"""Longer side in pixels of the copy of an image from which wide views are taken."""
_CONTEXT = 2.5


def crop(image: MedicalImage, region: Region) -> np.ndarray:
    """The region on black, cut to its box: uint8 [box height, box width, 3]. The method's own crop.

    Raises:
        LabelError: the region is empty or belongs to an image of another size.
    """
    _check(image, region)
    x, y, width, height = region.box
    window = np.s_[y : y + height, x : x + width]
    return image.pixels[window] * region.mask[window][:, :, None]


def crop_with_surroundings(image: MedicalImage, region: Region) -> np.ndarray:
    """Three grey views of a region as the channels of one square picture.

    First the region on black, its box made square; then a square around it of 2.5 times the box's longer side; last
    the whole image. In the second and third view the region's pixels have the upper half of the grey scale
    (128 + value / 2) and all others the lower half (value / 2), so that the outline shows whatever the brightness.
    What lies outside the image is black. Squares of twice `OVERVIEW_SIDE` and more are taken from a copy at that size.

    Args:
        image: the image.
        region: one of its regions.

    Returns:
        uint8 [64, 64, 3].

    Raises:
        LabelError: the region is empty or belongs to an image of another size.
    """
    return _Surroundings(image).crop(region)


class _Surroundings:
    """Crops of one image's regions with what is around them; the image is turned grey and reduced once for all."""

    def __init__(self, image: MedicalImage) -> None:
        self.image, self.overview = image, working_image(image, OVERVIEW_SIDE)
        self._grey = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
        self._small = self._grey if self.overview is image else cv2.cvtColor(self.overview.pixels, cv2.COLOR_RGB2GRAY)

    def crop(self, region: Region) -> np.ndarray:
        """As `crop_with_surroundings`."""
        _check(self.image, region)
        x, y, width, height = region.box
        longest = max(width, height)
        whole = max(self.image.height, self.image.width)
        centre, middle = (x + width / 2, y + height / 2), (self.image.width / 2, self.image.height / 2)
        places = ((centre, longest, False), (centre, max(_CONTEXT * longest, 8), True), (middle, whole, True))
        masks: dict[bool, np.ndarray] = {}
        views = []
        for centre, side, marked in places:
            reduced = side >= 2 * OVERVIEW_SIDE and self.overview is not self.image
            if reduced not in masks:
                masks[reduced] = (region_at(region, self.image, self.overview) if reduced else region).mask
            views.append(self._square(masks[reduced], centre, side, reduced=reduced, marked=marked))
        return np.stack(views, axis=2)

    def _square(
        self, mask: np.ndarray, centre: tuple[float, float], side: float, *, reduced: bool, marked: bool
    ) -> np.ndarray:
        """uint8 [64, 64]: a square part of the image around a point, with the region marked in it or alone on black;
        smoothed first where it shrinks. ``mask`` is the region's on the image, or on its overview where ``reduced``."""
        grey = self._small if reduced else self._grey
        if reduced:
            across, down = self.overview.width / self.image.width, self.overview.height / self.image.height
            centre, side = (centre[0] * across, centre[1] * down), side * max(across, down)
        left, top = round(centre[0] - side / 2), round(centre[1] - side / 2)
        size = max(1, round(side))
        right, bottom = left + size, top + size
        window = np.s_[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        inside = mask[window].astype(np.uint8)
        part = np.right_shift(grey[window], 1) + inside * np.uint8(128) if marked else grey[window] * inside
        outside = max(-top, 0), max(bottom - len(grey), 0), max(-left, 0), max(right - grey.shape[1], 0)
        part = cv2.copyMakeBorder(part, *outside, cv2.BORDER_CONSTANT, value=0)
        shrinks = size > VIEW_SIDE
        return cv2.resize(part, (VIEW_SIDE, VIEW_SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


CROPS: dict[CropStyle, Callable[[MedicalImage], Callable[[Region], np.ndarray]]] = {
    "region": lambda image: partial(crop, image),
    "surroundings": lambda image: _Surroundings(image).crop,
}
"""For each style what crops the regions of an image."""


def _check(image: MedicalImage, region: Region) -> None:
    if region.size != (image.height, image.width):
        raise LabelError(
            expected=f"a mask of {image.width} x {image.height} pixels, like the image",
            got=f"The mask has {region.size[1]} x {region.size[0]}",
            remedy="Use the regions of this image",
        )
    if not region.area:
        raise LabelError(expected="a region with at least one pixel", got="The region is empty", remedy="Leave it out")
