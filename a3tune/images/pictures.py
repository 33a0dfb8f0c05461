"""PNG, JPEG, TIFF, WebP, BMP and GIF through Pillow; PNG and JPEG of more than 8 bits through imagecodecs."""

from __future__ import annotations

from dataclasses import replace
from typing import BinaryIO, Literal

import imagecodecs
import numpy as np
from PIL import Image, ImageOps

from a3tune.errors import ImageError
from a3tune.images.bit_depth import to_frame, upright
from a3tune.images.codecs import COSINE_MARKERS, FRAME_MARKERS, JPEG_LS_MARKER
from a3tune.images.content import Content, choose_frame, cut_off, pixel_aspect, unsupported
from a3tune.images.limits import check_size

_PILLOW_FORMATS = {
    "PNG": ("PNG",),
    "JPEG": ("JPEG", "MPO"),
    "TIFF": ("TIFF",),
    "WEBP": ("WEBP",),
    "BMP": ("BMP",),
    "GIF": ("GIF",),
}
# Start of frame markers of JPEG that nothing here decodes.
_JPEG_OTHER = {
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical"),
    0xCB: "lossless with arithmetic coding",
}
_ORIENTATION_TAG = 274
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_SAVE_AS_PNG = "Open it in the program that made it and save it as PNG"


def read_picture(stream: BinaryIO, kind: str, frame: int | None) -> Content:
    """Decode one frame (page of a TIFF, picture of an animation) of a picture file.

    * 8-bit pictures are shown as they are. Grey and colour of more than 8 bits become a ``GreyFrame`` to be windowed
      (see ``to_frame``).
    * Transparent parts are laid on black, as around a radiograph. CMYK becomes RGB without a colour profile.
    * The EXIF orientation is applied.

    Raises:
        ImageError: the picture is too large. (Of a damaged file Pillow raises errors of many types; see ``decode``.)
        RequestError: there is no such frame.
    """
    if kind == "JPEG":
        content = _read_deep_jpeg(stream, frame)
        if content is not None:
            return content
    if kind == "GIF":
        stream.seek(6)
        size = stream.read(4)
        stream.seek(0)
        check_size(int.from_bytes(size[2:], "little"), int.from_bytes(size[:2], "little"))
    problem = None
    try:
        with Image.open(stream, formats=_PILLOW_FORMATS[kind]) as picture:
            check_size(picture.height, picture.width)
            count = getattr(picture, "n_frames", 1)
            chosen = choose_frame(frame, count, what="page" if kind == "TIFF" else "frame")
            if chosen:
                picture.seek(chosen)
                check_size(picture.height, picture.width)
            aspect = _aspect(picture)
            if kind == "PNG" and _is_deep_png(stream):
                if chosen:
                    raise unsupported(
                        "The PNG file is an animation of more than 8 bits", "Save its frames on their own"
                    )
                return replace(_deep_png(stream, picture), frame_count=count, aspect=aspect)
            picture.load()
            rgb = _to_rgb(ImageOps.exif_transpose(picture))
            time = picture.info.get("duration") if count > 1 else None
    except Image.DecompressionBombError:
        problem = ImageError(
            got="The picture is far larger than can be decoded safely",
            expected="at most 64 megapixels",
            remedy="Crop it to the part of interest or scale it down, and try again",
        )
    except (OSError, ValueError, SyntaxError) as error:
        problem = _named(error, kind, stream)
        if problem is None:
            raise
    if problem is not None:
        raise problem
    return Content(format=kind, frame=chosen, frame_count=count, rgb=rgb, aspect=aspect, frame_time=time or None)


def _aspect(picture: Image.Image) -> float | None:
    """Height of a pixel over its width as shown upright, from the pHYs chunk of a PNG or a BMP header.

    JFIF densities are left alone: their writers seldom mean them.
    """
    across, down = picture.info.get("aspect") or picture.info.get("dpi") or (1, 1)
    if picture.format not in ("PNG", "BMP") or across == down:
        return None
    aspect = pixel_aspect(across, down)
    return 1 / aspect if aspect is not None and picture.getexif().get(_ORIENTATION_TAG, 1) in (5, 6, 7, 8) else aspect


def _is_deep_png(stream: BinaryIO) -> bool:
    """Whether the bit depth in the IHDR chunk, which opens every PNG file, is 16."""
    stream.seek(0)
    return stream.read(25)[24:] == bytes([16])


def _deep_png(stream: BinaryIO, picture: Image.Image) -> Content:
    stream.seek(0)
    samples = imagecodecs.png_decode(stream.read())
    samples = upright(samples, picture.getexif().get(_ORIENTATION_TAG, 1))
    channels = samples.shape[2] if samples.ndim == 3 else 1
    alpha = samples[..., -1] if channels in (2, 4) else None
    values = samples if channels == 1 else samples[..., 0] if channels == 2 else samples[..., :3]
    grey, alpha = to_frame(values, alpha)
    return Content(format="PNG", frame=0, frame_count=1, grey=grey, alpha=alpha)


def _read_deep_jpeg(stream: BinaryIO, frame: int | None) -> Content | None:
    """Lossless JPEG, JPEG-LS and JPEG of 12 bits; None for the kinds that Pillow reads."""
    stream.seek(0)
    source = stream.read()
    stream.seek(0)
    found = _jpeg_frame(source)
    if found is None:
        return None
    marker, bits, height, width = found
    if marker in _JPEG_OTHER:
        raise unsupported(f"The JPEG file is of a kind that is not supported ({_JPEG_OTHER[marker]})", _SAVE_AS_PNG)
    if marker in COSINE_MARKERS and bits == 8:
        return None
    check_size(height, width)
    choose_frame(frame, 1)
    # The decoder fills what is missing with grey.
    if ends_early(stream, "JPEG"):
        raise cut_off("JPEG")
    samples = imagecodecs.jpegls_decode(source) if marker == JPEG_LS_MARKER else imagecodecs.jpeg8_decode(source)
    if samples.ndim == 3 and samples.shape[2] != 3:
        raise unsupported(f"The JPEG file has {samples.shape[2]} channels of {bits} bits", _SAVE_AS_PNG)
    if samples.dtype == np.uint8:
        rgb = samples if samples.ndim == 3 else np.repeat(samples[..., None], 3, axis=2)
        return Content(format="JPEG", frame=0, frame_count=1, rgb=rgb)
    return Content(format="JPEG", frame=0, frame_count=1, grey=to_frame(samples)[0])


def _jpeg_frame(source: bytes) -> tuple[int, int, int, int] | None:
    """Marker, bits, height and width of the first start of frame segment (ISO/IEC 10918-1 B.2.2)."""
    place = 2
    while place + 9 <= len(source) and source[place] == 0xFF:
        marker = source[place + 1]
        if marker in FRAME_MARKERS:
            height, width = source[place + 5 : place + 7], source[place + 7 : place + 9]
            return marker, source[place + 4], int.from_bytes(height, "big"), int.from_bytes(width, "big")
        place += 1 if marker == 0xFF else 2 + int.from_bytes(source[place + 2 : place + 4], "big")
    return None


def _named(error: Exception, kind: str, stream: BinaryIO) -> ImageError | None:
    """The error for a file that Pillow refuses for one of its properties; None where it is damaged."""
    if kind == "BMP" and ("nsupported" in str(error) or "palette" in str(error)):
        return _unsupported_bmp(stream)
    if kind != "PNG":
        return None
    stream.seek(0)
    head = stream.read(1 << 16)
    if head[8:16] == b"\0\0\0\rIHDR" and head[26:28] != b"\0\0" and not ends_early(stream, kind):
        what = f"compression method {head[26]}, filter method {head[27]}"
        return unsupported(f"The PNG file is of a kind that the format does not define ({what})", _SAVE_AS_PNG)
    if "too large" in str(error):
        return unsupported("The PNG file's texts unpack to more than can be read safely", _SAVE_AS_PNG)
    if b"acTL" in head and not ends_early(stream, kind):
        return unsupported("The PNG file's animation contradicts itself in number or order of its frames", _SAVE_AS_PNG)
    return None


def _unsupported_bmp(stream: BinaryIO) -> ImageError:
    stream.seek(0)
    head = stream.read(50)
    size, bits, compression = (
        int.from_bytes(head[start:end], "little") for start, end in ((14, 18), (28, 30), (30, 34))
    )
    what = f"{bits} bits a pixel, compression {compression}"
    if size not in _BMP_HEADERS:
        what = f"a header of {size} bytes"
    elif bits in (1, 4, 8) and int.from_bytes(head[46:50], "little") > 2**bits:
        what = f"a palette of {int.from_bytes(head[46:50], 'little'):,} colours for {bits} bits a pixel"
    return unsupported(f"The BMP file is of a kind that is not supported ({what})", _SAVE_AS_PNG)


def _to_rgb(picture: Image.Image) -> np.ndarray:
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture)
    return np.asarray(picture.convert("RGB"))


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
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    return len(head) < 8 or (head[2:4] in (b"*\x00", b"\x00*") and int.from_bytes(head[4:8], order) >= size)
