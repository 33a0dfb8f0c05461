"""SLAKE's masks and boxes: where the structures lie that a question asks about.

Beside each image (``imgs/xmlab0/source.jpg``) lie ``detection.json``, a list of ``{structure: [x, y, width, height]}``
in pixels of the image, and ``mask.png``, in which each structure has a value or colour of its own (Liu et al., "SLAKE:
A semantically-labeled knowledge-enhanced dataset for medical visual question answering", ISBI 2021). Which value is
which structure is not written beside the image: it is read off the structure's boxes, and taken only where it is plain.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from a3tune.errors import ImageError
from a3tune.images.masks import mask_labels, picture_size

Box = tuple[float, float, float, float]

_DETECTION, _MASK = "detection.json", "mask.png"
_PLAIN = 0.5
"""A value belongs to a structure when it fills more than this share of what is marked inside the structure's boxes."""
_CLEARLY = 0.1
"""By how much one reading of the boxes has to agree better with the mask than the other."""
_SIDES = {"left", "right", "upper", "lower"}


class Marks(NamedTuple):
    """Where a question asks to look.

    Attributes:
        mask: the file of the mask; None where boxes tell it.
        values: the values of the mask that count.
        boxes: (x, y, width, height) in pixels of the image; none where the mask tells it.
        doubt: why what lies beside the image is not used, as the end of a sentence about its boxes; "" otherwise.
    """

    mask: Path | None = None
    values: tuple[int, ...] = ()
    boxes: tuple[Box, ...] = ()
    doubt: str = ""


class _Structure(NamedTuple):
    words: frozenset[str]
    boxes: tuple[Box, ...]
    value: int | None


def marks_for(image: Path, question: str) -> Marks:
    """The marks of the structures that a question names; none where it names none, or nothing lies beside the image."""
    structures, doubt = _study(image)
    if doubt:
        return Marks(doubt=doubt)
    asked = _words(question)
    named = [structure for structure in structures if structure.words <= asked]
    if not named and not asked & _SIDES:
        # "the lung" is both of them.
        named = [structure for structure in structures if structure.words - _SIDES <= asked]
    if not named:
        return Marks()
    values = {structure.value for structure in named if structure.value is not None}
    if all(structure.value is not None for structure in named):
        return Marks(image.parent / _MASK, tuple(sorted(values)))
    return Marks(boxes=tuple(box for structure in named for box in structure.boxes))


def _words(text: str) -> frozenset[str]:
    """Words in the singular, in lower case."""
    return frozenset(re.sub(r"(?<=[a-z]{3})s$", "", word) for word in re.findall(r"[a-z]+", text.lower()))


class _Study(NamedTuple):
    structures: tuple[_Structure, ...] = ()
    doubt: str = ""


@lru_cache(maxsize=256)
def _study(image: Path) -> _Study:
    try:
        height, width = picture_size(image)
        entries = json.loads((image.parent / _DETECTION).read_text(encoding="utf-8"))
        boxes: dict[frozenset[str], list[Box]] = {}
        for entry in entries:
            for name, box in entry.items():
                x, y, across, down = (float(number) for number in box)
                boxes.setdefault(_words(name), []).append((x, y, across, down))
    except (ImageError, OSError, ValueError, TypeError, AttributeError):
        return _Study()
    labels = _labels(image.parent / _MASK, height, width)
    doubt = _doubt([box for found in boxes.values() for box in found], labels, width, height)
    if doubt:
        return _Study((), doubt)
    clipped = {
        words: [(x, y, min(across, width - x), min(down, height - y)) for x, y, across, down in found]
        for words, found in boxes.items()
    }
    values = {words: None if labels is None else _plain_value(labels, found) for words, found in clipped.items()}
    shared = Counter(values.values())
    return _Study(
        tuple(
            _Structure(words, tuple(found), values[words] if shared[values[words]] == 1 else None)
            for words, found in clipped.items()
            if words
        )
    )


def _doubt(boxes: list[Box], labels: np.ndarray | None, width: int, height: int) -> str:
    """Why an image's boxes cannot be taken for x, y, width and height; "" where they can.

    The published set does not say what the four numbers are. Two corners they can only be where every box has the
    second one below and right of the first; then the mask has to agree with sizes.
    """

    def fits(box: Box) -> bool:
        x, y, across, down = box
        return min(x, y) >= 0 and min(across, down) > 0 and x + across <= width + 1 and y + down <= height + 1

    if not all(map(fits, boxes)):
        return "reach beyond the image as x, y, width and height"
    corners = [(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes]
    if not boxes or not all(map(fits, corners)):
        return ""
    if labels is None:
        return "may be corners as well as x, y, width and height, and no mask of the image's size tells"
    as_sizes, as_corners = _agreement(labels, boxes), _agreement(labels, corners)
    if as_sizes > as_corners + _CLEARLY:
        return ""
    return "may be corners as well as x, y, width and height, and the mask does not tell"


def _agreement(labels: np.ndarray, boxes: list[Box]) -> float:
    """How well boxes surround what is marked in them: mean overlap (IoU) with the bounds of the value that each holds
    most of."""
    shares = []
    for x, y, across, down in boxes:
        value = _plain_value(labels, [(x, y, across, down)])
        if value is None:
            shares.append(0.0)
            continue
        rows, columns = np.nonzero(labels == value)
        left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        shared = max(0.0, min(x + across, right) - max(x, left)) * max(0.0, min(y + down, bottom) - max(y, top))
        shares.append(float(shared / (across * down + (right - left) * (bottom - top) - shared)))
    return sum(shares) / max(1, len(shares))


def _labels(path: Path, height: int, width: int) -> np.ndarray | None:
    try:
        labels = mask_labels(path)
    except ImageError:
        return None
    return labels if labels.shape == (height, width) else None


def _plain_value(labels: np.ndarray, boxes: list[Box]) -> int | None:
    inside = np.concatenate(
        [labels[round(y) : round(y + down), round(x) : round(x + across)].ravel() for x, y, across, down in boxes]
    )
    values, counts = np.unique(inside[inside > 0], return_counts=True)
    if not len(values) or counts.max() <= _PLAIN * counts.sum():
        return None
    return int(values[counts.argmax()])
