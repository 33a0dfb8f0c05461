"""What all DICOM objects that are written about one picture share: patient, study, where they come from, and the words
that they are for research."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from pydicom import Dataset
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.tag import Tag
from pydicom.uid import UID, CTImageStorage, SecondaryCaptureImageStorage, generate_uid
from pydicom.valuerep import DSfloat

from a3tune import __version__
from a3tune.images.dicom_source import DicomIdentity, SourceImage
from a3tune.types import MedicalImage
from a3tune.wording import RESEARCH_NOTICE

MANUFACTURER = "A3Tune Studio"
VERSION = f"a3tune {__version__}"
CHARACTERS = "ISO_IR 192"
"""UTF-8: a question, and a name, may have any letters."""
DICOM_OBJECTS = ("pictures", "maps", "regions")
"""What can be written as DICOM objects, see `a3tune.inspection.dicom_export`."""
LONG_STRING, LONG_TEXT = 64, 10240  # letters


def long_string(text: str) -> str:
    """The beginning of a text that a DICOM value of one line (LO) may hold: 64 letters by the standard; cut to 64 bytes
    of UTF-8, since some readers count these."""
    return text.encode()[:LONG_STRING].decode(errors="ignore")


def _new_uid() -> str:
    return str(generate_uid(None))


@dataclass(frozen=True)
class DicomStudy:
    """Where objects belong that are written about one picture.

    Attributes:
        source: where the picture comes from. Without an identity all of the objects are of nobody, in a study of their
            own, and refer to no image.
        study, frame_of_reference: UIDs.
    """

    source: SourceImage = field(default_factory=lambda: SourceImage(None))
    study: str = field(default_factory=_new_uid)
    frame_of_reference: str = field(default_factory=_new_uid)

    @property
    def identity(self) -> DicomIdentity | None:
        return self.source.identity

    @property
    def study_uid(self) -> str:
        return self.study if self.identity is None else self.identity.study

    def origin(self, image: MedicalImage) -> Dataset:
        """The facts that an object on the stored pixels of an image takes over from it, as highdicom expects them: its
        size, the study, and where it lies in the patient, where that is known."""
        place, known = self.source.placement, Dataset()
        known.Rows, known.Columns = image.stored_size
        known.SOPClassUID = SecondaryCaptureImageStorage if place is None else CTImageStorage
        known.SOPInstanceUID, known.SeriesInstanceUID, known.StudyInstanceUID = _new_uid(), _new_uid(), self.study_uid
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
            setattr(known, keyword, "")
        known.StudyDate = known.StudyTime = None
        known.Modality = "OT"
        if place is not None:
            across, down = float(np.linalg.norm(place.across)), float(np.linalg.norm(place.down))
            known.FrameOfReferenceUID = place.frame_of_reference or self.frame_of_reference
            known.ImagePositionPatient = _decimals(place.origin)
            known.ImageOrientationPatient = _decimals([*np.divide(place.across, across), *np.divide(place.down, down)])
            known.PixelSpacing = _decimals([down, across])
            known.SliceThickness = None if self.source.thickness is None else DSfloat(self.source.thickness, True)
        return known

    def complete(
        self, made: Dataset, comment: str, what: str = "Attention of a vision-language model over the image"
    ) -> None:
        """Give an object whose and of what it is: patient and study, what it was derived from, what it is for."""
        made.SpecificCharacterSet = CHARACTERS
        if made.Modality != "SEG":  # segmentations tell it with their segments or not at all
            made.Laterality = ""  # of a paired part of the body the side is not known
        made.ImageComments = comment[:LONG_TEXT]
        made.DerivationDescription = f"{what}. {RESEARCH_NOTICE}"
        known = self.identity
        for keyword, value in () if known is None else known.values:
            # As the source has it, whatever a stricter reader says of it.
            made[keyword] = DataElement(Tag(keyword), dictionary_VR(keyword), value, validation_mode=IGNORE)
        self._refer(made)

    def _refer(self, made: Dataset) -> None:
        known = self.identity
        made.SourceImageSequence = [] if known is None else [_reference(known)]
        if known is None:
            del made.SourceImageSequence
            made.pop("ReferencedSeriesSequence", None)
        else:
            series = Dataset()
            series.SeriesInstanceUID = known.series
            series.ReferencedInstanceSequence = [_reference(known)]
            made.ReferencedSeriesSequence = [series]
        for derived in _derivations(made):
            for item in derived.SourceImageSequence:
                if known is not None:
                    item.update(_reference(known))
            if known is None:
                derived.SourceImageSequence = []


def _derivations(made: Dataset) -> Iterator[Dataset]:
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in made.get(groups) or ():
            yield from group.get("DerivationImageSequence") or ()


def _reference(known: DicomIdentity) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = UID(known.sop_class)
    reference.ReferencedSOPInstanceUID = UID(known.sop_instance)
    if known.frame is not None:
        reference.ReferencedFrameNumber = known.frame
    return reference


def _decimals(values: Iterable[float]) -> list[DSfloat]:
    return [DSfloat(float(value), True) for value in values]
