"""How often the demo's weak labels find what a question asks about, on phantoms that nothing was trained on.

    python -m benchmarks.weak_labels --write docs/weak_labels.md

A question counts when a region with an IoU of 0.5 or more with a structure that it asks about is among the top 4.
Structures that the published filter excludes are counted as they come.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import torch

from a3tune.bundle import DEMO_SCORER
from a3tune.demo.scorer.figures import IOU, TOP, Measured, Outcome, measure, question_table
from a3tune.labels.cache import RegionCache
from a3tune.labels.scorers.open_clip import load_scorer
from a3tune.labels.segmenters.lite_medsam import LiteMedSamSegmenter
from a3tune.phantom import HELD_OUT_SEEDS, VALIDATION_SEEDS

# With a cache at hand, so many images are labelled once more without it for the times.
TIMED = 8
AIM, OFTEN = 0.9, 10


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


def shortfalls(outcomes: list[Outcome]) -> list[str]:
    """Structures that were asked about often enough and fall short of the aim, worst first."""
    rows: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        rows[outcome.group.partition(": ")[2]].append(outcome)
    shares = {
        name: (sum(o.in_top for o in group) / len(group), sum(o.rank is not None for o in group) / len(group))
        for name, group in rows.items()
        if len(group) >= OFTEN
    }
    worst = sorted((top, found, name) for name, (top, found) in shares.items() if top < AIM)
    return [f"{name} {found:.0%}, {top:.0%}" for top, found, name in worst]


def page(measured: Measured, timed: Measured, images: int, threads: int) -> str:
    """The report as Markdown; ``timed`` are the measurements whose images no cache held."""
    lines = [
        "# Weak labels on held-out phantoms",
        "",
        "    python -m benchmarks.weak_labels --write docs/weak_labels.md",
        "",
        f"{images} phantoms that nothing was trained or tuned on: regions of LiteMedSAM, the published filter, the",
        "demo scorer in `assets/demo/scorer`.",
        f"A region counts as the structure asked about at an IoU of {IOU} or more.",
        '"Region found" is what ranking could reach at best.',
        "",
        'By question (the best rank of any structure that it asks about). Some name it ("Where is the nodule?"), some',
        'do not ("Describe the image.", "Which organ is abnormal?"):',
        "",
        *question_table(measured.questions),
        "",
        "By structure (each structure that a question asks about counts once, so that two nodules need two places):",
        "",
        *table(measured.outcomes, "group"),
        "",
        *table(measured.outcomes, "topic"),
        "",
    ]
    short = shortfalls(measured.outcomes)
    if short:
        lines += [f"Short of {AIM:.0%} in the top {TOP} (region found, top {TOP}): {'; '.join(short)}.", ""]
    lines += [
        "What limits it: pneumonias and effusions have no edge of their own, and their outlines are no more than what",
        "a lung lacks of the other lung's mirror image; wall, fluid and gas of an abscess are outlined apart and vie",
        "for the first places, as outlines of one thing do elsewhere; and the aorta, about 12 of 256 pixels across, is",
        "at the edge of the published filter for size.",
        "",
    ]
    if timed.first and timed.later:
        lines += [
            f"Processor seconds with {threads} thread(s), median of {len(timed.first)} images: first labels of a new "
            f"image {statistics.median(timed.first):.2f},",
            f"a further question about it {statistics.median(timed.later):.3f}. 2 cores, no GPU.",
            "",
        ]
    return "\n".join([*lines, "These figures are about synthetic images. They say nothing about patients' images.", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--scorer", type=Path, default=DEMO_SCORER)
    parser.add_argument("--validation", action="store_true", help="use the seeds meant for tuning")
    parser.add_argument("--write", type=Path, help="write the report there")
    parser.add_argument("--cache", type=Path, help="keep regions there, to measure another scorer on the same ones")
    parser.add_argument("--items", type=Path, help="write every outcome there, one JSON a line")
    arguments = parser.parse_args()
    seeds = (VALIDATION_SEEDS if arguments.validation else HELD_OUT_SEEDS)[: arguments.images]
    counter = iter(range(1, len(seeds) + 1))

    def progress(measured: Measured) -> None:
        done = next(counter)
        if done % 10 == 0 and measured.questions:
            hits = sum(rank is not None and rank <= TOP for _, rank in measured.questions)
            share = hits / len(measured.questions)
            print(f"{done} of {len(seeds)} images, {share:.1%} in the top {TOP} so far", file=sys.stderr, flush=True)

    scorer = load_scorer(arguments.scorer, device="cpu")
    cache = RegionCache(arguments.cache) if arguments.cache else None
    measured = measure(seeds, LiteMedSamSegmenter(device="cpu"), scorer, cache, progress)
    timed = measured
    if cache is not None:
        fresh = load_scorer(arguments.scorer, device="cpu")
        timed = measure(seeds[:TIMED], LiteMedSamSegmenter(device="cpu"), fresh)
    text = page(measured, timed, len(seeds), torch.get_num_threads())
    print(text)
    if arguments.write:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text(text, encoding="utf-8")
    if arguments.items:
        arguments.items.write_text(
            "".join(json.dumps(asdict(item)) + "\n" for item in measured.outcomes), encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
