"""Held against the library's own generator: the same masks, with less memory."""

from copy import deepcopy

import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.utils.amg import rle_to_mask

from a3tune.labels.segmenters.point_grid import CompressedMaskGenerator, attend_head_by_head
from a3tune.labels.segmenters.segment_anything import GridParameters, SegmentAnythingSegmenter

LOOSE = GridParameters(
    points_per_side=3, predicted_iou_threshold=0.0, stability_score_threshold=0.0, minimum_region_area=5
)
SETTINGS = {
    "points_per_side": 4,
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.0,
    "box_nms_thresh": 1.0,
    "crop_nms_thresh": 1.0,
    "crop_n_layers": 1,
    "crop_n_points_downscale_factor": 2,
    "min_mask_region_area": 30,
}


def test_the_masks_of_the_librarys_own_generator(small_sam, organs):
    pixels = organs[0].pixels[::2, ::2].copy()
    expected = SamAutomaticMaskGenerator(deepcopy(small_sam), points_per_batch=128, **SETTINGS).generate(pixels)
    model = attend_head_by_head(deepcopy(small_sam))
    generator = CompressedMaskGenerator(model, points_per_batch=8, output_mode="uncompressed_rle", **SETTINGS)
    found = generator.generate(pixels)
    assert len(expected) > 3
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.array_equal(rle_to_mask(ours["segmentation"]), theirs["segmentation"])
        assert ours["bbox"] == theirs["bbox"]
        assert abs(ours["predicted_iou"] - theirs["predicted_iou"]) < 1e-5


def test_heads_one_by_one_attend_as_all_together(small_sam):
    pixels = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = small_sam.image_encoder(pixels)
        found = attend_head_by_head(deepcopy(small_sam)).image_encoder(pixels)
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_large_image_is_worked_on_at_the_stated_size(small_sam, organs, monkeypatch):
    image = organs[0]
    monkeypatch.setattr("a3tune.labels.segmenters.segment_anything.WORKING_SIDE", 150)
    segmenter = SegmentAnythingSegmenter.from_model(deepcopy(small_sam), parameters=LOOSE)
    found = segmenter.segment(image)
    assert "150 x 120" in found.notes[1]
    assert segmenter.parameters["working_side"] == 150
    for region in found.regions:
        assert region.grid == (120, 150)
        assert region.mask.shape == (240, 300)
        assert region.area == region.mask.sum()
    drawn = segmenter.segment_box(image, (100, 60, 150, 120))
    assert drawn.mask.shape == (240, 300)
