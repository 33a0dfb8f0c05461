"""What kind of object a DICOM file holds: a picture, a map of something else, or no picture at all."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import Dataset, uid

from a3tune.errors import ImageError
from a3tune.images.content import unsupported
from a3tune.images.dicom_header import PIXEL_KEYWORDS, holder, number, text, whole_number

_LABEL_MAP = uid.UID("1.2.840.10008.5.1.4.1.1.66.7")
_MODALITY_CLASSES = {
    "RTDOSE": uid.RTDoseStorage,
    "SEG": uid.SegmentationStorage,
    "RTSTRUCT": uid.RTStructureSetStorage,
    "RTPLAN": uid.RTPlanStorage,
    "RTRECORD": uid.RTTreatmentSummaryRecordStorage,
    "PR": uid.GrayscaleSoftcopyPresentationStateStorage,
    "SR": uid.ComprehensiveSRStorage,
    "KO": uid.KeyObjectSelectionDocumentStorage,
    "REG": uid.SpatialRegistrationStorage,
    "DOC": uid.EncapsulatedPDFStorage,
    "ECG": uid.GeneralECGWaveformStorage,
}
# An element that only such objects have, for files that say neither class nor modality.
_TELLING = {
    "StructureSetROISequence": uid.RTStructureSetStorage,
    "EncapsulatedDocument": uid.EncapsulatedPDFStorage,
    "WaveformSequence": uid.GeneralECGWaveformStorage,
    "GraphicAnnotationSequence": uid.GrayscaleSoftcopyPresentationStateStorage,
    "BeamSequence": uid.RTPlanStorage,
}
_REMEDIES = (
    ("Presentation State", "Open the picture that it belongs to"),
    ("Structure Set", "Open a slice of the series that its outlines were drawn on"),
    ("Encapsulated", "Take the document out with a DICOM viewer and save its page as PNG"),
)


@dataclass(frozen=True)
class ObjectKind:
    """A DICOM object whose pixels are no picture of a body.

    Attributes:
        note: a sentence that says what it is.
        scale: the value of one stored step, for objects that have their own; else None, and the rescale counts.
        top: the highest stored value there can be, or None for the highest in the frame.
    """

    note: str
    scale: float | None = None
    top: int | None = None


def check_has_pixels(dataset: Dataset) -> None:
    """Refuse an object without pixels, by its own name.

    Raises:
        ImageError: it is of another kind, encrypted, or its picture is missing.
    """
    if any(keyword in dataset for keyword in PIXEL_KEYWORDS):
        return
    if dataset.get("PixelDataProviderURL"):
        raise unsupported(
            "The DICOM file holds no pixels but the address of a server that has them (JPIP)",
            "Export the picture from its archive as uncompressed DICOM",
        )
    storage = _storage_class(dataset)
    if storage == uid.MediaStorageDirectoryStorage or "DirectoryRecordSequence" in dataset:
        raise unsupported(
            "This is a DICOMDIR, the table of contents of a DICOM medium, not a picture",
            "Open one of the files that it lists",
        )
    if "EncryptedAttributesSequence" in dataset:
        raise unsupported(
            "The DICOM file is encrypted: its picture is not readable without the key",
            "Export it from its archive without encryption",
        )
    # A name of the standard is safe to show; the name of an unknown identifier is the identifier itself.
    name = storage.name if storage in uid.UID_dictionary else ""
    if "Image Storage" in name or describe_object(dataset) or (not name and "Rows" in dataset):
        raise ImageError(
            got="The DICOM file has no pixel data although it is meant to hold a picture: it is cut off, or its "
            "picture was removed",
            expected="a DICOM file with pixel data",
            remedy="Copy or export it again from where it came from",
        )
    remedy = next((remedy for word, remedy in _REMEDIES if word in name), "Choose a file that holds an image")
    raise unsupported(
        f"The DICOM file holds no picture ({name.removesuffix(' Storage')})"
        if name
        else "The DICOM file holds no picture",
        remedy,
    )


def describe_object(dataset: Dataset, frame: int = 0) -> ObjectKind | None:
    """What the pixels are where they are no ordinary picture; None for one."""
    storage = _storage_class(dataset)
    if storage == uid.RTDoseStorage:
        return _dose(dataset)
    if storage in (uid.SegmentationStorage, _LABEL_MAP):
        return _segmentation(dataset, storage, frame)
    if storage == uid.ParametricMapStorage:
        return ObjectKind("This is a parametric map: values computed from pictures, not a picture of the body")
    return None


def _dose(dataset: Dataset) -> ObjectKind:
    scale = number(dataset, "DoseGridScaling")
    unit = "relative to a reference dose" if text(dataset, "DoseUnits") == "RELATIVE" else "in gray"
    if not scale:
        scale, unit = 1.0, "in steps of unknown size, since DoseGridScaling is missing"
    return ObjectKind(f"This is a map of radiation dose, {unit} (RT Dose), not a picture of the body", scale)


def _segmentation(dataset: Dataset, storage: uid.UID, frame: int) -> ObjectKind:
    if storage == _LABEL_MAP or text(dataset, "SegmentationType") == "LABELMAP":
        return ObjectKind("This is a segmentation: each grey is one segment's number, not a picture of the body", 1.0)
    inner = holder(dataset, frame, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
    segment = whole_number(inner, "ReferencedSegmentNumber")
    which = "a segment" if segment is None else f"segment {segment}"
    if text(dataset, "SegmentationType") == "FRACTIONAL":
        top = whole_number(dataset, "MaximumFractionalValue") or 255
        return ObjectKind(f"This is a segmentation: how far {which} fills a pixel, not a picture of the body", 1.0, top)
    return ObjectKind(f"This is a segmentation: white is {which}, not a picture of the body", 1.0, 1)


def _storage_class(dataset: Dataset) -> uid.UID:
    storage = uid.UID(str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or ""))
    if storage in uid.UID_dictionary or storage == _LABEL_MAP:
        return storage
    telling = next((kind for keyword, kind in _TELLING.items() if keyword in dataset), storage)
    return _MODALITY_CLASSES.get(text(dataset, "Modality"), telling)
