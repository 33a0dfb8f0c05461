"""Pictures that a tab shows or hands over: small ones of images, and files with a question about them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from a3tune.types import MedicalImage


class PictureQuestion(NamedTuple):
    """A question by which adapters are compared.

    Attributes:
        question: the words.
        picture: the file that it is about; None for what is on show.
        answer: the right answer; "" where it is not known.
        mask: bool [height, width], where the answer lies in the picture; None where that is not known.
    """

    question: str
    picture: Path | None = None
    answer: str = ""
    mask: np.ndarray | None = None


def thumbnail(image: MedicalImage, side: int) -> bytes:
    """A JPEG of an image, no edge longer than ``side`` pixels."""
    picture = Image.fromarray(image.pixels)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return stream.getvalue()
