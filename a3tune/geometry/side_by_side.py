"""Several images of one question as one picture, with the patches of all of them on it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from a3tune.types import MedicalImage, PatchGrid

_GAP = 8


def side_by_side(images: Sequence[MedicalImage], grids: Sequence[PatchGrid]) -> tuple[MedicalImage, PatchGrid]:
    """The images beside each other on black, the first left, and where each patch lies on that picture.

    Patches that reach beyond their image, into padding, reach into the gap and never into the next image.

    Args:
        images: in the order of their tokens; a single one comes back as it is.
        grids: where each image's patches lie in it.
    """
    if len(images) == 1:
        return images[0], grids[0]
    lefts = [0]
    for (image, grid), (_, following) in itertools.pairwise(zip(images, grids, strict=True)):
        beyond = max(0.0, _edges(grid)[1] - image.width) + max(0.0, -_edges(following)[0])
        lefts.append(lefts[-1] + image.width + math.ceil(round(beyond, 3)) + _GAP)
    height, width = max(image.height for image in images), lefts[-1] + images[-1].width

    def joined(pixels_of: Callable[[MedicalImage], np.ndarray]) -> np.ndarray:
        whole = np.zeros((height, width, 3), np.uint8)
        for image, left in zip(images, lefts, strict=True):
            whole[: image.height, left : left + image.width] = pixels_of(image)
        return whole

    told = any(image.model_pixels is not None for image in images)
    given = joined(lambda image: image.model_input) if told else None
    boxes, tiles, start = [], [], 0
    for grid, left in zip(grids, lefts, strict=True):
        boxes.append(grid.boxes + np.array([left, 0, left, 0]))
        for tile in grid.tiles:
            x0, y0, x1, y1 = tile.box
            tiles.append(replace(tile, start=start + tile.start, box=(x0 + left, y0, x1 + left, y1)))
        start += grid.count
    picture = MedicalImage(joined(lambda image: image.pixels), model_pixels=given)
    return picture, PatchGrid(np.concatenate(boxes), tuple(tiles), height, width)


def _edges(grid: PatchGrid) -> tuple[float, float]:
    """How far the patches and tiles reach to the left and to the right."""
    x0, x1 = [grid.boxes[:, 0].min()], [grid.boxes[:, 2].max()]
    return min(x0 + [tile.box[0] for tile in grid.tiles]), max(x1 + [tile.box[2] for tile in grid.tiles])
