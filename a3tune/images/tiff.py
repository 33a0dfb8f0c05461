"""TIFF: pages of bytes through Pillow, all other kinds of sample through tifffile (BSD licence).

Pillow knows palettes, CMYK, YCbCr and the facsimile codes, but of samples only bytes and some 16-bit and 32-bit ones.
tifffile reads every sample type, planar data, BigTIFF and JPEG 2000, and tells the properties of a page before any of
it is decoded, so a page that cannot be shown is refused by its own property.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from PIL import UnidentifiedImageError
from tifffile import TIFF, TiffFile, TiffPage

from a3tune.images.bit_depth import to_frame, upright
from a3tune.images.content import Content, choose_frame, cut_off, damaged, pixel_aspect, unsupported
from a3tune.images.limits import MAX_BYTES, check_size

_WHITE_IS_ZERO, _GREY, _RGB, _PALETTE = 0, (0, 1), 2, 3
_ORIENTATION = 274
_ASSOCIATED, _UNASSOCIATED = 1, 2
_EXPORT = "Export it from the program that made it as a TIFF in grey or RGB without compression, or as PNG"
_NAMES = {4: "a transparency mask", 5: "CMYK", 6: "YCbCr", 8: "CIE Lab", 9: "ICC Lab", 32803: "a colour filter array"}


def read_tiff(stream: BinaryIO, frame: int | None, read_bytes: Callable[[int], Content]) -> Content:
    """Decode one page.

    Several channels that are neither grey, colour nor opacity (two of a microscope, ...) count as frames of their own,
    those of a page one after the other.

    Args:
        stream: the file.
        frame: which page (and channel), from 0.
        read_bytes: reads a page of unsigned bytes, by its number, through Pillow.

    Raises:
        ImageError: the file is cut off, damaged, too large, or of a kind that is not supported.
        RequestError: there is no such page.
    """
    with TiffFile(stream) as tiff:
        pages = len(tiff.pages)
        if not pages:
            raise cut_off("TIFF")
        channels = _channels(tiff.pages[0])
        count = pages * channels
        chosen = choose_frame(frame, count, what="page")
        page = tiff.pages[chosen // channels].aspage()
        check_size(page.imagelength, page.imagewidth)
        if _channels(page) != channels:
            raise unsupported("The pages of the TIFF file differ in their number of channels", _EXPORT)
        if pages == 1 and (tiff.is_imagej or tiff.is_shaped) and tiff.series[0].size > page.size:
            # Only the first picture of the stack has a directory; the others would be left out.
            raise unsupported(
                "The TIFF file is a stack in one piece, which is not supported", "Save its slices as pages"
            )
        aspect = _aspect(page)
        if channels == 1 and _suits_pillow(page):
            try:
                return replace(read_bytes(chosen), frame=chosen, frame_count=count, aspect=aspect)
            except (OSError, ValueError, TypeError, SyntaxError, KeyError) as error:
                # Pillow leaves out some compressions that tifffile knows. Other colours it decodes from bytes, unless
                # they are damaged, and seldom from longer samples.
                other = page.photometric not in (*_GREY, _RGB, _PALETTE)
                if other and (np.max(page.bitspersample) <= 8 or not isinstance(error, UnidentifiedImageError)):
                    raise
        _check_readable(page, tiff.filehandle.size)
        values, alpha = _split(page.asarray(), page, chosen % channels)
    orientation = page.tags.valueof(_ORIENTATION, 1)
    values = upright(values, orientation)
    alpha = None if alpha is None else upright(alpha, orientation)
    shared: dict[str, Any] = {"format": "TIFF", "frame": chosen, "frame_count": count, "aspect": aspect}
    if page.photometric == _PALETTE:
        return Content(**shared, rgb=(np.asarray(page.colormap) >> 8).astype(np.uint8)[:, values].transpose(1, 2, 0))
    if values.dtype in (np.uint8, np.bool_):
        # A packed sample of fewer bits spans black to white, as a byte does.
        values = (values.astype(np.uint16) * 255 // (2**page.bitspersample - 1)).astype(np.uint8)
        values = 255 - values if page.photometric == _WHITE_IS_ZERO else values
        values = values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
        return Content(**shared, rgb=values, alpha=None if alpha is None else alpha / np.float32(255))
    grey, alpha = to_frame(values, alpha, inverted=page.photometric == _WHITE_IS_ZERO)
    return Content(**shared, grey=grey, alpha=alpha)


def _suits_pillow(page: TiffPage) -> bool:
    """Whether the page holds unsigned bytes (or fewer bits), or colours that only Pillow converts."""
    if page.photometric not in (*_GREY, _RGB, _PALETTE):
        return True
    return np.max(page.bitspersample) <= 8 and page.sampleformat in (1, 4)


def _channels(page: TiffPage) -> int:
    """How many channels of equal standing the page holds; 1 for grey and colour, with or without opacity."""
    extra = page.extrasamples
    if page.photometric not in _GREY or page.samplesperpixel == 1:
        return 1
    opacity = len(extra) == 1 and page.samplesperpixel == 2 and extra[0] in (_ASSOCIATED, _UNASSOCIATED)
    return 1 if opacity else page.samplesperpixel


def _check_readable(page: TiffPage, size: int) -> None:
    """Refuse a page by the property that stands in the way; nothing is decoded for it."""
    colours = _NAMES.get(page.photometric)
    if page.photometric not in (*_GREY, _RGB, _PALETTE):
        what = f"colours as {colours}" if colours else f"colours of kind {int(page.photometric)}"
        raise unsupported(f"The TIFF page stores its {what}, which is not supported here", _EXPORT)
    if page.dtype is None:
        raise unsupported(
            f"The TIFF page has samples of {page.bitspersample} bits in format {int(page.sampleformat)}, which are not "
            "supported",
            _EXPORT,
        )
    try:
        TIFF.DECOMPRESSORS[page.compression]
    except KeyError:
        name = getattr(page.compression, "name", None) or f"number {int(page.compression)}"
        raise unsupported(f"The TIFF page's compression ({name}) is not supported", _EXPORT) from None
    if page.imagedepth > 1:
        raise unsupported("The TIFF page is a volume in one piece", "Save its slices as pages")
    if math.prod(page.shape) * page.dtype.itemsize > MAX_BYTES:
        raise unsupported("The TIFF page takes more than 2 GiB", "Scale it down, or save it with smaller samples")
    if any(start + count > size for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)):
        raise cut_off("TIFF")


def _split(samples: np.ndarray, page: TiffPage, channel: int) -> tuple[np.ndarray, np.ndarray | None]:
    """[height, width] or [height, width, 3] samples and opacity, or the chosen channel, whatever the stored order."""
    if samples.ndim == 2:
        return samples, None
    if page.axes.startswith("S"):
        samples = np.moveaxis(samples, 0, -1)
    colours = 3 if page.photometric == _RGB else 1
    if samples.ndim != 3 or samples.shape[-1] < colours:
        raise damaged("TIFF")
    if colours == 1 and _channels(page) > 1:
        return np.ascontiguousarray(samples[..., channel]), None
    alpha = None
    for place, kind in enumerate(page.extrasamples, start=colours):
        if kind in (_ASSOCIATED, _UNASSOCIATED) and place < samples.shape[-1]:
            alpha = samples[..., place]
            # Associated samples are already laid on black; all that opacity still tells is where nothing is.
            alpha = (alpha > 0).astype(np.float32) if kind == _ASSOCIATED else alpha
            break
    values = samples[..., 0] if colours == 1 else samples[..., :3]
    return np.ascontiguousarray(values), alpha


def _aspect(page: TiffPage) -> float | None:
    """Height of a pixel over its width, from XResolution and YResolution, as shown upright."""
    across, down = (page.tags.valueof(tag) for tag in (282, 283))
    try:
        aspect = pixel_aspect(across[0] / across[1], down[0] / down[1])
    except (TypeError, IndexError, ZeroDivisionError):
        return None
    turned = page.tags.valueof(_ORIENTATION, 1) in (5, 6, 7, 8)
    return 1 / aspect if aspect is not None and turned else aspect
