"""Where a question's attention belongs, as shares of a model's patches: from the data's own masks or weak labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from a3tune.data.dataset import TrainingItem
from a3tune.data.masks import true_mask
from a3tune.evaluation.systems import Masks
from a3tune.geometry.patch_grid import to_patches
from a3tune.labels.fuse import union_mask
from a3tune.labels.sources import LabelSource, data_source, item_prompt
from a3tune.types import MedicalImage, PatchGrid

TEMPLATE = "plain"
TOP_K = 4
"""How many of the best regions make a weak target, as the paper takes for its smaller sets."""


class Targets:
    """The targets of a data set's questions.

    Args:
        masks: "true" for the data's own masks and boxes, "weak" for ranked regions of the label pipeline, "none".
        root: the data folder, in which labels may lie ready.
        model: the model as the user named it; the demo model's labels are scored by the demo's scorer.
        device: "auto", "cpu" or "cuda".
    """

    def __init__(self, masks: Masks, root: Path, model: str, device: str = "auto") -> None:
        self.masks = masks
        self._source: LabelSource | None = None
        if masks == "weak":
            self._source = data_source(root, model=model, top_k=TOP_K, device=device)

    @property
    def faults(self) -> list[str]:
        """A line for each question that could not be labelled."""
        return [] if self._source is None else self._source.faults

    def coverage(
        self, item: TrainingItem, images: Sequence[MedicalImage], grids: Sequence[PatchGrid]
    ) -> np.ndarray | None:
        """float [patches of all images], 0 to 1; None where nothing is known, or no patch shows it. Of several images
        those for which nothing is known count as outside.

        Raises:
            DataError: a mask cannot be read, or does not fit the image.
            LabelError: what makes labels cannot be loaded.
        """
        found = []
        for part, image, grid in zip(item.parts, images, grids, strict=True):
            mask = self._mask(part, image)
            found.append(np.zeros(grid.count, np.float32) if mask is None else to_patches(mask, grid))
        coverage = np.concatenate(found)
        return coverage if coverage.any() else None

    def _mask(self, item: TrainingItem, image: MedicalImage) -> np.ndarray | None:
        if self.masks == "true":
            return true_mask(item, image)
        if self._source is None:
            return None
        prompt = item_prompt(item, TEMPLATE)
        labels = self._source.get(image).get(prompt) or self._source.complete(image, [prompt]).get(prompt)
        regions = labels.regions[:TOP_K] if labels is not None else ()
        return union_mask(regions) if regions else None
