"""From grey values in the file's own units to 8-bit grey: windows, presets and lookup tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from a3tune.errors import ImageError, RequestError
from a3tune.types import Window

WindowFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]

WINDOW_PRESETS: Mapping[str, Window] = MappingProxyType(
    {
        "lung": Window(-600.0, 1500.0),
        "mediastinum": Window(50.0, 350.0),
        "soft tissue": Window(50.0, 400.0),
        "abdomen": Window(40.0, 400.0),
        "liver": Window(30.0, 150.0),
        "bone": Window(400.0, 1800.0),
        "brain": Window(40.0, 80.0),
        "stroke": Window(32.0, 8.0),
        "subdural": Window(75.0, 215.0),
    }
)
"""The windows in common radiological use for computed tomography, in Hounsfield units."""

PERCENTILES = (0.5, 99.5)
"""Grey values shown as black and as white when neither the file nor the caller names a window."""

_BLOCK = 1 << 20
# MR, PET and standardised values do not reach this far down; the air around and in a patient does (-1000).
_AIR_BELOW = -100.0
# Nothing has less; scanners fill the corners around their round field of view with less.
_LOWEST_HOUNSFIELD = -1024.0
_EXACT = (
    "The window is read as the span of its width around its centre: by the letter of its function (LINEAR, for whole "
    "numbers) these values would be black and white only"
)


@dataclass(frozen=True, eq=False)
class VoiTable:
    """A DICOM VOI lookup table (PS3.3 C.11.2.1.1): values below ``first`` take the first entry, those beyond the
    end the last. ``entries`` is uint8 [n], already scaled to 0..255."""

    first: int
    entries: np.ndarray


@dataclass(frozen=True, eq=False)
class GreyFrame:
    """One frame of grey values with what is needed to show it.

    Attributes:
        stored: [height, width], any real number type; the value in the file's units is ``stored * slope + intercept``.
        slope, intercept: the rescale to the file's units (Hounsfield units, ...).
        inverted: True when the lowest value is white (DICOM MONOCHROME1, TIFF WhiteIsZero).
        padding: bool [height, width], pixels outside the picture, or None: shown black, left out of the percentiles.
        usual: (lowest, highest) stored value that the percentiles are taken from, or None for all.
        header_window: the window that the file suggests, or None.
        full_range: the window that spans all values that the file's bits can hold, for pictures of 8 bits or fewer.
        function: how a window maps values to grey, DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3.
        table: the lookup table that the file suggests in place of a window, or None.
        hounsfield: whether values are Hounsfield units; None when the format cannot tell.
        unit: another unit that the file names for its values, or "".
    """

    stored: np.ndarray
    slope: float = 1.0
    intercept: float = 0.0
    inverted: bool = False
    padding: np.ndarray | None = None
    usual: tuple[float, float] | None = None
    header_window: Window | None = None
    full_range: Window | None = None
    function: WindowFunction = "LINEAR_EXACT"
    table: VoiTable | None = None
    hounsfield: bool | None = False
    unit: str = ""


def resolve_window(window: Window | tuple[float, float] | str | None) -> Window | str | None:
    """Check a caller's window: a preset's name in lower case, a Window of floats, or None.

    Raises:
        RequestError: an unknown preset, or a centre or width that is no finite number, or a width not above 0.
    """
    if window is None:
        return None
    if isinstance(window, str):
        name = " ".join(window.lower().split())
        if name not in WINDOW_PRESETS:
            raise RequestError(
                got=f"There is no window preset named {window!r}",
                expected="one of " + ", ".join(WINDOW_PRESETS),
                remedy="Choose one of these, or give a centre and a width",
            )
        return name
    try:
        centre, width = (float(number) for number in window)
        usable = math.isfinite(centre) and math.isfinite(width) and width > 0
    except (TypeError, ValueError):
        usable = False
    if not usable:
        raise RequestError(
            got=f"{window!r} is not a window",
            expected="two finite numbers, centre and width, the width above 0",
            remedy="Give for example centre 40 and width 400",
        )
    return Window(centre, width)


def show(frame: GreyFrame, window: Window | str | None) -> tuple[np.ndarray, Window | None, tuple[str, ...]]:
    """Grey values to 8 bits.

    The window is, in this order: the caller's (``resolve_window``'s result), the file's own window, the file's own
    lookup table, the full range of a picture of 8 bits or fewer, the percentiles 0.5 to 99.5 of the frame. Values
    that are not numbers (NaN, infinity) and padding are black.

    Returns:
        uint8 [height, width], the window that was used (None for a lookup table), and notes on it.

    Raises:
        RequestError: a preset for values that are not Hounsfield units.
        ImageError: the frame holds not one finite value.
    """
    finite = _sample(frame)
    if isinstance(window, str):
        why = _not_hounsfield(frame, finite)
        if why is not None:
            raise RequestError(
                got=f"The window preset {window!r} does not fit this picture: {why}",
                expected="a computed tomography picture in Hounsfield units for a preset",
                remedy="Leave the window to the file, or give a centre and a width of your own",
            )
        window = WINDOW_PRESETS[window]
    table = frame.table
    if window is None and frame.header_window is None and table is not None:
        return _map(frame, lambda values: _look_up(values, table)), None, ()
    named = window or frame.header_window
    # The file's function belongs to windows made for it; spans of values run from black to white exactly.
    function = frame.function if named else "LINEAR_EXACT"
    window = named or frame.full_range or _percentile_window(finite)
    notes: tuple[str, ...] = ()
    if function == "LINEAR" and _is_lost(finite, window):
        function, notes = "LINEAR_EXACT", (_EXACT,)
    return _map(frame, lambda values: _apply(values, window, function)), window, notes


def _is_lost(finite: np.ndarray, window: Window) -> bool:
    """Whether LINEAR, by the letter, makes a black and white picture of fractions that lie inside the window."""
    if window.width < 1.0:
        return True
    if window.width >= 2.0:
        return False
    fractions = finite[(finite != np.rint(finite)) & (np.abs(finite - window.centre) < window.width / 2)]
    return bool(fractions.size and np.isin(_apply(fractions, window, "LINEAR"), (0, 255)).all())


def not_hounsfield(frame: GreyFrame, *, stated: bool) -> str | None:
    """Why the frame's values cannot be taken for Hounsfield units, or None where they can.

    Args:
        frame: the frame.
        stated: whether somebody who knows the picture says that they are: needed where the format cannot tell, and
            then only values that reach down to air are believed.
    """
    if frame.hounsfield is None and not stated:
        return "its format does not say whether its values are Hounsfield units; choosing a window preset says so"
    return None if frame.hounsfield else _not_hounsfield(frame, _sample(frame))


def show_span(frame: GreyFrame, low: float, high: float) -> np.ndarray:
    """uint8 [height, width]: ``low`` and less black, ``high`` and more 255, rounded to the nearest, halves to even.

    Low is black whatever the file says of how it wants to be shown (``inverted``, windows, tables); values that are
    not numbers and padding are black. Computed in float32 as ``(clip(v, low, high) - low) / (high - low) * 255``.
    """

    def to_grey(values: np.ndarray) -> np.ndarray:
        share = (np.clip(values, low, high).astype(np.float32) - np.float32(low)) / np.float32(high - low)
        return np.rint(share * np.float32(255)).astype(np.uint8)

    return _map(replace(frame, inverted=False), to_grey)


def _sample(frame: GreyFrame) -> np.ndarray:
    """The frame's finite values in file units, padding left out: all of up to a million, else an even selection."""
    flat = frame.stored.reshape(-1)
    step = max(1, -(-flat.size // _BLOCK))
    finite = np.isfinite(flat[::step])
    sample = flat[::step][finite]
    if not sample.size:
        raise ImageError(
            got="Not one pixel of the picture holds a number: all values are NaN or infinite",
            expected="grey values that are finite numbers",
            remedy="Choose another frame or slice, or export the picture again",
        )
    inside = np.ones(sample.size, bool)
    if frame.padding is not None:
        inside = ~frame.padding.reshape(-1)[::step][finite]
    if frame.usual is not None:
        inside &= (sample >= frame.usual[0]) & (sample <= frame.usual[1])
    values = sample.astype(np.float64) * frame.slope + frame.intercept
    if frame.hounsfield:
        inside &= values >= _LOWEST_HOUNSFIELD
    return values[inside] if inside.any() else values


def _not_hounsfield(frame: GreyFrame, values: np.ndarray) -> str | None:
    """Why values of a frame (see ``_sample``) cannot be Hounsfield units, or None where they are or may be."""
    if frame.hounsfield or (frame.hounsfield is None and values.min() < _AIR_BELOW):
        return None
    why = "the file does not say that its values are" if frame.hounsfield is False else "its values do not look like"
    return f"{why} Hounsfield units"


def _percentile_window(values: np.ndarray) -> Window:
    low, high = np.percentile(values, PERCENTILES)
    if high <= low:
        low, high = values.min(), values.max()
    width = float(high - low)
    if not width > 0:
        # A constant picture has nothing to stretch: it is shown as uniform black.
        return Window(float(low) + 0.5, 1.0)
    return Window(float(low) + width / 2, width)


def _map(frame: GreyFrame, to_grey: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Map the stored values to uint8 with ``to_grey``, a function of float64 values in file units."""
    stored = frame.stored
    if stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2:
        # At most 65536 different values: compute each once and look the pixels up.
        low = int(stored.min())
        table = _map_values(np.arange(low, int(stored.max()) + 1), frame, to_grey)
        return _black_out(table[stored.astype(np.int32) - low], frame)
    # A band of rows at a time: float64 copies of a whole 64 megapixel frame would take gigabytes.
    rows = max(1, _BLOCK // stored.shape[1])
    bands = [_map_values(stored[top : top + rows], frame, to_grey) for top in range(0, stored.shape[0], rows)]
    return _black_out(np.concatenate(bands), frame)


def _black_out(grey: np.ndarray, frame: GreyFrame) -> np.ndarray:
    if frame.padding is not None:
        grey[frame.padding] = 0
    return grey


def _map_values(stored: np.ndarray, frame: GreyFrame, to_grey: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    values = stored.astype(np.float64) * frame.slope + frame.intercept
    bad = ~np.isfinite(values)
    values[bad] = 0.0
    grey = to_grey(values)
    if frame.inverted:
        grey = 255 - grey
    grey[bad] = 0
    return grey


def _apply(values: np.ndarray, window: Window, function: WindowFunction) -> np.ndarray:
    """float64 values to uint8 by DICOM PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.1 (SIGMOID), C.11.2.1.3.2
    (LINEAR_EXACT), with an output range of 0 to 255 and rounding to the nearest grey."""
    centre, width = window
    if function == "SIGMOID":
        share = 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700.0, 700.0)))
    elif function == "LINEAR" and width > 1.0:
        share = (values - (centre - 0.5)) / (width - 1.0) + 0.5
    elif function == "LINEAR":
        share = (values > centre - 0.5).astype(np.float64)
    else:
        share = (values - centre) / width + 0.5
    return np.rint(np.clip(share, 0.0, 1.0) * 255.0).astype(np.uint8)


def _look_up(values: np.ndarray, table: VoiTable) -> np.ndarray:
    index = np.clip(np.rint(values) - table.first, 0, len(table.entries) - 1)
    return table.entries[index.astype(np.int64)]
