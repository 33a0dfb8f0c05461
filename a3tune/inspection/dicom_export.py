"""Pictures of an inspection as DICOM secondary captures, which an archive of images takes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import highdicom
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from a3tune import __version__
from a3tune.errors import ImageError
from a3tune.inspection.inspect import Inspection, answer_rows
from a3tune.inspection.report import MapStyle, Side, full_size_pictures
from a3tune.wording import RESEARCH_NOTICE, counted

Identity = Literal["anonymous", "source"]
"""Whether a capture is of nobody, or of the patient and study of the DICOM file that was inspected."""

_BAND = 34  # pixels under the picture, for the notice
_LONGEST = 64  # letters of a DICOM long string
_MANUFACTURER = "A3Tune Studio"
# Required where a patient's body is pictured; which way a captured picture lies is not told, and stays empty.
_NO_ORIENTATION = ("L", "P")


def write_captures(
    inspection: Inspection, folder: Path, identity: Identity = "anonymous", source: Path | None = None
) -> list[Path]:
    """Write ``view_<name>.dcm``: the image, each adapter's map of its answer over it on one scale, and of two adapters
    the difference, each with a notice burnt in below the picture.

    Args:
        inspection: what is shown.
        folder: an existing folder; files of the same names are replaced.
        identity: "anonymous": nothing of a patient, a study of its own. "source": patient and study of ``source``, and
            a reference to its image, by its identifiers.
        source: the DICOM file that was inspected.

    Returns:
        what was written.

    Raises:
        ImageError: "source" was asked for, and there is no DICOM file that says which patient, study and image it is.
        OSError: the folder cannot be written.
    """
    header = _read_header(source) if identity == "source" else None
    sides = [_side(inspection, number) for number in range(len(inspection.views))]
    pictures = full_size_pictures(sides[:2], MapStyle())
    for side in sides[2:]:
        pictures |= {name: shown for name, shown in full_size_pictures([side], MapStyle()).items() if name != "image"}
    study, series = generate_uid(None), generate_uid(None)
    written = []
    for number, (name, picture) in enumerate(pictures.items(), start=1):
        capture = _capture(_with_notice(picture), header, study, series, number)
        capture.SeriesDescription = f"A3Tune attention, research only: {inspection.model}"[:_LONGEST]
        capture.ImageComments = f"{name}: {inspection.question}"[:10240]
        written.append(folder / f"view_{name}.dcm")
        capture.save_as(written[-1], enforce_file_format=True)
    return written


def check_source(source: Path) -> None:
    """Raises:
    ImageError: this is no DICOM file that says which patient, study and image it is.
    """
    _read_header(source)


def _side(inspection: Inspection, number: int) -> Side:
    view = inspection.views[number]
    heads = counted(len(view.critical_heads), "critical head")
    rows = tuple(int(row) for row in answer_rows(view.tokens, view.maps))
    return Side(inspection, view, view.critical_heads, rows, heads, "mean of the answer")


def _read_header(source: Path | None) -> Dataset:
    """The header of the file that was inspected, without its pixels."""
    expected, remedy = "one DICOM file that was inspected", "Give the slice's own file, or write anonymous captures"
    try:
        if source is None or not Path(source).is_file():
            raise InvalidDicomError
        header = pydicom.dcmread(source, stop_before_pixels=True)
    except (InvalidDicomError, OSError, ValueError) as error:
        raise ImageError(expected=expected, got="The image is none", remedy=remedy) from error
    needed = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "PatientID", "PatientName")
    missing = [keyword for keyword in needed if keyword not in header]
    if missing:
        raise ImageError(expected=expected, got=f"Its header has no {missing[0]}", remedy=remedy)
    return header


def _capture(picture: np.ndarray, header: Dataset | None, study: str, series: str, number: int) -> Dataset:
    """A secondary capture of uint8 [height, width, 3]."""
    known = Dataset() if header is None else header
    capture = highdicom.sc.SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=known.get("StudyInstanceUID", study),
        series_instance_uid=series,
        series_number=9001,
        sop_instance_uid=generate_uid(None),
        instance_number=number,
        manufacturer=_MANUFACTURER,
        patient_id=known.get("PatientID"),
        patient_name=known.get("PatientName"),
        patient_birth_date=known.get("PatientBirthDate"),
        patient_sex=known.get("PatientSex") or None,
        accession_number=known.get("AccessionNumber"),
        study_id=known.get("StudyID"),
        study_date=known.get("StudyDate") or None,
        study_time=known.get("StudyTime") or None,
        referring_physician_name=known.get("ReferringPhysicianName"),
        patient_orientation=_NO_ORIENTATION,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    capture["PatientOrientation"].value = None
    capture.BurnedInAnnotation = "YES"
    capture.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    capture.SoftwareVersions = f"a3tune {__version__}"
    capture.DerivationDescription = f"Attention of a vision-language model over the image. {RESEARCH_NOTICE}"
    if header is not None:
        reference = Dataset()
        reference.ReferencedSOPClassUID = header.SOPClassUID
        reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
        capture.SourceImageSequence = [reference]
    return capture


def _with_notice(picture: np.ndarray) -> np.ndarray:
    """The picture with the notice burnt in on a band below it, which hides nothing of it."""
    width = picture.shape[1]
    band = np.zeros((_BAND, width, 3), np.uint8)
    face, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.6
    (length, _), _ = cv2.getTextSize(RESEARCH_NOTICE, face, scale, 1)
    scale *= min(1.0, (width - 16) / length)
    cv2.putText(band, RESEARCH_NOTICE, (8, _BAND - 12), face, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return np.ascontiguousarray(np.concatenate([picture, band]))
