"""Masks from picture files, as the numbers that stand in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def mask_labels(path: Path) -> np.ndarray:
    """int64 [height, width], in stored pixels: the value of each pixel of a mask, 0 where nothing is marked.

    Grey values and the numbers of a palette are taken as they are; a colour counts as red * 65536 + green * 256 + blue,
    and as its grey value where the three are equal throughout. Transparency says nothing.

    Raises:
        OSError, ValueError: the file is no picture that Pillow reads, or is damaged.
    """
    with Image.open(path) as opened:
        picture: Image.Image = opened
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
