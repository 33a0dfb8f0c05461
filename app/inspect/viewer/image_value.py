"""Images as what the viewer in the browser receives: pictures as data URLs, values as packed bytes, plain facts."""

from __future__ import annotations

import functools
import io
import zlib
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from PIL import Image

from a3tune.encoding import base64_text, data_url
from a3tune.errors import RequestError
from a3tune.images.values import PixelValues
from a3tune.types import MedicalImage
from app.common.status import describe
from app.inspect.sessions.opened_image import OpenedImage

MOST_VALUES = 64 << 20
"""How many bytes the values of a frame may take on their way to the browser, before they are packed."""
_KINDS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")


def image_value(opened: OpenedImage) -> dict[str, Any]:
    """An image as the viewer receives it; ``pixel`` is the width and height of a shown pixel in millimetres."""
    image = opened.image
    rows, columns = image.spacing or (0.0, 0.0)
    return {
        "src": picture(image),
        "modelSrc": None if image.model_pixels is None else model_picture(image),
        "key": image.sha256,
        "width": image.width,
        "height": image.height,
        "label": describe(image)._asdict(),
        "frame": image.frame,
        "frames": image.frame_count,
        "frameTime": image.frame_time,
        "stack": opened.stack,
        "place": opened.place,
        "source": opened.has_source,
        "pixel": image.spacing
        and [columns * image.stored_size[1] / image.width, rows * image.stored_size[0] / image.height],
        "plane": image.spacing_plane,
        "edges": image.edges and image.edges._asdict(),
        "window": list(image.window) if image.window else None,
        "hounsfield": opened.choices.hounsfield,
    }


def pixel_values(values: PixelValues) -> dict[str, Any]:
    """The values of a frame: little-endian numbers of the type ``kind``, packed by zlib, as base64.

    Raises:
        RequestError: they are too many.
    """
    stored = values.stored
    if stored.dtype.name not in _KINDS:
        stored = stored.astype(np.uint8 if stored.dtype == bool else np.float64)
    if stored.nbytes > MOST_VALUES:
        raise RequestError(
            expected=f"a picture whose values take at most {MOST_VALUES >> 20} MiB",
            got=f"Those of this one take {stored.nbytes >> 20} MiB: they are not read on the page",
            remedy="Export the part of interest as a file of its own",
        )
    data = np.ascontiguousarray(stored, dtype=stored.dtype.newbyteorder("<"))
    return {
        "kind": stored.dtype.name,
        "height": stored.shape[0],
        "width": stored.shape[1],
        "channels": 1 if stored.ndim == 2 else stored.shape[2],
        "slope": values.slope,
        "intercept": values.intercept,
        "unit": values.unit,
        "inverted": values.inverted,
        "data": base64_text(zlib.compress(data.tobytes(), 1)),
    }


def _once(encode: Callable[[MedicalImage], str]) -> Callable[[MedicalImage], str]:
    """``encode``, done once for each image as long as that is in memory: a page gets the same picture many times."""
    known: WeakKeyDictionary[MedicalImage, str] = WeakKeyDictionary()

    @functools.wraps(encode)
    def encoded(image: MedicalImage) -> str:
        if image not in known:
            known[image] = encode(image)
        return known[image]

    return encoded


@_once
def picture(image: MedicalImage) -> str:
    """Data URL of the pixels."""
    pixels = image.pixels
    grey = (pixels == pixels[..., :1]).all()
    return _data_url(Image.fromarray(np.ascontiguousarray(pixels[..., 0]) if grey else pixels))


@_once
def model_picture(image: MedicalImage) -> str:
    """Data URL of what a model is given."""
    return _data_url(Image.fromarray(image.model_input))


@_once
def small_picture(image: MedicalImage) -> str:
    """Data URL of a square of 40 pixels, the middle of the image."""
    return _data_url(_middle(image, 40), "JPEG", quality=70)


def thumbnail(image: MedicalImage, size: int = 96) -> str:
    """Data URL of a square thumbnail, the middle of the image."""
    return _data_url(_middle(image, size), "JPEG", quality=85)


def _middle(image: MedicalImage, size: int) -> Image.Image:
    whole = Image.fromarray(image.pixels)
    side = min(whole.size)
    left, top = (whole.width - side) // 2, (whole.height - side) // 2
    cut = whole.crop((left, top, left + side, top + side))
    return cut.resize((size, size), Image.Resampling.LANCZOS)


def _data_url(drawn: Image.Image, form: str = "PNG", **options: Any) -> str:
    buffer = io.BytesIO()
    drawn.save(buffer, form, **({"compress_level": 1} if form == "PNG" else options))
    return data_url(buffer.getvalue(), form.lower())
