"""From an image and a prompt to ranked regions: segment, filter, score."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from a3tune.errors import LabelError
from a3tune.labels.cache import RANKING, RegionCache, code_version
from a3tune.labels.filters import PAPER_RULES, FilterRules, filter_regions
from a3tune.labels.scorers.open_clip import RegionScorer
from a3tune.labels.scorers.templates import build_prompt, check_template, kept_count
from a3tune.labels.segmenters.segmentation import Segmenter
from a3tune.lack_of_memory import memory_for
from a3tune.memory_advice import TO_LABEL
from a3tune.types import MedicalImage, Region, ScoredRegion, WeakLabels


class Labeller(Protocol):
    """Ranks the regions of an image for a prompt.

    Attributes:
        settings: everything but image and prompt that the labels depend on, as plain JSON values.
    """

    @property
    def settings(self) -> Mapping[str, Any]: ...

    @memory_for("the regions of this image", TO_LABEL)
    def rank(self, image: MedicalImage, prompts: Sequence[str]) -> WeakLabels:
        """The best regions for a text, or for several descriptions of one thing; none, and notes that begin with the
        reason, when the image has no usable region."""
        ...


class LabelMaker:
    """Finds the regions of images and ranks them for questions, always with the same parts and settings.

    Args:
        segmenter: finds the regions.
        scorer: ranks them.
        cache: keeps what the segmenter found; None to find it anew each time.
        template: name of a template set, or a wording of one's own with ``{question}`` (and ``{organ}``) in it.
        top_k: how many of the best regions are kept; see `a3tune.labels.scorers.templates.kept_count`.
        rules: which regions are worth ranking.
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
        rules: FilterRules = PAPER_RULES,
        remarks: Sequence[str] = (),
    ) -> None:
        check_template(template)
        self.segmenter, self.scorer, self.cache, self.template = segmenter, scorer, cache, template
        self.top_k = kept_count(top_k, template)
        self.rules, self.remarks = rules, tuple(remarks)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but image and prompt that the labels depend on, as plain JSON values."""
        settings = {
            "segmenter": self.segmenter.name,
            "segmenter_weights": self.segmenter.digest,
            "segmenter_parameters": self.segmenter.parameters,
            "scorer": self.scorer.name,
            "scorer_weights": self.scorer.digest,
            "filter": asdict(self.rules),
            "top_k": self.top_k,
            "code": code_version(RANKING),
        }
        return json.loads(json.dumps(settings, default=str))

    def with_rules(self, rules: FilterRules) -> LabelMaker:
        """The same parts and settings with another filter."""
        other = copy.copy(self)
        other.rules = rules
        return other

    def prompts(self, questions: Sequence[str], organ: str = "") -> tuple[str, ...]:
        """The texts that regions are ranked for: each question in the template's wording.

        Raises:
            LabelError: an empty question, or a wording that needs an organ where none is known.
        """
        return tuple(build_prompt(question, self.template, organ) for question in questions)

    @memory_for("the regions of this image", TO_LABEL)
    def make(
        self, image: MedicalImage, prompts: str | Sequence[str], extra_regions: Sequence[Region] = ()
    ) -> WeakLabels:
        """Find the regions of an image and rank them.

        Args:
            image: the image.
            prompts: the text to rank for, or several descriptions of one thing; see :meth:`prompts` for the method's
                wordings.
            extra_regions: regions drawn by hand; they skip the filter and are ranked with the others, alone where the
                image has no other.

        Returns:
            the best regions, best first; their weights are over all that were ranked.

        Raises:
            LabelError: the image is blank, no region passes the filter, or a prompt cannot be used.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        # A prompt that cannot be used should not cost a segmentation first.
        self.scorer.embed_texts(prompts)
        try:
            kept, notes = self._usable_regions(image)
        except LabelError as error:
            if not extra_regions:
                raise
            kept, notes = (), (str(error),)
        ranked = self.scorer.score(image, (*kept, *extra_regions), prompts)
        if self.top_k is not None and len(ranked) > self.top_k:
            notes = (*notes, f"{self.top_k} best of {len(ranked)} shown")
        return self._labels(ranked[: self.top_k], prompts, notes)

    @memory_for("the regions of this image", TO_LABEL)
    def rank(self, image: MedicalImage, prompts: Sequence[str]) -> WeakLabels:
        """As :meth:`make`, but an image without a usable region gets labels without any.

        Raises:
            LabelError: a prompt is empty or longer than the text encoder takes.
        """
        self.scorer.embed_texts(prompts)
        try:
            return self.make(image, prompts)
        except LabelError as error:
            return self._labels((), prompts, (str(error),))

    def _usable_regions(self, image: MedicalImage) -> tuple[tuple[Region, ...], tuple[str, ...]]:
        """The regions that pass the filter, and what happened on the way."""
        if self.cache is None:
            segmentation = self.segmenter.segment(image)
        else:
            segmentation = self.cache.get_or_make(image, self.segmenter)
        kept, result = filter_regions(segmentation.regions, self.rules)
        if not kept:
            raise LabelError(
                expected="at least one region of a usable size inside the frame",
                got=result.summary,
                remedy="Draw a box over the structure, or loosen the filter",
            )
        return kept, (*segmentation.notes, result.summary)

    def _labels(self, regions: tuple[ScoredRegion, ...], prompts: Sequence[str], notes: tuple[str, ...]) -> WeakLabels:
        names = self.segmenter.name, self.scorer.name
        made_with = settings_digest(self.settings)
        return WeakLabels(regions, "; ".join(prompts), *names, (*notes, *self.remarks), made_with)


def settings_digest(settings: Mapping[str, Any]) -> str:
    """16 hex digits that change with every setting."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]
