"""Rulers and regions of interest: lengths, areas, and the statistics of the values inside, in the file's own units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from a3tune.encoding import finite
from a3tune.errors import RequestError
from a3tune.images.values import PixelValues
from a3tune.types import MedicalImage

KINDS = ("ruler", "rectangle", "ellipse")


@dataclass(frozen=True)
class Measure:
    """Something drawn on a picture to be measured.

    Attributes:
        kind: one of :data:`KINDS`.
        start, end: a ruler's ends, or two opposite corners of the box that holds a region, (x, y) in stored pixels; a
            pixel's area begins at its number, so that the first one's middle is at (0.5, 0.5).
    """

    kind: str
    start: tuple[float, float]
    end: tuple[float, float]

    def __post_init__(self) -> None:
        # As `text` has them, so that what is measured again measures the same.
        for name in ("start", "end"):
            object.__setattr__(self, name, tuple(round(float(number), 3) for number in getattr(self, name)))

    @classmethod
    def parse(cls, text: str) -> Measure:
        """A measure from its text, such as "ruler:10,20,40.5,60".

        Raises:
            RequestError: it is none.
        """
        kind, _, numbers = text.partition(":")
        try:
            x0, y0, x1, y1 = (float(part) for part in numbers.split(","))
        except ValueError:
            x0 = y0 = x1 = y1 = math.nan
        if kind not in KINDS or not all(map(math.isfinite, (x0, y0, x1, y1))):
            raise RequestError(
                expected=f"{', '.join(KINDS[:-1])} or {KINDS[-1]} with two points, as in ruler:10,20,40.5,60",
                got=f"The measure is {text!r}",
                remedy="Mend it or leave it out",
            )
        return cls(kind, (x0, y0), (x1, y1))

    def text(self) -> str:
        """What :meth:`parse` reads, to a thousandth of a pixel."""
        return f"{self.kind}:{','.join(f'{number:.10g}' for number in (*self.start, *self.end))}"

    def record(self, image: MedicalImage, values: PixelValues) -> dict[str, Any]:
        """What it measures, as plain JSON values.

        Args:
            image: the picture that it was drawn on.
            values: those of the picture.

        Returns:
            ``kind``, ``from`` and ``to`` in stored pixels, ``unit`` ("mm" by the file's pixel spacing, else "px" of the
            picture as it is shown), and ``plane`` where that was not measured in the patient. Of a ruler ``length``; of
            a region ``area`` in square units, ``pixels`` (how many stored pixels have their middle inside and a value),
            ``without_value``, ``values_unit`` ("" where the file names none) and ``values``: for each channel
            ``mean``, ``sd`` (by n - 1), ``min`` and ``max``, None where one is not defined.

        Raises:
            RequestError: a point lies beside the picture, or it has no size.
        """
        height, width = image.stored_size
        wide, high = (abs(end - start) for start, end in zip(self.start, self.end, strict=True))
        within = all(0 <= x <= width and 0 <= y <= height for x, y in (self.start, self.end))
        if not within or not (wide or high if self.kind == "ruler" else wide and high):
            raise RequestError(
                expected=f"two points apart within the picture's {width} x {height} stored pixels",
                got=f"The measure is {self.text()}",
                remedy="Draw it on the picture",
            )
        down, across = image.spacing or (image.height / height, image.width / width)
        told: dict[str, Any] = {
            "kind": self.kind,
            "from": list(self.start),
            "to": list(self.end),
            "unit": "mm" if image.spacing else "px",
            **({"plane": image.spacing_plane} if image.spacing and image.spacing_plane else {}),
        }
        if self.kind == "ruler":
            return {**told, "length": round(math.hypot(wide * across, high * down), 4)}
        area = wide * across * high * down * (math.pi / 4 if self.kind == "ellipse" else 1)
        return {**told, "area": round(area, 4), **_statistics(self._inside(values.stored, height, width), values)}

    def _inside(self, stored: np.ndarray, height: int, width: int) -> np.ndarray:
        """[pixels, channels], the stored values whose pixels have their middles inside."""
        rows, columns = stored.shape[:2]
        channels = stored.size // (rows * columns)
        grow = np.array([columns / width, rows / height])
        low, high = (choose(self.start, self.end) * grow for choose in (np.minimum, np.maximum))
        first = np.maximum(np.ceil(low - 0.5), 0).astype(int)
        last = np.minimum(np.ceil(high - 0.5), (columns, rows)).astype(int)
        part = stored[first[1] : last[1], first[0] : last[0]]
        part = part.reshape(*part.shape[:2], channels)
        if self.kind == "rectangle":
            return part.reshape(-1, channels)
        x, y = (
            (np.arange(first[side], last[side]) + 0.5 - (low + high)[side] / 2) / ((high - low)[side] / 2)
            for side in (0, 1)
        )
        return part[np.add.outer(y**2, x**2) <= 1]


def _statistics(stored: np.ndarray, values: PixelValues) -> dict[str, Any]:
    known = np.isfinite(stored).all(axis=1)
    inside = stored[known].astype(np.float64) * values.slope + values.intercept
    channels = []
    for channel in inside.T if len(inside) else ():
        spread = channel.std(ddof=1) if len(channel) > 1 else math.nan
        channels.append(
            {
                "mean": float(f"{channel.mean():.7g}"),
                "sd": finite(float(f"{spread:.7g}")),
                "min": float(channel.min()),
                "max": float(channel.max()),
            }
        )
    return {
        "pixels": len(inside),
        "without_value": int((~known).sum()),
        "values_unit": values.unit,
        "values": channels,
    }


def measure_words(told: Mapping[str, Any]) -> str:
    """What a measure's record says, in one line."""
    unit, plane = told["unit"], f" at the {told['plane']}" if "plane" in told else ""
    if told["kind"] == "ruler":
        return f"Ruler: {_digits(told['length'])} {unit}{plane}"
    name, size = told["kind"].capitalize(), f"area {_digits(told['area'])} {unit}²{plane}"
    if not told["values"]:
        return f"{name}: {size} · no pixel of the file has its middle and a value inside"
    rows = (("mean", "mean"), ("sd", "SD"), ("min", "min"), ("max", "max"))
    parts = [f"{word} {' / '.join(_digits(channel[key]) for channel in told['values'])}" for key, word in rows]
    units = " (R / G / B)" if len(told["values"]) > 1 else f" {told['values_unit'] or '(no unit in the file)'}"
    return f"{name}: {' · '.join(parts)}{units} · {size} ({told['pixels']} pixels)"


def _digits(number: float | None) -> str:
    """Three digits, more where there are more before the point."""
    if number is None:
        return "not defined"
    return f"{number:{'.0f' if abs(number) >= 100 else '.3g'}}".replace("-", "\N{MINUS SIGN}")
