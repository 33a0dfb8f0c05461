"""Segment Anything's weights under the names that transformers gives them, back under their authors' names.

``facebook/sam-vit-base``, ``-large`` and ``-huge`` and ``wanglab/medsam-vit-base`` are published in that form. Values
and shapes are the same (Kirillov et al., "Segment Anything", ICCV 2023).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

_NUMBERED = {"proj_in": "layers.0", "layers.0": "layers.1", "proj_out": "layers.2"}
_RENAMINGS = (
    (r"^vision_encoder\.layers\.(\d+)\.layer_norm(\d)\.", r"image_encoder.blocks.\1.norm\2."),
    (r"^vision_encoder\.layers\.", "image_encoder.blocks."),
    (r"^vision_encoder\.patch_embed\.projection\.", "image_encoder.patch_embed.proj."),
    (r"^vision_encoder\.neck\.conv1\.", "image_encoder.neck.0."),
    (r"^vision_encoder\.neck\.layer_norm1\.", "image_encoder.neck.1."),
    (r"^vision_encoder\.neck\.conv2\.", "image_encoder.neck.2."),
    (r"^vision_encoder\.neck\.layer_norm2\.", "image_encoder.neck.3."),
    (r"^vision_encoder\.", "image_encoder."),
    (r"^shared_image_embedding\.positional_embedding$", "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    (
        r"^prompt_encoder\.shared_embedding\.positional_embedding$",
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ),
    (r"^prompt_encoder\.point_embed\.", "prompt_encoder.point_embeddings."),
    (r"^prompt_encoder\.mask_embed\.conv1\.", "prompt_encoder.mask_downscaling.0."),
    (r"^prompt_encoder\.mask_embed\.layer_norm1\.", "prompt_encoder.mask_downscaling.1."),
    (r"^prompt_encoder\.mask_embed\.conv2\.", "prompt_encoder.mask_downscaling.3."),
    (r"^prompt_encoder\.mask_embed\.layer_norm2\.", "prompt_encoder.mask_downscaling.4."),
    (r"^prompt_encoder\.mask_embed\.conv3\.", "prompt_encoder.mask_downscaling.6."),
    (r"^mask_decoder\.transformer\.layers\.(\d+)\.layer_norm(\d)\.", r"mask_decoder.transformer.layers.\1.norm\2."),
    (r"^mask_decoder\.transformer\.layer_norm_final_attn\.", "mask_decoder.transformer.norm_final_attn."),
    (r"^mask_decoder\.upscale_conv1\.", "mask_decoder.output_upscaling.0."),
    (r"^mask_decoder\.upscale_layer_norm\.", "mask_decoder.output_upscaling.1."),
    (r"^mask_decoder\.upscale_conv2\.", "mask_decoder.output_upscaling.3."),
)
_PERCEPTRONS = re.compile(
    r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.(proj_in|proj_out|layers\.0)\."
)


def original_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights under their authors' names; those that have them already are returned as they are."""
    if not any(name.startswith("vision_encoder.") for name in state):
        return dict(state)
    return {_original(name): value for name, value in state.items()}


def _original(name: str) -> str:
    found = _PERCEPTRONS.match(name)
    if found:
        return f"{found[1]}.{_NUMBERED[found[2]]}.{name[found.end() :]}"
    for pattern, replacement in _RENAMINGS:
        new, count = re.subn(pattern, replacement, name)
        if count:
            return new
    return name
