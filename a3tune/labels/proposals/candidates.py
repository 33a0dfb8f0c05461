"""Outlines that could be structures: collected from every view of an image, judged alike, and thinned out."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
# Candidates whose masks have this IoU show the same thing: views agree on it.
_AGREEING_IOU = 0.7
# Bounds of the classes of size, as shares of the frame.
_SIZE_CLASSES = (0.005, 0.012, 0.03, 0.1)


class Candidate(NamedTuple):
    """One outline.

    Attributes:
        box: (x0, y0, x1, y1) in pixels of the analysis, exclusive edges.
        inside: bool [y1 - y0, x1 - x0], the mask in its box.
        area: pixels inside.
        merit: how much it looks like a structure; higher is better.
    """

    box: tuple[int, int, int, int]
    inside: np.ndarray
    area: int
    merit: float


class Collector:
    """Takes masks, keeps the box and merit of those that could be a structure.

    Args:
        grey: uint8 [h, w], the image in which outlines are judged.
        smallest, largest: share of the frame that a mask may have, 0 to 1.

    Attributes:
        candidates: what was taken so far.
        bonus: added to the merit of what is taken from now on: for a view that finds what no other view finds.
    """

    def __init__(self, grey: np.ndarray, smallest: float, largest: float) -> None:
        self.grey = grey.astype(np.float32)
        self.height, self.width = grey.shape
        self.smallest, self.largest = smallest * grey.size, largest * grey.size
        self.candidates: list[Candidate] = []
        self.bonus = 0.0
        self._spread = max(float(self.grey.std()), 1.0)

    def add_components(self, mask: np.ndarray, *, fill: bool = False) -> None:
        """Every connected part of a mask uint8 [h, w], with its holes filled if told so."""
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4 if fill else 8)
        for index in range(1, count):
            x, y, width, height, area = (int(value) for value in stats[index])
            # Filling holes makes a ring larger.
            if area <= self.largest and width * height >= self.smallest:
                inside = labels[y : y + height, x : x + width] == index
                self.add(x, y, without_holes(inside) if fill else inside)

    def add_mask(self, mask: np.ndarray, x: int = 0, y: int = 0) -> None:
        """One mask bool [h, w], its first pixel at (x, y), cut to its own box."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            self.add(x + int(columns[0]), y + int(rows[0]), inside)

    def add(self, x: int, y: int, inside: np.ndarray) -> None:
        """One mask bool [h, w], tight in its box, whose first pixel lies at (x, y)."""
        height, width = inside.shape
        area = int(np.count_nonzero(inside))
        if min(height, width) < 4 or not self.smallest <= area <= self.largest:
            return
        box = (x, y, x + width, y + height)
        self.candidates.append(Candidate(box, inside, area, self.bonus + self._merit(box, inside, area)))

    def add_filled(self) -> None:
        """Once more each candidate with holes, its holes filled: a ring around fluid is one thing."""
        for candidate in list(self.candidates):
            whole = without_holes(candidate.inside)
            if np.count_nonzero(whole) > 1.08 * candidate.area:
                self.add(*candidate.box[:2], whole)

    def _merit(self, box: tuple[int, int, int, int], inside: np.ndarray, area: int) -> float:
        """How much a mask looks like a structure: one edge all around, even inside, neither ragged nor thin, clear of
        the frame. The weights were fitted on synthetic images (logistic regression)."""
        x0, y0, x1, y1 = box
        pad = 3
        left, top = max(x0 - pad, 0), max(y0 - pad, 0)
        window = self.grey[top : min(y1 + pad, self.height), left : min(x1 + pad, self.width)]
        mask = np.zeros(window.shape, dtype=np.uint8)
        mask[y0 - top : y1 - top, x0 - left : x1 - left] = inside
        ring = (cv2.dilate(mask, CROSS, iterations=pad) - cv2.dilate(mask, CROSS)) > 0
        rim = (mask - cv2.erode(mask, CROSS, iterations=pad)) > 0
        if not ring.any() or not rim.any():
            return -np.inf
        within, around = window[rim].mean(), window[ring]
        middle = (within + around.mean()) / 2
        closed = float(((around < middle) if within > around.mean() else (around > middle)).mean())
        contrast = min(abs(within - around.mean()) / self._spread, 2.0)
        uneven = min(float(window[mask > 0].std()) / self._spread, 2.0)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        hull = cv2.contourArea(cv2.convexHull(max(outlines, key=len))) + 1
        solid = min(1.0, area / hull)
        aspect = min(inside.shape) / max(inside.shape)
        touching = sum((x0 <= 0, y0 <= 0, x1 >= self.width, y1 >= self.height))
        size = np.log(area / self.grey.size)
        shape = 0.9 * closed + 2.0 * solid + 2.5 * aspect
        return float(shape + 0.3 * contrast - 0.8 * uneven - 1.1 * size - 0.26 * size**2 - 1.9 * touching)


def without_holes(inside: np.ndarray) -> np.ndarray:
    """A bool mask [h, w] with every hole filled."""
    padded = np.pad(inside.astype(np.uint8), 1)
    cv2.floodFill(padded, None, (0, 0), 2)
    return padded[1:-1, 1:-1] != 2


def choose(candidates: list[Candidate], shape: tuple[int, int], maximum: int, duplicate_iou: float) -> list[Candidate]:
    """The best candidates of every size, of which no two nearly coincide.

    Candidates that several views agree on rank higher: what shows at many thresholds is rarely chance.

    Args:
        candidates: any number.
        shape: (height, width) of the analysis.
        maximum: how many are chosen at most.
        duplicate_iou: of two candidates whose masks have this IoU or more only the better one stays.

    Returns:
        the best of each class of size in turn.
    """
    if not candidates:
        return []
    overlap = _mask_overlaps(candidates, shape)
    votes = (overlap >= _AGREEING_IOU).sum(axis=1)
    similar = overlap >= duplicate_iou
    merits = np.array([candidate.merit for candidate in candidates]) + 0.9 * np.log(votes)
    classes = np.digitize([candidate.area / (shape[0] * shape[1]) for candidate in candidates], _SIZE_CLASSES)
    left = np.ones(len(candidates), dtype=bool)
    queues: list[list[int]] = [[] for _ in range(len(_SIZE_CLASSES) + 1)]
    for index in np.argsort(-merits, kind="stable"):
        if left[index]:
            queues[classes[index]].append(int(index))
            left &= ~similar[index]
    chosen: list[Candidate] = []
    while len(chosen) < maximum and any(queues):
        for queue in queues:
            if queue and len(chosen) < maximum:
                chosen.append(candidates[queue.pop(0)])
    return chosen


def _mask_overlaps(candidates: list[Candidate], shape: tuple[int, int]) -> np.ndarray:
    """IoU of every pair of masks, float32 [n, n], on a grid of half the resolution."""
    flat = np.zeros((len(candidates), -(-shape[0] // 2), -(-shape[1] // 2)), dtype=np.float32)
    for row, candidate in zip(flat, candidates, strict=True):
        x0, y0 = candidate.box[:2]
        odd_y, odd_x = y0 % 2, x0 % 2
        part = candidate.inside[odd_y::2, odd_x::2]
        top, left = (y0 + odd_y) // 2, (x0 + odd_x) // 2
        row[top : top + part.shape[0], left : left + part.shape[1]] = part
    rows = flat.reshape(len(candidates), -1)
    shared = rows @ rows.T
    areas = np.diagonal(shared)
    return shared / np.maximum(areas[:, None] + areas[None] - shared, 1)
