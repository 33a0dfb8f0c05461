"""The parts of the label pipeline by the names a person gives, joined to one thing that labels images."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from a3tune.bundle import DEMO, DEMO_SCORER
from a3tune.checkpoints import HUB_PREFIX
from a3tune.errors import LabelError, RequestError
from a3tune.labels import (
    BIOMEDCLIP,
    PAPER_RULES,
    TEMPLATE_SETS,
    LiteMedSamSegmenter,
    RegionCache,
    RegionScorer,
    SegmentAnythingSegmenter,
    Segmenter,
    build_prompt,
    load_scorer,
    make_labels,
)
from a3tune.labels.scorers.templates import fill_template
from a3tune.storage import named_path
from a3tune.types import MedicalImage, WeakLabels

LITE_MEDSAM = "litemedsam"
ALL = "all"
_DEFAULT_KEPT = 8
_NO_SCORER_HINT = "use --scorer biomedclip or a folder with another open_clip model"


class LabelMaker:
    """Finds the regions of images and ranks them for questions, always with the same parts and settings.

    Args:
        segmenter: finds the regions.
        scorer: ranks them.
        cache: keeps what the segmenter found, on disk; None to find it anew each time.
        template: name of a template set, or a wording of one's own with ``{question}`` (and ``{organ}``) in it.
        top_k: how many of the best regions are kept; "all", or None for the number of the template set (8 for a
            wording of one's own).
        remarks: added to the notes of all labels.

    Raises:
        LabelError: the template is unknown.
        RequestError: ``top_k`` is not a number above 0.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        scorer: RegionScorer,
        *,
        cache: RegionCache | None = None,
        template: str = "plain",
        top_k: str | int | None = None,
        remarks: Sequence[str] = (),
    ) -> None:
        check_template(template)
        self.segmenter, self.scorer, self.cache, self.template = segmenter, scorer, cache, template
        self.top_k = kept_count(top_k, template)
        self.remarks = tuple(remarks)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but image and prompt that the labels depend on, as plain JSON values."""
        settings = {
            "segmenter": self.segmenter.name,
            "segmenter_weights": self.segmenter.digest,
            "segmenter_parameters": self.segmenter.parameters,
            "scorer": self.scorer.name,
            "scorer_weights": self.scorer.digest,
            "filter": asdict(PAPER_RULES),
            "top_k": self.top_k,
        }
        return json.loads(json.dumps(settings))

    def prompts(self, questions: Sequence[str], organ: str = "") -> tuple[str, ...]:
        """The texts that regions are ranked for: each question in the template's wording.

        Raises:
            LabelError: an empty question, or a wording that needs an organ where none is known.
        """
        return tuple(word_prompt(question, self.template, organ) for question in questions)

    def check(self, prompts: Sequence[str]) -> None:
        """Refuse prompts that the scorer cannot read, before any image is worked on.

        Raises:
            LabelError: a prompt is empty or longer than the text encoder takes.
        """
        self.scorer.embed_texts(prompts)

    def make(self, image: MedicalImage, prompts: Sequence[str]) -> WeakLabels:
        """Label one image.

        Raises:
            LabelError: see `a3tune.labels.make_labels`.
        """
        labels = make_labels(
            image,
            prompts[0] if len(prompts) == 1 else prompts,
            self.segmenter,
            self.scorer,
            cache=self.cache,
            top_k=self.top_k,
        )
        return replace(labels, notes=(*labels.notes, *self.remarks))


def build_maker(
    segmenter: str = LITE_MEDSAM,
    scorer: str = DEMO,
    *,
    template: str = "plain",
    top_k: str | int | None = None,
    device: str = "auto",
) -> LabelMaker:
    """Load the parts by name.

    Args:
        segmenter: "litemedsam", or a Segment Anything checkpoint (ViT-B, ViT-L, ViT-H or MedSAM) as a path or as
            ``hub:OWNER/REPOSITORY/FILE``.
        scorer: "demo", "biomedclip", the folder of an open_clip model, or its name on the Hugging Face hub.
        template, top_k: as in `LabelMaker`.
        device: "auto", "cpu" or "cuda".

    Raises:
        LabelError: a part is unknown, missing, damaged, hostile or out of reach.
        RequestError: ``top_k`` is not a number above 0.
    """
    # What costs nothing to check comes before weights are read.
    check_template(template)
    kept_count(top_k, template)
    source, remarks = _scorer_source(scorer)
    return LabelMaker(
        load_segmenter(segmenter, device),
        load_scorer(source, device=device),
        cache=RegionCache(),
        template=template,
        top_k=top_k,
        remarks=remarks,
    )


def load_segmenter(name: str, device: str = "auto") -> Segmenter:
    """The segmenter that a name or path stands for; see `build_maker`.

    Raises:
        LabelError: there is no such file, or it is not such a checkpoint.
    """
    # The hyphenated form is the one that configurations of runs use.
    if name.lower() in (LITE_MEDSAM, "lite-medsam"):
        return LiteMedSamSegmenter(device=device)
    if not name.startswith(HUB_PREFIX) and not os.path.exists(named_path(name)):
        raise LabelError(
            expected=f"{LITE_MEDSAM}, or a Segment Anything checkpoint (ViT-B, ViT-L, ViT-H or MedSAM), which finds "
            "the regions",
            got=f"There is no file {name}",
            remedy="Fetch sam_vit_b_01ec64.pth from https://dl.fbaipublicfiles.com/segment_anything/ and name its "
            f"path, name one on the hub as {HUB_PREFIX}OWNER/REPOSITORY/FILE, or leave the segmenter out: "
            f"{LITE_MEDSAM} comes with the program",
        )
    return SegmentAnythingSegmenter(name, device=device)


def check_template(template: str) -> None:
    """Refuse a template that is neither a set nor a wording.

    Raises:
        LabelError: it is unknown.
    """
    if template not in TEMPLATE_SETS and "{question}" not in template and "{organ}" not in template:
        raise LabelError(
            expected=f"one of {', '.join(TEMPLATE_SETS)}, or a wording with {{question}} in it",
            got=f"The template is {template!r}",
            remedy="Choose one of these",
        )


def word_prompt(question: str, template: str, organ: str = "") -> str:
    """A question in a template's wording.

    Raises:
        LabelError: the question is empty, or the wording needs an organ where none is known.
    """
    if not question.strip():
        raise LabelError(
            expected="a prompt such as the question or the name of a structure",
            got="The prompt is empty",
            remedy="Say what to look for",
        )
    if template in TEMPLATE_SETS:
        return build_prompt(question, template_set=template, organ=organ)
    if "{organ}" in template and not organ.strip():
        raise LabelError(
            expected="the organ or location that the template is filled with",
            got="No organ was given",
            remedy="Name it with --organ, or use another template",
        )
    return fill_template(template, question, organ)


def kept_count(top_k: str | int | None, template: str) -> int | None:
    """How many regions are kept: a number, or None for all; see `LabelMaker`.

    Raises:
        RequestError: neither "all" nor a number above 0.
    """
    if top_k is None:
        return TEMPLATE_SETS[template].top_k if template in TEMPLATE_SETS else _DEFAULT_KEPT
    if top_k == ALL:
        return None
    try:
        count = int(top_k)
    except ValueError:
        count = 0
    if count < 1:
        raise RequestError(
            expected=f"at least 1 region to keep, or {ALL}",
            got=f"The number of regions to keep is {str(top_k)!r}",
            remedy="Choose 1 or more, or leave it out",
        )
    return count


def _scorer_source(name: str) -> tuple[str, tuple[str, ...]]:
    """Folder or hub id of a scorer, and what must be said about it."""
    if name == DEMO:
        if not (DEMO_SCORER / "open_clip_config.json").is_file():
            raise LabelError(
                expected=f"the demo scorer in {DEMO_SCORER}, which ranks the regions for a prompt",
                got="The demo scorer is missing",
                remedy=f"Fetch the project's files again, train it with: python -m a3tune demo build, or "
                f"{_NO_SCORER_HINT}",
            )
        return str(DEMO_SCORER), ("Ranked by the demo scorer, which knows synthetic images only",)
    return BIOMEDCLIP if name.lower() == "biomedclip" else name, ()
