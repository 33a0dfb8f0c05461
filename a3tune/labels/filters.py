"""Which regions are worth scoring: the size and border rules of A3Tune, for images of any size.

The rules are stated in a frame of 256 x 256 pixels to which the method resizes every image (Focus on What
Matters: A3Tune, ACL 2025, weak-label generation). Here a box is mapped to the cells of that frame that it
touches, so that an image of any size and shape is judged alike, and a 256 x 256 image exactly as published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from a3tune.errors import RequestError
from a3tune.types import Region

DropReason = Literal["too large", "touches the border", "too small"]
_WORDS: dict[DropReason, tuple[str, str]] = {
    "touches the border": ("touches the border", "touch the border"),
    "too small": ("is too small", "are too small"),
    "too large": ("fills most of the frame", "fill most of the frame"),
}


@dataclass(frozen=True)
class FilterRules:
    """The rules, in pixels of the reference frame.

    Attributes:
        frame: side of the reference frame.
        maximum_area: a region with this area or more is dropped.
        minimum_side: a region is dropped when its box, measured between its first and last pixel
            (last - first), is this long or shorter in either direction.
        first: a region is dropped when its first column or row is smaller than this.
        last: a region is dropped when its last column or row is larger than this.
    """

    frame: int = 256
    maximum_area: float = 40000
    minimum_side: int = 12
    first: int = 1
    last: int = 253

    def __post_init__(self) -> None:
        for name, least in (("frame", 1), ("maximum_area", 1), ("minimum_side", 0)):
            if getattr(self, name) < least:
                raise RequestError(
                    expected=f"{name} of {least} or more",
                    got=f"{name} is {getattr(self, name)}",
                    remedy="Change the filter rule",
                )


PAPER_RULES = FilterRules()
"""The published rules."""


@dataclass(frozen=True)
class FilterResult:
    """What became of each region.

    Attributes:
        reasons: for every region in order None (kept) or why it was dropped.
    """

    reasons: tuple[DropReason | None, ...]

    @property
    def kept(self) -> tuple[int, ...]:
        """Indices of the regions that stay, ascending."""
        return tuple(index for index, reason in enumerate(self.reasons) if reason is None)

    @property
    def summary(self) -> str:
        """One line such as "12 of 31 regions kept: 9 touch the border, 10 are too small"."""
        counts = Counter(reason for reason in self.reasons if reason is not None)
        total = len(self.reasons)
        line = f"{len(self.kept)} of {total} {'region' if total == 1 else 'regions'} kept"
        dropped = [
            f"{counts[reason]} {words[counts[reason] > 1]}" for reason, words in _WORDS.items() if counts[reason]
        ]
        return f"{line}: {', '.join(dropped)}" if dropped else line


def drop_reason(
    box: tuple[int, int, int, int], area: int, height: int, width: int, rules: FilterRules = PAPER_RULES
) -> DropReason | None:
    """Why a region is dropped, or None when it is kept.

    Args:
        box: (x, y, width, height) in source pixels, exclusive edges.
        area: source pixels in the mask.
        height, width: size of the image in source pixels.
        rules: the rules; the published ones unless told otherwise.
    """
    x, y, box_width, box_height = box
    if area * rules.frame**2 >= rules.maximum_area * height * width:
        return "too large"
    first_column, last_column = _cells(x, box_width, width, rules.frame)
    first_row, last_row = _cells(y, box_height, height, rules.frame)
    if min(first_column, first_row) < rules.first or max(last_column, last_row) > rules.last:
        return "touches the border"
    if min(last_column - first_column, last_row - first_row) <= rules.minimum_side:
        return "too small"
    return None


def filter_boxes(
    boxes: Sequence[tuple[int, int, int, int]],
    areas: Sequence[int],
    height: int,
    width: int,
    rules: FilterRules = PAPER_RULES,
) -> FilterResult:
    """Judge boxes with their mask areas; see :func:`drop_reason`. Nothing is reordered or lost."""
    return FilterResult(
        tuple(drop_reason(box, area, height, width, rules) for box, area in zip(boxes, areas, strict=True))
    )


def filter_regions(
    regions: Sequence[Region], rules: FilterRules = PAPER_RULES
) -> tuple[tuple[Region, ...], FilterResult]:
    """The regions that stay, in order, and what became of each."""
    result = FilterResult(tuple(drop_reason(region.box, region.area, *region.size, rules) for region in regions))
    return tuple(regions[index] for index in result.kept), result


def from_inclusive_box(box: Sequence[int]) -> tuple[int, int, int, int]:
    """Turn segment-anything's box, whose width is last - first, into one with exclusive edges."""
    x, y, width, height = (int(value) for value in box)
    return x, y, width + 1, height + 1


def _cells(start: int, length: int, size: int, frame: int) -> tuple[int, int]:
    """First and last cell of the reference frame that source pixels [start, start + length) touch."""
    return start * frame // size, -(-(start + length) * frame // size) - 1
