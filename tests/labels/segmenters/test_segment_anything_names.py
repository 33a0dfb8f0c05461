from copy import deepcopy

import pytest
import torch
from safetensors.torch import save_file
from segment_anything import sam_model_registry
from transformers import SamConfig, SamModel

from a3tune.labels.segmenters.segment_anything import SegmentAnythingSegmenter
from a3tune.labels.segmenters.segment_anything_names import original_names

# Width, layers, heads and layers with attention over the whole image, as published.
SIZES = {
    "vit_b": (768, 12, 12, [2, 5, 8, 11]),
    "vit_l": (1024, 24, 16, [5, 11, 17, 23]),
    "vit_h": (1280, 32, 16, [7, 15, 23, 31]),
}


@pytest.mark.parametrize("variant", SIZES)
def test_every_published_weight_finds_its_place(variant):
    width, layers, heads, whole = SIZES[variant]
    vision = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    with torch.device("meta"):
        published = SamModel(SamConfig(vision_config={**vision, "global_attn_indexes": whole}))
        own = sam_model_registry[variant]()
    renamed = original_names(published.state_dict())
    shapes = {name: value.shape for name, value in own.state_dict().items()}
    assert {name: value.shape for name, value in renamed.items()} == shapes


def test_the_weights_compute_the_same(small_sam, tmp_path, monkeypatch):
    torch.manual_seed(3)
    config = SamConfig(
        vision_config={
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 128, "patch_size": 16,
            "window_size": 4, "global_attn_indexes": [1], "output_channels": 32, "mlp_ratio": 4.0, "num_pos_feats": 16,
        },
        prompt_encoder_config={
            "hidden_size": 32, "image_size": 128, "patch_size": 16, "image_embedding_size": 8, "mask_input_channels": 8,
        },
        mask_decoder_config={
            "hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32,
        },
    )  # fmt: skip
    published = SamModel(config).eval()
    for weight in published.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    file = tmp_path / "model.safetensors"
    stored = {name: value.contiguous().clone() for name, value in published.state_dict().items()}
    stored.pop("shared_image_embedding.positional_embedding")  # the same as another, and stored once
    save_file(stored, file)
    monkeypatch.setitem(sam_model_registry, "vit_b", lambda: deepcopy(small_sam))
    monkeypatch.setattr("a3tune.labels.segmenters.segment_anything._WIDTHS", {32: "vit_b"})
    own = SegmentAnythingSegmenter(file, device="cpu")._model
    pixels = torch.randn(1, 3, 128, 128)
    box = torch.tensor([[[20.0, 30.0, 90.0, 100.0]]])
    with torch.no_grad():
        expected = published(pixel_values=pixels, input_boxes=box, multimask_output=True)
        features = own.image_encoder(pixels)
        sparse, dense = own.prompt_encoder(points=None, boxes=box[0], masks=None)
        masks, quality = own.mask_decoder(features, own.prompt_encoder.get_dense_pe(), sparse, dense, True)
    torch.testing.assert_close(masks, expected.pred_masks[0], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(quality, expected.iou_scores[0], atol=1e-4, rtol=1e-4)


def test_the_authors_own_names_stay(small_sam):
    state = small_sam.state_dict()
    assert list(original_names(state)) == list(state)
