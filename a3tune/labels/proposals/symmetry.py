"""What is not the same on both sides of a body: classical symmetry analysis.

Radiographs, brains and trunks are nearly symmetric. The axis is found by folding the image; then the image less its
mirror image shows what only one side has (a shadow, a bleed), and a dark field on one side that its partner on the
other side lacks in part shows what covers it: fluid and dense lung have the brightness of what lies beside them,
so that no edge gives them away.
"""

from __future__ import annotations

import cv2
import numpy as np

from a3tune.labels.proposals.candidates import Collector, without_holes

_COARSE = 64
_DIFFERENCES = (10, 16, 24, 34, 48, 64)
_FIELD_SHARES = range(12, 56, 6)
# A field must take this share of the frame.
_SMALLEST_FIELD = 0.015


def find_axis(grey: np.ndarray) -> float:
    """Where to fold an image, uint8 [h, w], so that both sides agree best.

    Returns:
        x of the upright axis in pixels, counted from the left edge; within a tenth of the width of the middle.
    """
    coarse = cv2.resize(grey, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA).astype(np.float32)
    small = cv2.GaussianBlur(coarse, (0, 0), 2)

    def mismatch(total: int) -> float:
        columns = np.arange(max(0, total - _COARSE + 1), min(_COARSE - 1, total) + 1)
        return float(np.abs(small[:, columns] - small[:, total - columns]).mean())

    best = min(range(_COARSE - 12, _COARSE + 13), key=mismatch)
    return (best + 1) / 2 / _COARSE * grey.shape[1]


def mirrored(picture: np.ndarray, axis: float) -> np.ndarray:
    """A picture [h, w] folded over to the other side of the axis; the frame's edge goes on outside."""
    turn = np.array([[-1, 0, 2 * axis - 1], [0, 1, 0]], dtype=np.float32)
    size = (picture.shape[1], picture.shape[0])
    return cv2.warpAffine(picture, turn, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def one_sided_candidates(grey: np.ndarray, axis: float, collector: Collector) -> None:
    """Areas that are brighter or darker than their mirror image; thin lines such as ribs and tubes are left out."""
    opened = cv2.morphologyEx(grey, cv2.MORPH_OPEN, _disc(7))
    calm = cv2.GaussianBlur(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, _disc(7)), (0, 0), 3.0).astype(np.float32)
    difference = calm - mirrored(calm, axis)
    for limit in _DIFFERENCES:
        for sign in (1, -1):
            mask = (sign * difference > limit).astype(np.uint8)
            collector.add_components(cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(5)), fill=True)


def covered_candidates(grey: np.ndarray, axis: float, collector: Collector) -> None:
    """What a dark field on one side lacks of its partner's mirror image: lung under fluid, or filled with it."""
    calm = cv2.GaussianBlur(grey, (0, 0), 2.0)
    for limit in np.percentile(calm, _FIELD_SHARES):
        pair = _pair_of_fields((calm < limit).astype(np.uint8), axis)
        for own, other in (pair, pair[::-1]) if pair else ():
            lacking = ((mirrored(other * 255, axis) > 127) & (own == 0)).astype(np.uint8)
            for size in (5, 11):
                collector.add_components(cv2.morphologyEx(lacking, cv2.MORPH_OPEN, _disc(size)), fill=True)
            part = _largest(cv2.morphologyEx(lacking, cv2.MORPH_OPEN, _disc(7)))
            if part is not None:
                # The heart hides a part of the partner: the hull of field and lacking part bridges it.
                hull = np.zeros_like(own)
                cv2.fillConvexPoly(hull, cv2.convexHull(cv2.findNonZero(part | own)), 1)
                rest = cv2.morphologyEx(hull & (1 - own), cv2.MORPH_OPEN, _disc(7))
                collector.add_components(rest, fill=True)


def _pair_of_fields(dark: np.ndarray, axis: float) -> tuple[np.ndarray, np.ndarray] | None:
    """The two largest dark parts clear of the frame, uint8 [h, w], when one lies on each side; else None."""
    dark = cv2.morphologyEx(dark, cv2.MORPH_OPEN, _disc(5))
    count, labels, stats, middles = cv2.connectedComponentsWithStats(dark, connectivity=4)
    width = dark.shape[1]
    inner = [
        index
        for index in range(1, count)
        if stats[index, cv2.CC_STAT_AREA] > _SMALLEST_FIELD * dark.size
        and stats[index, cv2.CC_STAT_LEFT] > 0
        and stats[index, cv2.CC_STAT_TOP] > 0
        and stats[index, cv2.CC_STAT_LEFT] + stats[index, cv2.CC_STAT_WIDTH] < width
    ]
    inner.sort(key=lambda index: -stats[index, cv2.CC_STAT_AREA])
    if len(inner) < 2 or (middles[inner[0]][0] < axis) == (middles[inner[1]][0] < axis):
        return None
    first, second = (without_holes(labels == index).astype(np.uint8) for index in inner[:2])
    return cv2.morphologyEx(first, cv2.MORPH_CLOSE, _disc(9)), cv2.morphologyEx(second, cv2.MORPH_CLOSE, _disc(9))


def _largest(mask: np.ndarray) -> np.ndarray | None:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count < 2:
        return None
    return (labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)


def _disc(size: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
