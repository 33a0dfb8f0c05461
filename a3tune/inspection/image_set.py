"""One question about several images: one answer, and where the model looked in each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.attention.answer import measure_answer
from a3tune.attention.critical_heads import head_set_map
from a3tune.errors import RequestError
from a3tune.geometry.patch_grid import to_patches
from a3tune.inspection.inspect import Inspection
from a3tune.inspection.views import AdapterView, ExpertChoice, answer_rows, check_adapters, each_view, progress_until
from a3tune.lack_of_memory import memory_for
from a3tune.memory_advice import TO_ANSWER
from a3tune.models.model import VisionLanguageModel
from a3tune.models.quirks import note_on_several
from a3tune.progress import Progress, no_progress
from a3tune.types import AttentionMaps, MedicalImage


@dataclass(frozen=True, eq=False)
class ImageSetInspection:
    """One question about several images.

    Attributes:
        model: the model's display name.
        question: the question as asked.
        views: one view per adapter, in the order asked for. Maps, experts and numbers are over the patches of all
            images, image after image; a target's numbers count the patches of images without a target as outside.
        parts: for each image, in the order asked about, an inspection of it: the same answers, tokens, visual ratios
            and critical heads (chosen over all images), with the maps, their totals and the experts of this image's
            tokens alone. The numbers are those of its own map, and "share_of_images" is the part of the attention on
            all images that it has, 0 to 1.
        seconds: as in `Inspection`.
        made_with: as in `Inspection`.
    """

    model: str
    question: str
    views: tuple[AdapterView, ...]
    parts: tuple[Inspection, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    made_with: dict[str, Any] = field(default_factory=dict)


def inspect_images(
    model: VisionLanguageModel,
    images: Sequence[MedicalImage],
    question: str,
    *,
    adapters: Sequence[str] = (BASE,),
    adapter_set: AdapterSet | None = None,
    critical_count: int | None = None,
    max_new_tokens: int = 64,
    targets: Sequence[np.ndarray | None] | None = None,
    on_progress: Progress = no_progress,
    should_stop: Callable[[], bool] | None = None,
    together: bool = False,
) -> ImageSetInspection:
    """Ask ``question`` about all of ``images`` in one prompt, and look into every head.

    Args:
        images: source pixels, in the order in which the prompt shows them.
        targets: for each image bool [height, width], source pixels, where the model should look in it, or None.
        The others are as in `a3tune.inspection.inspect.inspect_each`.

    Raises:
        RequestError: no image, several for a model of a class that takes one, another number of targets; and as
            `inspect_each`.
        ModelError: the tokens of the images cannot be told apart.
        AdapterError, Cancelled: as `inspect_each`.
    """
    targets = [None] * len(images) if targets is None else list(targets)
    if len(targets) != len(images):
        raise RequestError(
            expected="a target, or None, for each image",
            got=f"{len(targets)} of them for {len(images)} images",
            remedy="Name them in the order of the images",
        )
    proceed = progress_until(on_progress, should_stop)
    check_adapters(adapters, adapter_set)
    proceed("Reading the images and the question", 0.0)
    with memory_for("an answer and its maps", TO_ANSWER):
        prompt = model.encode_placed(images, question)
        sizes = [len(group) for group in prompt.images]
        grids = [model.patch_grid(image.height, image.width, size) for image, size in zip(images, sizes, strict=True)]
    coverages = [
        None if target is None else to_patches(target, grid) for target, grid in zip(targets, grids, strict=True)
    ]
    whole = None
    if any(coverage is not None for coverage in coverages):
        empty = [np.zeros(size, np.float32) for size in sizes]
        whole = np.concatenate([none if known is None else known for known, none in zip(coverages, empty, strict=True)])
    *_, (views, seconds) = each_view(
        model,
        prompt,
        adapters,
        adapter_set,
        coverage=whole,
        critical_count=critical_count,
        max_new_tokens=max_new_tokens,
        on_views=None,
        proceed=proceed,
        should_stop=should_stop,
        prefixes=None,
        together=together,
    )
    if len(images) > 1 and (note := note_on_several(model.config)):
        views = tuple(replace(view, notes=(*view.notes, note)) for view in views)
    ends = np.cumsum(sizes).tolist()
    parts = []
    for image, grid, coverage, end in zip(images, grids, coverages, ends, strict=True):
        own = slice(end - grid.count, end)
        found = tuple(_part(view, own, coverage) for view in views)
        parts.append(Inspection(model.name, image, question, grid, found, seconds=seconds))
    return ImageSetInspection(model.name, question, views, tuple(parts), seconds)


def _part(view: AdapterView, own: slice, coverage: np.ndarray | None) -> AdapterView:
    """A view of all images, cut to the patches of one."""
    weights = view.maps.weights[..., own]
    maps = AttentionMaps(weights, view.maps.rows, weights.sum(axis=-1))
    values = head_set_map(maps, view.critical_heads, answer_rows(view.tokens, maps))
    metrics = measure_answer(values, coverage)
    total = view.metrics["image_share"]
    metrics["share_of_images"] = metrics["image_share"] / total if total > 0 else float("nan")
    experts = view.experts
    if experts is not None and experts.key_choice is not None and experts.key_probabilities is not None:
        chosen, probabilities = experts.key_choice[:, own], experts.key_probabilities[:, own]
        experts = ExpertChoice(experts.query_gates, chosen, probabilities)
    return replace(view, maps=maps, metrics=metrics, experts=experts)
