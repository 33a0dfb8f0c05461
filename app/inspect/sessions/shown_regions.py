"""The ranked regions that are listed on the page."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import numpy as np

from a3tune.figures.regions import REGION_COLOURS, number_place, outlines
from a3tune.labels.filters import PAPER_RULES, drop_reason
from a3tune.types import ScoredRegion, WeakLabels

# A smaller weight is told as 0: such a region makes no target before anybody chooses it.
_LEAST_WEIGHT = 5e-5
# How many of the best regions are shown, and how many of them make the target before anybody chooses: K of the
# region-based target in A3Tune (ACL 2025).
SHOWN = 8
CHOSEN = 4


@dataclass(frozen=True, eq=False)
class ShownRegion:
    """One region in the list.

    Attributes:
        key: names the region in requests; the same as long as the image is on show.
        scored: the region with its rank among all regions of the image.
        drawn: True for a region that was made from a drawn box.
        small: True for one that the published filter would have dropped for its size.
        chosen: whether it belongs to the target at first.
        colour: RGB, 0 to 255.
        contours: int [points, 2] each, (x, y) in source pixels along the border, holes included.
        anchor: (x, y) in source pixels, where the region is widest: the place for its number.
    """

    key: str
    scored: ScoredRegion
    drawn: bool
    small: bool
    chosen: bool
    colour: tuple[int, int, int]
    contours: tuple[np.ndarray, ...]
    anchor: tuple[int, int]


def shown_regions(labels: WeakLabels, drawn: Container[str]) -> tuple[ShownRegion, ...]:
    """The best of the ranked regions, the best of those that the published filter would have dropped for their size,
    and those drawn by hand.

    Args:
        labels: the ranked regions.
        drawn: keys of those drawn by hand.
    """
    shown: list[ShownRegion] = []
    keys: set[str] = set()
    small_ones = 0
    for scored in labels.regions:
        key, region = scored.region.key, scored.region
        small = key not in drawn and drop_reason(region.box, region.area, *region.size, PAPER_RULES) == "too small"
        small_ones += small
        # A box around a region that was found already may give the very same one.
        if key in keys or not (scored.rank <= SHOWN or key in drawn or (small and small_ones <= SHOWN)):
            continue
        keys.add(key)
        colour = REGION_COLOURS[len(shown) % len(REGION_COLOURS)]
        weighty = scored.weight >= _LEAST_WEIGHT or scored.rank == 1
        chosen = (scored.rank <= CHOSEN and weighty) or key in drawn
        anchor = number_place(region)
        shown.append(ShownRegion(key, scored, key in drawn, small, chosen, colour, outlines(region), anchor))
    return tuple(shown)
