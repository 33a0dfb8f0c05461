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
_SIDES = {"left", "right", "upper", "lower"}


class Marks(NamedTuple):
    """Where a question asks to look.

    Attributes:
        mask: the file of the mask; None where boxes tell it.
        values: the values of the mask that count.
        boxes: (x, y, width, height) in pixels of the image; none where the mask tells it.
    """

    mask: Path | None = None
    values: tuple[int, ...] = ()
    boxes: tuple[Box, ...] = ()


class _Structure(NamedTuple):
    words: frozenset[str]
    boxes: tuple[Box, ...]
    value: int | None


def marks_for(image: Path, question: str) -> Marks:
    """The marks of the structures that a question names; none where it names none, or nothing lies beside the image."""
    structures = _structures(image)
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


@lru_cache(maxsize=256)
def _structures(image: Path) -> tuple[_Structure, ...]:
    try:
        height, width = picture_size(image)
        entries = json.loads((image.parent / _DETECTION).read_text(encoding="utf-8"))
        boxes: dict[frozenset[str], list[Box]] = {}
        for entry in entries:
            for name, box in entry.items():
                x, y, across, down = (float(number) for number in box)
                if min(x, y) < 0 or min(across, down) <= 0 or x + across > width + 1 or y + down > height + 1:
                    return ()
                boxes.setdefault(_words(name), []).append((x, y, min(across, width - x), min(down, height - y)))
    except (ImageError, OSError, ValueError, TypeError, AttributeError):
        return ()
    labels = _labels(image.parent / _MASK, height, width)
    values = {words: None if labels is None else _plain_value(labels, found) for words, found in boxes.items()}
    shared = Counter(values.values())
    return tuple(
        _Structure(words, tuple(found), values[words] if shared[values[words]] == 1 else None)
        for words, found in boxes.items()
        if words
    )


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
