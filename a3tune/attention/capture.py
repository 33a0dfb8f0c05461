"""Read the attention of a language model while it runs on its fast attention kernel.

The model's own output comes from scaled-dot-product attention, untouched. While a :func:`capture` is active,
each layer with softmax attention also computes ``softmax(Q K^T * scale + mask)`` in float32 for the text rows that were
asked for, and keeps only the image columns. Nothing of size [length, length] is kept, and without an active capture a
layer costs what it always costs. Layers of another kind (linear attention, convolution) have no weights and no number:
layers are counted among those with softmax attention.

Call :func:`prepare_capture` once per model, then::

    with capture(rows, columns) as record:
        model(**inputs)
    record.maps(0)

    with capture(rows, columns, growing=True) as record:
        model.generate(**inputs)
    record.maps(0)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from a3tune.attention.attention_call import AttentionCall
from a3tune.attention.record import AttentionRecord, ReadPrefix
from a3tune.decoder_layers import attention_layers
from a3tune.errors import ModelError
from a3tune.sequence_positions import Positions
from a3tune.types import Head

IMPLEMENTATION = "a3tune_capture"
"""The name under which the attention function is registered with transformers."""

_POSITION = "a3tune_attention_layer"
"""Attribute of an attention module: its place among the layers with softmax attention, by which it is recorded."""

_active: ContextVar[AttentionRecord | None] = ContextVar("a3tune_attention_capture", default=None)


def prepare_capture(model: PreTrainedModel) -> None:
    """Route the attention of ``model``'s language model through this module; the vision tower is left alone.

    Safe to call again, also once PEFT has wrapped the model. Its outputs do not change.

    Args:
        model: a Hugging Face image-text-to-text model, or a PEFT model around one.

    Raises:
        ModelError: the language model has no layer of softmax attention, one of a kind that is not known, or does not
            run it through transformers' attention interface.
    """
    AttentionInterface.register(IMPLEMENTATION, _attention)
    AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    text_config = base.config.get_text_config(decoder=True)
    decoder = base.get_decoder()
    attentions = attention_modules(base)
    layers = attention_layers(text_config)
    if tuple(module.layer_idx for module in attentions) != layers:
        raise ModelError(
            expected=f"softmax self-attention in {len(layers)} of {text_config.num_hidden_layers} layers",
            got=f"{type(decoder).__name__} has it in {len(attentions)} layers",
            remedy="Choose a model whose language model is a plain transformer decoder",
        )
    # Linear attention keeps a model from saying that all of it goes through the interface; its softmax layers may.
    hybrid = len(layers) < text_config.num_hidden_layers
    if not getattr(decoder, "_supports_attention_backend", False) and not (hybrid and _calls_interface(attentions)):
        raise ModelError(
            expected="a language model that supports transformers' attention interface",
            got=f"{type(decoder).__name__} does not",
            remedy="Choose another model, or a newer transformers in which this one does",
        )
    # The mask is built from the decoder's config, the attention is chosen by each module's: often one object.
    configs = {id(config): config for config in [text_config, decoder.config, *(m.config for m in attentions)]}
    for config in configs.values():
        config._attn_implementation = IMPLEMENTATION
    for position, module in enumerate(attentions):
        setattr(module, _POSITION, position)


def attention_modules(model: PreTrainedModel) -> list[nn.Module]:
    """The softmax self-attention modules of the model's language model, in layer order."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    found = [
        module
        for module in base.get_decoder().modules()
        if type(module).__name__.endswith("Attention")
        and not type(module).__name__.endswith("LinearAttention")
        and isinstance(getattr(module, "layer_idx", None), int)
    ]
    return sorted(found, key=lambda module: module.layer_idx)


def _calls_interface(attentions: Sequence[nn.Module]) -> bool:
    """Whether the modules' own source chooses its attention function through transformers' interface."""
    sources = [sys.modules[type(module).__module__] for module in attentions]
    return all(getattr(source, "ALL_ATTENTION_FUNCTIONS", None) is ALL_ATTENTION_FUNCTIONS for source in sources)


@contextmanager
def capture(
    rows: torch.Tensor,
    columns: torch.Tensor,
    heads: Sequence[Head] | None = None,
    *,
    share_of_all_heads: bool = False,
    growing: bool = False,
    behind: Sequence[ReadPrefix] = (),
) -> Iterator[AttentionRecord]:
    """Record the attention of one forward pass over whole sequences that runs inside the ``with`` block, or of the
    passes that read a prompt and write behind it.

    The record belongs to the thread that opened the block: other threads, also on the same model, record into
    their own or not at all. With gradients enabled the record's tensors are part of the graph; weights are then
    computed when they are asked for, outside the layer, so that gradient checkpointing (the non-reentrant kind)
    neither records a layer twice nor sees other tensors when it runs the layer again.

    Args:
        rows: bool [batch, length], the query positions to keep: text tokens, never padding.
        columns: bool [batch, length], the key positions to keep: image tokens.
        heads: the heads to keep; None keeps every head of every layer.
        share_of_all_heads: also keep every head's total over the image when ``heads`` names a few (what choosing
            critical heads needs). These totals then carry no gradient.
        growing: the masks describe a prompt, behind which text is generated in this block, without beams, with any kind
            of key-value cache: each token that is read behind the prompt is one more row, taken in the very pass that
            reads it. Without gradient. What a cache no longer holds, or holds in fewer bits, is read as the model reads
            it. Rows that went on to be padded after their end get rows for the padding too.
        behind: for each sequence what an earlier record, of another prompt with the same beginning, has of that
            beginning (:meth:`~a3tune.attention.record.AttentionRecord.prefix`), which a key-value cache spares reading
            again; all of one length, padding counted; in a growing capture of all heads.

    Raises:
        RequestError: the masks are not bool [batch, length], a sequence has no row or no column, no head is named, or
            ``behind`` comes with another kind of capture.
    """
    record = AttentionRecord(rows, columns, heads, share_of_all_heads, growing, behind)
    token = _active.set(record)
    try:
        yield record
    finally:
        _active.reset(token)


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
    """Attention function as transformers' AttentionInterface calls it; the output is SDPA's."""
    for name in ("s_aux", "position_bias"):
        if kwargs.get(name) is not None:
            raise ModelError(
                expected="plain softmax attention",
                got=f"{type(module).__name__} adds {name} to its scores",
                remedy="Choose a model without it",
            )
    record = _active.get()
    if record is None and softcap is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal=is_causal, **kwargs
        )
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    causal = bool(causal) and attention_mask is None and query.shape[2] > 1
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    call = AttentionCall(query, key, attention_mask, scale, softcap, causal)
    # A layer that runs again inside the backward pass is being recomputed by gradient checkpointing.
    if record is not None and torch._C._current_graph_task_id() == -1:
        record.add(cast(int, getattr(module, _POSITION)), call, module.training)
    if softcap is not None:
        return _softcapped_output(module, call, value, dropout), None
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout, scaling, is_causal=is_causal, **kwargs
    )


def _softcapped_output(module: nn.Module, call: AttentionCall, value: torch.Tensor, dropout: float) -> torch.Tensor:
    """[batch, length, heads, dim]: attention with tanh-capped scores, which SDPA does not offer."""
    everything = Positions.run(0, call.key.shape[2], value.device)
    rows = Positions.run(0, call.query.shape[2], value.device)
    groups = call.query.shape[1] // value.shape[1]
    outputs = []
    for b in range(len(value)):
        weights = call.weights(b, rows, everything, None).to(value.dtype)
        weights = nn.functional.dropout(weights, p=dropout, training=module.training)
        outputs.append(torch.matmul(weights, value[b].repeat_interleave(groups, dim=0)))
    return torch.stack(outputs).transpose(1, 2).contiguous()
