"""Regions as lines for a browser or a picture: their colours, their borders, and the place for a number."""

from __future__ import annotations

import cv2
import numpy as np

from a3tune.types import Region

REGION_COLOURS = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 198, 145),
    (240, 228, 66),
    (224, 141, 187),
    (255, 112, 51),
    (167, 139, 250),
    (163, 230, 53),
    (255, 255, 255),
    (45, 212, 191),
    (253, 186, 186),
    (186, 230, 253),
)
"""RGB colours in turn, bright for the dark of medical images and told apart by all kinds of colour vision as far as so
many can be: Okabe and Ito's first, then lighter ones."""


def outlines(region: Region) -> tuple[np.ndarray, ...]:
    """int [points, 2] each: (x, y) in source pixels along the region's borders, holes included."""
    x, y = region.place[:2]
    # A border of zeros: the edge of the box is an edge of the mask.
    inside = np.pad(region.inside.astype(np.uint8), 1)
    lines, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x - 1, y - 1))
    return tuple(_at_source(cv2.approxPolyDP(line, 0.6, True)[:, 0], region) for line in lines)


def number_place(region: Region) -> tuple[int, int]:
    """(x, y) of the source pixel of a region that lies deepest in it: the place for its number."""
    x, y = widest_place(region.inside)
    place = np.array([[x + region.place[0], y + region.place[1]]])
    return tuple(_at_source(place, region)[0].tolist())


def widest_place(mask: np.ndarray) -> tuple[int, int]:
    """(x, y) of the pixel of a mask, bool [height, width], that lies deepest in it: the place for a number."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    depth = cv2.distanceTransform(np.pad(mask[y : y + height, x : x + width].astype(np.uint8), 1), cv2.DIST_L2, 3)
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return x + int(column) - 1, y + int(row) - 1


def _at_source(points: np.ndarray, region: Region) -> np.ndarray:
    """Pixels (x, y) of the region's own grid as the source pixels at their centres."""
    old, new = np.array(region.grid[::-1]), np.array(region.size[::-1])
    return ((2 * points + 1) * new // (2 * old)).astype(points.dtype)
