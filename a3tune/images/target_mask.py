"""Where a model should look, from a file: a picture, a NIfTI volume, a DICOM segmentation or a DICOM structure set.

A mask that says where it lies is checked against the image's own place: frame of reference, plane and pixel grid. A
picture has nothing but its size.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from pydicom import Dataset, dcmread, uid

from a3tune.errors import EmptyTargetError, RequestError
from a3tune.images.content import Content, decode
from a3tune.images.dicom import read_dicom
from a3tune.images.dicom_header import holder, text, whole_number
from a3tune.images.frames import mask_to_source
from a3tune.images.isolation import isolable
from a3tune.images.kinds import detect_kind
from a3tune.images.placement import Placement, fill_polygons, is_same_plane, resample_mask, share_coordinates
from a3tune.images.read import open_file, read_content
from a3tune.images.silence_decoders import silence_decoders
from a3tune.images.slices import read_placement
from a3tune.types import MedicalImage

_SEGMENTATIONS = (uid.SegmentationStorage, uid.UID("1.2.840.10008.5.1.4.1.1.66.7"))
_LISTED = 20
LOCATED = ("DICOM", "NIfTI", "NIfTI.gz")
"""Kinds of files that say where a mask lies in the patient."""
_EXPECTED = "a mask with something in it, drawn on this very image"


@isolable
def load_target(
    path: str | os.PathLike[str],
    image: MedicalImage,
    image_path: str | os.PathLike[str],
    *,
    segment: str | None = None,
    frame: int | None = None,
    axis: int = 2,
    volume: int = 0,
    series: int | None = None,
) -> np.ndarray:
    """Read the mask for one slice of an image.

    * A picture (or a DICOM image without a place): where it is not black; it must have the size that the image is
      stored in.
    * A NIfTI volume: where it is not 0, on the slice that lies where the image does.
    * A DICOM segmentation (SEG): one segment; from half of a fractional value on.
    * A DICOM structure set (RTSTRUCT): one structure, the pixels whose centres its outlines on this slice hold.

    Args:
        path: the mask's file.
        image: the image, as ``load_image`` gave it.
        image_path: the file, folder or archive that it came from.
        segment: number or name of the segment or structure; of a picture or volume the grey value to take.
        frame, axis, volume, series: what was chosen of the image's file.

    Returns:
        bool [height, width], source pixel frame, not empty.

    Raises:
        ImageError: a file cannot be read.
        EmptyTargetError: the mask fits the image and has nothing on it.
        RequestError: the mask does not fit the image; no such segment, or several and none is chosen.
    """
    path = Path(path)
    content = read_content(image_path, frame, axis, volume, series)
    with open_file(path) as stream, silence_decoders():
        kind = detect_kind(stream)
        dataset = (
            decode("DICOM", lambda: dcmread(stream, stop_before_pixels=True, force=True)) if kind == "DICOM" else None
        )
        storage = None if dataset is None else _storage(dataset)
        if dataset is not None and storage in _SEGMENTATIONS:
            mask = _from_segmentation(stream, dataset, content, path.name, segment)
        elif dataset is not None and storage == uid.RTStructureSetStorage:
            mask = _from_structures(dataset, content, path.name, segment)
        elif kind.startswith("NIfTI"):
            mask = _from_volume(path, content, segment)
        else:
            mask = _from_picture(path, content, segment)
    if not mask.any():
        _refuse_empty("is empty on this slice" if kind in LOCATED else "is black all over", path.name)
    return mask_to_source(mask, image, path.name)


def _storage(dataset: Dataset) -> str:
    return str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or "")


def _refuse(what: str, name: str, expected: str = _EXPECTED, kind: type[RequestError] = RequestError) -> NoReturn:
    raise kind(expected=expected, got=f"{name} {what}", remedy="Choose another slice or mask, or leave the mask out")


def _refuse_empty(what: str, name: str) -> NoReturn:
    _refuse(what, name, kind=EmptyTargetError)


# ---- pictures and volumes --------------------------------------------------------------------


def _from_picture(path: Path, image: Content, segment: str | None) -> np.ndarray:
    content = read_content(path, None, 2, 0, None)
    if image.frame_count == content.frame_count > 1:
        content = read_content(path, image.frame, 2, 0, None)
    mask = _chosen_values(content, path.name, segment)
    if content.placement is not None and image.placement is not None:
        return _laid_on(mask, content.placement, image, path.name)
    return mask


def _from_volume(path: Path, image: Content, segment: str | None) -> np.ndarray:
    at = _place_of(image, path.name)
    for axis in range(3):
        first = read_content(path, 0, axis, 0, None)
        begin = _own_place(first, path.name)
        if abs(float(begin.normal @ at.normal)) < 0.999:
            continue
        _check_coordinates(begin, at, path.name)
        end = _own_place(read_content(path, first.frame_count - 1, axis, 0, None), path.name)
        length = float(at.distance(np.array(end.origin)) - at.distance(np.array(begin.origin)))
        frame = 0
        if first.frame_count > 1:
            frame = round(-float(at.distance(np.array(begin.origin))) / length * (first.frame_count - 1))
        if not 0 <= frame < first.frame_count:
            _refuse("does not reach this slice", path.name)
        content = read_content(path, frame, axis, 0, None)
        place = _own_place(content, path.name)
        return _laid_on(_chosen_values(content, path.name, segment), place, image, path.name)
    return _refuse("is a volume of other planes than the image's", path.name)


def _chosen_values(content: Content, name: str, segment: str | None) -> np.ndarray:
    values = content.samples
    if values.ndim == 3:
        values = values.max(axis=2)
    values = np.nan_to_num(values)
    if segment is None:
        return values != 0
    present = np.unique(values[values != 0])
    wanted = [value for value in present if segment == f"{value:g}"]
    if not wanted:
        listed = ", ".join(f"{value:g}" for value in present[:_LISTED])
        _refuse_empty(f"has no pixel of the value {segment} on this slice (but {listed or 'zeros only'})", name)
    return values == wanted[0]


def _place_of(image: Content, name: str) -> Placement:
    if image.placement is None:
        _refuse("says where it lies, the image does not", name, "an image with its place in the patient, or a picture")
    return image.placement


def _own_place(mask: Content, name: str) -> Placement:
    if mask.placement is None:
        _refuse("does not say where it lies", name, "a mask with its place in the patient, its units included")
    return mask.placement


def _check_coordinates(mask: Placement, image: Placement, name: str) -> None:
    if not share_coordinates(mask, image):
        _refuse("has another frame of reference than the image", name)


def _laid_on(mask: np.ndarray, at: Placement, image: Content, name: str) -> np.ndarray:
    """The mask on the image's pixels, where both lie in one plane and on one grid."""
    own = _place_of(image, name)
    _check_coordinates(at, own, name)
    if not is_same_plane(at, own):
        _refuse("lies in another plane than the image", name)
    found = resample_mask(mask, at, image.stored_size, own)
    if found is None:
        _refuse("has other pixels than the image (another size or raster)", name)
    return found


# ---- DICOM objects ---------------------------------------------------------------------------


def _from_segmentation(
    stream: BinaryIO, dataset: Dataset, image: Content, name: str, segment: str | None
) -> np.ndarray:
    at = _place_of(image, name)
    labels = {
        whole_number(item, "SegmentNumber"): item.get("SegmentLabel") for item in _items(dataset, "SegmentSequence")
    }
    number = _choose(labels, segment, name, "segment")
    kind = "LABELMAP" if _storage(dataset) == _SEGMENTATIONS[1] else text(dataset, "SegmentationType")
    half = max(1, (whole_number(dataset, "MaximumFractionalValue") or 255) / 2)
    tests: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
        "LABELMAP": lambda values: values == number,
        "FRACTIONAL": lambda values: values >= half,
    }
    mask = np.zeros(image.stored_size, bool)
    for frame in range(whole_number(dataset, "NumberOfFrames") or 1):
        inner = holder(dataset, frame, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
        place = read_placement(dataset, frame)
        if kind != "LABELMAP" and whole_number(inner, "ReferencedSegmentNumber") != number:
            continue
        if place is None:
            _refuse("does not say where its frames lie", name)
        _check_coordinates(place, at, name)
        if is_same_plane(place, at):
            stored = decode("DICOM", partial(read_dicom, stream, frame)).samples
            values = tests.get(kind, lambda values: values > 0)(stored)
            mask |= _laid_on(values, place, image, name)
    return mask


def _from_structures(dataset: Dataset, image: Content, name: str, segment: str | None) -> np.ndarray:
    at = _place_of(image, name)
    structures = {whole_number(item, "ROINumber"): item for item in _items(dataset, "StructureSetROISequence")}
    labels = {number: item.get("ROIName") for number, item in structures.items()}
    number = _choose(labels, segment, name, "structure")
    frame = str(structures[number].get("ReferencedFrameOfReferenceUID") or dataset.get("FrameOfReferenceUID") or "")
    _check_coordinates(Placement(at.origin, at.across, at.down, at.thickness, frame or None), at, name)
    outlines = [
        points
        for item in _items(dataset, "ROIContourSequence")
        if whole_number(item, "ReferencedROINumber") == number
        for contour in _items(item, "ContourSequence")
        if text(contour, "ContourGeometricType").startswith("CLOSED")
        and len(points := np.asarray(contour.get("ContourData") or (), float).reshape(-1, 3)) > 2
    ]
    places = [at.distance(points) for points in outlines]
    flat = [place for place in places if np.ptp(place) <= 0.1 * at.thickness + 0.01]
    if places and not flat:
        _refuse("has outlines in other planes than the image's only", name)
    nearest = min((abs(float(place.mean())) for place in flat), default=np.inf)
    # Outlines drawn between two slices belong to the nearer one.
    if nearest > at.thickness / 2 + 0.01:
        _refuse_empty("has no outline of this structure on this slice", name)
    here = [
        at.pixels(points)
        for points, place in zip(outlines, places, strict=True)
        if np.ptp(place) <= 0.1 * at.thickness + 0.01 and abs(abs(float(place.mean())) - nearest) <= 0.01
    ]
    return fill_polygons(here, image.stored_size)


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    return list(dataset.get(keyword) or ())


def _choose(labels: Mapping[int | None, Any], segment: str | None, name: str, word: str) -> int:
    """The number that ``segment`` names, by number or by name; names are free text, so they are compared, not told."""
    numbers = [number for number in labels if number is not None]
    if segment is None and len(numbers) == 1:
        return numbers[0]
    wanted = [
        number
        for number in numbers
        if segment is not None and segment.strip().casefold() in (str(number), str(labels[number]).strip().casefold())
    ]
    if len(wanted) == 1:
        return wanted[0]
    listed = ", ".join(map(str, numbers[:_LISTED])) + (", ..." if len(numbers) > _LISTED else "")
    what = f"holds {len(numbers)} {word}s (numbers {listed})" if numbers else f"holds no {word}"
    what += "" if segment is None else f", and {'several' if wanted else 'none'} of that number or name"
    return _refuse(what, name, f"the number or the name of one {word}, as in --segment 1")
