"""Held against the library's own generator: the same masks, with less memory."""

from copy import deepcopy

import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.utils.amg import rle_to_mask

from a3tune.labels.segmenters.point_grid import CompressedMaskGenerator, attend_head_by_head
from a3tune.labels.segmenters.segment_anything import SegmentAnythingSegmenter
from a3tune.types import MedicalImage

SETTINGS = {
    "points_per_side": 4,
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.1,
    "box_nms_thresh": 0.9,
    "crop_n_layers": 1,
    "crop_n_points_downscale_factor": 2,
    "min_mask_region_area": 30,
}


def picture(height, width):
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 60, (height, width, 3)).astype(np.uint8)
    pixels[height // 4 : height // 2, width // 3 : width // 2] = 220
    return pixels


def test_the_masks_of_the_librarys_own_generator(small_sam):
    pixels = picture(90, 120)
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


def test_a_large_image_is_worked_on_at_the_stated_size(small_sam, monkeypatch):
    image = MedicalImage(picture(300, 400))
    monkeypatch.setattr("a3tune.labels.segmenters.segment_anything.WORKING_SIDE", 100)
    segmenter = SegmentAnythingSegmenter.from_model(deepcopy(small_sam))
    found = segmenter.segment(image)
    assert "100 x 75" in found.notes[1]
    assert segmenter.parameters["working_side"] == 100
    for region in found.regions:
        assert region.grid == (75, 100)
        assert region.mask.shape == (300, 400)
        assert region.area == region.mask.sum()
    drawn = segmenter.segment_box(image, (100, 60, 150, 120))
    assert drawn.mask.shape == (300, 400)
