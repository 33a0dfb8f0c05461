"""Masks from picture files, as the numbers that stand in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from a3tune.images.content import decode
from a3tune.images.isolation import isolable
from a3tune.images.limits import check_size
from a3tune.images.read import open_file
from a3tune.images.silence_decoders import silence_decoders

_FORMATS = ("PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG")
Result = TypeVar("Result")


@isolable
def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture file in stored pixels; only its header is read.

    Raises:
        ImageError: the file is no picture of an everyday format, is damaged or too large.
    """
    return _read(path, lambda picture: (picture.height, picture.width))


@isolable
def mask_labels(path: Path) -> np.ndarray:
    """int64 [height, width], in stored pixels: the value of each pixel of a mask, 0 where nothing is marked.

    Grey values and the numbers of a palette are taken as they are; a colour counts as red * 65536 + green * 256 + blue,
    and as its grey value where the three are equal throughout. Transparency says nothing.

    Raises:
        ImageError: as `picture_size`.
    """
    return _read(path, _labels)


def _read(path: Path, work: Callable[[Image.Image], Result]) -> Result:
    with open_file(path) as stream, silence_decoders():

        def open_picture() -> Result:
            with Image.open(stream, formats=_FORMATS) as picture:
                check_size(picture.height, picture.width)
                return work(picture)

        return decode("mask", open_picture)


def _labels(picture: Image.Image) -> np.ndarray:
    if picture.mode in ("LA", "La", "RGBA", "RGBa"):
        picture = picture.convert(picture.mode[:-1])
    elif picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        picture = picture.convert("RGB")
    values = np.asarray(picture)
    if values.dtype.kind == "f":
        # A fraction is a mark too.
        return np.ceil(np.nan_to_num(values, posinf=1.0, neginf=0.0)).astype(np.int64)
    values = values.astype(np.int64)
    if values.ndim == 2:
        return values
    red, green, blue = values[..., 0], values[..., 1], values[..., 2]
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return red
    return (red << 16) | (green << 8) | blue
