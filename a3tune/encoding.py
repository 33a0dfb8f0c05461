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


def base64_maps(maps: np.ndarray) -> str:
    """Base64 of maps [..., patches], 0 to 1, as little-endian float16: plain where each map has its 11 digits of binary
    down to a sixteenth of its highest value, else "k:" and the maps times 2 to the power k.

    Half precision has no such digits below 2 ** -14. Multiplied so that the highest of all values is below 2 ** 15,
    those of a map that is smaller by 2 ** 25 are still there.
    """
    maps = np.asarray(maps, dtype=np.float64)
    tops = maps.max(axis=-1, initial=0)[maps.any(axis=-1)]
    if not tops.size or tops.min() >= 2.0**-10:
        return base64_halves(maps)
    power = 15 - int(np.frexp(tops.max())[1])
    return f"{power}:{base64_halves(np.ldexp(maps, power))}"


def finite(value: float | None) -> float | None:
    """A number as JSON can hold it: None where it is not finite."""
    return float(value) if value is not None and math.isfinite(value) else None


def mask_text(mask: np.ndarray) -> str:
    """A mask, bool [height, width], as the runs of its pixels in C order: "start+length start+length ..."."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask.ravel(), [False])).astype(np.int8)))
    return " ".join(f"{start}+{end - start}" for start, end in edges.reshape(-1, 2))


def mask_of_text(text: str, height: int, width: int) -> np.ndarray:
    """The mask, bool [height, width], that :func:`mask_text` wrote."""
    mask = np.zeros(height * width, bool)
    for run in text.split():
        start, length = map(int, run.split("+"))
        mask[start : start + length] = True
    return mask.reshape(height, width)


def data_url(content: bytes, kind: str) -> str:
    """A picture's file as the text of an address, for ``kind`` "png", "jpeg" ..."""
    return f"data:image/{kind};base64,{base64_text(content)}"
