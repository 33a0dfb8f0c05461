"""Peak memory and time of an image's first labels, for each segmenter at five sizes of the image.

    python -m benchmarks.region_memory --write docs/region_memory.md

Every measurement is a process of its own: the segmenter, the demo scorer, one drawn image, one question. Segment
Anything reads a file of random weights in the published form, which costs what the published ones cost; its regions
mean nothing. ``--one-pass`` has Segment Anything encode the image alone, without its four crops, and ask 16 points: the
memory of the image encoder in a fifth of the time.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

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
ONE_PASS = ", one pass"
_COLUMNS = {"loaded": 2, "peak": 2, "seconds": 1, "processor": 1}
_HEAD = """| segmenter | megapixels | loaded, GB | peak, GB | seconds | processor seconds |
| --- | ---: | ---: | ---: | ---: | ---: |"""
_LOOSE = GridParameters(predicted_iou_threshold=0.0, stability_score_threshold=0.0)
_ONE_PASS = replace(_LOOSE, points_per_side=4, crop_layers=0)


def one(segmenter: str, size: str, weights: str, grid: GridParameters = _LOOSE) -> dict[str, float]:
    """Peak resident memory in GB and the seconds of the first labels, in this process; ``weights`` is the file of
    Segment Anything's."""
    height, width = SIZES[size]
    drawn = make_phantom(1).image.pixels
    image = MedicalImage(cv2.resize(drawn, (width, height), interpolation=cv2.INTER_CUBIC))
    parts: Segmenter
    if segmenter == "LiteMedSAM":
        parts = LiteMedSamSegmenter(device="cpu")
    else:
        parts = SegmentAnythingSegmenter(weights, parameters=grid, device="cpu")
    maker = LabelMaker(parts, load_scorer(DEMO_SCORER, device="cpu"), top_k="all")
    before = _peak()
    started, processor = time.perf_counter(), time.process_time()
    # Random weights may find nothing that passes the filter: all work but the ranking was done.
    with suppress(LabelError):
        maker.make(image, "Is there a lesion?")
    seconds, busy = time.perf_counter() - started, time.process_time() - processor
    return {"loaded": before, "peak": _peak(), "seconds": seconds, "processor": busy}


def save_random(variant: str, weights: str) -> None:
    """Write random weights in the form in which Segment Anything's authors publish theirs."""
    torch.manual_seed(0)
    torch.save(sam_model_registry[variant]().state_dict(), weights)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def row(name: str, size: str, found: dict[str, float] | None) -> str:
    """A measurement as a row of the Markdown table."""
    cells = ["not run"] * 4 if found is None else [f"{found[key]:.{digits}f}" for key, digits in _COLUMNS.items()]
    return f"| {name} | {size} | {' | '.join(cells)} |"


def merged(rows: dict[tuple[str, str], str], document: Path | None) -> str:
    """The table with these rows, and those of a document for what was not measured now."""
    known = dict.fromkeys((f"{s}{words}", z) for words in ("", ONE_PASS) for s in SEGMENTERS for z in SIZES)
    for line in document.read_text(encoding="utf-8").splitlines() if document else ():
        name, size = ([cell.strip() for cell in line.split("|")] + [""] * 3)[1:3]
        if (name, size) in known:
            known[name, size] = line
    lines = [rows.get(key) or line or ("" if ONE_PASS in key[0] else row(*key, None)) for key, line in known.items()]
    return "\n".join([_HEAD, *filter(None, lines)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segmenters", nargs="+", default=SEGMENTERS, choices=SEGMENTERS)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--limit", type=float, default=1800, help="seconds for one measurement")
    parser.add_argument("--write", type=Path, help="put the rows into this document; others stay")
    parser.add_argument("--one-pass", action="store_true", help="Segment Anything without crops, 16 points")
    parser.add_argument("--one", nargs=3, metavar=("SEGMENTER", "SIZE", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--save", nargs=2, metavar=("SEGMENTER", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.save:
        save_random(*options.save)
        return 0
    if options.one:
        print(json.dumps(one(*options.one, _ONE_PASS if options.one_pass else _LOOSE)))
        return 0
    command = [sys.executable, "-m", "benchmarks.region_memory"]
    rows = {}
    for segmenter in options.segmenters:
        with TemporaryDirectory() as folder:
            weights = str(Path(folder) / f"{segmenter}.pth")
            if segmenter != "LiteMedSAM":
                subprocess.run([*command, "--save", segmenter, weights], check=True)
            for size in options.sizes:
                work = [*command, "--one", segmenter, size, weights, *["--one-pass"] * options.one_pass]
                try:
                    done = subprocess.run(work, capture_output=True, text=True, timeout=options.limit, check=True)
                except subprocess.TimeoutExpired:
                    continue
                name = f"{segmenter}{ONE_PASS if options.one_pass else ''}"
                rows[name, size] = row(name, size, json.loads(done.stdout.splitlines()[-1]))
                print(rows[name, size], file=sys.stderr, flush=True)
                if options.write:
                    write_between(options.write, merged(rows, options.write))
    print(merged(rows, options.write))
    return 0


if __name__ == "__main__":
    sys.exit(main())
