"""VCD, M3ID, AVISC and DAMRO: an answer is contrasted with that to a distorted or missing image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import LogitsProcessor

from a3tune.attention.capture import capture
from a3tune.errors import ModelError
from a3tune.evaluation.decoding.formulas import contrasted, grounded, kept_tokens
from a3tune.evaluation.decoding.method import DecodingContext
from a3tune.evaluation.decoding.stream import Contrast, Stream

ALPHA, BETA = 1.0, 0.1
NOISE_STEP, NOISE_STEPS = 500, 1000
M3ID_RATE = 0.02
AVISC_SHARE, AVISC_DEVIATIONS = 0.5, 1.0
DAMRO_ALPHA, DAMRO_TOKENS = 0.5, 10


def noised(pixels: torch.Tensor, step: int = NOISE_STEP) -> torch.Tensor:
    """Pixels after ``step`` of `NOISE_STEPS` steps of diffusion: ``sqrt(abar) x + sqrt(1 - abar) eps``, with
    ``beta_t = sigmoid(linspace(-6, 6)) (0.005 - 1e-5) + 1e-5`` and abar the product of ``1 - beta_t`` so far."""
    betas = torch.sigmoid(torch.linspace(-6, 6, NOISE_STEPS)) * (0.5e-2 - 1e-5) + 1e-5
    kept = float(torch.cumprod(1 - betas, dim=0)[step])
    noise = torch.randn(pixels.shape).to(pixels)
    return math.sqrt(kept) * pixels + math.sqrt(1 - kept) * noise


@contextmanager
def vcd(context: DecodingContext) -> Iterator[list[LogitsProcessor]]:
    """Visual contrastive decoding (Leng et al., CVPR 2024): against the image under noise."""

    def stream() -> Stream:
        inputs = {
            name: noised(tensor) if name.startswith("pixel_values") and tensor.is_floating_point() else tensor
            for name, tensor in context.batch.inputs.items()
        }
        return Stream(context.model, context.batch, inputs)

    yield [Contrast(stream, lambda scores, other, step: contrasted(scores, other, ALPHA, BETA))]


@contextmanager
def m3id(context: DecodingContext) -> Iterator[list[LogitsProcessor]]:
    """Multi-modal mutual-information decoding (Favero et al., CVPR 2024): against the text alone."""

    def stream() -> Stream:
        return Stream(context.model, context.text_only())

    yield [Contrast(stream, lambda scores, other, step: grounded(scores, other, step, M3ID_RATE, BETA))]


@contextmanager
def avisc(context: DecodingContext) -> Iterator[list[LogitsProcessor]]:
    """Attentional vision calibration (Woo et al., ACL Findings 2025): against blind tokens alone."""

    def stream() -> Stream:
        kept = [kept_tokens(layers, AVISC_SHARE, AVISC_DEVIATIONS) for layers in _last_attention(context)]
        return _stream_of_kept(context, kept)

    yield [Contrast(stream, lambda scores, other, step: contrasted(scores, other, ALPHA, BETA))]


@contextmanager
def damro(context: DecodingContext) -> Iterator[list[LogitsProcessor]]:
    """DAMRO (Gong et al., EMNLP 2024): against the tokens alone on which the vision tower's class token dwells."""

    def stream() -> Stream:
        kept = []
        for dwelt, prompt in zip(_class_attention(context), context.batch.prompts, strict=True):
            patches = sum(len(group) for group in prompt.images)
            if len(dwelt) != patches:
                raise ModelError(
                    expected="one image token for each patch of the vision tower",
                    got=f"{patches} tokens for {len(dwelt)} patches",
                    remedy="Choose another decoding for this model",
                )
            chosen = torch.zeros(patches, dtype=torch.bool)
            chosen[dwelt.topk(min(DAMRO_TOKENS, patches)).indices.cpu()] = True
            kept.append(chosen)
        return _stream_of_kept(context, kept)

    yield [Contrast(stream, lambda scores, other, step: contrasted(scores, other, DAMRO_ALPHA, BETA))]


def _stream_of_kept(context: DecodingContext, kept: list[torch.Tensor]) -> Stream:
    """The prompts with the embeddings of all image tokens but these at zero."""
    batch = context.batch
    blank = batch.columns.clone()
    for b, (chosen, start, prompt) in enumerate(zip(kept, batch.starts, batch.prompts, strict=True)):
        places = torch.tensor([start + place for group in prompt.images for place in group])
        blank[b, places[chosen.cpu()]] = False

    @contextmanager
    def blanked() -> Iterator[None]:
        def hide(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
            embeddings = options["inputs_embeds"]
            mask = blank.to(embeddings.device)[:, :, None]
            return arguments, {**options, "inputs_embeds": embeddings.masked_fill(mask, 0.0)}

        handle = context.model.language_model.register_forward_pre_hook(hide, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    return Stream(context.model, batch, reading=blanked)


def _last_attention(context: DecodingContext) -> list[torch.Tensor]:
    """float [layers, patches] of each prompt: its last token's attention on the image, mean over heads."""
    batch = context.batch
    rows = torch.zeros_like(batch.columns)
    rows[:, -1] = True
    options: dict[str, Any] = {}
    if any(batch.starts):
        options["position_ids"] = (batch.inputs["attention_mask"].cumsum(dim=-1) - 1).clamp(min=0)
    with capture(rows, batch.columns) as record:
        context.model.model(**batch.inputs, **options, use_cache=False)
    return [record.weights(b)[:, :, 0].mean(dim=1) for b in range(len(batch.prompts))]


def _class_attention(context: DecodingContext) -> list[torch.Tensor]:
    """float [patches] of each prompt: the class token's attention on its patches in the layer whose output becomes the
    image tokens, mean over heads."""
    base = context.model.model
    config = context.model.config
    towers = [module for module in base.modules() if isinstance(getattr(module, "class_embedding", None), nn.Parameter)]
    layer = getattr(config, "vision_feature_layer", None)
    layers = [
        module
        for name, module in base.named_modules()
        if "vision" in name and name.endswith("self_attn") and hasattr(module, "q_proj")
    ]
    if not towers or not isinstance(layer, int) or not layers:
        raise ModelError(
            expected="a vision tower with a class token, as LLaVA's",
            got=f"{type(base).__name__} has none",
            remedy="Choose another decoding for this model",
        )
    # hidden_states[0] is what enters the first layer, so hidden_states[k] leaves layer k - 1.
    index = (layer if layer >= 0 else len(layers) + 1 + layer) - 1
    attention: nn.Module = layers[index]
    seen: list[torch.Tensor] = []

    def keep_input(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        seen.append(arguments[0] if arguments else options["hidden_states"])

    handle = attention.register_forward_pre_hook(keep_input, with_kwargs=True)
    try:
        inputs = context.batch.inputs
        options: dict[str, Any] = {}
        if any(context.batch.starts):
            options["position_ids"] = (inputs["attention_mask"].cumsum(dim=-1) - 1).clamp(min=0)
        base(**inputs, **options, use_cache=False)
    finally:
        handle.remove()
    hidden = seen[0]
    heads = attention.num_heads
    size = hidden.shape[-1] // heads  # type: ignore[operator]
    query = attention.q_proj(hidden[:, :1])  # type: ignore[operator]
    key = attention.k_proj(hidden)  # type: ignore[operator]
    query, key = (part.unflatten(-1, (heads, size)).transpose(1, 2).float() for part in (query, key))
    weights = (query @ key.transpose(-1, -2) / math.sqrt(size)).softmax(dim=-1)[:, :, 0, 1:].mean(dim=1)
    counts = [len(prompt.images) for prompt in context.batch.prompts]
    if len(weights) != sum(counts):
        raise ModelError(
            expected="one picture for each image",
            got=f"{len(weights)} for {sum(counts)}",
            remedy="Choose another decoding",
        )
    return [part.flatten() for part in weights.split(counts)]
