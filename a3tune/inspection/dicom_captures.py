"""Pictures as DICOM secondary captures, which every archive and viewer of images takes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import highdicom
import numpy as np
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from a3tune.figures.overlay import dashed_outline
from a3tune.figures.plots import printable
from a3tune.inspection.dicom_study import CHARACTERS, MANUFACTURER, VERSION, DicomStudy, long_string
from a3tune.inspection.report import REFERENCE_WORDS, MapStyle, Side, full_size_pictures
from a3tune.wording import RESEARCH_NOTICE

_BAND = 34  # pixels under the picture, for the notice
_GAP = 8  # pixels between two pictures
# Required where a patient's body is pictured; which way a captured picture lies is not told, and stays empty.
_NO_ORIENTATION = ("L", "P")


def captures(
    sides: Sequence[Side], style: MapStyle, study: DicomStudy, reference: np.ndarray | None = None
) -> dict[str, Dataset]:
    """The image and each map over it on one scale, and of two maps both beside each other and their difference, each
    with a notice burnt in below, which hides nothing.

    Args:
        sides: one or two maps of the same image.
        style: colours.
        study: where the captures belong; they are one series of it.
        reference: bool [height, width], source pixel frame: where the answer lies, outlined by a dashed line, of which
            the notice tells; None for nothing.

    Returns:
        secondary captures in RGB by name, such as "view_A_base".
    """
    pictures = full_size_pictures(sides, style)
    notice = RESEARCH_NOTICE
    if reference is not None:
        size = pictures["image"].shape[1::-1]
        mask = cv2.resize(reference.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
        pictures = {name: dashed_outline(picture, mask) for name, picture in pictures.items()}
        notice = f"{REFERENCE_WORDS}. {notice}"
    shown = {
        name: _with_notice(picture, f"{name}. {notice}" if len(sides) > 1 else notice)
        for name, picture in pictures.items()
    }
    if len(sides) == 2:
        both = [picture for name, picture in shown.items() if name not in ("image", "difference")]
        gap = np.zeros((both[0].shape[0], _GAP, 3), np.uint8)
        shown["both"] = np.concatenate([both[0], gap, both[1]], axis=1)
    series = generate_uid(None)
    made = {}
    for number, (name, picture) in enumerate(shown.items(), start=1):
        capture = _capture(picture, study, series, number)
        capture.SeriesDescription = long_string(f"A3Tune attention, research only: {sides[0].inspection.model}")
        study.complete(capture, f"{name}: {' / '.join(dict.fromkeys(side.inspection.question for side in sides))}")
        made[f"view_{name}"] = capture
    return made


def _capture(picture: np.ndarray, study: DicomStudy, series: str, number: int) -> Dataset:
    """A secondary capture of uint8 [height, width, 3], of nobody so far."""
    capture = highdicom.sc.SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=study.study_uid,
        series_instance_uid=series,
        series_number=9001,
        sop_instance_uid=generate_uid(None),
        instance_number=number,
        manufacturer=MANUFACTURER,
        patient_orientation=_NO_ORIENTATION,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set=CHARACTERS,
    )
    capture["PatientOrientation"].value = None
    capture.BurnedInAnnotation = "YES"
    capture.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    capture.SoftwareVersions = VERSION
    return capture


def _with_notice(picture: np.ndarray, notice: str) -> np.ndarray:
    """The picture with a notice burnt in on a band below it, which hides nothing of it."""
    width = picture.shape[1]
    band = np.zeros((_BAND, width, 3), np.uint8)
    # The font of OpenCV has ASCII letters only.
    words = printable(notice).encode("ascii", "replace").decode()
    face, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.6
    (length, _), _ = cv2.getTextSize(words, face, scale, 1)
    scale *= min(1.0, (width - 16) / length)
    cv2.putText(band, words, (8, _BAND - 12), face, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return np.ascontiguousarray(np.concatenate([picture, band]))
