"""Where the slices of a DICOM series or multi-frame object lie, their order, and what is missing between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pydicom import Dataset

from a3tune.images.dicom_header import holder, number
from a3tune.images.placement import Placement
from a3tune.wording import counted

_UNEVEN = 0.1
"""Part of the usual distance by which one between two slices may differ without being named."""


class Plane(NamedTuple):
    """A slice's place in the patient (PS3.3 C.7.6.2.1.1), in millimetres.

    Attributes:
        position: centre of the first pixel.
        orientation: directions of the rows and of the columns, two unit vectors in a row, to 4 decimals.
    """

    position: tuple[float, ...]
    orientation: tuple[float, ...]

    @property
    def distance(self) -> float:
        """Place along the normal of the slice."""
        row, column = np.array(self.orientation).reshape(2, 3)
        return float(np.dot(np.cross(row, column), self.position))


@dataclass(frozen=True)
class Slice:
    """One slice: the member's name in its folder or archive, and which of its frames, counted as they are shown."""

    name: str
    frame: int
    number: int
    plane: Plane | None


@dataclass(frozen=True)
class Series:
    """Slices that belong together, in the order of their places, from the patient's right, front or feet on.

    Attributes:
        modality: DICOM modality code, or None.
        number: the series number, or None.
        size: (rows, columns).
        slices: the slices.
        notes: gaps and what else a reader should know, in sentences.
    """

    modality: str | None
    number: int | None
    size: tuple[int, int]
    slices: tuple[Slice, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        slices = f"{counted(len(self.slices), 'slice')} of {self.size[1]} x {self.size[0]} pixels"
        number = "" if self.number is None else f" (series number {self.number})"
        return f"{self.modality or 'pictures'}, {slices}{number}"


def read_plane(dataset: Dataset, frame: int = 0) -> Plane | None:
    """The plane of a frame, from its own functional group, the shared one or the data set; None where none tells it."""
    at = holder(dataset, frame, "PlanePositionSequence", "ImagePositionPatient")
    turned = holder(dataset, frame, "PlaneOrientationSequence", "ImageOrientationPatient")
    told = [number(at, "ImagePositionPatient", index=place) for place in range(3)]
    told += [number(turned, "ImageOrientationPatient", index=place) for place in range(6)]
    numbers = [value for value in told if value is not None]
    if len(numbers) < len(told):
        return None
    position, orientation = tuple(numbers[:3]), numbers[3:]
    if not np.linalg.norm(np.cross(orientation[:3], orientation[3:])) > 0.5:
        return None
    return Plane(position, tuple(round(value, 4) + 0.0 for value in orientation))


def read_placement(dataset: Dataset, frame: int = 0) -> Placement | None:
    """Where the pixels of a frame lie; None where position, orientation or pixel spacing are not told."""
    plane = read_plane(dataset, frame)
    measures = holder(dataset, frame, "PixelMeasuresSequence", "PixelSpacing")
    row, column = (number(measures, "PixelSpacing", index=place) for place in (0, 1))
    if plane is None or row is None or column is None or row <= 0 or column <= 0:
        return None
    thickness = next(
        (
            abs(value)
            for keyword in ("SpacingBetweenSlices", "SliceThickness")
            if (value := number(holder(dataset, frame, "PixelMeasuresSequence", keyword), keyword))
        ),
        1.0,
    )
    across, down = np.array(plane.orientation).reshape(2, 3) * [[column], [row]]
    frame_of_reference = str(dataset.get("FrameOfReferenceUID") or "") or None
    return Placement(_triple(np.array(plane.position)), _triple(across), _triple(down), thickness, frame_of_reference)


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = map(float, values)
    return x, y, z


def frame_order(dataset: Dataset, count: int) -> Sequence[int]:
    """The frames of a multi-frame object in the order of their places along the normal.

    Frames that already go one way, differ in their orientation or tell no place stay as they are.
    """
    # Not a list: a header may claim any number of frames.
    stored = range(count)
    if count == 1 or len(dataset.get("PerFrameFunctionalGroupsSequence") or ()) < count:
        return stored
    found = [read_plane(dataset, frame) for frame in stored]
    planes = [plane for plane in found if plane is not None]
    if len(planes) < count or len({plane.orientation for plane in planes}) > 1:
        return stored
    distances = np.array([plane.distance for plane in planes])
    steps = np.diff(distances)
    if (steps >= 0).all() or (steps <= 0).all():
        return stored
    return np.argsort(distances, kind="stable").tolist()


def describe_gaps(distances: Sequence[float]) -> tuple[str, ...]:
    """What a reader should know of slices at these places (ascending): shared places, gaps, in sentences."""
    places = np.unique(np.round(distances, 3))
    notes = []
    if len(places) < len(distances):
        notes.append(
            f"{counted(len(distances), 'slice')} lie at {counted(len(places), 'place')}: slices of several times or "
            "echoes at one place follow each other"
        )
    steps = np.diff(places)
    if len(steps) < 2:
        return tuple(notes)
    usual = float(np.median(steps))
    odd = np.flatnonzero(np.abs(steps - usual) > _UNEVEN * usual)
    if len(odd):
        at = int(odd[steps[odd].argmax()])
        first = int(np.searchsorted(distances, places[at] + 1e-3)) or 1
        notes.append(
            f"The slices are not evenly spaced, so some may be missing: {steps[at]:g} mm lie between slice {first} and "
            f"{first + 1}, and {usual:g} mm are usual ({counted(len(odd), 'such place')})"
        )
    return tuple(notes)
