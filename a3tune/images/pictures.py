"""PNG, JPEG, TIFF, WebP, BMP and GIF through Pillow."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from a3tune.errors import ImageError
from a3tune.images.content import Content, check_size, choose_frame
from a3tune.images.grey import GreyFrame

_PILLOW_FORMATS = {
    "PNG": ("PNG",),
    "JPEG": ("JPEG", "MPO"),
    "TIFF": ("TIFF",),
    "WEBP": ("WEBP",),
    "BMP": ("BMP",),
    "GIF": ("GIF",),
}
_DEEP_MODES = ("I", "F")
_PHOTOMETRIC_TAG = 262
_WHITE_IS_ZERO = 0


def read_picture(stream: BinaryIO, kind: str, frame: int | None) -> Content:
    """Decode one frame (page of a TIFF, picture of an animation) of a picture file.

    * 8-bit pictures are shown as they are. Grey of more than 8 bits becomes a ``GreyFrame`` to be windowed;
      colour of 16 bits keeps its upper 8.
    * Transparent parts are laid on black, as around a radiograph. CMYK becomes RGB without a colour profile.
    * The EXIF orientation is applied.

    Raises:
        ImageError: the picture is too large. (Of a damaged file Pillow raises errors of many types; see ``decode``.)
        RequestError: there is no such frame.
    """
    problem = None
    try:
        with Image.open(stream, formats=_PILLOW_FORMATS[kind]) as picture:
            check_size(picture.height, picture.width)
            count = getattr(picture, "n_frames", 1)
            chosen = choose_frame(frame, count, what="page" if kind == "TIFF" else "frame")
            if chosen:
                picture.seek(chosen)
                check_size(picture.height, picture.width)
            picture.load()
            inverted = kind == "TIFF" and picture.tag_v2.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO
            grey, rgb = _to_arrays(ImageOps.exif_transpose(picture), inverted)
    except Image.DecompressionBombError:
        problem = ImageError(
            got="The picture is far larger than can be decoded safely",
            expected="at most 64 megapixels",
            remedy="Crop it to the part of interest or scale it down, and try again",
        )
    if problem is not None:
        raise problem
    return Content(format=kind, frame=chosen, frame_count=count, grey=grey, rgb=rgb)


def _to_arrays(picture: Image.Image, inverted: bool) -> tuple[GreyFrame | None, np.ndarray | None]:
    mode = picture.mode
    if mode in _DEEP_MODES or mode.startswith("I;"):
        return GreyFrame(np.asarray(picture), inverted=inverted), None
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture)
    return None, np.asarray(picture.convert("RGB"))


def ends_early(stream: BinaryIO, kind: str) -> bool:
    """Whether the end of the file that its format asks for is missing."""
    size = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(32)
    stream.seek(max(0, size - 4096))
    tail = stream.read()
    if kind == "PNG":
        return b"IEND" not in tail
    if kind == "JPEG":
        return b"\xff\xd9" not in tail
    if kind == "GIF":
        return not tail.rstrip(b"\x00").endswith(b"\x3b")
    if kind == "WEBP":
        return int.from_bytes(head[4:8], "little") + 8 > size
    if kind == "BMP":
        return int.from_bytes(head[2:6], "little") > size
    # A TIFF has no end mark; its first directory must at least lie inside the file.
    order = "little" if head[:2] == b"II" else "big"
    return len(head) < 8 or (head[2:4] in (b"*\x00", b"\x00*") and int.from_bytes(head[4:8], order) >= size)
