"""Which segmenter and scorer make a run's weak labels, and where labels that were made before lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from a3tune.bundle import DEMO, DEMO_SCORER, is_demo
from a3tune.checkpoints import HUB_PREFIX
from a3tune.errors import LabelError
from a3tune.labels import (
    BIOMEDCLIP,
    TEMPLATE_SETS,
    LiteMedSamSegmenter,
    RegionCache,
    SegmentAnythingSegmenter,
    Segmenter,
    load_scorer,
)
from a3tune.labels.store import Labeller, LabelStore, PipelineLabeller, settings_digest
from a3tune.storage import cache_folder
from a3tune.training.config import TuneConfig
from a3tune.training.targets import TargetPlan

AUTO, DATA = "auto", "data"
LITE_MEDSAM = ("litemedsam", "lite-medsam")
LABELS_NAME = "labels"


def target_plan(config: TuneConfig) -> TargetPlan:
    """How a configuration makes targets: from the data's own masks when ``label_segmenter`` is "data"."""
    return TargetPlan(
        source="truth" if config.label_segmenter == DATA else "weak",
        # The loss joins masks by itself; as one target they take less room.
        combine="union" if config.masks == "union" else "each",
        top_k=config.label_top_k or TEMPLATE_SETS[config.label_template].top_k,
        template_set=config.label_template,
        negative_answers=config.align_negative_answers,
        min_score=config.label_min_score,
    )


def bundled_stores(config: TuneConfig, root: Path) -> list[LabelStore]:
    """The labels that lie with the data (``labels/`` beside its images), when the configuration does not ask for
    others."""
    store = LabelStore(root / LABELS_NAME)
    settings = store.settings
    if settings is None or config.label_segmenter == DATA:
        return []
    fits = config.label_segmenter in (AUTO, settings.get("segmenter")) and config.label_scorer in (
        AUTO,
        settings.get("scorer"),
    )
    return [store] if fits else []


def labeller_factory(config: TuneConfig, model: str, device: str) -> Callable[[], tuple[Labeller, LabelStore]] | None:
    """What loads segmenter and scorer when the first label is missing; None when no labels are wanted.

    Args:
        model: the base model as the user named it.
        device: "auto", "cpu" or "cuda".

    Raises (when called):
        LabelError: a part is unknown, missing or out of reach; the message names the remedy.
    """
    if config.label_segmenter == DATA:
        return None

    def make() -> tuple[Labeller, LabelStore]:
        labeller = make_labeller(config.label_segmenter, scorer_source(config.label_scorer, model), device)
        folder = cache_folder() / LABELS_NAME / settings_digest(labeller.settings)
        store = LabelStore(folder)
        store.describe(labeller.settings)
        return labeller, store

    return make


def scorer_source(name: str, model: str) -> str:
    """The scorer that a name stands for; "auto" is BiomedCLIP, or the demo's own scorer for the demo model."""
    demo = is_demo(model)
    if name == DEMO or (name == AUTO and demo):
        if not (DEMO_SCORER / "open_clip_config.json").is_file():
            raise LabelError(
                expected=f"the demo scorer in {DEMO_SCORER}",
                got="It is missing",
                remedy="Fetch the project's files again, or set label_scorer to another open_clip model",
            )
        return str(DEMO_SCORER)
    return BIOMEDCLIP if name.lower() in (AUTO, "biomedclip") else name


def make_labeller(segmenter: str, scorer: str, device: str = "auto") -> PipelineLabeller:
    """The label pipeline from the names of its parts.

    Args:
        segmenter: "auto" or "litemedsam" for LiteMedSAM, or the path or hub place of a Segment Anything checkpoint.
        scorer: a folder or hub id of an open_clip model.
        device: "auto", "cpu" or "cuda".

    Raises:
        LabelError: a part is unknown, missing or out of reach.
    """
    return PipelineLabeller(_segmenter(segmenter, device), load_scorer(scorer, device=device), RegionCache())


def _segmenter(name: str, device: str) -> Segmenter:
    if name.lower() in (AUTO, *LITE_MEDSAM):
        return LiteMedSamSegmenter(device=device)
    if name.startswith(HUB_PREFIX) or Path(name).suffix in (".pth", ".safetensors"):
        return SegmentAnythingSegmenter(name, device=device)
    raise LabelError(
        expected=f'"{AUTO}", "{LITE_MEDSAM[0]}", "{DATA}" or a Segment Anything checkpoint (.pth, '
        f".safetensors; {HUB_PREFIX}OWNER/REPOSITORY/FILE on the hub)",
        got=f"label_segmenter is {name!r}",
        remedy="Choose one of these",
    )
