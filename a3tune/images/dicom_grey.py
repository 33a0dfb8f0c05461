"""What the grey values of a DICOM frame mean: units, padding, window and lookup tables."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
from pydicom import Dataset, uid
from pydicom.pixels import apply_color_lut

from a3tune.errors import ImageError
from a3tune.images.dicom_header import contradiction, holder, missing_field, number, text
from a3tune.images.dicom_kinds import ObjectKind
from a3tune.images.dicom_pixels import StoredFrame
from a3tune.images.grey import GreyFrame, VoiTable, WindowFunction
from a3tune.types import Window

_FUNCTIONS: tuple[WindowFunction, ...] = get_args(WindowFunction)
# Each padding value with the other end of its range (PS3.3 C.7.5.1.1.2, C.7.6.3 and C.7.6.24).
_PADDING = (
    ("PixelPaddingValue", "PixelPaddingRangeLimit"),
    ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    ("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
)

# Rescale types (PS3.3 C.11.1.1.2) and units of PET (PS3.3 C.8.9.1.1.3) as they are written.
_RESCALE_TYPES = {
    "OD": "10⁻³ optical density",
    "Z_EFF": "effective atomic number",
    "ED": "10²³ electrons/ml",
    "EDW": "electron density of water",
    "HU_MOD": "modified HU",
    "MGML": "mg/ml",
    "PCT": "%",
}
_ACTIVITY = {"BQML": "Bq/ml", "CNTS": "counts", "CPS": "counts/s", "GML": "g/ml", "CM2ML": "cm²/ml", "PCNT": "%"}
_ACTIVITY |= {"PROPCNTS": "proportional to counts", "PROPCPS": "proportional to counts/s", "MLMING": "ml/min/g"}

_LOSSY_SYNTAXES = frozenset(
    (
        *(uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000, uid.HTJ2K),
        *map(uid.UID, (f"1.2.840.10008.1.2.4.{number}" for number in (53, 55, 112))),
    )
)
_LOSSY = 0.01
"""Part of a picture's span that lossy compression may move the values of its padding."""


def grey_frame(
    stored: StoredFrame,
    dataset: Dataset,
    frame: int,
    syntax: uid.UID,
    modality: str | None,
    inverted: bool,
    kind: ObjectKind | None,
) -> GreyFrame:
    """Put the frame's units, padding, windows and tables beside its values.

    Raises:
        ImageError: the rescale slope is 0, or a lookup table ends early.
    """
    values = stored.values
    signed = values.dtype.kind == "i"
    padding, usual = _padding(stored, dataset, syntax)
    rescale = holder(dataset, frame, "PixelValueTransformationSequence", "RescaleSlope")
    units = text(rescale, "RescaleType")
    slope, intercept = number(rescale, "RescaleSlope", 1.0), number(rescale, "RescaleIntercept", 0.0)
    table = _table(dataset, "ModalityLUTSequence", syntax)
    if kind is not None and kind.scale is not None:
        slope, intercept = kind.scale, 0.0
    elif table is not None:
        first, entries, _ = table
        index = values.astype(np.int64) - _first_value(first, signed)
        values = entries[np.clip(index, 0, len(entries) - 1)]
        units, slope, intercept, usual = text(dataset.ModalityLUTSequence[0], "ModalityLUTType"), 1.0, 0.0, None
    if slope == 0:
        raise ImageError(
            got="The DICOM file's rescale slope is 0, which makes all grey values equal",
            expected="a rescale slope other than 0",
            remedy="Export the file again from its archive",
        )
    voi = holder(dataset, frame, "FrameVOILUTSequence", "WindowCenter")
    function = text(voi, "VOILUTFunction")
    return GreyFrame(
        values,
        slope=slope,
        intercept=intercept,
        inverted=inverted,
        padding=padding,
        usual=usual,
        header_window=_header_window(voi),
        full_range=_full_range(values, stored.bits, slope, intercept, kind) if table is None else None,
        function=function if function in _FUNCTIONS else "LINEAR",
        table=_voi_table(dataset, syntax, values, slope, intercept),
        hounsfield=units == "HU" or (modality == "CT" and not units and table is None and "RescaleSlope" in rescale),
        unit=_unit(dataset, units, modality, kind),
    )


def _unit(dataset: Dataset, units: str, modality: str | None, kind: ObjectKind | None) -> str:
    """The unit of the values where the header names one by a defined term: other text may be about a person."""
    if kind is not None:
        dose = text(dataset, "DoseUnits") == "GY" and number(dataset, "DoseGridScaling")
        return "Gy" if dose and kind.scale != 1.0 else ""
    if modality == "PT" and units in ("", "US"):
        return _ACTIVITY.get(text(dataset, "Units"), "")
    return _RESCALE_TYPES.get(units, "")


def palette(pixels: np.ndarray, dataset: Dataset, syntax: uid.UID) -> np.ndarray:
    """Palette indices to uint8 [height, width, 3] by PS3.3 C.7.6.3.1.5 and C.7.9."""
    names = [f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")]
    for name in names:
        if number(dataset, f"{name}Descriptor", index=2) is None:
            missing_field(f"{name}Descriptor")
        if f"{name}Data" not in dataset and f"Segmented{name}Data" not in dataset:
            missing_field(f"{name}Data")
    count, first, bits = (int(number(dataset, f"{names[0]}Descriptor", 0.0, index)) for index in range(3))
    count, first = count or 2**16, _first_value(first, pixels.dtype.kind == "i")
    index = np.clip(pixels.astype(np.int64) - first, 0, count - 1)
    if f"{names[0]}Data" in dataset:
        tables = [_entries(dataset[f"{name}Data"].value, count, syntax) for name in names]
        channels = np.stack([table[index] for table in tables], axis=-1)
        highest = max(int(table.max()) for table in tables)
    else:
        # Segmented tables: pydicom expands them.
        channels = apply_color_lut(index + first, dataset)[..., :3]
        highest = int(channels.max())
    # Writers of 8-bit tables say 16 for the words that their entries stand in; such colours would all be black.
    return to_bytes(channels, 8 if bits == 16 and highest < 2**8 else bits)


def to_bytes(values: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned samples of ``bits`` bits to uint8, the upper 8 bits kept."""
    if values.dtype == np.uint8 and bits == 8:
        return values
    if not 1 <= bits <= 64:
        contradiction(f"the entries of a lookup table have {bits} bits each")
    scaled = values >> (bits - 8) if bits >= 8 else values * (255 // (2**bits - 1))
    return np.clip(scaled, 0, 255).astype(np.uint8)


def _padding(
    stored: StoredFrame, dataset: Dataset, syntax: uid.UID
) -> tuple[np.ndarray | None, tuple[float, float] | None]:
    """Which pixels are padding (bool [height, width]), and the stored values that may rule the automatic window."""
    ends = next((told for keywords in _PADDING if (told := _padding_ends(dataset, keywords, syntax))), None)
    if ends is None:
        return None, None
    values = stored.values
    low, high = _as_stored(ends, stored)
    padding = (values >= low) & (values <= high)
    if stored.raw is not None:
        # Padding may use bits that values do not.
        padding |= stored.raw == (int(ends[0]) & (2 ** (8 * stored.raw.dtype.itemsize) - 1))
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    lowest, highest = (float(finite.min()), float(finite.max())) if finite.size else (low, high)
    # Lossy compression smears padding to both sides; the picture lies on the side that reaches further.
    if highest - high >= low - lowest:
        below = low - finite[finite < low].astype(np.float64)
        smeared, reach = _smear(below, highest - high, syntax)
        padding |= (values < low) & smeared
        usual = (high + reach, math.inf)
    else:
        above = finite[finite > high].astype(np.float64) - high
        smeared, reach = _smear(above, low - lowest, syntax)
        padding |= (values > high) & smeared
        usual = (-math.inf, low - reach)
    return (padding if padding.any() else None), (usual if smeared or reach else None)


def _smear(beyond: np.ndarray, span: float, syntax: uid.UID) -> tuple[bool, float]:
    """Whether what lies beyond the padding is padding too, and how far padding reaches into the picture.

    It is where it lies no further away than a third of the picture's span, and stays near or in one place.

    Args:
        beyond: distances [n] from the padding, on the side that is not the picture's.
        span: of the picture, from the padding on.
        syntax: a lossy one moves padding by itself.
    """
    least = _LOSSY * span if syntax in _LOSSY_SYNTAXES else 0.0
    reach = float(beyond.max()) if beyond.size else 0.0
    if not 0 < reach <= span / 3:
        return False, least
    near = reach <= _LOSSY * span or (beyond < reach / 2).mean() > 0.5
    return near or float(np.ptp(beyond)) == 0, max(least, reach if near else 0.0)


def _padding_ends(dataset: Dataset, keywords: tuple[str, str], syntax: uid.UID) -> tuple[float, float] | None:
    """A padding value and the other end of its range, as they are written."""
    start = _padding_number(dataset, keywords[0], syntax)
    limit = _padding_number(dataset, keywords[1], syntax)
    return None if start is None else (start, start if limit is None else limit)


def _padding_number(dataset: Dataset, keyword: str, syntax: uid.UID) -> float | None:
    value = dataset.get(keyword)
    if isinstance(value, bytes):
        # An element of a type without numbers (OW, OB): its bytes are those of a pixel.
        return float(int.from_bytes(value, "big" if syntax == uid.ExplicitVRBigEndian else "little")) if value else None
    return number(dataset, keyword)


def _as_stored(ends: tuple[float, float], stored: StoredFrame) -> tuple[float, float]:
    """The lowest and highest padding as the pixels have it: of 32-bit floats rounded so; of integers read with or
    without a sign, since a value that is written with the wrong one (PS3.5 6.2, US or SS) stands for the same bits: the
    first reading that pixels can have and do have, or only can have."""
    values = stored.values
    if values.dtype.kind == "f":
        first, last = sorted(float(values.dtype.type(end)) for end in ends)
        return first, last
    signed = values.dtype.kind == "i"
    least, most = (-(2.0 ** (stored.bits - 1)), 2.0 ** (stored.bits - 1) - 1) if signed else (0.0, 2.0**stored.bits - 1)
    widths = sorted({16, 32, stored.bits, 8 * values.dtype.itemsize})
    readings = [ends]
    for width in widths:
        turned = [
            end - 2.0**width if signed and 2 ** (width - 1) <= end < 2**width else
            end + 2.0**width if not signed and -(2 ** (width - 1)) <= end < 0 else end
            for end in ends
        ]  # fmt: skip
        readings.append((turned[0], turned[1]))
    spans = [(min(pair), max(pair)) for pair in readings]
    possible = [(low, high) for low, high in spans if high >= least and low <= most] or spans[:1]
    return next((span for span in possible if ((values >= span[0]) & (values <= span[1])).any()), possible[0])


def _full_range(
    values: np.ndarray, bits: int, slope: float, intercept: float, kind: ObjectKind | None
) -> Window | None:
    """The window over all that a picture of up to 8 bits can hold, or from nothing to the highest value of a map."""
    if values.dtype.kind not in "iu":
        return None
    if kind is not None and kind.scale is not None:
        low, high = min(0, int(values.min())), int(values.max()) if kind.top is None else kind.top
    elif bits <= 8:
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if values.dtype.kind == "i" else (0, 2**bits - 1)
    else:
        return None
    bottom, top = sorted((low * slope + intercept, high * slope + intercept))
    return Window((bottom + top) / 2, top - bottom) if top > bottom else None


def _header_window(voi: Dataset) -> Window | None:
    """The first window of the header; a window whose width is not above 0, or no number, counts as none."""
    centre, width = number(voi, "WindowCenter"), number(voi, "WindowWidth")
    return Window(centre, width) if centre is not None and width is not None and width > 0 else None


def _voi_table(
    dataset: Dataset, syntax: uid.UID, values: np.ndarray, slope: float, intercept: float
) -> VoiTable | None:
    table = _table(dataset, "VOILUTSequence", syntax)
    if table is None:
        return None
    first, entries, bits = table
    negative = min(float(values.min()) * slope, float(values.max()) * slope) + intercept < 0
    return VoiTable(_first_value(first, negative), to_bytes(entries, bits))


def _table(dataset: Dataset, keyword: str, syntax: uid.UID) -> tuple[int, np.ndarray, int] | None:
    """(first value that it maps, entries, bits of an entry) of the first lookup table in a sequence; None where there
    is none, or only an item without a table in it."""
    item = next(iter(dataset.get(keyword) or ()), Dataset())
    descriptor = [number(item, "LUTDescriptor", index=index) for index in range(3)]
    data = item.get("LUTData")
    told = [int(value) for value in descriptor if value is not None]
    if len(told) < 3 or data is None or data in (b"", ""):
        return None
    count, first, bits = told
    return first, _entries(data, count or 2**16, syntax), bits


def _first_value(first: int, negative: bool) -> int:
    # Its field may be written without a sign although the values have one (PS3.3 C.11.1.1).
    return first - 2**16 if negative and first >= 2**15 else first


def _entries(data: Any, count: int, syntax: uid.UID) -> np.ndarray:
    """The entries of a lookup table, which pydicom hands over as bytes (OW) or as numbers (US)."""
    if isinstance(data, bytes):
        wide, big = len(data) >= 2 * count, syntax == uid.ExplicitVRBigEndian
        if big and not wide and len(data) % 2 == 0:
            # Bytes stand in 16-bit words, whose order is reversed.
            data = np.frombuffer(data, "u2").byteswap().tobytes()
        data = np.frombuffer(data, (">u2" if big else "<u2") if wide else "u1")
    entries = np.atleast_1d(np.asarray(data)).astype(np.int64)[:count]
    if len(entries) < count:
        contradiction(f"a lookup table should have {count} entries, and has {len(entries)}")
    return entries
