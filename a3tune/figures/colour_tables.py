"""The colour maps of attention: from numbers to colours, and as tables for the browser.

All are perceptually even (equal steps in value look like equal steps in colour) and readable with the common colour
vision deficiencies. They are Matplotlib's of these names, kept as a table of 256 colours each: loading Matplotlib for
them would hold up the start of the page.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from a3tune.errors import RequestError

COLOUR_MAPS = ("plasma", "inferno", "viridis", "magma", "cividis")
"""Names for maps that start at zero, the page's own first: its lowest colour is none of a grey picture."""

DIFFERENCE_MAP = "RdBu_r"
"""The diverging map of differences: blue is less, white is equal, red is more."""

# Name -> 256 times red, green and blue as base64, lowest value first.
_TEXTS: dict[str, str] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
_TABLES = {name: np.frombuffer(base64.b64decode(text), np.uint8).reshape(256, 3) for name, text in _TEXTS.items()}


def colour_map(
    values: np.ndarray, name: str = "inferno", lower: float | None = None, upper: float | None = None
) -> np.ndarray:
    """Colours for a map of numbers.

    Args:
        values: float or int [...]; NaN is drawn as ``lower``.
        name: one of :data:`COLOUR_MAPS`, or :data:`DIFFERENCE_MAP`.
        lower, upper: the values of the first and last colour; the map's own finite minimum and maximum when None.
            A map without any spread gets the first colour.

    Returns:
        uint8 [..., 3], RGB.

    Raises:
        RequestError: an unknown name, or ``lower`` above ``upper``.
    """
    if name not in (*COLOUR_MAPS, DIFFERENCE_MAP):
        raise RequestError(
            expected=f"one of the colour maps {', '.join((*COLOUR_MAPS, DIFFERENCE_MAP))}",
            got=f"The colour map is {name!r}",
            remedy="Choose one of these",
        )
    return _TABLES[name][np.minimum(scaled(values, lower, upper) * 256, 255).astype(np.uint8)]


def browser_tables() -> dict[str, str]:
    """What the browser colours maps with: name -> 256 times red, green and blue as base64, lowest value first."""
    return dict(_TEXTS)


def limits(values: np.ndarray, lower: float | None, upper: float | None) -> tuple[float, float]:
    """The limits that were given, and the least and the greatest finite value for those that were not."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    lower = (float(finite.min()) if finite.size else 0.0) if lower is None else float(lower)
    upper = (float(finite.max()) if finite.size else lower) if upper is None else float(upper)
    return lower, upper


def scaled(values: np.ndarray, lower: float | None, upper: float | None) -> np.ndarray:
    """float64 of the same shape, 0 to 1: where each value lies between the limits; see `colour_map`."""
    lowest, highest = limits(values, lower, upper)
    if lower is not None and upper is not None and lower > upper:
        raise RequestError(
            expected="a lower limit that is not above the upper one",
            got=f"The limits are {lower} and {upper}",
            remedy="Exchange them",
        )
    values = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=lowest, posinf=highest, neginf=lowest)
    if highest <= lowest:
        return np.zeros(values.shape)
    return np.clip((values - lowest) / (highest - lowest), 0, 1)
