"""What all kinds of phantom share about lesions: how many, of which kinds, and what they are called."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from a3tune.phantom.structures import Side, Structure

# A lesion that a tiny model is to see at 128 pixels is 6 pixels across there: this area in source pixels, and a disc of
# this radius that fits inside, so that no thin crescent passes.
MINIMUM_AREA = 160
MINIMUM_RADIUS = 4.5


class Painted(NamedTuple):
    """A drawn body before the detector's noise: grey float32 [height, width] (0 black, 1 white), and its contents."""

    grey: np.ndarray
    structures: tuple[Structure, ...]
    variant: str


@dataclass(frozen=True, eq=False)
class Lesion:
    """A lesion before it has a name: what it is, where, and its mask bool [height, width]."""

    finding: str
    mask: np.ndarray
    side: Side
    location: str
    organ: str


def is_visible(mask: np.ndarray) -> bool:
    """Whether a lesion's mask is large and thick enough to be seen at 128 pixels."""
    if np.count_nonzero(mask) < MINIMUM_AREA:
        return False
    return float(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3).max()) >= MINIMUM_RADIUS


def planned_findings(rng: np.random.Generator, findings: tuple[str, ...], countable: tuple[str, ...]) -> list[str]:
    """Draw 0 to 3 findings: half of the images with several show several of one ``countable`` kind."""
    count = int(rng.choice(4, p=(0.3, 0.36, 0.22, 0.12)))
    if count > 1 and rng.random() < 0.5:
        return [str(rng.choice(countable))] * count
    return [str(name) for name in rng.choice(findings, size=count, replace=False)]


def named(lesions: list[Lesion]) -> list[Structure]:
    """Lesions as structures; several of one finding are numbered from 1."""
    totals = Counter(lesion.finding for lesion in lesions)
    seen: Counter[str] = Counter()
    structures = []
    for lesion in lesions:
        seen[lesion.finding] += 1
        name = f"{lesion.finding} {seen[lesion.finding]}" if totals[lesion.finding] > 1 else lesion.finding
        structures.append(
            Structure(name, "lesion", lesion.mask, lesion.side, lesion.location, lesion.finding, lesion.organ)
        )
    return structures
