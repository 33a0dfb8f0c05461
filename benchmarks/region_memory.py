"""Peak memory and time of an image's first labels, for each segmenter at five sizes of the image.

    python -m benchmarks.region_memory --write docs/region_memory.md

Every measurement is a process of its own: the segmenter, the demo scorer, one drawn image, one question. Segment
Anything and MedSAM have random weights in the published form, which costs what the published ones cost; their regions
mean nothing.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import cv2
import torch
from segment_anything import sam_model_registry

from a3tune.bundle import DEMO_SCORER
from a3tune.errors import LabelError
from a3tune.labels.pipeline import LabelMaker
from a3tune.labels.scorers.open_clip import load_scorer
from a3tune.labels.segmenters.lite_medsam import LiteMedSamSegmenter
from a3tune.labels.segmenters.segment_anything import GridParameters, SegmentAnythingSegmenter
from a3tune.labels.segmenters.segmentation import Segmenter
from a3tune.phantom.scene import make_phantom
from a3tune.types import MedicalImage
from benchmarks.document import write_between

SIZES = {"0.3": (480, 640), "1.25": (1000, 1250), "5": (2000, 2500), "20": (4000, 5000), "64": (8000, 8000)}
"""Megapixels -> (height, width)."""
SEGMENTERS = ("LiteMedSAM", "vit_b", "vit_l", "vit_h")
_LOOSE = GridParameters(predicted_iou_threshold=0.0, stability_score_threshold=0.0)


def one(segmenter: str, size: str) -> dict[str, float]:
    """Peak resident memory in GB and the seconds of the first labels, in this process."""
    height, width = SIZES[size]
    drawn = make_phantom(1).image.pixels
    image = MedicalImage(cv2.resize(drawn, (width, height), interpolation=cv2.INTER_CUBIC))
    parts: Segmenter = LiteMedSamSegmenter(device="cpu") if segmenter == "LiteMedSAM" else _random(segmenter)
    maker = LabelMaker(parts, load_scorer(DEMO_SCORER, device="cpu"), top_k="all")
    before = _peak()
    started, processor = time.perf_counter(), time.process_time()
    # Random weights may find nothing that passes the filter: all work but the ranking was done.
    with suppress(LabelError):
        maker.make(image, "Is there a lesion?")
    seconds, busy = time.perf_counter() - started, time.process_time() - processor
    return {"loaded": before, "peak": _peak(), "seconds": seconds, "processor": busy}


def _random(variant: str) -> SegmentAnythingSegmenter:
    torch.manual_seed(0)
    return SegmentAnythingSegmenter.from_model(sam_model_registry[variant](), name=variant, parameters=_LOOSE)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def table(rows: dict[tuple[str, str], dict[str, float] | None]) -> str:
    """The measurements as Markdown; what was not run says so."""
    lines = [
        "| segmenter | megapixels | loaded, GB | peak, GB | seconds | processor seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (segmenter, size), found in rows.items():
        numbers = (
            ["not run"] * 4
            if found is None
            else [
                f"{found['loaded']:.2f}",
                f"{found['peak']:.2f}",
                f"{found['seconds']:.1f}",
                f"{found['processor']:.1f}",
            ]
        )
        lines.append(f"| {segmenter} | {size} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segmenters", nargs="+", default=SEGMENTERS, choices=SEGMENTERS)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--limit", type=float, default=1800, help="seconds for one measurement")
    parser.add_argument("--write", type=Path, help="put the table into this document")
    parser.add_argument("--one", nargs=2, metavar=("SEGMENTER", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*options.one)))
        return 0
    rows: dict[tuple[str, str], dict[str, float] | None] = dict.fromkeys((s, z) for s in SEGMENTERS for z in SIZES)
    for segmenter in options.segmenters:
        for size in options.sizes:
            command = [sys.executable, "-m", "benchmarks.region_memory", "--one", segmenter, size]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=options.limit, check=True)
            except subprocess.TimeoutExpired:
                continue
            rows[segmenter, size] = json.loads(done.stdout.splitlines()[-1])
            print(segmenter, size, rows[segmenter, size], file=sys.stderr, flush=True)
    print(table(rows))
    if options.write:
        write_between(options.write, table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
