"""LLaVA-Med shaped models with random weights, and a prompt for them."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from transformers import (
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
)

from a3tune.attention.capture import prepare_capture
from a3tune.types import Head

BEFORE, PATCHES, AFTER = 12, 576, 52

IMAGE_TOKEN = 3


@dataclass(frozen=True)
class Size:
    """The language model's and the vision tower's shape."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int
    vocabulary: int
    vision: int
    vision_layers: int


SIZES = {
    "7B": Size(4096, 14336, 32, 32, 8, 32001, 1024, 24),
    "0.1B": Size(1024, 2816, 8, 16, 4, 8000, 128, 2),
    "tiny": Size(64, 96, 2, 4, 2, 200, 32, 2),
}


def build(size: Size, device: torch.device, dtype: torch.dtype) -> LlavaForConditionalGeneration:
    """LLaVA on Mistral with random weights, built in place."""
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=size.vision, intermediate_size=4 * size.vision, num_hidden_layers=size.vision_layers,
            num_attention_heads=max(1, size.vision // 64), image_size=336, patch_size=14,
        ),
        text_config=MistralConfig(
            vocab_size=size.vocabulary, hidden_size=size.hidden, intermediate_size=size.intermediate,
            num_hidden_layers=size.layers, num_attention_heads=size.heads, num_key_value_heads=size.key_heads,
            max_position_embeddings=4096, sliding_window=None,
        ),
        image_token_index=IMAGE_TOKEN, image_seq_length=PATCHES,
    )  # fmt: skip
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return LlavaForConditionalGeneration(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(default)


def prompt(model: LlavaForConditionalGeneration, device: torch.device, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    words = torch.randint(4, model.config.text_config.vocab_size, (1, BEFORE + AFTER), device=device)
    image = torch.full((1, PATCHES), IMAGE_TOKEN, device=device)
    ids = torch.cat([words[:, :BEFORE], image, words[:, BEFORE:]], dim=1)
    pixels = torch.randn(1, 3, 336, 336, device=device, dtype=dtype)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


def twin(model: nn.Module, attention: str | None = None) -> LlavaForConditionalGeneration:
    """The same model once more, on the same weights; ``attention`` None for one that is prepared for capture."""
    copied = copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})
    if attention is None:
        copied.set_attn_implementation("sdpa")
        prepare_capture(copied)
    else:
        copied.set_attn_implementation(attention)
    return copied


def masks(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """bool [1, length]: the text after the image, and the image."""
    columns = (ids == IMAGE_TOKEN).cpu()
    rows = torch.zeros_like(columns)
    rows[:, BEFORE + PATCHES :] = True
    return rows, columns


def some_heads(model: LlavaForConditionalGeneration) -> list[Head]:
    """As many heads as a layer has, spread over all layers."""
    text = model.config.text_config
    return [Head(i * text.num_hidden_layers // text.num_attention_heads, i) for i in range(text.num_attention_heads)]
