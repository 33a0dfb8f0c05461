"""How often weak labels find what a question asks about: the demo scorer's figures, on phantoms."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from a3tune.labels.cache import RegionCache
from a3tune.labels.filters import PAPER_RULES, FilterRules, filter_regions
from a3tune.labels.scorers.open_clip import RegionScorer
from a3tune.labels.segmenters.segmentation import Segmenter, mask_iou
from a3tune.phantom.questions import ask
from a3tune.phantom.scene import make_phantom
from a3tune.phantom.structures import Structure

IOU = 0.5
TOP = 4
ANY_SIDE = FilterRules(minimum_side=0)
"""The published rules but for the one that drops what is small."""


@dataclass(frozen=True)
class Outcome:
    """One structure that one question asks about.

    Attributes:
        group: "chest: nodule" and the like.
        topic: what kind of question it was.
        kind: "lesion" or "organ".
        rank: best rank of a region with enough overlap; None when no such region passed the published filter.
        side: last minus first pixel of the structure's box in the direction where that is less, in the frame of
            256 x 256 pixels in which the filter's rule for small regions is stated.
        found: whether there was such a region before any filter.
        rank_of_any_side: as ``rank``, with :data:`ANY_SIDE` for a filter.
    """

    group: str
    topic: str
    kind: str
    rank: int | None
    side: int
    found: bool
    rank_of_any_side: int | None

    @property
    def in_top(self) -> bool:
        return self.rank is not None and self.rank <= TOP


@dataclass
class Measured:
    """Outcomes of all questions, and the processor seconds of the first and of later questions about an image.

    Processor time does not depend on what else runs; with one thread it is what an idle core takes.
    A question is (whether it names what it asks about, best rank of any structure asked about).
    """

    outcomes: list[Outcome]
    questions: list[tuple[bool, int | None]]
    first: list[float]
    later: list[float]


def measure(
    seeds: Iterable[int],
    segmenter: Segmenter,
    scorer: RegionScorer,
    cache: RegionCache | None = None,
    on_image: Callable[[Measured], None] | None = None,
) -> Measured:
    """Ask every question about every phantom; images that the cache holds are not timed.

    A structure is found by a region with an IoU of :data:`IOU` or more. Structures that the filter excludes are
    counted as they come.
    """
    measured = Measured([], [], [], [])
    for seed in seeds:
        phantom = make_phantom(seed)
        cached = cache is not None and cache.get(phantom.image, segmenter) is not None
        started = time.process_time()
        found = cache.get_or_make(phantom.image, segmenter) if cache else segmenter.segment(phantom.image)
        regions, _ = filter_regions(found.regions)
        of_any_side, _ = filter_regions(found.regions, ANY_SIDE)
        overlaps: dict[str, dict[int, float]] = {}
        for question in ask(phantom):
            targets = [phantom.structure(name) for name in question.targets]
            targets = [target for target in targets if target.kind in ("lesion", "organ")]
            if not targets:
                continue
            ranked = scorer.score(phantom.image, regions, question.question)
            if not cached or overlaps:
                (measured.later if overlaps else measured.first).append(time.process_time() - started)
            ranked_of_any_side = scorer.score(phantom.image, of_any_side, question.question)
            ranks = []
            for target in targets:
                if target.name not in overlaps:
                    overlaps[target.name] = {id(region): mask_iou(region.mask, target.mask) for region in found.regions}
                same = overlaps[target.name]
                rank, rank_of_any_side = (
                    min((entry.rank for entry in entries if same[id(entry.region)] >= IOU), default=None)
                    for entries in (ranked, ranked_of_any_side)
                )
                ranks.append(rank)
                group = f"{phantom.kind}: {target.finding or target.name}"
                known = bool(max(same.values(), default=0.0) >= IOU)
                side = shorter_side(target.mask)
                measured.outcomes.append(
                    Outcome(group, question.topic, target.kind, rank, side, known, rank_of_any_side)
                )
            measured.questions.append((_names(question.question, targets), min(filter(None, ranks), default=None)))
            started = time.process_time()
        if on_image is not None:
            on_image(measured)
    return measured


def shorter_side(mask: np.ndarray) -> int:
    """Last minus first pixel of the box around a mask bool [h, w], the lesser of both directions, in the frame of
    256 x 256 pixels that the filter's rules are stated in."""
    spans = (np.ptp(np.flatnonzero(mask.any(axis=axis))) / mask.shape[1 - axis] for axis in (1, 0))
    return round(float(min(spans)) * PAPER_RULES.frame)


def _names(question: str, targets: Sequence[Structure]) -> bool:
    """Whether a question says what it asks about; plurals differ at the end only ("metastases")."""
    return any((target.finding or target.name).lower()[:-2] in question.lower() for target in targets)


def question_table(questions: Sequence[tuple[bool, int | None]]) -> list[str]:
    """A Markdown table of questions, by whether they name what they ask about."""
    lines = [f"| question | number | region found | top {TOP} | rank 1 |", "|---|---:|---:|---:|---:|"]
    for name, wanted in (("names the lesion or organ", [True]), ("names none", [False]), ("**all**", [True, False])):
        ranks = [rank for named, rank in questions if named in wanted]
        if ranks:
            tests = [[r is not None, r is not None and r <= TOP, r == 1] for r in ranks]
            shares = [sum(column) / len(ranks) for column in zip(*tests, strict=True)]
            lines.append(f"| {name} | {len(ranks)} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
    return lines
