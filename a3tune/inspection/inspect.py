"""The result of the main job: one question about one image, answered and looked into, per adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.geometry.patch_grid import to_patches
from a3tune.inspection.views import AdapterView, check_adapters, each_view, progress_until
from a3tune.lack_of_memory import memory_for
from a3tune.memory_advice import TO_ANSWER
from a3tune.models.model import VisionLanguageModel
from a3tune.prefixes.cache import PrefixCache
from a3tune.progress import Progress, no_progress
from a3tune.types import MedicalImage, PatchGrid, WeakLabels


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
        seconds: by "<adapter>.first word" and "<adapter>.answer" how long it took until there was something to read,
            and until the whole answer was there with its maps.
        measures: what was measured on the image (see :meth:`a3tune.images.measures.Measure.record`).
        made_with: what it was made with, as plain JSON values, where that was noted (see
            `a3tune.inspection.provenance`).
    """

    model: str
    image: MedicalImage
    question: str
    grid: PatchGrid
    views: tuple[AdapterView, ...]
    labels: WeakLabels | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    measures: tuple[dict[str, Any], ...] = ()
    made_with: dict[str, Any] = field(default_factory=dict)

    def view(self, adapter: str) -> AdapterView:
        """The view of one adapter.

        Raises:
            KeyError: the inspection was made without that adapter.
        """
        for view in self.views:
            if view.adapter == adapter:
                return view
        raise KeyError(adapter)


def inspect_each(
    model: VisionLanguageModel,
    image: MedicalImage,
    question: str,
    *,
    adapters: Sequence[str] = (BASE,),
    adapter_set: AdapterSet | Callable[[str], AdapterSet | None] | None = None,
    critical_count: int | None = None,
    max_new_tokens: int = 64,
    target: np.ndarray | None = None,
    on_words: Callable[[Inspection], None] | None = None,
    on_progress: Progress = no_progress,
    should_stop: Callable[[], bool] | None = None,
    prefixes: PrefixCache | None = None,
    together: bool = False,
) -> Iterator[Inspection]:
    """Ask ``question`` about ``image`` and look into every head, adapter by adapter.

    The answer is generated greedily; the maps are read in the passes that write it. Nothing is locked between two
    inspections: whoever follows may take its time.

    Args:
        model: the loaded model.
        image: source pixels.
        question: the question; template and image tokens are added here.
        adapters: names of adapters in ``adapter_set``, "base" for none.
        adapter_set: adapters mounted on ``model``; needed for any name but "base". A function is asked for each
            adapter's own set when its turn comes.
        critical_count: K, how many critical heads; None for the number of heads of one layer, which is the K
            that the research code of A3Tune (ACL 2025) arrives at.
        max_new_tokens: longest answer in tokens.
        target: bool [height, width], source pixels: where the model should look; adds the mass, pointing and
            overlap numbers to the metrics of each view.
        on_words: called while an answer is written with the inspection as it is so far: the last view's answer ends
            with the word written last, and its maps, heads and numbers are those up to there. After the first word,
            and again as often as it takes little of the time, on this thread and with the model locked.
        on_progress: called with what is being done, the answer's words so far included, and the share done, 0 to 1.
        should_stop: asked between steps and tokens; True ends the work.
        prefixes: what earlier questions about the image left, and what this one leaves for the next; None has the
            adapters of this one question share the image's features.
        together: have the adapters answer in one batch, without ``on_words``. One after the other all the same where
            `a3tune.adapters.mixed_batch.reason_against_mixing` has a reason, with ``prefixes`` or a function as
            ``adapter_set``, and those that memory does not hold together; each view's mode tells.

    Yields:
        After each adapter the inspection with all views so far.

    Raises:
        RequestError: an empty or too long question, or a head count that the model does not have.
        AdapterError: an adapter that ``adapter_set`` does not hold.
        NotEnoughMemoryError: memory ran out.
        Cancelled: ``should_stop`` said so.
    """
    proceed = progress_until(on_progress, should_stop)
    check_adapters(adapters, adapter_set)
    proceed("Reading the image and the question", 0.0)
    with memory_for("an answer and its maps", TO_ANSWER):
        prompt = model.encode(image, question)
        grid = model.patch_grid(image.height, image.width, len(prompt.images[0]))

    def made(views: tuple[AdapterView, ...], seconds: dict[str, float]) -> Inspection:
        return Inspection(model.name, image, question, grid, views, seconds=seconds)

    found = each_view(
        model,
        prompt,
        adapters,
        adapter_set,
        coverage=None if target is None else to_patches(target, grid),
        critical_count=critical_count,
        max_new_tokens=max_new_tokens,
        on_views=None if on_words is None else lambda views, seconds: on_words(made(views, seconds)),
        proceed=proceed,
        should_stop=should_stop,
        prefixes=prefixes,
        together=together,
    )
    for views, seconds in found:
        yield made(views, seconds)


def inspect_image(
    model: VisionLanguageModel,
    image: MedicalImage,
    question: str,
    *,
    adapters: Sequence[str] = (BASE,),
    adapter_set: AdapterSet | Callable[[str], AdapterSet | None] | None = None,
    critical_count: int | None = None,
    max_new_tokens: int = 64,
    target: np.ndarray | None = None,
    on_words: Callable[[Inspection], None] | None = None,
    on_progress: Progress = no_progress,
    should_stop: Callable[[], bool] | None = None,
    prefixes: PrefixCache | None = None,
    together: bool = False,
) -> Inspection:
    """The last inspection of `inspect_each`, with the views of all adapters; arguments and errors are the same."""
    *_, inspection = inspect_each(
        model,
        image,
        question,
        adapters=adapters,
        adapter_set=adapter_set,
        critical_count=critical_count,
        max_new_tokens=max_new_tokens,
        target=target,
        on_words=on_words,
        on_progress=on_progress,
        should_stop=should_stop,
        prefixes=prefixes,
        together=together,
    )
    return inspection
