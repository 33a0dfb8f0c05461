"""Numbers and bytes as text: how runs keep maps in JSON and how the page sends them."""

from __future__ import annotations

import base64
import math

import numpy as np


def base64_text(content: bytes | np.ndarray) -> str:
    """Base64 of bytes, or of an array's values in C order as they are in memory."""
    plain = np.ascontiguousarray(content).tobytes() if isinstance(content, np.ndarray) else content
    return base64.b64encode(plain).decode("ascii")


def base64_halves(values: np.ndarray) -> str:
    """Base64 of an array as little-endian float16 in C order."""
    return base64_text(np.asarray(values, dtype="<f2"))


def finite(value: float | None) -> float | None:
    """A number as JSON can hold it: None where it is not finite."""
    return float(value) if value is not None and math.isfinite(value) else None


def data_url(content: bytes, kind: str) -> str:
    """A picture's file as the text of an address, for ``kind`` "png", "jpeg" ..."""
    return f"data:image/{kind};base64,{base64_text(content)}"
