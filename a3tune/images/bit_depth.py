"""Samples that are not unsigned bytes, from any picture format, to a frame that a window makes visible."""

from __future__ import annotations

import numpy as np

from a3tune.images.grey import GreyFrame
from a3tune.types import Window


def to_frame(
    samples: np.ndarray, alpha: np.ndarray | None = None, *, inverted: bool = False
) -> tuple[GreyFrame, np.ndarray | None]:
    """Wrap decoded samples so that grey and colour are shown through one window.

    Colour whose three channels are equal is grey. Grey of a signed byte spans all values of the byte, as an unsigned
    byte does; other grey is left to the percentiles. Colour is shown over the range that its values need, the same for
    all channels, so that hues stay: 0 to 1 for fractions, else 0 to the largest value of the smallest even number of
    bits from 8 on that holds them (12 bits in 16-bit samples); with values below 0 the percentiles of all channels.

    Args:
        samples: [height, width] or [height, width, 3], any number type; of complex ones the magnitude is taken.
        alpha: [height, width], opacity, any unsigned type over its whole range; floats over 0 to 1.
        inverted: whether the lowest value is white.

    Returns:
        The frame, invisible pixels as NaN, and float32 [height, width] opacity from 0 to 1, or None.
    """
    if np.iscomplexobj(samples):
        samples = np.abs(samples)
    if samples.dtype == np.float16:
        samples = samples.astype(np.float32)
    if samples.ndim == 3 and (samples == samples[..., :1]).all():
        samples = samples[..., 0]
    span = Window(-0.5, 255.0) if samples.dtype == np.int8 and samples.ndim == 2 else None
    if samples.ndim == 3:
        span = _colour_span(samples)
    if alpha is not None:
        alpha = alpha.astype(np.float32) / (np.iinfo(alpha.dtype).max if alpha.dtype.kind == "u" else 1)
        hidden = alpha <= 0
        if hidden.any() and not hidden.all():
            samples = samples.astype(np.float64)
            samples[hidden] = np.nan
        alpha = None if (alpha >= 1).all() else np.clip(alpha, 0, 1)
    return GreyFrame(samples, inverted=inverted, full_range=span), alpha


def _colour_span(samples: np.ndarray) -> Window | None:
    finite = samples[np.isfinite(samples)] if samples.dtype.kind == "f" else samples
    if not finite.size or finite.min() < 0:
        return None
    high = finite.max()
    if samples.dtype.kind == "f" and high <= 1:
        return Window(0.5, 1.0)
    bits = max(8, int(high).bit_length())
    top = float(2 ** (bits + bits % 2) - 1)
    return Window(top / 2, top)


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the orientation of TIFF and EXIF (tag 274, values 1 to 8)."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return array[::rows, ::columns]
