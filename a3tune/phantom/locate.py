"""Where a mask lies, in words; every word is derived from masks alone."""

from __future__ import annotations

import numpy as np

from a3tune.phantom.structures import Phantom, Side

THIRDS = {"chest": ("upper", "middle", "lower"), "brain": ("frontal", "temporal", "occipital")}

# Above half of the chest's width the heart counts as enlarged (cardiothoracic ratio, Danzer 1919).
CARDIOTHORACIC_LIMIT = 0.5
# Frontal horns wider than 0.3 of the brain count as enlarged ventricles (Evans index, Evans 1942).
EVANS_LIMIT = 0.3


def vertical_third(mask: np.ndarray, reference: np.ndarray) -> int:
    """In which third of the rows that ``reference`` spans the mask's centroid lies: 0 (top), 1 or 2."""
    rows = np.nonzero(reference.any(axis=1))[0]
    top, bottom = rows[0], rows[-1] + 1
    centroid = np.nonzero(mask)[0].mean() + 0.5
    return int(np.clip((centroid - top) * 3 // (bottom - top), 0, 2))


def zone(mask: np.ndarray, lung: np.ndarray, side: Side) -> str:
    """Location of a chest lesion: thirds of the height of its lung, "right upper zone"."""
    return f"{side} {THIRDS['chest'][vertical_third(mask, lung)]} zone"


def lobe(mask: np.ndarray, brain: np.ndarray, side: Side) -> str:
    """Location of a brain lesion: thirds of the brain from front to back, "left frontal lobe"."""
    return f"{side} {THIRDS['brain'][vertical_third(mask, brain)]} lobe"


def extent(mask: np.ndarray) -> int:
    """Width of a mask's bounding box in pixels."""
    columns = np.nonzero(mask.any(axis=0))[0]
    return int(columns[-1] - columns[0] + 1)


def cardiothoracic_ratio(phantom: Phantom) -> float:
    """Width of the heart over the width of both lungs together, of a chest phantom."""
    return extent(phantom.structure("heart").mask) / extent(phantom.mask_of(["right lung", "left lung"]))


def evans_index(phantom: Phantom) -> float:
    """Width of the frontal horns (front half of the ventricles) over the brain's width, of a brain phantom."""
    ventricles = phantom.structure("ventricles").mask
    rows = np.nonzero(ventricles.any(axis=1))[0]
    front = ventricles[: (rows[0] + rows[-1]) // 2 + 1]
    return extent(front) / extent(phantom.structure("brain").mask)
