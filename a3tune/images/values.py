"""The values of a picture's pixels in the file's own units, before any window."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass

import numpy as np

from a3tune.images.content import Content, decode
from a3tune.images.isolation import isolable
from a3tune.images.read import read_content
from a3tune.images.slices import Series


@dataclass(frozen=True, eq=False)
class PixelValues:
    """One frame's values on the grid of the file; a pixel's value is ``stored * slope + intercept``.

    Attributes:
        stored: [height, width] grey or uint8 [height, width, 3] RGB, any real number type, in the stored pixel frame.
            Not a number where the file has no value: padding, and what is transparent.
        slope, intercept: the rescale to the file's units.
        unit: "HU" for Hounsfield units, another unit that the file names, or "" where it names none.
        inverted: whether the lowest value is white.
    """

    stored: np.ndarray
    slope: float = 1.0
    intercept: float = 0.0
    unit: str = ""
    inverted: bool = False


@isolable
def read_values(
    path: str | os.PathLike[str],
    *,
    frame: int | None = None,
    axis: int = 2,
    volume: int = 0,
    series: int | Series | None = None,
) -> PixelValues:
    """The values of one frame or slice; what can be chosen, and what is raised, is as for
    :func:`a3tune.images.load.load_image`. Of bytes in grey or colour the values are the bytes."""
    return values_of(read_content(path, frame, axis, volume, series))


def values_of(content: Content) -> PixelValues:
    """The values of a decoded frame."""
    grey = content.grey
    if grey is None:
        return from_pixels(content.samples)
    stored = grey.stored
    if grey.padding is not None:
        # Whole numbers of up to 24 bits stand in float32 as they are.
        wide = stored.dtype.itemsize > 2 and stored.dtype != np.float32
        stored = stored.astype(np.float64 if wide else np.float32)
        stored[grey.padding] = np.nan
    unit = "HU" if grey.hounsfield else grey.unit
    return PixelValues(stored, grey.slope, grey.intercept, unit, grey.inverted)


def from_pixels(pixels: np.ndarray) -> PixelValues:
    """Those of uint8 [height, width, 3]: grey where all channels are equal."""
    equal = (pixels == pixels[..., :1]).all()
    return PixelValues(pixels[..., 0] if equal else pixels)


@isolable
def unpack_volume(path: str | os.PathLike[str], most: int) -> bytes | None:
    """What a packed NIfTI file holds, a file that is read far faster slice by slice; None where that is more than
    ``most`` bytes.

    Raises:
        ImageError: the file is damaged.
    """

    def unpack() -> bytes:
        with gzip.open(path) as source:
            return source.read(most + 1)

    data = decode("NIfTI", unpack)
    return None if len(data) > most else data
