from copy import deepcopy

import numpy as np
import pytest
import torch
from segment_anything import sam_model_registry

from a3tune.errors import LabelError
from a3tune.labels.proposals.proposals import Proposals
from a3tune.labels.segmenters.medsam import MedSamSegmenter, is_medsam, prepare
from a3tune.labels.segmenters.segment_anything import SegmentAnythingSegmenter
from a3tune.labels.segmenters_and_scorers import load_segmenter
from a3tune.types import MedicalImage


@pytest.fixture
def checkpoint(monkeypatch, small_sam, tmp_path):
    monkeypatch.setitem(sam_model_registry, "vit_b", lambda: deepcopy(small_sam))
    monkeypatch.setattr("a3tune.labels.segmenters.segment_anything._WIDTHS", {32: "vit_b", 1024: "vit_l"})
    torch.save(small_sam.state_dict(), tmp_path / "medsam_vit_b.pth")
    return tmp_path / "medsam_vit_b.pth"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hub:wanglab/medsam-vit-base/model.safetensors", True),
        ("weights/MedSAM_vit_b.pth", True),
        ("medsam/best.pth", True),
        ("medsam/sam_vit_b_01ec64.pth", False),
        ("hub:facebook/sam-vit-base/model.safetensors", False),
        ("model.pth", False),
        (".", False),
    ],
)
def test_known_by_its_name(name, expected):
    assert is_medsam(name) is expected


def test_the_image_is_squashed_and_stretched_from_0_to_1():
    pixels = np.full((300, 200, 3), 50, np.uint8)
    pixels[150:] = 150
    prepared = prepare(MedicalImage(pixels))
    assert prepared.shape == (1, 3, 1024, 1024)
    assert prepared.dtype == np.float32
    assert prepared.min() == 0
    assert prepared.max() == 1
    # Half of the picture is half of the square, whatever its shape: no padding.
    assert (prepared[0, :, :500] < 0.2).all()
    assert (prepared[0, :, 524:] > 0.8).all()


def test_boxes_of_proposals_are_asked_and_no_grid_of_points(checkpoint, organs, monkeypatch):
    image, _ = organs
    asked = []
    segmenter = MedSamSegmenter(
        checkpoint, device="cpu", proposals=Proposals(maximum=12), refined=4, minimum_stability=0.0
    )
    encoder = segmenter._model.prompt_encoder
    original = encoder.forward
    monkeypatch.setattr(
        encoder,
        "forward",
        lambda points, boxes, masks: asked.append((points, boxes)) or original(points=points, boxes=boxes, masks=masks),
    )
    found = segmenter.segment(image)
    [(points, boxes)] = asked
    assert points is None
    assert boxes.shape[0] == 4
    # Squashed: both directions fill the model's 128 pixels.
    assert 0 <= boxes.min() <= boxes.max() <= 128
    assert found.segmenter == "MedSAM"
    assert all(region.predicted_iou is None for region in found.regions), "its quality head was not trained"
    box = np.array([30.0, 24.0, 150.0, 120.0])
    asked.clear()
    segmenter._draw(image, box[None])
    assert asked[0][1].flatten().tolist() == pytest.approx([12.8, 12.8, 64.0, 64.0])


def test_the_way_follows_the_name(checkpoint, tmp_path):
    assert isinstance(load_segmenter(str(checkpoint), "cpu"), MedSamSegmenter)
    other = checkpoint.rename(tmp_path / "sam_vit_b.pth")
    assert isinstance(load_segmenter(str(other), "cpu"), SegmentAnythingSegmenter)


def test_another_size_is_refused(checkpoint, monkeypatch):
    monkeypatch.setattr("a3tune.labels.segmenters.segment_anything._WIDTHS", {32: "vit_l"})
    with pytest.raises(LabelError, match="vit_l"):
        MedSamSegmenter(checkpoint, device="cpu")
