import os
import sys

import psutil
import pytest
import torch
from safetensors.torch import save_file
from segment_anything import sam_model_registry
from segment_anything.modeling import ImageEncoderViT

from a3tune.errors import LabelError
from a3tune.labels.segmenters.segment_anything import GridParameters, SegmentAnythingSegmenter
from a3tune.types import MedicalImage
from tests.support.small_sam import build_small_sam

LOOSE = GridParameters(
    points_per_side=2, crop_layers=0, predicted_iou_threshold=0.0, stability_score_threshold=0.0, minimum_region_area=5
)
BLOCKS, BLOCK_BYTES = 6, 3_000_000
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="pages are given back on Linux alone")


def build_wide_sam():
    """A small model but for its image encoder, whose 6 blocks have 3 MB of weights each."""
    sam = build_small_sam()
    sam.image_encoder = ImageEncoderViT(
        img_size=128, patch_size=16, embed_dim=256, depth=BLOCKS, num_heads=2, out_chans=32, use_rel_pos=True,
        window_size=4, global_attn_indexes=(2, 5),
    )  # fmt: skip
    return sam


@pytest.fixture(scope="module")
def wide_sam():
    sam = build_wide_sam().eval()
    torch.manual_seed(3)
    for weight in sam.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return sam


@pytest.fixture(scope="module")
def image(organs):
    return MedicalImage(organs[0].pixels[::2, ::2].copy())


@pytest.fixture
def checkpoint(wide_sam, tmp_path, monkeypatch):
    """A file of the model's weights, in the form asked for."""
    monkeypatch.setitem(sam_model_registry, "vit_b", build_wide_sam)
    monkeypatch.setattr("a3tune.labels.segmenters.segment_anything._WIDTHS", {256: "vit_b"})

    def write(form, kind=torch.float32):
        path = tmp_path / ("sam.safetensors" if form == "safetensors" else "sam.pth")
        state = {name: value.to(kind, copy=True).contiguous() for name, value in wide_sam.state_dict().items()}
        if form == "safetensors":
            save_file(state, path)
        else:
            torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
        return path

    return write


def load(path):
    return SegmentAnythingSegmenter(path, parameters=LOOSE, device="cpu")


def mapped(path):
    return [one for one in psutil.Process().memory_maps(grouped=False) if one.path == str(path)]


def resident(path):
    return sum(one.rss for one in mapped(path))


def test_weights_that_are_no_numbers_are_refused(checkpoint):
    path = checkpoint("zip")
    state = torch.load(path)
    name = next(name for name in state if name.startswith("image_encoder.blocks.1."))
    torch.save({**state, name: torch.full_like(state[name], torch.inf)}, path)
    with pytest.raises(LabelError, match="holds NaN or infinite weights"):
        load(path)


@pytest.mark.parametrize("form", ["zip", "safetensors", "before 2020"])
def test_masks_are_those_of_a_model_in_memory(checkpoint, wide_sam, image, form):
    segmenter = load(checkpoint(form))
    own = SegmentAnythingSegmenter.from_model(wide_sam, parameters=LOOSE)
    assert segmenter.digest == own.digest
    for _ in range(2):  # the second time all pages have been given back once
        found, expected = segmenter.segment(image), own.segment(image)
        pixels = torch.randn(1, 3, 128, 128)
        assert torch.equal(segmenter._model.image_encoder(pixels), own._model.image_encoder(pixels))
        assert [one.predicted_iou for one in found.regions] == [one.predicted_iou for one in expected.regions]
        assert all((a.mask == b.mask).all() for a, b in zip(found.regions, expected.regions, strict=True))
        segmenter.forget(image.sha256)
    state = segmenter._model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in wide_sam.state_dict().items())


@on_linux
@pytest.mark.parametrize("form", ["zip", "safetensors"])
def test_no_more_than_the_block_at_work_is_in_memory(checkpoint, image, form):
    path = checkpoint(form)
    segmenter = load(path)
    seen = [resident(path)]
    for block in segmenter._model.image_encoder.blocks:
        block.mlp.register_forward_hook(lambda *_: seen.append(resident(path)))
    segmenter.segment(image)
    assert seen[0] < BLOCK_BYTES, "loading leaves nothing in memory"
    assert max(seen[1:]) < 2.5 * BLOCK_BYTES
    assert min(seen[1:]) > BLOCK_BYTES // 2, "a block at work is read where it lies"
    assert resident(path) < BLOCK_BYTES
    assert not any(one.anonymous for one in mapped(path)), "nothing was written into the weights"
    for weight in segmenter._model.image_encoder.blocks.parameters():
        weight.sum()
    assert resident(path) > (BLOCKS - 1) * BLOCK_BYTES


@on_linux
def test_what_cannot_be_used_as_it_lies_is_copied(checkpoint, wide_sam):
    old = checkpoint("before 2020")
    load(old)
    assert not mapped(old)
    half = checkpoint("safetensors", torch.float16)
    model = load(half)._model
    for name, weight in model.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, wide_sam.state_dict()[name].half().float())
    assert not mapped(half)


@on_linux
def test_a_file_that_was_written_into_is_refused_and_one_that_was_replaced_is_not_looked_at(checkpoint, image):
    path = checkpoint("zip")
    segmenter = load(path)
    expected = segmenter.segment(image)
    segmenter.forget(image.sha256)
    path.rename(path.with_suffix(".old"))
    path.write_bytes(b"another file of that name")
    again = segmenter.segment(image)
    assert all((a.mask == b.mask).all() for a, b in zip(again.regions, expected.regions, strict=True))
    segmenter.forget(image.sha256)
    with path.with_suffix(".old").open("r+b") as file:
        file.write(b"P")
    os.utime(path.with_suffix(".old"), ns=(1, 1))  # a file system's clock may be coarse
    with pytest.raises(LabelError, match="written to after it had been loaded"):
        segmenter.segment(image)
