"""What is on show, as it goes into a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from a3tune.types import WeakLabels
from app.inspect.sessions.opened_image import OpenedImage

if TYPE_CHECKING:
    from a3tune.inspection.report import MapStyle, Side


@dataclass(frozen=True, eq=False)
class Shown:
    """What is on show.

    Attributes:
        name: what its file is called, without an ending.
        sides: one or two maps.
        numbers: for each side its rows of key, name, value and meaning.
        labels: the regions that are switched on.
        reference: bool [height, width], where the answer lies, where that is known and drawn.
        measures: the records of what was measured (see :meth:`a3tune.images.measures.Measure.record`).
        style: how the maps are coloured.
        command: what makes the same inspection again.
        settings: the viewer's.
        opened: the image.
        weights: where those are that answered: of "model" its source, of each adapter its folder.
    """

    name: str
    sides: list[Side]
    numbers: list[list[list[str]]]
    labels: WeakLabels | None
    reference: np.ndarray | None
    measures: list[dict[str, Any]]
    style: MapStyle
    command: str
    settings: dict[str, Any]
    opened: OpenedImage
    weights: dict[str, str | Path]

    @property
    def masks(self) -> list[np.ndarray]:
        """Bool [height, width] of each region, in source pixels."""
        return [] if self.labels is None else [item.region.mask for item in self.labels.regions]
