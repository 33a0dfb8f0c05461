"""Where a picture lies in the patient, and of which patient, study and image it is: read where a file that is written
shall say so, and only then."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pydicom import Dataset, dcmread
from pydicom.uid import RE_VALID_UID

from a3tune.errors import ImageError
from a3tune.images.content import decode
from a3tune.images.dicom_header import holder, number, whole_number
from a3tune.images.dicom_kinds import describe_object
from a3tune.images.isolation import isolable
from a3tune.images.placement import UNSTATED, Placement
from a3tune.images.read import open_file, read_content
from a3tune.images.series import holds_series, open_slice
from a3tune.images.silence_decoders import silence_decoders
from a3tune.images.slices import Series, frame_order

PATIENT_AND_STUDY = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName"),
)
"""What is taken of patient and study, by DICOM keyword, beside the study's UID."""
_UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_LONGEST, _LONGEST_UID = 1024, 64  # letters


@dataclass(frozen=True)
class DicomIdentity:
    """Of which patient, study and image a picture is.

    Attributes:
        sop_class, sop_instance, series, study: UIDs of the image and of what it belongs to.
        frame: of an image with several frames which one it is, from 1; None of any other.
        values: the values of those of :data:`PATIENT_AND_STUDY` that its header has, by keyword.
    """

    sop_class: str
    sop_instance: str
    series: str
    study: str
    frame: int | None
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SourceImage:
    """What a file that is written may say about where its picture comes from.

    Attributes:
        placement: where the stored pixels lie in the patient, without the name of the frame of reference where there is
            no identity; None where the file does not say for certain.
        thickness: of the slice, in millimetres; None where the file does not say.
        identity: of whom and what the picture is; None where that was not asked for.
    """

    placement: Placement | None
    thickness: float | None = None
    identity: DicomIdentity | None = None


@isolable
def read_source(
    path: str | os.PathLike[str],
    *,
    frame: int | None = None,
    axis: int = 2,
    volume: int = 0,
    series: int | Series | None = None,
    identity: bool = False,
) -> SourceImage:
    """Where one frame of a file lies; with ``identity`` also of which patient, study and image it is.

    Args:
        path, frame, axis, volume, series: as for :func:`a3tune.images.load.load_image`.
        identity: whether names and numbers of patient and study, which are dropped else, are read.

    Raises:
        ImageError, RequestError: as there; or ``identity`` was asked for, and the file is no DICOM file that says which
            patient, study and image it is.
    """
    content = read_content(path, frame, axis, volume, series)
    placement = content.placement
    if placement is not None and placement.frame_of_reference == UNSTATED:
        placement = None
    if placement is not None and not identity:
        # Its name is one of the study's.
        placement = replace(placement, frame_of_reference=None)
    if content.format != "DICOM":
        if identity:
            raise _unidentified("The image is none")
        return SourceImage(placement, None if placement is None else placement.thickness)
    with silence_decoders(), _header(path, content.frame, content.series) as (dataset, shown):
        count = whole_number(dataset, "NumberOfFrames")
        stored = frame_order(dataset, count or 1)[shown] if describe_object(dataset) is None else shown
        thickness = number(holder(dataset, stored, "PixelMeasuresSequence", "SliceThickness"), "SliceThickness")
        known = _identity(dataset, None if count is None else stored + 1) if identity else None
    return SourceImage(placement, thickness if thickness and thickness > 0 else None, known)


@contextmanager
def _header(path: str | os.PathLike[str], frame: int, series: Series | None) -> Iterator[tuple[Dataset, int]]:
    """The header of the file that a frame is in, and which of that file's frames it is."""
    if holds_series(path):
        with open_slice(path, frame, series) as (stream, member):
            yield decode("DICOM", lambda: dcmread(stream, stop_before_pixels=True, force=True)), member.frame
        return
    with open_file(path) as stream:
        yield decode("DICOM", lambda: dcmread(stream, stop_before_pixels=True, force=True)), frame


def _identity(dataset: Dataset, frame: int | None) -> DicomIdentity:
    sop_class, sop_instance, series, study = (str(dataset.get(keyword) or "") for keyword in _UIDS)
    for keyword, uid in zip(_UIDS, (sop_class, sop_instance, series, study), strict=True):
        if len(uid) > _LONGEST_UID or not re.fullmatch(RE_VALID_UID, uid):
            raise _unidentified(f"Its header has no {keyword} that is one")
    for keyword in ("PatientID", "PatientName"):
        if keyword not in dataset:
            raise _unidentified(f"Its header has no {keyword}")
    values = {keyword: str(dataset.get(keyword) or "") for keyword in PATIENT_AND_STUDY}
    kept = tuple((keyword, value[:_LONGEST]) for keyword, value in values.items() if value)
    return DicomIdentity(sop_class, sop_instance, series, study, frame, kept)


def _unidentified(got: str) -> ImageError:
    return ImageError(
        expected="a DICOM image that says which patient, study and image it is",
        got=got,
        remedy="Open the slice's own file, or leave patient and study out",
    )
