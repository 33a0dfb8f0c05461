"""What the grey values of a DICOM frame mean: units, padding, window and lookup tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydicom import Dataset, uid
from pydicom.pixels import apply_color_lut

from a3tune.errors import ImageError
from a3tune.images.content import damaged
from a3tune.images.dicom_header import holder, missing_field, number, text
from a3tune.images.dicom_kinds import ObjectKind
from a3tune.images.dicom_pixels import StoredFrame
from a3tune.images.grey import GreyFrame, VoiTable, WindowFunction
from a3tune.types import Window

_FUNCTIONS: tuple[WindowFunction, ...] = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
# Each padding value with the other end of its range (PS3.3 C.7.5.1.1.2, C.7.6.3 and C.7.6.24).
_PADDING = (
    ("PixelPaddingValue", "PixelPaddingRangeLimit"),
    ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    ("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
)


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
    padding, usual = _padding(stored, dataset)
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
    )


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
        raise damaged("DICOM")
    scaled = values >> (bits - 8) if bits >= 8 else values * (255 // (2**bits - 1))
    return np.clip(scaled, 0, 255).astype(np.uint8)


def _padding(stored: StoredFrame, dataset: Dataset) -> tuple[np.ndarray | None, tuple[float, float] | None]:
    """Which pixels are padding (bool [height, width]), and the stored values that may rule the automatic window."""
    chosen = next((keywords for keywords in _PADDING if number(dataset, keywords[0]) is not None), None)
    if chosen is None:
        return None, None
    values = stored.values
    start = number(dataset, chosen[0], 0.0)
    low, high = sorted(_as_stored(end, values.dtype) for end in (start, number(dataset, chosen[1], start)))
    padding = (values >= low) & (values <= high)
    if stored.raw is not None:
        # Padding may use bits that values do not.
        padding |= stored.raw == (int(start) & (2 ** (8 * stored.raw.dtype.itemsize) - 1))
    below, above = values[values < low], values[values > high]
    usual = None
    # Lossy compression smears padding to both sides. The picture lies on the side of more pixels; what lies on the
    # other side is smear where it does not reach far and mostly stays near, and reaches as far into the picture's.
    if below.size <= above.size and below.size:
        reach = low - float(below.min())
        if reach <= (float(above.max()) - high) / 3 and (below > low - reach / 2).mean() > 0.5:
            padding |= values < low
            usual = high + reach, math.inf
    elif above.size and below.size:
        reach = float(above.max()) - high
        if reach <= (low - float(below.min())) / 3 and (above < high + reach / 2).mean() > 0.5:
            padding |= values > high
            usual = -math.inf, low - reach
    return (padding if padding.any() else None), usual


def _as_stored(value: float, dtype: np.dtype) -> float:
    """A padding value as the pixels have it: of 32-bit floats rounded so, of integers with the picture's sign, since
    a value that is written with the wrong one (PS3.5 6.2, US or SS) stands for the same bits."""
    if dtype.kind == "f":
        return float(dtype.type(value))
    bits = min(16, 8 * dtype.itemsize)
    if dtype.kind == "i" and 2 ** (bits - 1) <= value < 2**bits:
        return value - 2**bits
    return value + 2**bits if dtype.kind == "u" and value < 0 else value


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
        raise damaged("DICOM")
    return entries
