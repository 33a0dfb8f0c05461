"""Whatever stands out in an image, found by classical image analysis: prompts for a box-driven segmenter.

Several views of the image are asked, because no single one finds every organ: bands and steps of grey level
(organs of even brightness), maximally stable extremal regions (bright or dark spots at any contrast),
touching structures cut apart by distance (rows of vertebrae), basins of the gradient (organs told apart by
edges rather than by level), the gap between a pair that stand side by side (the heart between the lungs), round
spots, faint shadows against a wide background, and what only one side of the body has. All candidates are judged
alike. Near-duplicates merge, and the best of every size stay, so that large organs do not crowd out small lesions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

from a3tune.errors import RequestError
from a3tune.labels.proposals.candidates import CROSS, Collector, choose
from a3tune.labels.proposals.spots import shadow_candidates, spot_candidates
from a3tune.labels.proposals.symmetry import covered_candidates, find_axis, one_sided_candidates


@dataclass(frozen=True)
class Proposals:
    """How candidates are found.

    Attributes:
        maximum: how many candidates are returned at most.
        side: the image is analysed with its longer side at this many pixels.
        levels: how many grey levels the brightness is divided into.
        smallest, largest: share of the frame that a candidate's area may have, 0 to 1.
        duplicate_iou: of two candidates whose masks have this IoU or more only the better one stays, 0 to 1.
    """

    maximum: int = 96
    side: int = 256
    levels: int = 6
    smallest: float = 0.0015
    largest: float = 0.61
    duplicate_iou: float = 0.55

    def __post_init__(self) -> None:
        checks = {
            "maximum": self.maximum >= 1,
            "side": self.side >= 32,
            "levels": 2 <= self.levels <= 32,
            "smallest": 0 < self.smallest < self.largest,
            "largest": self.largest <= 1,
            "duplicate_iou": 0 < self.duplicate_iou <= 1,
        }
        for name, good in checks.items():
            if not good:
                raise RequestError(
                    expected="maximum of 1 or more, side of 32 or more, 2 to 32 levels, and shares between 0 and 1",
                    got=f"The proposal setting {name} is {getattr(self, name)}",
                    remedy="Change the setting",
                )


class Proposal(NamedTuple):
    """One candidate.

    Attributes:
        box: (x0, y0, x1, y1) in source pixels, exclusive edges, tight around the mask.
        mask: bool [h, w], the candidate at the resolution of the analysis (longer side ``Proposals.side``).
        merit: how well it stands out; higher is better.
    """

    box: tuple[float, float, float, float]
    mask: np.ndarray
    merit: float


def analysed_size(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) at which an image is analysed: its longer side at ``side`` pixels, none below 8."""
    scale = side / max(height, width)
    return max(8, round(height * scale)), max(8, round(width * scale))


def propose_regions(
    pixels: np.ndarray, settings: Proposals | None = None, reduced: np.ndarray | None = None
) -> tuple[Proposal, ...]:
    """Find candidates for the structures of an image.

    Args:
        pixels: uint8 [height, width, 3], RGB.
        settings: see :class:`Proposals`.
        reduced: the same by area means at `analysed_size`, where somebody has it; made here when None.

    Returns:
        candidates, best first within each class of size and the classes in turn; it may be empty.
    """
    settings = settings or Proposals()
    height, width = pixels.shape[:2]
    if reduced is None:
        size = analysed_size(height, width, settings.side)
        reduced = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(reduced, cv2.COLOR_RGB2GRAY)
    smooth = cv2.bilateralFilter(cv2.medianBlur(grey, 3), 7, 24, 4)
    collector = Collector(smooth, settings.smallest, settings.largest)
    _level_candidates(smooth, settings.levels, collector)
    _stable_candidates(grey, collector)
    collector.add_filled()
    _basin_candidates(smooth, collector)
    spot_candidates(grey, collector)
    shadow_candidates(grey, collector)
    axis = find_axis(grey)
    one_sided_candidates(grey, axis, collector)
    # Few, and faint by nature: what covers a lung has no edge of its own.
    collector.bonus = 1.0
    covered_candidates(grey, axis, collector)
    across, down = width / grey.shape[1], height / grey.shape[0]
    proposals = []
    for candidate in choose(collector.candidates, grey.shape, settings.maximum, settings.duplicate_iou):
        x0, y0, x1, y1 = candidate.box
        mask = np.zeros(grey.shape, dtype=bool)
        mask[y0:y1, x0:x1] = candidate.inside
        proposals.append(Proposal((x0 * across, y0 * down, x1 * across, y1 * down), mask, candidate.merit))
    return tuple(proposals)


_DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))


def _level_candidates(grey: np.ndarray, levels: int, collector: Collector) -> None:
    cuts = _brightness_cuts(grey, levels)
    edges = [-1, *cuts, 255]
    for index, (low, high) in enumerate(pairwise(edges)):
        band = ((grey > low) & (grey <= high)).astype(np.uint8)
        brighter = (grey > low).astype(np.uint8)
        darker = (grey <= high).astype(np.uint8)
        for mask in [band] + ([brighter] if index else []) + ([darker] if high < 255 else []):
            collector.add_components(cv2.morphologyEx(mask, cv2.MORPH_OPEN, CROSS))
            collector.add_components(cv2.morphologyEx(mask, cv2.MORPH_OPEN, _DISC))
            _split_candidates(mask, collector)
            _between_candidates(mask, collector)


def _brightness_cuts(grey: np.ndarray, levels: int) -> list[int]:
    """Cuts between clusters of grey values (k-means on the histogram, started at even quantiles)."""
    histogram = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    # Large even areas such as the air around the body must not take every cluster.
    weight = np.sqrt(histogram)
    values = np.arange(256)
    share = np.cumsum(weight) / weight.sum()
    centres = np.interp((np.arange(levels) + 0.5) / levels, share, values)
    for _ in range(20):
        cuts = (centres[1:] + centres[:-1]) / 2
        nearest = np.searchsorted(cuts, values)
        mass = np.bincount(nearest, weights=weight, minlength=levels)
        means = np.bincount(nearest, weights=weight * values, minlength=levels)
        centres = np.sort(np.where(mass > 0, means / np.maximum(mass, 1e-9), centres))
    return sorted({int(cut) for cut in (centres[1:] + centres[:-1]) / 2 if 0 < cut < 255})


def _split_candidates(mask: np.ndarray, collector: Collector) -> None:
    """Parts that only a narrow bridge connects: grown back from the cores of the distance map."""
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
    for radius in (4.0, 8.0):
        count, cores = cv2.connectedComponents((distance > radius).astype(np.uint8), connectivity=8)
        if not 2 < count <= 40:
            continue
        for index in range(1, count):
            core = (cores == index).astype(np.uint8)
            x, y, width, height = cv2.boundingRect(core)
            pad = int(radius) + 1
            x0, y0 = max(x - pad, 0), max(y - pad, 0)
            window = np.s_[y0 : y + height + pad, x0 : x + width + pad]
            size = 2 * pad - 1
            grown = cv2.dilate(core[window], cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
            part = grown & mask[window]
            if part.any():
                px, py, part_width, part_height = cv2.boundingRect(part)
                inside = part[py : py + part_height, px : px + part_width] > 0
                collector.add(x0 + px, y0 + py, inside)


def _between_candidates(mask: np.ndarray, collector: Collector) -> None:
    """The gap between a large pair that stand side by side."""
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _DISC)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    height, width = mask.shape
    inner = [
        index
        for index in range(1, count)
        if stats[index, cv2.CC_STAT_AREA] >= 0.02 * mask.size
        and stats[index, cv2.CC_STAT_LEFT] > 0
        and stats[index, cv2.CC_STAT_LEFT] + stats[index, cv2.CC_STAT_WIDTH] < width
    ]
    inner.sort(key=lambda index: -stats[index, cv2.CC_STAT_AREA])
    if len(inner) < 2 or not _side_by_side(stats[inner[0]], stats[inner[1]]):
        return
    pair = ((labels == inner[0]) | (labels == inner[1])).astype(np.uint8)
    hull = np.zeros_like(pair)
    cv2.fillConvexPoly(hull, cv2.convexHull(cv2.findNonZero(pair)), 1)
    gap = hull & np.bitwise_not(cv2.morphologyEx(pair, cv2.MORPH_CLOSE, _DISC).astype(np.uint8))
    for share in (0.03, 0.07):
        size = 2 * round(share * max(height, width)) + 1
        element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        collector.add_components(cv2.morphologyEx(gap, cv2.MORPH_OPEN, element))


def _side_by_side(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two components (rows of OpenCV's statistics) are alike in size and height and do not overlap in x."""
    (left, right) = sorted((first, second), key=lambda row: row[cv2.CC_STAT_LEFT])
    areas = sorted((first[cv2.CC_STAT_AREA], second[cv2.CC_STAT_AREA]))
    top = max(first[cv2.CC_STAT_TOP], second[cv2.CC_STAT_TOP])
    bottoms = [row[cv2.CC_STAT_TOP] + row[cv2.CC_STAT_HEIGHT] for row in (first, second)]
    shared = min(bottoms) - top
    taller = max(first[cv2.CC_STAT_HEIGHT], second[cv2.CC_STAT_HEIGHT])
    middle = right[cv2.CC_STAT_LEFT] + right[cv2.CC_STAT_WIDTH] // 2
    apart = left[cv2.CC_STAT_LEFT] + left[cv2.CC_STAT_WIDTH] <= middle
    return bool(areas[0] > 0.4 * areas[1] and shared > 0.5 * taller and apart)


def _stable_candidates(grey: np.ndarray, collector: Collector) -> None:
    detector = cv2.MSER.create(delta=6, min_area=max(1, int(collector.smallest)), max_area=int(collector.largest))
    point_sets, boxes = detector.detectRegions(grey)
    for points, (x, y, width, height) in zip(map(np.asarray, point_sets), boxes, strict=True):
        inside = np.zeros((height, width), dtype=bool)
        inside[points[:, 1] - y, points[:, 0] - x] = True
        collector.add(int(x), int(y), inside)


def _basin_candidates(grey: np.ndarray, collector: Collector) -> None:
    across, down = (cv2.Sobel(grey, cv2.CV_32F, dx, dy, ksize=3) for dx, dy in ((1, 0), (0, 1)))
    gradient = cv2.magnitude(across, down)
    for limit in (30.0, 60.0):
        flat = cv2.erode((gradient < limit).astype(np.uint8), CROSS)
        count, markers = cv2.connectedComponents(flat, connectivity=4)
        if count <= 2:
            continue
        relief = cv2.cvtColor(gradient.clip(0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)
        basins = cv2.watershed(relief, markers.astype(np.int32))
        areas = np.bincount(basins[basins > 0], minlength=count)
        for index in np.flatnonzero((areas >= collector.smallest) & (areas <= collector.largest)):
            mask = (basins == index).astype(np.uint8)
            x, y, width, height = cv2.boundingRect(mask)
            collector.add(x, y, mask[y : y + height, x : x + width] > 0)
