"""Whether an image's labels depend on the number of threads: drawn images, with one thread and with two.

    python -m benchmarks.label_threads [--sam]

``--sam`` does the same for the point grid of a Segment Anything ViT-B with random weights, on one image, and compares
its masks with those of the library's own generator.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator, sam_model_registry

from a3tune.bundle import DEMO_SCORER
from a3tune.labels.pipeline import LabelMaker
from a3tune.labels.scorers.open_clip import load_scorer
from a3tune.labels.segmenters.lite_medsam import LiteMedSamSegmenter
from a3tune.labels.segmenters.segment_anything import GridParameters, SegmentAnythingSegmenter
from a3tune.phantom import HELD_OUT_SEEDS, KINDS, make_phantom
from a3tune.types import MedicalImage

QUESTION = "Is there a lesion?"
SIDES = (256, 700, 1600)
GRID = GridParameters(4, predicted_iou_threshold=0.0, stability_score_threshold=0.0, crop_layers=0)


def images() -> list[MedicalImage]:
    """A phantom of each kind at three sizes."""
    drawn = [make_phantom(HELD_OUT_SEEDS[0], kind).image.pixels for kind in KINDS]
    return [
        MedicalImage(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC))
        for pixels in drawn
        for side in SIDES
    ]


def labels(threads: int, image: MedicalImage) -> list[tuple[str, float]]:
    """Key and score of every ranked region, best first, with nothing kept from before."""
    _use(threads)
    parts = LiteMedSamSegmenter(device="cpu"), load_scorer(DEMO_SCORER, device="cpu")
    ranked = LabelMaker(*parts, top_k="all").make(image, QUESTION).regions
    return [(item.region.key, item.score) for item in ranked]


def grid_masks(threads: int, image: MedicalImage) -> list[np.ndarray]:
    """bool [h, w] each: the masks of this project's point grid."""
    _use(threads)
    torch.manual_seed(0)
    segmenter = SegmentAnythingSegmenter.from_model(sam_model_registry["vit_b"](), parameters=GRID)
    return [region.mask for region in segmenter.segment(image).regions]


def library_masks(image: MedicalImage) -> list[np.ndarray]:
    """bool [h, w] each: those of the library's generator with the same settings."""
    torch.manual_seed(0)
    generator = SamAutomaticMaskGenerator(
        sam_model_registry["vit_b"]().eval(),
        points_per_side=GRID.points_per_side,
        points_per_batch=GRID.points_per_batch,
        pred_iou_thresh=GRID.predicted_iou_threshold,
        stability_score_thresh=GRID.stability_score_threshold,
        box_nms_thresh=GRID.box_nms_threshold,
        crop_n_layers=GRID.crop_layers,
        min_mask_region_area=GRID.area_in_pixels(image.height, image.width),
    )
    with torch.inference_mode():
        return [found["segmentation"] for found in generator.generate(image.pixels)]


def _use(threads: int) -> None:
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def _differing(first: list[np.ndarray], second: list[np.ndarray]) -> str:
    if len(first) != len(second):
        return f"{len(first)} and {len(second)} masks"
    pixels = sum(int((one != other).sum()) for one, other in zip(first, second, strict=True))
    return f"{len(first)} masks, {pixels} pixels differ"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sam", action="store_true", help="the point grid of Segment Anything instead")
    if parser.parse_args().sam:
        image = images()[0]
        one = grid_masks(1, image)
        print(f"1 and 2 threads: {_differing(one, grid_masks(2, image))}")
        print(f"this project and the library: {_differing(one, library_masks(image))}")
        return
    print("| image | regions | the same masks and ranks | largest difference of a score |\n| --- | ---: | --- | ---: |")
    for image in images():
        one, two = labels(1, image), labels(2, image)
        same = [key for key, _ in one] == [key for key, _ in two]
        difference = max(abs(a - b) for (_, a), (_, b) in zip(one, two, strict=True)) if same else float("nan")
        print(
            f"| {image.width} x {image.height} | {len(one)} | {'yes' if same else 'no'} | {difference:.1e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
