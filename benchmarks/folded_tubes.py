"""Drawn pictures of long, folded tubes of low contrast, as bowel shows in CT, each with its true mask: how many are
found.

    python -m benchmarks.folded_tubes

Nothing here was measured on a patient: a body of fat within a wall of muscle holds a few even organs and two or three
tubes that fold back on themselves. A tube is even and little brighter than fat, or holds gas over mottled contents.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import cv2
import numpy as np

from a3tune.labels.filters import filter_regions
from a3tune.labels.proposals.proposals import propose_regions
from a3tune.labels.segmenters.lite_medsam import LiteMedSamSegmenter
from a3tune.labels.segmenters.segmentation import mask_iou
from a3tune.phantom.shapes import open_curve
from a3tune.types import MedicalImage

SIDE = 384
_FAT, _MUSCLE, _GAS = 70.0, 128.0, 6.0


class DrawnTubes(NamedTuple):
    """One picture.

    Attributes:
        pixels: uint8 [384, 384, 3].
        masks: bool [384, 384] for each tube, its whole course with wall and contents.
        kinds: "even" or "mixed" for each tube.
    """

    pixels: np.ndarray
    masks: tuple[np.ndarray, ...]
    kinds: tuple[str, ...]


def draw_tubes(seed: int) -> DrawnTubes:
    """Draw one picture; the same for the same seed."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    middle = SIDE / 2
    radius = np.hypot((columns - middle) / (0.46 * SIDE), (rows - middle) / (0.37 * SIDE))
    grey = np.where(radius < 1, _FAT, 4.0)
    grey[(radius > 0.8) & (radius < 0.92)] = _MUSCLE
    room = radius < 0.76
    for _ in range(rng.integers(1, 4)):
        organ = _ellipse(rng, room)
        grey[organ] = rng.uniform(120, 165)
    masks, kinds = [], []
    taken = np.zeros_like(room)
    for _ in range(60):
        mask = _course(rng, room)
        if mask is None or np.count_nonzero(mask & taken) > 0.03 * mask.sum():
            continue
        mask &= ~taken
        kind = "mixed" if rng.random() < 0.5 else "even"
        _fill(rng, grey, mask, kind)
        taken |= cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        masks.append(mask)
        kinds.append(kind)
        if len(masks) == 3:
            break
    grey = cv2.GaussianBlur(grey, (0, 0), 1.1) + cv2.GaussianBlur(rng.normal(0, 1, grey.shape), (0, 0), 0.8) * 9
    pixels = np.repeat(grey.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    return DrawnTubes(pixels, tuple(masks), tuple(kinds))


def _ellipse(rng: np.random.Generator, room: np.ndarray) -> np.ndarray:
    canvas = np.zeros(room.shape, np.uint8)
    centre = tuple(int(value) for value in rng.uniform(0.3, 0.7, 2) * SIDE)
    axes = tuple(int(value) for value in rng.uniform(0.05, 0.13, 2) * SIDE)
    cv2.ellipse(canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return (canvas > 0) & room


def _course(rng: np.random.Generator, room: np.ndarray) -> np.ndarray | None:
    """bool mask of a tube that turns back one to three times, its width swelling and shrinking; None outside."""
    turns, width = rng.integers(2, 5), rng.uniform(9, 15)
    length, gap = rng.uniform(50, 110), 2 * width + rng.uniform(-3, 5)
    points = []
    for turn in range(turns):
        ends = (0.0, length) if turn % 2 == 0 else (length, 0.0)
        points += [(x, turn * gap) for x in np.linspace(*ends, 4)]
    control = np.array(points) + rng.normal(0, 3.0, (len(points), 2))
    control -= control.mean(axis=0)
    angle = rng.uniform(0, np.pi)
    turned = control @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    curve = open_curve(turned + rng.uniform(0.3, 0.7, 2) * SIDE, samples=12)
    swelling = 1 + 0.16 * np.sin(np.arange(len(curve)) / rng.uniform(4, 8))
    canvas = np.zeros(room.shape, np.uint8)
    for (x, y), factor in zip(curve, swelling, strict=True):
        cv2.circle(canvas, (round(x), round(y)), round(width * factor), 1, -1)
    mask = canvas > 0
    return mask if np.count_nonzero(mask & room) > 0.97 * mask.sum() else None


def _fill(rng: np.random.Generator, grey: np.ndarray, mask: np.ndarray, kind: str) -> None:
    wall = mask & (cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0)
    inside = mask & ~wall
    level = rng.uniform(96, 118)
    if kind == "even":
        grey[mask] = level
        grey[wall] = level + rng.uniform(4, 14)
        return
    noise = cv2.GaussianBlur(rng.normal(0, 1, grey.shape), (0, 0), 3.5)
    contents = level + 26 * noise / noise.std()
    # Gas rises: the front of each loop is dark down to a level.
    depth = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3)
    front = np.roll(inside, 8, axis=0) & inside
    gas = inside & ~front & (depth > 0) & (rng.random() < 0.8)
    contents[gas] = _GAS
    grey[inside] = contents[inside]
    grey[wall] = level + rng.uniform(8, 22)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=25)
    parser.add_argument("--first", type=int, default=5000, help="seed of the first picture")
    options = parser.parse_args()
    segmenter = LiteMedSamSegmenter(device="cpu")
    stages = ("proposed", "found", "kept by the filter")
    counts = {kind: np.zeros(len(stages) + 1, dtype=int) for kind in ("even", "mixed")}
    for seed in range(options.first, options.first + options.images):
        drawn = draw_tubes(seed)
        regions = segmenter.segment(MedicalImage(drawn.pixels)).regions
        found = (
            [cv2.resize(p.mask.astype(np.uint8), (SIDE, SIDE)) > 0 for p in propose_regions(drawn.pixels)],
            [region.mask for region in regions],
            [region.mask for region in filter_regions(regions)[0]],
        )
        for mask, kind in zip(drawn.masks, drawn.kinds, strict=True):
            counts[kind] += (1, *(any(mask_iou(other, mask) >= 0.5 for other in stage) for stage in found))
    print(f"| tubes | drawn | {' | '.join(stages)} |\n| --- |{' ---: |' * 4}")
    for kind, row in counts.items():
        print(f"| {kind} | {' | '.join(map(str, row))} |")


if __name__ == "__main__":
    main()
