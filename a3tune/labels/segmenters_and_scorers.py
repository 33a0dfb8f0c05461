"""The parts that find and rank regions by name: which are offered, and how they are loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from a3tune import hub
from a3tune.bundle import DEMO, DEMO_SCORER
from a3tune.checkpoints import HUB_PREFIX, hub_place, locate_checkpoint
from a3tune.errors import LabelError
from a3tune.labels.cache import RegionCache
from a3tune.labels.filters import PAPER_RULES, FilterRules
from a3tune.labels.pipeline import LabelMaker
from a3tune.labels.scorers.open_clip import BIOMEDCLIP, load_scorer
from a3tune.labels.scorers.open_clip_folder import CONFIG, WEIGHTS, fetch_folder
from a3tune.labels.scorers.templates import check_template, kept_count
from a3tune.labels.segmenters.lite_medsam import LiteMedSamSegmenter
from a3tune.labels.segmenters.medsam import MedSamSegmenter, is_medsam
from a3tune.labels.segmenters.segment_anything import SegmentAnythingSegmenter
from a3tune.labels.segmenters.segmentation import Segmenter
from a3tune.lack_of_memory import memory_for
from a3tune.memory_advice import TO_LABEL
from a3tune.progress import Progress, no_progress
from a3tune.storage import is_folder, is_hub_id, named_path

Kind = Literal["segmenter", "scorer"]
AUTO, LITE_MEDSAM = "auto", "litemedsam"


@dataclass(frozen=True)
class Part:
    """One part that is offered by name.

    Attributes:
        key: short name, unique.
        kind: "segmenter" finds regions, "scorer" ranks them for a text.
        title: name on the page.
        source: what `load_label_maker` calls it.
        weights: number of parameters.
        download: bytes to fetch from the hub; 0 for what comes with the program.
        licence: the licence, in words.
        about: what it is, in a sentence.
    """

    key: str
    kind: Kind
    title: str
    source: str
    weights: int
    download: int
    licence: str
    about: str

    @property
    def repository(self) -> str | None:
        """The hub id of the repository that it comes from; None for what comes with the program."""
        return repository_of(self.source, self.kind) if self.download else None

    @property
    def names(self) -> frozenset[str | None]:
        """What it is called anywhere, also in the settings of labels that were made with it."""
        sam = f"Segment Anything {self.key.removeprefix('sam-').replace('-', '_')}"
        return frozenset((self.key, self.source, self.title, self.repository, sam))


PARTS = (
    Part(
        "litemedsam", "segmenter", "LiteMedSAM", LITE_MEDSAM, 9_800_000, 0, "Apache-2.0",
        "Comes with the program; quick on a processor.",
    ),
    Part(
        "sam-vit-b", "segmenter", "SAM ViT-B", "hub:facebook/sam-vit-base/model.safetensors", 93_700_000, 375_000_000,
        "Apache-2.0", "Segment Anything, base: the method's own choice of regions, from a grid of points.",
    ),
    Part(
        "sam-vit-l", "segmenter", "SAM ViT-L", "hub:facebook/sam-vit-large/model.safetensors", 312_000_000,
        1_250_000_000, "Apache-2.0", "Segment Anything, large.",
    ),
    Part(
        "sam-vit-h", "segmenter", "SAM ViT-H", "hub:facebook/sam-vit-huge/model.safetensors", 641_000_000,
        2_560_000_000, "Apache-2.0", "Segment Anything, huge; wants a GPU.",
    ),
    Part(
        "medsam", "segmenter", "MedSAM", "hub:wanglab/medsam-vit-base/model.safetensors", 93_700_000, 375_000_000,
        "Apache-2.0", "A SAM ViT-B trained on medical images, made for boxes.",
    ),
    Part(
        "demo-scorer", "scorer", "Demo scorer", DEMO, 600_000, 0, "Apache-2.0",
        "Comes with the program; knows synthetic phantoms only.",
    ),
    Part(
        "biomedclip", "scorer", "BiomedCLIP", "biomedclip", 196_000_000, 784_000_000, "MIT",
        "Trained on figures of biomedical articles: the method's own choice.",
    ),
)  # fmt: skip
"""What is offered by name. Sizes are rounded."""


def find_part(name: str, kind: Kind) -> Part | None:
    """The part of a kind whose key or source ``name`` is, or None."""
    return next((part for part in PARTS if part.kind == kind and name in (part.key, part.source)), None)


def is_same_part(name: str, other: object, kind: Kind) -> bool:
    """Whether two names stand for the same part: as a user gives it, and as labels say what they were made with."""
    part = find_part(name, kind)
    return name == other or (part is not None and other in part.names)


def repository_of(source: str, kind: Kind) -> str | None:
    """The hub id of the repository that a source lies in; None for a path, and for what comes with the program.

    What finds regions is one file, so a bare owner/name is a path there.
    """
    place = hub_place(source)
    if place is not None:
        return place[0]
    if source.lower() == "biomedclip":
        return BIOMEDCLIP
    return source if kind == "scorer" and is_hub_id(source) and not is_folder(source) else None


def is_here(source: str, kind: Kind) -> bool:
    """Whether nothing has to be fetched for a source."""
    place = hub_place(source)
    if place is not None:
        return hub.held_file(*place) is not None
    repository = repository_of(source, kind)
    if repository is None:
        return True
    folder = hub.held(repository).folder
    return folder is not None and (folder / CONFIG).is_file() and any((folder / name).is_file() for name in WEIGHTS)


def fetch_part(source: str, kind: Kind, on_progress: Progress = no_progress) -> None:
    """Fetch what is missing of a source; nothing where nothing is.

    Raises:
        LabelError: it is neither there nor can it be fetched.
        RequestError: the disk is full.
    """
    repository = repository_of(source, kind)
    if repository is None:
        return
    if kind == "segmenter":
        purpose = "a Segment Anything checkpoint (ViT-B, ViT-L, ViT-H or MedSAM)"
        locate_checkpoint(source, purpose=purpose, gives="which finds the regions", on_progress=on_progress)
    else:
        fetch_folder(repository, on_progress)


@memory_for("what finds and ranks regions", TO_LABEL)
def load_label_maker(
    segmenter: str = AUTO,
    scorer: str = DEMO,
    *,
    template: str = "plain",
    top_k: str | int | None = None,
    minimum_side: int = PAPER_RULES.minimum_side,
    device: str = "auto",
) -> LabelMaker:
    """Load the parts by name.

    Args:
        segmenter: "litemedsam" or "auto", the key of another one in `PARTS`, or a Segment Anything checkpoint (ViT-B,
            ViT-L, ViT-H or MedSAM) as a path or as ``hub:OWNER/REPOSITORY/FILE``.
        scorer: "demo", "biomedclip", the folder of an open_clip model, or its name on the Hugging Face hub.
        template, top_k: as in `LabelMaker`.
        minimum_side: regions whose box is this long or shorter are not ranked, in pixels of a 256 x 256 frame; 12 as
            published, 0 to keep every small structure that was found.
        device: "auto", "cpu" or "cuda".

    Raises:
        LabelError: a part is unknown, missing, damaged, hostile or out of reach.
        RequestError: ``top_k`` is not a number above 0.
        NotEnoughMemoryError: the parts take more memory than there is.
    """
    # What costs nothing to check comes before weights are read.
    check_template(template)
    kept_count(top_k, template)
    rules = FilterRules(minimum_side=minimum_side)
    source, remarks = _scorer_source(scorer)
    return LabelMaker(
        load_segmenter(segmenter, device),
        load_scorer(source, device=device),
        cache=RegionCache(),
        template=template,
        top_k=top_k,
        rules=rules,
        remarks=remarks,
    )


def load_segmenter(name: str, device: str = "auto") -> Segmenter:
    """The segmenter that a name or path stands for; see `load_label_maker`.

    Raises:
        LabelError: there is no such file, or it is not such a checkpoint.
    """
    if name.lower() in (AUTO, LITE_MEDSAM, "lite-medsam"):
        return LiteMedSamSegmenter(device=device)
    part = find_part(name, "segmenter")
    name = name if part is None else part.source
    if not name.startswith(HUB_PREFIX) and not os.path.exists(named_path(name)):
        raise LabelError(
            expected=f"{LITE_MEDSAM}, or a Segment Anything checkpoint (ViT-B, ViT-L, ViT-H or MedSAM), which finds "
            "the regions",
            got=f"There is no file {name}",
            remedy="Fetch sam_vit_b_01ec64.pth from https://dl.fbaipublicfiles.com/segment_anything/ and name its "
            f"path, name one on the hub as {HUB_PREFIX}OWNER/REPOSITORY/FILE, or leave the segmenter out: "
            f"{LITE_MEDSAM} comes with the program",
        )
    return MedSamSegmenter(name, device=device) if is_medsam(name) else SegmentAnythingSegmenter(name, device=device)


def _scorer_source(name: str) -> tuple[str, tuple[str, ...]]:
    """Folder or hub id of a scorer, and what must be said about it."""
    if name == DEMO:
        if not (DEMO_SCORER / CONFIG).is_file():
            raise LabelError(
                expected=f"the demo scorer in {DEMO_SCORER}, which ranks the regions for a prompt",
                got="The demo scorer is missing",
                remedy="Fetch the project's files again, train it with: python -m a3tune demo build, or choose "
                "the scorer biomedclip or a folder with another open_clip model",
            )
        return str(DEMO_SCORER), ("Ranked by the demo scorer, which knows synthetic images only",)
    return BIOMEDCLIP if name.lower() == "biomedclip" else name, ()
