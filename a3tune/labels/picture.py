"""One picture of an image with its regions outlined and numbered by rank."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from a3tune.figures.overlay import outline
from a3tune.figures.regions import REGION_COLOURS, widest_place
from a3tune.types import ScoredRegion

SHORTEST_EDGE, LONGEST_EDGE = 512, 2048
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def numbered_outlines(pixels: np.ndarray, regions: Sequence[ScoredRegion]) -> np.ndarray:
    """Outline every region in a colour of its own and write its rank inside.

    Small images are enlarged by a whole factor, so that the numbers can be read, and very large ones are reduced.

    Args:
        pixels: uint8 [height, width, 3], RGB, source pixel frame.
        regions: best first, their masks in the same frame.

    Returns:
        uint8 [h, w, 3], RGB: the shorter edge about 512 pixels or more where the longer one stays below 2048.
    """
    height, width = _size(*pixels.shape[:2])
    enlarging = height >= pixels.shape[0]
    canvas = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC if enlarging else cv2.INTER_AREA)
    masks = [_resized(item.region.mask, width, height) for item in regions]
    picture = outline(canvas, masks)
    scale = min(height, width) / 640
    taken = np.zeros((height, width), dtype=bool)
    # Small regions first: they have no room to move their number to.
    for index in sorted(range(len(masks)), key=lambda index: masks[index].sum()):
        if masks[index].any():
            colour = REGION_COLOURS[index % len(REGION_COLOURS)]
            _write(picture, taken, str(regions[index].rank), masks[index], colour, max(scale, 0.4))
    return picture


def _size(height: int, width: int) -> tuple[int, int]:
    longest, shortest = max(height, width), min(height, width)
    if longest > LONGEST_EDGE:
        factor = LONGEST_EDGE / longest
        return max(1, round(height * factor)), max(1, round(width * factor))
    factor = max(1, min(-(-SHORTEST_EDGE // shortest), LONGEST_EDGE // longest))
    return height * factor, width * factor


def _resized(mask: np.ndarray, width: int, height: int) -> np.ndarray:
    return cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _write(
    picture: np.ndarray, taken: np.ndarray, text: str, mask: np.ndarray, colour: tuple[int, int, int], scale: float
) -> None:
    """Write ``text`` where the mask is widest, off the numbers that are there already; ``taken`` is brought up to
    date."""
    free = mask & ~taken
    centre_x, centre_y = widest_place(free if free.any() else mask)
    thick = max(1, round(2 * scale))
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, scale, thick)
    height, width = mask.shape
    x = int(np.clip(centre_x - text_width // 2, 0, max(0, width - text_width)))
    y = int(np.clip(centre_y + text_height // 2, text_height, max(text_height, height - 1)))
    # A dark rim keeps the number readable on bright and dark tissue.
    cv2.putText(picture, text, (x, y), _FONT, scale, (0, 0, 0), thick + 2 * max(1, thick // 2) + 1, cv2.LINE_AA)
    cv2.putText(picture, text, (x, y), _FONT, scale, colour, thick, cv2.LINE_AA)
    taken[max(0, y - text_height - thick) : y + thick, max(0, x - thick) : x + text_width + thick] = True
