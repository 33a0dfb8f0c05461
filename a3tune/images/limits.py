"""How large a picture or a file may be."""

from __future__ import annotations

from a3tune.errors import ImageError

MAX_PIXELS = 64_000_000
"""Largest picture (height x width) that is decoded: 64 megapixels."""

MAX_BYTES = 2**31
"""Largest file, and largest unpacked volume or data set, that is read: 2 GiB."""


def check_size(height: int, width: int) -> None:
    """Refuse a picture without pixels or above the limit, before anything is decoded.

    Raises:
        ImageError: height or width is below 1, or height x width is above ``MAX_PIXELS``.
    """
    if height < 1 or width < 1:
        raise ImageError(
            got=f"The file says its picture is {width} x {height} pixels: there is nothing to show",
            expected="a picture of at least 1 x 1 pixel",
            remedy="Export the picture again from the program that made it",
        )
    if height * width > MAX_PIXELS:
        raise ImageError(
            got=f"The picture is {width} x {height} pixels ({height * width / 1e6:.0f} megapixels), which is too large",
            expected="at most 64 megapixels",
            remedy="Crop it to the part of interest or scale it down, and try again",
        )
