from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from segment_anything import sam_model_registry

from a3tune.errors import LabelError, RequestError
from a3tune.labels.segmenters.segment_anything import GridParameters, SegmentAnythingSegmenter, deduce_variant
from a3tune.types import MedicalImage

# Random weights: nothing is certain or stable, so nothing may be asked of quality.
LOOSE = GridParameters(
    points_per_side=3, predicted_iou_threshold=0.0, stability_score_threshold=0.0, minimum_region_area=5
)


@pytest.fixture
def registered(monkeypatch, small_sam):
    """Make the small model the one that "vit_b" stands for."""
    from_scratch = partial(_fresh, small_sam)
    monkeypatch.setitem(sam_model_registry, "vit_b", from_scratch)
    monkeypatch.setattr(
        "a3tune.labels.segmenters.segment_anything._WIDTHS", {32: "vit_b", 1024: "vit_l", 1280: "vit_h"}
    )


def _fresh(model):
    import copy

    fresh = copy.deepcopy(model)
    for weight in fresh.parameters():
        torch.nn.init.zeros_(weight)
    return fresh


@pytest.fixture
def small_image(organs):
    return MedicalImage(organs[0].pixels[::2, ::2].copy())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_checkpoint_file_to_regions(registered, small_sam, small_image, tmp_path, suffix):
    path = tmp_path / f"sam{suffix}"
    state = small_sam.state_dict()
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    segmenter = SegmentAnythingSegmenter(path, parameters=LOOSE, device="cpu")
    found = segmenter.segment(small_image)
    assert found.segmenter == "Segment Anything vit_b"
    assert found.regions
    for region in found.regions:
        x, y, width, height = region.box
        inside = region.mask[y : y + height, x : x + width]
        assert inside.sum() == region.area > 0
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
        assert region.stability_score is not None
    same = SegmentAnythingSegmenter.from_model(small_sam, parameters=LOOSE).segment(small_image)
    assert [region.box for region in same.regions] == [region.box for region in found.regions]


def test_a_checkpoint_on_the_hub(registered, small_sam, small_image, offline_hub):
    torch.save(small_sam.state_dict(), offline_hub / "sam.pth")
    segmenter = SegmentAnythingSegmenter("hub:someone/sam/checkpoints/sam.pth", parameters=LOOSE, device="cpu")
    own = SegmentAnythingSegmenter.from_model(small_sam, parameters=LOOSE)
    assert segmenter.digest == own.digest
    assert len(segmenter.segment(small_image).regions) == len(own.segment(small_image).regions)


def test_an_image_is_encoded_once(small_sam, small_image, monkeypatch):
    passes = []
    original = small_sam.image_encoder.forward
    monkeypatch.setattr(small_sam.image_encoder, "forward", lambda x: passes.append(1) or original(x))
    segmenter = SegmentAnythingSegmenter.from_model(small_sam, parameters=LOOSE)
    first = segmenter.segment(small_image)
    assert len(passes) == 5, "the image and its four crops"
    again = segmenter.segment(small_image)
    region = segmenter.segment_box(small_image, (10, 10, 60, 60))
    assert len(passes) == 5
    assert [one.box for one in again.regions] == [one.box for one in first.regions]
    assert region.mask.shape == (small_image.height, small_image.width)


def test_remembered_and_fresh_embeddings_give_the_same_box(small_sam, small_image):
    remembering = SegmentAnythingSegmenter.from_model(small_sam, parameters=LOOSE)
    remembering.segment(small_image)
    fresh = SegmentAnythingSegmenter.from_model(small_sam, parameters=LOOSE)
    box = (20, 15, 70, 50)
    assert (remembering.segment_box(small_image, box).mask == fresh.segment_box(small_image, box).mask).all()


def test_minimum_area_follows_the_image():
    assert GridParameters().area_in_pixels(256, 256) == 200
    assert GridParameters().area_in_pixels(512, 512) == 800
    assert GridParameters(scale_minimum_area=False).area_in_pixels(512, 512) == 200


@pytest.mark.parametrize(("width", "variant"), [(768, "vit_b"), (1024, "vit_l"), (1280, "vit_h")])
def test_variant_is_read_off_the_weights(width, variant):
    assert deduce_variant({"image_encoder.patch_embed.proj.weight": torch.empty(width, 3, 16, 16)}) == variant


def test_other_checkpoints_are_refused(small_sam, tmp_path):
    torch.save({"weight": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(LabelError, match="no image encoder"):
        SegmentAnythingSegmenter(tmp_path / "other.pth")
    torch.save(small_sam.state_dict(), tmp_path / "small.pth")
    with pytest.raises(LabelError, match="width 32"):
        SegmentAnythingSegmenter(tmp_path / "small.pth")
    with pytest.raises(LabelError, match="variant"):
        SegmentAnythingSegmenter(tmp_path / "small.pth", variant="vit_x")


def test_a_checkpoint_with_a_missing_weight_is_refused(registered, small_sam, tmp_path):
    state = dict(small_sam.state_dict())
    state.pop("mask_decoder.iou_token.weight")
    torch.save(state, tmp_path / "sam.pth")
    with pytest.raises(LabelError, match="iou_token"):
        SegmentAnythingSegmenter(tmp_path / "sam.pth")


def test_unusable_images_and_boxes(small_sam, small_image):
    segmenter = SegmentAnythingSegmenter.from_model(small_sam, parameters=LOOSE)
    blank = MedicalImage(np.full((64, 64, 3), 9, dtype=np.uint8))
    with pytest.raises(LabelError, match="same value"):
        segmenter.segment(blank)
    with pytest.raises(LabelError, match="outside or is empty"):
        segmenter.segment_box(small_image, (500, 500, 10, 10))
    strict = SegmentAnythingSegmenter.from_model(
        small_sam, parameters=GridParameters(points_per_side=2, crop_layers=0, predicted_iou_threshold=1.0)
    )
    with pytest.raises(LabelError, match="found none"):
        strict.segment(small_image)


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (3, 5000), (1, 2)])
def test_thin_images_are_refused_in_words(small_sam, shape):
    segmenter = SegmentAnythingSegmenter.from_model(small_sam, parameters=replace(LOOSE, crop_layers=1))
    thin = MedicalImage(np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8))
    with pytest.raises(LabelError, match="too thin"):
        segmenter.segment(thin)
    with pytest.raises(LabelError, match=r"too thin|Nothing stands out"):
        segmenter.segment_box(thin, (0, 0, shape[1], shape[0]))


def test_settings_are_checked():
    with pytest.raises(RequestError, match="crop_layers"):
        GridParameters(crop_layers=9)


def test_parameters_describe_every_setting():
    assert set(GridParameters.__dataclass_fields__) == set(LOOSE.__dict__)


def test_nothing_of_a_forgotten_image_stays(small_sam, small_image):
    segmenter = SegmentAnythingSegmenter.from_model(small_sam, parameters=LOOSE)
    segmenter.segment_box(small_image, (10, 10, 60, 60))
    segmenter.forget("another")
    assert len(segmenter._predictor._memory._entries) == 1
    assert segmenter._predictor.is_image_set
    segmenter.forget(small_image.sha256)
    assert not segmenter._predictor._memory._entries
    assert segmenter._predictor.features is None
