"""How often the demo's weak labels find what a question asks about, on phantoms that nothing was trained on.

    python benchmarks/weak_labels.py --write docs/weak_labels.md

For every question about visible lesions or organs, each structure asked about counts once: is a region with an IoU
of 0.5 or more among the top 4, is it rank 1, was there such a region at all. Questions about the image as a
whole, and structures that the filter's published rules exclude, are counted as they come.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from a3tune.bundle import DEMO_FOLDER
from a3tune.labels import LiteMedSamSegmenter, filter_regions, load_scorer, mask_iou
from a3tune.phantom import HELD_OUT_SEEDS, VALIDATION_SEEDS, ask, make_phantom

IOU = 0.5
TOP = 4


@dataclass(frozen=True)
class Outcome:
    """One structure that one question asks about.

    Attributes:
        group: "chest: nodule" and the like.
        topic: what kind of question it was.
        kind: "lesion" or "organ".
        rank: best rank of a region with enough overlap; None when no such region was found.
    """

    group: str
    topic: str
    kind: str
    rank: int | None

    @property
    def in_top(self) -> bool:
        return self.rank is not None and self.rank <= TOP


def measure(seeds: Iterable[int], segmenter: LiteMedSamSegmenter, scorer, on_image=None):
    """Outcomes of all questions, and the seconds of the first and of later questions about an image."""
    outcomes, first, later = [], [], []
    for seed in seeds:
        phantom = make_phantom(seed)
        started = time.perf_counter()
        regions, _ = filter_regions(segmenter.segment(phantom.image).regions)
        overlaps: dict[str, dict[int, float]] = {}
        for question in ask(phantom):
            targets = [phantom.structure(name) for name in question.targets]
            targets = [target for target in targets if target.kind in ("lesion", "organ")]
            if not targets:
                continue
            ranked = scorer.score(phantom.image, regions, question.question)
            (later if overlaps else first).append(time.perf_counter() - started)
            for target in targets:
                if target.name not in overlaps:
                    overlaps[target.name] = {id(region): mask_iou(region.mask, target.mask) for region in regions}
                good = [entry.rank for entry in ranked if overlaps[target.name][id(entry.region)] >= IOU]
                group = f"{phantom.kind}: {target.finding or target.name}"
                outcomes.append(Outcome(group, question.topic, target.kind, min(good, default=None)))
            started = time.perf_counter()
        if on_image is not None:
            on_image(outcomes)
    return outcomes, first, later


def table(outcomes: list[Outcome], key: str) -> list[str]:
    """A Markdown table with a row per value of ``key`` and one for all."""
    rows: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        rows[getattr(outcome, key)].append(outcome)
    lines = [f"| {key} | asked | region found | top {TOP} | rank 1 |", "|---|---:|---:|---:|---:|"]
    for name, group in [*sorted(rows.items()), ("**all**", outcomes)]:
        shares = [
            sum(test(outcome) for outcome in group) / len(group)
            for test in (lambda o: o.rank is not None, lambda o: o.in_top, lambda o: o.rank == 1)
        ]
        lines.append(f"| {name} | {len(group)} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
    return lines


def page(outcomes: list[Outcome], first: list[float], later: list[float], images: int, threads: int) -> str:
    """The report as Markdown."""
    lines = [
        "# Weak labels on held-out phantoms",
        "",
        "    python benchmarks/weak_labels.py --write docs/weak_labels.md",
        "",
        f"{images} phantoms that nothing was trained or tuned on; LiteMedSAM regions, the published filter, the demo",
        "scorer in `assets/demo/scorer`. Each structure that a question asks about counts once; a region counts as",
        f'the structure at an IoU of {IOU} or more. "Region found" is what ranking could reach at best.',
        "",
        *table(outcomes, "group"),
        "",
        *table(outcomes, "topic"),
        "",
        f"Seconds, {threads} thread(s): first labels of a new image {statistics.median(first):.2f} (median), a further",
        f"question on it {statistics.median(later):.3f}.",
        "",
        "These figures say how the demo set-up works on synthetic images. They say nothing about patients' images.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--scorer", type=Path, default=DEMO_FOLDER / "scorer")
    parser.add_argument("--validation", action="store_true", help="use the seeds meant for tuning")
    parser.add_argument("--write", type=Path, help="write the report there")
    parser.add_argument("--items", type=Path, help="write every outcome there, one JSON a line")
    arguments = parser.parse_args()
    seeds = (VALIDATION_SEEDS if arguments.validation else HELD_OUT_SEEDS)[: arguments.images]
    counter = iter(range(1, len(seeds) + 1))

    def progress(outcomes: list[Outcome]) -> None:
        done = next(counter)
        if done % 10 == 0 and outcomes:
            share = sum(outcome.in_top for outcome in outcomes) / len(outcomes)
            print(f"{done} of {len(seeds)} images, {share:.1%} in the top {TOP} so far", file=sys.stderr, flush=True)

    scorer = load_scorer(arguments.scorer, device="cpu")
    outcomes, first, later = measure(seeds, LiteMedSamSegmenter(device="cpu"), scorer, progress)
    text = page(outcomes, first, later, len(seeds), torch.get_num_threads())
    print(text)
    if arguments.write:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text(text, encoding="utf-8")
    if arguments.items:
        arguments.items.write_text("".join(json.dumps(asdict(item)) + "\n" for item in outcomes), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
