"""PAI and DoLa: what is changed in, or read off, the language model's layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, LogitsProcessor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from a3tune.attention.capture import attention_modules
from a3tune.errors import ModelError
from a3tune.evaluation.decoding.formulas import boosted, guided, layer_contrast
from a3tune.evaluation.decoding.method import DecodingContext
from a3tune.evaluation.decoding.stream import Contrast, Stream

PAI_ALPHA, PAI_GAMMA, PAI_BETA, PAI_FIRST_LAYER = 0.2, 1.1, 0.1, 2
DOLA_TOP = 0.1
DOLA_SHARE = 0.5
"""Candidates are every second layer below this share of all; of 32 layers 0, 2, ..., 14."""

_NAME = "a3tune_boosted"
_columns: ContextVar[torch.Tensor | None] = ContextVar("a3tune_boosted_columns", default=None)


@contextmanager
def pai(context: DecodingContext) -> Iterator[list[LogitsProcessor]]:
    """PAI (Liu et al., ECCV 2024): the newest token's attention on the image is raised from the third layer on, in
    every step, the first one too; and the answer is guided away from what the text alone would give."""
    AttentionInterface.register(_NAME, _attention)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    decoder: Any = context.model.language_model
    modules: list[Any] = [decoder, *attention_modules(context.model.model)]
    configs = {id(module.config): module.config for module in modules}
    before = {key: config._attn_implementation for key, config in configs.items()}
    for config in configs.values():
        config._attn_implementation = _NAME
    token = _columns.set(context.batch.columns)

    def stream() -> Stream:
        return _Unboosted(context.model, context.text_only())

    try:
        yield [Contrast(stream, lambda scores, other, step: guided(scores, other, PAI_GAMMA, PAI_BETA))]
    finally:
        _columns.reset(token)
        for key, config in configs.items():
            config._attn_implementation = before[key]


class _Unboosted(Stream):
    """A reading without an image, in which there is nothing to raise."""

    def logits(self, written: torch.Tensor) -> torch.Tensor:
        token = _columns.set(None)
        try:
            return super().logits(written)
        finally:
            _columns.reset(token)


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """SDPA, with the last row computed anew with raised scores."""
    if softcap is not None:
        raise ModelError(
            expected="plain softmax attention", got=f"{type(module).__name__} bends its scores", remedy="Leave PAI out"
        )
    output, _ = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout, scaling, is_causal=is_causal, **kwargs
    )
    columns = _columns.get()
    if columns is None or int(getattr(module, "layer_idx", 0)) < PAI_FIRST_LAYER:
        return output, None
    groups = query.shape[1] // key.shape[1]
    keys, values = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (query[:, :, -1:].float() @ keys.float().transpose(-1, -2)) * scale
    image = torch.zeros(len(scores), scores.shape[-1], dtype=torch.bool, device=scores.device)
    image[:, : columns.shape[1]] = columns.to(scores.device)
    scores = boosted(scores, image[:, None, None], PAI_ALPHA)
    if attention_mask is not None:
        mask = attention_mask[:, :, -1:, : scores.shape[-1]]
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    last = (scores.softmax(dim=-1) @ values.float()).to(output.dtype)
    return torch.cat([output[:, :-1], last.transpose(1, 2)], dim=1), None


def candidate_layers(layers: int) -> tuple[int, ...]:
    """The layers whose output DoLa contrasts with the last one's; 0 is what enters the first layer."""
    return tuple(range(0, max(1, int(layers * DOLA_SHARE)), 2))


@contextmanager
def dola(context: DecodingContext) -> Iterator[list[LogitsProcessor]]:
    """DoLa (Chuang et al., ICLR 2024): the last layer against the early layer that differs most from it."""
    decoder = context.model.language_model
    layers, norm = getattr(decoder, "layers", None), getattr(decoder, "norm", None)
    head = context.model.model.get_output_embeddings()
    if not isinstance(layers, nn.ModuleList) or not isinstance(norm, nn.Module) or head is None:
        raise ModelError(
            expected="a decoder with layers, a last norm and an output layer",
            got=f"{type(decoder).__name__} has none",
            remedy="Choose another decoding for this model",
        )
    wanted = candidate_layers(len(layers))
    seen: dict[int, torch.Tensor] = {}

    def hook_for(index: int) -> Any:
        def keep(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
            hidden = arguments[0] if arguments else options["hidden_states"]
            seen[index] = hidden[:, -1]

        return keep

    # What enters layer k leaves layer k - 1.
    handles = [layers[index].register_forward_pre_hook(hook_for(index), with_kwargs=True) for index in wanted]
    try:
        yield [_LayerContrast(seen, wanted, norm, head)]
    finally:
        for handle in handles:
            handle.remove()


class _LayerContrast(LogitsProcessor):
    def __init__(
        self, seen: dict[int, torch.Tensor], wanted: tuple[int, ...], norm: nn.Module, head: nn.Module
    ) -> None:
        self._seen, self._wanted, self._norm, self._head = seen, wanted, norm, head

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        early = torch.stack([self._head(self._norm(self._seen[index])).float() for index in self._wanted])
        return layer_contrast(scores.float(), early.to(scores.device), DOLA_TOP)
