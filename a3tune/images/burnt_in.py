"""Whether names or dates may be burnt into a DICOM picture itself, where no de-identification of the header reaches.

Only the header tells: its own word (Burned In Annotation, PS3.3 C.7.6.1.1.4), else the kinds of picture that PS3.15
(E.3.1, Clean Pixel Data Option) names as those where that is usual.
"""

from __future__ import annotations

from pydicom import Dataset

from a3tune.images.dicom_header import text

WHAT_TO_DO = "look at it before it, or a result with it, leaves this machine"
"""What a person should do."""

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# Ultrasound, endoscopes, cameras and other devices that film a screen with its captions.
_MODALITIES = {
    "US": "ultrasound", "IVUS": "ultrasound", "ES": "endoscopy", "XC": "photographs", "GM": "microscopy",
    "OT": "other devices", "SC": "secondary captures",
}  # fmt: skip


def burnt_in_note(dataset: Dataset) -> str:
    """What to know about text in the picture, as a sentence; "" where the header says that there is none, or the
    picture is of a kind where it is not usual."""
    said = text(dataset, "BurnedInAnnotation")
    if said == "YES":
        return f"The header says that text is burnt into the picture, maybe a name or a date: {WHAT_TO_DO}"
    kind = _usual_kind(dataset)
    if said == "NO" or not kind:
        return ""
    return (
        f"Pictures of this kind ({kind}) often have a name or a date burnt in, and the header does not say that there "
        f"is none: {WHAT_TO_DO}"
    )


def _usual_kind(dataset: Dataset) -> str:
    """The kind of picture, in words, where text is usual; "" elsewhere."""
    storage = str(dataset.get("SOPClassUID") or "")
    if storage == _SECONDARY_CAPTURE or storage.startswith(f"{_SECONDARY_CAPTURE}."):
        return "secondary captures"
    values = dataset.get("ImageType") or ()
    if "SCREEN SAVE" in {str(value).strip().upper() for value in ([values] if isinstance(values, str) else values)}:
        return "screen saves"
    # Workstation, digital interface, digitised film and video (PS3.3 C.8.6.1): what was captured, not measured.
    if text(dataset, "ConversionType") in ("DV", "DI", "DF", "WSD", "SD", "SI", "DRW", "SYN"):
        return "secondary captures"
    return _MODALITIES.get(text(dataset, "Modality"), "")
