"""A tiny LLaVA with random weights, its prompts as plain token ids, and a shaken A3MoE adapter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from a3tune.adapters.a3moe import A3MoeConfig

IMAGE = 60
PATCHES = 16


@pytest.fixture
def tiny_llava() -> Callable[..., LlavaForConditionalGeneration]:
    def build(seed: int = 0) -> LlavaForConditionalGeneration:
        torch.manual_seed(seed)
        config = LlavaConfig(
            vision_config=CLIPVisionConfig(
                hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=24,
                patch_size=6,
            ),
            text_config=LlamaConfig(
                vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0,
            ),
            image_token_index=IMAGE,
            image_seq_length=PATCHES,
        )  # fmt: skip
        model = LlavaForConditionalGeneration(config).eval()
        for parameter in model.parameters():
            # The default spread of 0.02 is so small that no adapter would change a next token.
            if parameter.ndim > 1:
                parameter.data.mul_(4)
        return model

    return build


@pytest.fixture
def prompts() -> Callable[..., dict[str, torch.Tensor]]:
    """Rows of (text before, images, question length), padded on one side, with the masks of question and image."""

    def build(rows: list[tuple[int, int, int]], padding: str = "right", seed: int = 0) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        sequences = []
        pictures = []
        for before, images, question in rows:
            text = torch.randint(3, 59, (before + question + 2,), generator=generator)
            image = torch.full((images * PATCHES,), IMAGE)
            ids = torch.cat([text[:before], image, text[before:]])
            start = before + len(image)
            spot = torch.zeros(len(ids), dtype=torch.bool)
            spot[start : start + question] = True
            sequences.append((ids, spot))
            pictures.append(torch.randn(images, 3, 24, 24, generator=generator))
        length = max(len(ids) for ids, _ in sequences)
        batch = len(rows)
        ids = torch.zeros(batch, length, dtype=torch.long)
        spots = torch.zeros(batch, length, dtype=torch.bool)
        attention = torch.zeros(batch, length, dtype=torch.long)
        for row, (sequence, spot) in enumerate(sequences):
            place = slice(0, len(sequence)) if padding == "right" else slice(length - len(sequence), length)
            ids[row, place], spots[row, place], attention[row, place] = sequence, spot, 1
        return {
            "input_ids": ids,
            "attention_mask": attention,
            "pixel_values": torch.cat(pictures),
            "a3_question_mask": spots,
            "a3_image_mask": ids == IMAGE,
        }

    return build


@pytest.fixture
def a3_config() -> Callable[..., A3MoeConfig]:
    def build(**options) -> A3MoeConfig:
        sizes = {"r": 4, "alpha": 4, "expert_r": 2, "expert_alpha": 4, "query_experts": 3, "key_experts": 4}
        return A3MoeConfig(**{**sizes, "dropout": 0.0, "init_weights": False, **options})

    return build


@pytest.fixture
def a3_model(tiny_llava, a3_config) -> Callable[..., PeftModel]:
    """A tiny LLaVA with one A3MoE adapter whose experts all do something."""

    def build(seed: int = 0, **options) -> PeftModel:
        base = tiny_llava(seed)
        torch.manual_seed(seed + 1)
        return get_peft_model(base, a3_config(**options)).eval()

    return build
