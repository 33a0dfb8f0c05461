"""Small pictures of images."""

from __future__ import annotations

import io

from PIL import Image

from a3tune.types import MedicalImage


def thumbnail(image: MedicalImage, side: int) -> bytes:
    """A JPEG of an image, no edge longer than ``side`` pixels."""
    picture = Image.fromarray(image.pixels)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return stream.getvalue()
