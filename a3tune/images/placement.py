"""Where the pixels of a slice lie in the patient, and whether a mask lies on the same grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UNSTATED = "unstated"
"""Frame of reference of a file that does not say how it lies: it fits only others that do not either."""

_STEP = 0.02
"""Part of a pixel by which the steps of two grids may differ."""
_SHIFT = 0.25
"""Part of a pixel by which two grids may lie apart."""


@dataclass(frozen=True)
class Placement:
    """A grid of pixels in patient coordinates, millimetres, with x to the left, y to the back and z to the head (DICOM
    PS3.3 C.7.6.2.1.1).

    Attributes:
        origin: centre of the stored pixel (0, 0).
        across: from a pixel to the next in its row.
        down: from a pixel to the one under it.
        thickness: distance of neighbouring slices, or the slice's thickness; 1 where neither is known.
        frame_of_reference: what coordinates belong together; None where the file does not say, ``UNSTATED`` where the
            coordinates themselves are a guess.
    """

    origin: tuple[float, float, float]
    across: tuple[float, float, float]
    down: tuple[float, float, float]
    thickness: float = 1.0
    frame_of_reference: str | None = None

    @property
    def normal(self) -> np.ndarray:
        normal = np.cross(self.across, self.down)
        return normal / np.linalg.norm(normal)

    def distance(self, points: np.ndarray) -> np.ndarray:
        """How far points [..., 3] lie from the slice, along its normal."""
        return (np.asarray(points, float) - self.origin) @ self.normal

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """(row, column) of points [..., 3] projected onto the slice; pixel (0, 0) is centred on 0, 0."""
        steps = np.stack([self.down, self.across], axis=1)
        return (np.asarray(points, float) - self.origin) @ np.linalg.pinv(steps).T

    def points(self, pixels: np.ndarray) -> np.ndarray:
        """The centres [..., 3] of pixels (row, column) [..., 2]."""
        return np.asarray(self.origin) + np.asarray(pixels, float) @ np.array([self.down, self.across])


def share_coordinates(one: Placement, other: Placement) -> bool:
    """Whether coordinates of both may be compared: one frame of reference, or at least one that is not told."""
    frames = {one.frame_of_reference, other.frame_of_reference}
    if UNSTATED in frames:
        return frames == {UNSTATED}
    return len(frames - {None}) < 2


def is_same_plane(one: Placement, other: Placement) -> bool:
    """Whether two slices lie in one plane, to a tenth of a slice's distance."""
    if abs(float(one.normal @ other.normal)) < 0.999:
        return False
    return abs(float(one.distance(np.array(other.origin)))) <= 0.1 * min(one.thickness, other.thickness) + 0.01


def resample_mask(mask: np.ndarray, at: Placement, size: tuple[int, int], to: Placement) -> np.ndarray | None:
    """A mask on one grid as seen from another grid of the same plane, turned and mirrored as need be.

    Args:
        mask: bool [rows, columns] on the grid ``at``.
        size: (rows, columns) of the grid ``to``.

    Returns:
        bool [rows, columns] on ``to``, False outside ``at``; None where the grids do not meet pixel by pixel.
    """
    steps = at.pixels(np.asarray(at.origin) + np.array([to.down, to.across]))
    corners = at.pixels(to.points(np.array([[0, 0], [0, size[1] - 1], [size[0] - 1, 0]])))
    meet = np.abs(steps - np.round(steps)).max() <= _STEP and np.abs(corners - np.round(corners)).max() <= _SHIFT
    whole = np.round(steps).astype(int)
    if not meet or not np.array_equal(np.abs(whole).sum(axis=0), [1, 1]) or abs(int(np.linalg.det(whole))) != 1:
        return None
    rows, columns = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    places = np.stack([rows, columns], axis=-1) @ whole + np.round(corners[0]).astype(int)
    inside = ((places >= 0) & (places < mask.shape)).all(axis=-1)
    found = np.zeros(size, bool)
    found[inside] = mask[tuple(places[inside].T)]
    return found


def fill_polygons(outlines: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres lie inside an odd number of closed outlines: an outline in another is a hole.

    Args:
        outlines: float [corners, 2] each, (row, column); pixel (0, 0) is centred on 0, 0.
        size: (rows, columns).

    Returns:
        bool [rows, columns].
    """
    inside = np.zeros(size, bool)
    columns = np.arange(size[1])
    for outline in outlines:
        for (row0, column0), (row1, column1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
            # Rows with row0 <= row < row1 (or the other way round): each crossing is counted once.
            first, last = sorted((row0, row1))
            rows = np.arange(max(0, int(np.ceil(first))), min(size[0], int(np.ceil(last))))
            if len(rows):
                crossing = column0 + (rows - row0) * (column1 - column0) / (row1 - row0)
                inside[rows] ^= columns[None, :] > crossing[:, None]
    return inside
