"""The fields of a DICOM header that say how its pixels are stored (PS3.3 C.7.6.3), and how to read any field safely."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, overload

import numpy as np
from pydicom import Dataset, uid
from pydicom.datadict import tag_for_keyword
from pydicom.tag import Tag

from a3tune.errors import ImageError
from a3tune.images.content import unsupported

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT", "XYB")
_KNOWN = (*GREY, "PALETTE COLOR", *_COLOUR)
_RETIRED = ("HSV", "ARGB", "CMYK", "YBR_PARTIAL_420")


@dataclass(frozen=True)
class PixelHeader:
    """How the pixels of a DICOM file are stored.

    Attributes:
        keyword: the element that holds them: "PixelData", "FloatPixelData" or "DoubleFloatPixelData".
        rows, columns: size of a frame in pixels.
        samples: values of one pixel, 1 or 3.
        photometric: what the values mean, a defined term of PS3.3 C.7.6.3.1.2.
        allocated, stored, high: bits that a value takes, bits of them that count, and the highest of these, from 0.
        signed: whether values are two's complements.
        planar: whether colours stand plane by plane; None where the header does not say.
        little_endian: the byte order of uncompressed values.
        swapped: whether uncompressed bytes stand in the reverse order in each 16-bit word (PS3.5 7.3: OW, big endian).
    """

    keyword: str
    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    high: int
    signed: bool
    planar: bool | None
    little_endian: bool
    swapped: bool

    @property
    def frame_bits(self) -> int:
        """Bits of one uncompressed frame."""
        bits = self.rows * self.columns * self.samples * self.allocated
        # Two neighbours share their colour (PS3.3 C.7.6.3.1.2).
        return bits * 2 // 3 if self.photometric.endswith("_422") else bits


def read_pixel_header(dataset: Dataset, syntax: uid.UID) -> PixelHeader:
    """The header's description of the pixels, each field checked; what is missing is filled in only where the other
    fields leave one possibility.

    Raises:
        ImageError: a field is missing, contradicts another one, or asks for something that is not supported.
    """
    keyword = next(keyword for keyword in PIXEL_KEYWORDS if keyword in dataset)
    photometric = _photometric(dataset)
    samples = whole_number(dataset, "SamplesPerPixel") or (3 if photometric in _COLOUR else 1)
    if samples != (3 if photometric in _COLOUR else 1):
        contradiction(f"SamplesPerPixel is {samples} and PhotometricInterpretation is {photometric}")
    allocated, stored, high, signed = _bits(dataset, keyword)
    if signed and samples == 3:
        raise unsupported("The DICOM file's colours have a sign, which is not supported", "Export it as PNG")
    planar = whole_number(dataset, "PlanarConfiguration")
    big = syntax == uid.ExplicitVRBigEndian
    return PixelHeader(
        keyword=keyword,
        rows=_required(dataset, "Rows"),
        columns=_required(dataset, "Columns"),
        samples=samples,
        photometric=photometric,
        allocated=allocated,
        stored=stored,
        high=high,
        signed=signed,
        planar=None if planar is None else planar == 1,
        little_endian=not big,
        swapped=big and allocated not in (16, 32, 64) and dataset[keyword].VR == "OW",
    )


def _bits(dataset: Dataset, keyword: str) -> tuple[int, int, int, bool]:
    if keyword != "PixelData":
        width = 32 if keyword == "FloatPixelData" else 64
        return width, width, width - 1, True
    allocated, stored = _required(dataset, "BitsAllocated"), _required(dataset, "BitsStored")
    representation = _required(dataset, "PixelRepresentation")
    if not 1 <= stored <= allocated <= 64:
        contradiction(f"BitsStored is {stored} and BitsAllocated is {allocated}")
    if allocated not in (1, 8, 12, 16, 32, 64):
        raise unsupported(
            f"The DICOM file stores its pixels in {allocated} bits each, which is not supported",
            "Export it again with 8 or 16 bits for each value",
        )
    if representation not in (0, 1):
        contradiction(f"PixelRepresentation is {representation}, which means nothing")
    high = whole_number(dataset, "HighBit")
    # A highest bit that leaves no room for the stored ones, or lies outside, can only be a slip: they lie lowest.
    high = stored - 1 if high is None or not stored - 1 <= high < allocated else high
    return allocated, stored, high, representation == 1


def _photometric(dataset: Dataset) -> str:
    photometric = text(dataset, "PhotometricInterpretation")
    # ACR-NEMA, DICOM's forerunner, knew only pictures in which more is brighter, and had no such field.
    if not photometric and text(dataset, "RecognitionCode").startswith("ACR-NEMA"):
        return "MONOCHROME2"
    if not photometric:
        missing_field("PhotometricInterpretation")
    if photometric in _RETIRED:
        raise unsupported(
            f"The DICOM file's colours are of the kind {photometric}, which is not supported", "Export it as PNG"
        )
    if photometric not in _KNOWN:
        raise unsupported(
            "The DICOM header's PhotometricInterpretation is none that the standard defines",
            "Export the file again from its archive",
        )
    return photometric


def missing_field(keyword: str) -> NoReturn:
    """Refuse a file for a field that it lacks and that the others do not tell."""
    raise ImageError(
        got=f"The DICOM header lacks {keyword} {Tag(tag_for_keyword(keyword) or 0)}, without which the pixels have no "
        "certain meaning",
        expected=f"a header with {keyword}",
        remedy="Export the file again from its archive or from the program that made it",
    )


def contradiction(what: str) -> NoReturn:
    """Refuse a file whose parts contradict each other."""
    raise ImageError(
        got=f"The DICOM file contradicts itself: {what}",
        expected="a header and a picture that agree",
        remedy="Export the file again from its archive or from the program that made it",
    )


def _required(dataset: Dataset, keyword: str) -> int:
    value = whole_number(dataset, keyword)
    if value is None:
        missing_field(keyword)
    return value


@overload
def number(dataset: Dataset, keyword: str, default: float, index: int = 0) -> float: ...
@overload
def number(dataset: Dataset, keyword: str, default: None = None, index: int = 0) -> float | None: ...
def number(dataset: Dataset, keyword: str, default: float | None = None, index: int = 0) -> float | None:
    """A header number, of several the one at ``index``; ``default`` where it is missing or no finite number."""
    try:
        value = dataset.get(keyword)
        value = np.atleast_1d(np.asarray(value, dtype=np.float64))[index]
    except (TypeError, ValueError, IndexError, OverflowError):
        return default
    return float(value) if math.isfinite(value) else default


def whole_number(dataset: Dataset, keyword: str) -> int | None:
    """A header's whole number; None where it is missing, empty or none."""
    value = number(dataset, keyword)
    return None if value is None else int(value)


def text(dataset: Dataset, keyword: str) -> str:
    """A header's code in upper case, of several the first; "" where it is missing or empty."""
    value = dataset.get(keyword)
    value = value if isinstance(value, str) else next(iter(value or ()), "")
    return str(value).strip().upper()


def holder(dataset: Dataset, frame: int, sequence: str, keyword: str) -> Dataset:
    """Where a frame's ``keyword`` stands: its own functional group, the shared one, or the data set itself."""
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups) or ()
        if index < len(items):
            inner: Sequence[Dataset] = items[index].get(sequence) or ()
            if len(inner) and keyword in inner[0]:
                return inner[0]
    return dataset
