"""The result of the main job: one question about one image, answered and looked into, per adapter."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from a3tune.types import AttentionMaps, Head, MedicalImage, PatchGrid, Token, WeakLabels


@dataclass(frozen=True, eq=False)
class AdapterView:
    """What the model with one adapter answered and where it looked.

    Attributes:
        adapter: the adapter's name; "base" for the model without one.
        answer: the decoded answer, special tokens removed.
        tokens: every token of prompt and answer in sequence order, image tokens included.
        maps: attention of every head from every text token to every patch, from one replay of prompt + answer.
        visual_ratio: float32 [layers, heads], share of the text tokens' attention that goes to the image.
        critical_heads: the heads with the highest visual ratio, highest first.
        metrics: named numbers about the maps (see a3tune.attention.metrics).
    """

    adapter: str
    answer: str
    tokens: tuple[Token, ...]
    maps: AttentionMaps
    visual_ratio: np.ndarray
    critical_heads: tuple[Head, ...]
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Inspection:
    """One question about one image.

    Attributes:
        model: the model's display name.
        image: the image that was asked about.
        question: the question as asked.
        grid: where each patch lies in the image.
        views: one view per adapter, in the order asked for.
        labels: the ranked regions, when they were made.
        seconds: how long each step took ("answer", "maps", ...).
    """

    model: str
    image: MedicalImage
    question: str
    grid: PatchGrid
    views: tuple[AdapterView, ...]
    labels: WeakLabels | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def view(self, adapter: str) -> AdapterView:
        """The view of one adapter.

        Raises:
            KeyError: the inspection was made without that adapter.
        """
        for view in self.views:
            if view.adapter == adapter:
                return view
        raise KeyError(adapter)

