"""Where the labels of a data set come from: stores that lie ready, and the parts that make the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3tune.bundle import DEMO, is_demo
from a3tune.errors import A3TuneError
from a3tune.labels.filters import PAPER_RULES
from a3tune.labels.pipeline import Labeller, settings_digest
from a3tune.labels.scorers.templates import KEPT_REGIONS, build_prompt
from a3tune.labels.segmenters_and_scorers import AUTO, is_same_part, load_label_maker
from a3tune.labels.store import LabelStore
from a3tune.storage import cache_folder
from a3tune.types import MedicalImage, WeakLabels

if TYPE_CHECKING:
    from a3tune.data.dataset import TrainingItem

LABELS_NAME = "labels"
"""The folder beside a data set's images in which its labels are looked for first."""


class LabelSource:
    """The labels of images: what lies ready in stores, and the rest, made once and kept.

    Args:
        ready: stores whose labels are taken as they are, in this order.
        load: called once, when the first label is missing, for what makes the rest and the stores that may hold what
            it made before: the first is written to. None when nothing can make labels here.
        chosen: stores of which only what a person chose is taken.

    Attributes:
        faults: a line for each question that could not be labelled for another reason than its image.
    """

    def __init__(
        self,
        ready: Sequence[LabelStore] = (),
        load: Callable[[], tuple[Labeller, Sequence[LabelStore]]] | None = None,
        chosen: Sequence[LabelStore] = (),
    ) -> None:
        self._ready, self._load, self._chosen = tuple(ready), load, tuple(chosen)
        self._parts: tuple[Labeller, Sequence[LabelStore]] | None = None
        self.faults: list[str] = []

    @property
    def has_store(self) -> bool:
        """Whether a store lies ready."""
        return bool(self._ready)

    @property
    def settings(self) -> Mapping[str, Any] | None:
        """What the labels are made with, as far as anything was needed; None before."""
        if self._parts is not None:
            return self._parts[0].settings
        return self._ready[0].settings if self._ready else None

    @property
    def labeller(self) -> Labeller | None:
        """What makes missing labels, loaded now; None when nothing can.

        Raises:
            LabelError: a part is unknown, missing or out of reach.
        """
        return self._loaded()[0] if self._load is not None else None

    def get(self, image: MedicalImage) -> dict[str, WeakLabels]:
        """prompt -> labels of one image from the ready stores; what a person chose goes before all else."""
        found: dict[str, WeakLabels] = {}
        for store in (*self._ready, *self._chosen):
            for prompt, labels in store.get(image).items():
                taken = store in self._ready and prompt not in found
                if taken or (labels.checked and not (prompt in found and found[prompt].checked)):
                    found[prompt] = labels
        return found

    def find(self, image: MedicalImage, wanted: Mapping[str, Sequence[str]]) -> dict[str, WeakLabels]:
        """Labels that the labeller made before with the same settings, or that a person chose; what another store holds
        is copied to the one that is written to.

        Args:
            image: the image.
            wanted: prompt that the labels lie under -> the texts that they are ranked for.
        """
        if self._load is None or not wanted:
            return {}
        labeller, stores = self._loaded()
        digest = settings_digest(labeller.settings)
        found: dict[str, WeakLabels] = {}
        for store in stores:
            new = {}
            for prompt, labels in store.get(image).items():
                same = labels.settings == digest and labels.prompt == "; ".join(wanted.get(prompt, ()))
                if prompt in wanted and prompt not in found and (same or labels.checked):
                    new[prompt] = labels
            if new and store is not stores[0]:
                stores[0].put(image, new)
            found |= new
        return found

    def make(self, image: MedicalImage, wanted: Mapping[str, Sequence[str]]) -> dict[str, WeakLabels]:
        """Make labels and keep them; empty when nothing can make labels here.

        A question whose prompt cannot be read, or at which a library fails, gets labels without a region that are not
        kept, and a line in ``faults``.
        """
        if self._load is None or not wanted:
            return {}
        labeller, (store, *_) = self._loaded()
        made: dict[str, WeakLabels] = {}
        failed: dict[str, WeakLabels] = {}
        for prompt, texts in wanted.items():
            labels, fault = safe_rank(labeller, image, texts)
            (failed if fault else made)[prompt] = labels
            if fault:
                self.faults.append(fault)
        if made:
            store.put(image, made)
        return made | failed

    def complete(self, image: MedicalImage, prompts: Sequence[str]) -> dict[str, WeakLabels]:
        """prompt -> labels, found or made, each ranked for the very prompt."""
        wanted = {prompt: (prompt,) for prompt in prompts}
        found = self.find(image, wanted)
        return found | self.make(image, {prompt: texts for prompt, texts in wanted.items() if prompt not in found})

    def _loaded(self) -> tuple[Labeller, Sequence[LabelStore]]:
        if self._parts is None:
            if self._load is None:
                raise ValueError("nothing here makes labels")
            labeller, stores = self._load()
            stores[0].describe(labeller.settings)
            self._parts = labeller, stores
        return self._parts


def data_source(
    root: Path,
    segmenter: str = AUTO,
    scorer: str = AUTO,
    *,
    model: str = "",
    top_k: int = KEPT_REGIONS,
    minimum_side: int | None = None,
    device: str = "auto",
    make: bool = True,
) -> LabelSource:
    """The labels of a data set: those in the folder ``labels`` beside its images, as they are unless other parts are
    asked for, and then those that these very parts made; the rest is made and kept in the cache folder.

    Args:
        root: the data folder.
        segmenter, scorer: names as in `a3tune.load_label_maker`, or as in the settings of the labels there;
            "auto" for what those were made with, else LiteMedSAM, and BiomedCLIP or for the demo model the demo's own
            scorer.
        model: the model that is tuned, as the user named it.
        top_k: how many regions of a question are needed.
        minimum_side: as in `a3tune.load_label_maker`; labels made with another one are made again. None for that of
            the labels there, else 12 as published.
        device: "auto", "cpu" or "cuda".
        make: whether labels that are missing are made.
    """
    beside = LabelStore(root / LABELS_NAME)
    settings = beside.settings or {}
    # "kept" is what stores of earlier versions call it; None stands for all regions.
    kept = settings.get("top_k", settings.get("kept"))
    rules = settings.get("filter")
    # Stores of earlier versions do not say it: they were made as published.
    side = rules.get("minimum_side") if isinstance(rules, Mapping) else PAPER_RULES.minimum_side
    fits = (
        (segmenter == AUTO or is_same_part(segmenter, settings.get("segmenter"), "segmenter"))
        and (scorer == AUTO or is_same_part(scorer, settings.get("scorer"), "scorer"))
        and (not isinstance(kept, int) or kept >= top_k)
        and minimum_side in (None, side)
    )

    def load() -> tuple[Labeller, Sequence[LabelStore]]:
        maker = load_label_maker(
            segmenter,
            scorer_name(scorer, model),
            top_k=max(top_k, KEPT_REGIONS),
            minimum_side=PAPER_RULES.minimum_side if minimum_side is None else minimum_side,
            device=device,
        )
        return maker, [kept_store(maker), beside]

    return LabelSource([beside] if settings and fits else [], load if make else None, [beside])


def kept_store(labeller: Labeller) -> LabelStore:
    """The store in the cache folder of labels made with these settings."""
    return LabelStore(cache_folder() / LABELS_NAME / settings_digest(labeller.settings))


def scorer_name(name: str, model: str) -> str:
    """The scorer that a name stands for beside a model: "auto" is BiomedCLIP, or the demo's own for the demo model."""
    return (DEMO if is_demo(model) else "biomedclip") if name == AUTO else name


def item_prompt(item: TrainingItem, template: str) -> str:
    """The text that a question's regions are ranked for and lie under; the plain question where the wording needs an
    unknown organ."""
    return build_prompt(item.question, template, item.organ, needs_organ=False)


def safe_rank(labeller: Labeller, image: MedicalImage, prompts: Sequence[str]) -> tuple[WeakLabels, str]:
    """What a labeller makes, and ""; or labels without a region, and in one line why it could make none."""
    try:
        return labeller.rank(image, prompts), ""
    except Exception as error:  # whatever fails at one image must not end the work on all others
        fault = describe_fault(error)
        return WeakLabels((), "; ".join(prompts), "", "", (fault,)), fault


def describe_fault(error: Exception) -> str:
    """What went wrong in one line, with the kind of error where a library raised it."""
    text = " ".join(str(error).split())
    return text if isinstance(error, A3TuneError) else f"{type(error).__name__}: {text}"
