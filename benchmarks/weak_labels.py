"""How often the demo's weak labels find what a question asks about, on phantoms that nothing was trained on.

    python -m benchmarks.weak_labels --write docs/weak_labels.md

A question counts when a region with an IoU of 0.5 or more with a structure that it asks about is among the top 4.
Structures that the published filter excludes are counted as they come; a table by size shows what it costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch

from a3tune.bundle import DEMO_SCORER
from a3tune.demo.scorer.figures import ANY_SIDE, IOU, TOP, Measured, Outcome, measure, question_table
from a3tune.labels.cache import RegionCache
from a3tune.labels.filters import PAPER_RULES, filter_regions
from a3tune.labels.scorers.open_clip import load_scorer
from a3tune.labels.segmenters.lite_medsam import LiteMedSamSegmenter
from a3tune.labels.segmenters.segmentation import mask_iou
from a3tune.phantom import HELD_OUT_SEEDS, VALIDATION_SEEDS
from a3tune.types import MedicalImage
from benchmarks.document import write_between

# With a cache at hand, so many images are labelled once more without it for the times.
TIMED = 8
AIM, OFTEN = 0.9, 10
# Upper bounds of the shorter side, in pixels of the filter's frame; the first is what the published filter drops.
SIZES = (PAPER_RULES.minimum_side, 20, 32, 64)
# Drawn discs: side of their image and diameters in its pixels, and images of nine for each diameter.
DISC_SIDE, DISC_IMAGES = 512, 3
DIAMETERS = (8, 12, 16, 20, 24, 28, 32, 40, 60)


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


def size_table(outcomes: list[Outcome]) -> list[str]:
    """A Markdown table by the size of the structure: the published filter, and the same without its least size."""
    columns: list[Callable[[Outcome], bool]] = [
        lambda o: o.found,
        lambda o: o.rank is not None,
        lambda o: o.rank_of_any_side is not None,
        lambda o: o.in_top,
        lambda o: o.rank_of_any_side is not None and o.rank_of_any_side <= TOP,
    ]
    lines = [
        f"| shorter side | asked | found | kept: published | `--minimum-side 0` | top {TOP}: published | "
        "`--minimum-side 0` |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for low, high in [*zip([0, *(size + 1 for size in SIZES)], [*SIZES, 256], strict=True), (0, 256)]:
        group = [outcome for outcome in outcomes if low <= outcome.side <= high]
        if group:
            shares = " | ".join(f"{sum(map(test, group)) / len(group):.1%}" for test in columns)
            name = "**all**" if (low, high) == (0, 256) else f"{low} to {high}"
            lines.append(f"| {name} | {len(group)} | {shares} |")
    return lines


def disc_table(segmenter: LiteMedSamSegmenter) -> list[str]:
    """A Markdown table of drawn discs by their diameter: how many are found, and how many each filter keeps."""
    lines = [
        "| diameter | discs | found | kept: published | `--minimum-side 0` |",
        "|---:|---:|---:|---:|---:|",
    ]
    for diameter in DIAMETERS:
        counts = np.zeros(4, dtype=int)
        for seed in range(DISC_IMAGES):
            image, discs = draw_discs(seed, diameter)
            regions = segmenter.segment(image).regions
            stages = regions, filter_regions(regions)[0], filter_regions(regions, ANY_SIDE)[0]
            counts[0] += len(discs)
            for place, stage in enumerate(stages, start=1):
                masks = [region.mask for region in stage]
                counts[place] += sum(any(mask_iou(mask, disc) >= IOU for mask in masks) for disc in discs)
        lines.append(f"| {diameter} | {' | '.join(map(str, counts))} |")
    return lines


def draw_discs(seed: int, diameter: int) -> tuple[MedicalImage, list[np.ndarray]]:
    """An image of 512 x 512 with nine discs of one diameter, brighter or darker than soft noise around them, and the
    discs' masks."""
    rng = np.random.default_rng((seed, diameter))
    rows, columns = np.mgrid[:DISC_SIDE, :DISC_SIDE]
    grey = 110 + 12 * _soft_noise(rng, 30) + 5 * _soft_noise(rng, 1)
    masks = []
    for row in (100, 256, 412):
        for column in (100, 256, 412):
            y, x = np.array([row, column]) + rng.integers(-30, 31, 2)
            masks.append((rows - y) ** 2 + (columns - x) ** 2 <= (diameter / 2) ** 2)
            contrast = rng.choice([-1, 1]) * rng.uniform(30, 70)
            grey += contrast * cv2.GaussianBlur(masks[-1].astype(np.float64), (0, 0), 1.0)
    pixels = np.repeat(grey.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    return MedicalImage(pixels), masks


def _soft_noise(rng: np.random.Generator, scale: float) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.normal(size=(DISC_SIDE, DISC_SIDE)), (0, 0), scale)
    return noise / noise.std()


def figures(measured: Measured, timed: Measured, discs: list[str], images: int, threads: int) -> str:
    """The tables as Markdown; ``timed`` are the measurements whose images no cache held."""
    lines = [
        f"{images} phantoms. By question (the best rank of any structure that it asks about). Some name it ("
        '"Where is the nodule?"), some',
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
        "By size of the structure: the shorter side of its box in a frame of 256 x 256 pixels, last minus first pixel, "
        "as in the",
        f"published filter, which drops {PAPER_RULES.minimum_side} or less. `--minimum-side 0` is the same filter "
        "without that rule:",
        "",
        *size_table(measured.outcomes),
        "",
        "Drawn discs of one diameter, in pixels of an image of 512 x 512 (30 to 70 grey levels from soft noise):",
        "",
        *discs,
        "",
    ]
    if timed.first and timed.later:
        lines += [
            f"Processor seconds with {threads} thread(s), median of {len(timed.first)} images: first labels of a new "
            f"image {statistics.median(timed.first):.2f},",
            f"a further question about it {statistics.median(timed.later):.3f}. 2 cores, no GPU.",
        ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--scorer", type=Path, default=DEMO_SCORER)
    parser.add_argument("--validation", action="store_true", help="use the seeds meant for tuning")
    parser.add_argument("--write", type=Path, help="put the figures into this document")
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
    segmenter = LiteMedSamSegmenter(device="cpu")
    measured = measure(seeds, segmenter, scorer, cache, progress)
    timed = measured
    if cache is not None:
        fresh = load_scorer(arguments.scorer, device="cpu")
        timed = measure(seeds[:TIMED], LiteMedSamSegmenter(device="cpu"), fresh)
    text = figures(measured, timed, disc_table(segmenter), len(seeds), torch.get_num_threads())
    print(text)
    if arguments.write:
        write_between(arguments.write, text)
    if arguments.items:
        arguments.items.write_text(
            "".join(json.dumps(asdict(item)) + "\n" for item in measured.outcomes), encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
