"""Which way the edges of a picture lie in the patient: letters, from directions that a file states."""

from __future__ import annotations

import numpy as np
from pydicom import Dataset

from a3tune.images.dicom_header import holder, number, text
from a3tune.types import Edges

_OPPOSITE = str.maketrans("LRPAHF", "RLAPFH")
# Axes of patient coordinates (DICOM PS3.3 C.7.6.2.1.1): x to the left, y to the back, z to the head.
_AXES = (("L", "R"), ("P", "A"), ("H", "F"))
_SLIGHT = 0.25
"""Part of a direction below which an axis is not named: a picture that is tilted by 14 degrees keeps single letters."""
_SLIP = 0.02
"""By how much directions may differ from unit length and from a right angle."""


def edges_along(across: np.ndarray, down: np.ndarray) -> Edges:
    """The letters of a picture's edges; of oblique ones two or three, the nearest axis first.

    Args:
        across: float [3], the direction of the picture's rows in patient coordinates (DICOM: left, back, head), of any
            length above 0.
        down: the same of its columns.
    """
    right, bottom = _letters(across), _letters(down)
    return Edges(right.translate(_OPPOSITE), right, bottom.translate(_OPPOSITE), bottom)


def _letters(direction: np.ndarray) -> str:
    parts = np.asarray(direction, float) / np.linalg.norm(direction)
    named = [axis for axis in np.argsort(-np.abs(parts), kind="stable") if abs(parts[axis]) >= _SLIGHT]
    return "".join(_AXES[axis][int(parts[axis] < 0)] for axis in named)


def dicom_edges(dataset: Dataset, frame: int) -> Edges | None:
    """The letters of a frame's edges by ImageOrientationPatient, or else PatientOrientation (PS3.3 C.7.6.1.1.1).

    None where the file states neither, where what it states is no pair of directions at right angles, where the two
    contradict each other, and of four-footed patients, whose directions have other names.
    """
    if text(dataset, "AnatomicalOrientationType") == "QUADRUPED":
        return None
    turned = holder(dataset, frame, "PlaneOrientationSequence", "ImageOrientationPatient")
    written = _written(dataset) if dataset.get("PatientOrientation") else None
    if not turned.get("ImageOrientationPatient"):
        return written
    vectors = _vectors(turned)
    if vectors is None:
        return None
    across, down = vectors
    if written is not None and (_towards(written.right) @ across <= 0 or _towards(written.bottom) @ down <= 0):
        return None
    return edges_along(across, down)


def _vectors(turned: Dataset) -> tuple[np.ndarray, np.ndarray] | None:
    told = [number(turned, "ImageOrientationPatient", index=place) for place in range(6)]
    if None in told:
        return None
    across, down = np.array(told, float).reshape(2, 3)
    lengths = np.linalg.norm([across, down], axis=1)
    if (np.abs(lengths - 1) > _SLIP).any() or abs(across @ down) > _SLIP:
        return None
    return across, down


def _written(dataset: Dataset) -> Edges | None:
    """The letters by PatientOrientation; None unless it names two directions of different axes."""
    value = dataset.get("PatientOrientation")
    parts = [str(part).strip() for part in ([value] if isinstance(value, str) else value)]
    if len(parts) != 2 or not all(map(_is_direction, parts)) or _axis(parts[0][0]) == _axis(parts[1][0]):
        return None
    right, bottom = parts
    return Edges(right.translate(_OPPOSITE), right, bottom.translate(_OPPOSITE), bottom)


def _is_direction(letters: str) -> bool:
    axes = [_axis(letter) for letter in letters]
    return 0 < len(axes) < 4 and None not in axes and len(set(axes)) == len(axes)


def _axis(letter: str) -> int | None:
    return next((axis for axis, pair in enumerate(_AXES) if letter in pair), None)


def _towards(letters: str) -> np.ndarray:
    """The direction that letters mean, the first one most."""
    direction = np.zeros(3)
    for place, letter in enumerate(letters):
        axis = _axis(letter)
        if axis is not None:
            direction[axis] = (1 if letter == _AXES[axis][0] else -1) / (1 + place)
    return direction
