"""From an image and a prompt to ranked regions: segment, filter, score."""

from __future__ import annotations

from collections.abc import Sequence

from a3tune.errors import LabelError, RequestError
from a3tune.labels.cache import RegionCache
from a3tune.labels.filters import PAPER_RULES, FilterRules, filter_regions
from a3tune.labels.scorers.open_clip import RegionScorer
from a3tune.labels.segmenters.segmentation import Segmenter
from a3tune.types import MedicalImage, Region, WeakLabels


def make_labels(
    image: MedicalImage,
    prompt: str | Sequence[str],
    segmenter: Segmenter,
    scorer: RegionScorer,
    *,
    cache: RegionCache | None = None,
    rules: FilterRules = PAPER_RULES,
    top_k: int | None = 8,
    extra_regions: Sequence[Region] = (),
) -> WeakLabels:
    """Find the regions of an image and rank them for a prompt.

    Args:
        image: the image.
        prompt: the text, or several descriptions of one thing; see ``templates`` for the method's wordings.
        segmenter: finds the regions.
        scorer: ranks them.
        cache: keeps what the segmenter found, on disk.
        rules: which regions are worth scoring.
        top_k: how many of the best are returned; all when None. Weights are over all scored regions.
        extra_regions: regions drawn by hand; they skip the filter and are ranked with the others.

    Raises:
        LabelError: the image is blank, no region passes the filter, or the prompt cannot be used.
        RequestError: ``top_k`` is below 1.
    """
    if top_k is not None and top_k < 1:
        raise RequestError(
            expected="at least 1 region to keep", got=f"top_k is {top_k}", remedy="Choose 1 or more, or all"
        )
    # A prompt that cannot be used should not cost a segmentation first.
    scorer.embed_texts([prompt] if isinstance(prompt, str) else list(prompt))
    segmentation = cache.get_or_make(image, segmenter) if cache is not None else segmenter.segment(image)
    kept, result = filter_regions(segmentation.regions, rules)
    notes = (*segmentation.notes, result.summary)
    if not kept and not extra_regions:
        raise LabelError(
            expected="at least one region of a usable size inside the frame",
            got=result.summary,
            remedy="Draw a box over the structure, or loosen the filter",
        )
    ranked = scorer.score(image, (*kept, *extra_regions), prompt)
    if top_k is not None and len(ranked) > top_k:
        notes = (*notes, f"{top_k} best of {len(ranked)} shown")
        ranked = ranked[:top_k]
    text = prompt if isinstance(prompt, str) else "; ".join(prompt)
    return WeakLabels(ranked, text, segmentation.segmenter, scorer.name, notes)
