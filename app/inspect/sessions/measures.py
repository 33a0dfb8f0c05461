"""How much of the attention lies inside regions, for each view that is on show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from a3tune.geometry.patch_grid import to_patches
from a3tune.types import ScoredRegion
from app.engine import library
from app.engine.ids import ResultId

if TYPE_CHECKING:
    from a3tune.inspection.inspect import AdapterView, Inspection


class ViewMeasure(NamedTuple):
    """What one view's attention is measured to have in the chosen regions, over the words of its answer.

    Attributes:
        result: the name of the result that the view belongs to.
        adapter: the view's adapter.
        numbers: those of :func:`a3tune.attention.metrics.measure_head_set` for its critical heads.
        head_mass: float64 [layers, heads], each head's attention mass inside; NaN where a head gives nothing to the
            image.
        inside: which regions, in words, where they are not the chosen ones.
    """

    result: ResultId
    adapter: str
    numbers: dict[str, float]
    head_mass: np.ndarray
    inside: str = ""


class TargetNumbers(NamedTuple):
    """The chosen regions in numbers: the share of the image that they cover, and each view's attention inside."""

    area: float
    views: tuple[ViewMeasure, ...] = ()


def measure_inside(chosen: Sequence[ScoredRegion], inspections: Mapping[ResultId, Inspection]) -> TargetNumbers | None:
    """What every view of these inspections has inside the regions taken together; None where there are none."""
    if not chosen:
        return None
    mask = union_of(chosen)
    measured = [
        measure_view(result, view, to_patches(mask, inspection.grid))
        for result, inspection in inspections.items()
        for view in inspection.views
    ]
    return TargetNumbers(float(mask.mean()), tuple(measured))


def measure_view(result: ResultId, view: AdapterView, coverage: np.ndarray) -> ViewMeasure:
    """What one view has inside: ``coverage`` is float [patches], the share of each patch that the regions cover."""
    rows = library.answer_rows(view.tokens, view.maps)
    numbers = library.measure_head_set(view.maps, view.critical_heads, coverage, rows)
    mass = library.attention_mass(view.maps.weights[:, :, rows].mean(2), coverage)
    return ViewMeasure(result, view.adapter, numbers, mass)


def union_of(regions: Sequence[ScoredRegion]) -> np.ndarray:
    """bool [height, width], source pixels: where any of the regions lies."""
    union = np.array(regions[0].region.mask)
    for item in regions[1:]:
        # One mask at a time: all of a large image together take seconds to copy.
        union |= item.region.mask
    return union
