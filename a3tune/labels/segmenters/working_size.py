"""Large images are worked on at a stated size, so that memory and time stay bounded; their masks cover the same area.

An image within the size is used as it is.
"""

from __future__ import annotations

import cv2

from a3tune.types import MedicalImage, Region

WORKING_SIDE = 2048
"""Longer side in pixels at which larger images are worked on, unless a segmenter says less."""


def working_size(height: int, width: int, side: int = WORKING_SIDE) -> tuple[int, int]:
    """(height, width) with the longer side cut to ``side`` pixels, the shape kept as far as whole pixels allow."""
    scale = side / max(height, width)
    return (height, width) if scale >= 1 else (max(1, round(height * scale)), max(1, round(width * scale)))


def working_image(image: MedicalImage, side: int = WORKING_SIDE) -> MedicalImage:
    """The image itself, or where it is larger its pixels alone, by area means."""
    size = working_size(image.height, image.width, side)
    if size == (image.height, image.width):
        return image
    return MedicalImage(cv2.resize(image.pixels, size[::-1], interpolation=cv2.INTER_AREA))


def working_note(image: MedicalImage, side: int) -> tuple[str, ...]:
    """A remark for labels of a larger image; none for one that was used as it is."""
    height, width = working_size(image.height, image.width, side)
    if (height, width) == (image.height, image.width):
        return ()
    return (f"Masks drawn at {width} x {height} pixels and brought back to the image's {image.width} x {image.height}",)


def region_at(region: Region, image: MedicalImage, other: MedicalImage) -> Region:
    """A region of an image as one of the same picture at another size, never empty where it is not; a region of
    another image as it is."""
    size = other.height, other.width
    if other is image or region.size != (image.height, image.width):
        return region
    mask = region.mask_on(size)
    if not mask.any() and region.area:
        (x, y, box_width, box_height), (height, width) = region.box, region.size
        mask[(2 * y + box_height) * size[0] // (2 * height), (2 * x + box_width) * size[1] // (2 * width)] = True
    return Region(mask, None, region.predicted_iou, region.stability_score)
