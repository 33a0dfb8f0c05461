"""Read the attention of a language model while it runs on its fast attention kernel.

The model's own output comes from scaled-dot-product attention, untouched. While a :func:`capture` is active,
each layer also computes ``softmax(Q K^T * scale + mask)`` in float32 for the text rows that were asked for, and
keeps only the image columns. Nothing of size [length, length] is kept, and without an active capture a layer
costs what it always costs.

Call :func:`prepare` once per model, then::

    with capture(rows, columns) as record:
        model(**inputs)
    record.maps(0)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from a3tune.errors import ModelError, RequestError
from a3tune.types import AttentionMaps, Head

IMPLEMENTATION = "a3tune_capture"
"""The name under which the attention function is registered with transformers."""

_SCORE_BUDGET = 1 << 24  # float32 scores that one step may hold at once: 64 MiB

_active: ContextVar[AttentionRecord | None] = ContextVar("a3tune_attention_capture", default=None)


def prepare(model: nn.Module) -> None:
    """Route the attention of ``model``'s language model through this module; the vision tower is left alone.

    Safe to call again, and on a model that PEFT has wrapped. The model's outputs do not change.

    Args:
        model: a Hugging Face image-text-to-text model, or a PEFT model around one.

    Raises:
        ModelError: the language model does not run softmax attention through transformers' attention interface
            in every layer.
    """
    AttentionInterface.register(IMPLEMENTATION, _attention)
    AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    text_config = base.config.get_text_config(decoder=True)
    decoder = base.get_decoder()
    attentions = attention_modules(base)
    if {module.layer_idx for module in attentions} != set(range(text_config.num_hidden_layers)):
        raise ModelError(
            expected=f"softmax self-attention in each of the {text_config.num_hidden_layers} layers",
            got=f"{type(decoder).__name__} has it in {len(attentions)} layers",
            remedy="Choose a model whose language model is a plain transformer decoder",
        )
    if not getattr(decoder, "_supports_attention_backend", False):
        raise ModelError(
            expected="a language model that supports transformers' attention interface",
            got=f"{type(decoder).__name__} does not",
            remedy="Choose another model, or a newer transformers in which this one does",
        )
    # The mask is built from the decoder's config, the attention is chosen by each module's: often one object.
    configs = {id(config): config for config in [text_config, decoder.config, *(m.config for m in attentions)]}
    for config in configs.values():
        config._attn_implementation = IMPLEMENTATION


def attention_modules(model: nn.Module) -> list[nn.Module]:
    """The self-attention modules of the model's language model, in layer order."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    found = [
        module
        for module in base.get_decoder().modules()
        if type(module).__name__.endswith("Attention") and isinstance(getattr(module, "layer_idx", None), int)
    ]
    return sorted(found, key=lambda module: module.layer_idx)


@contextmanager
def capture(
    rows: torch.Tensor,
    columns: torch.Tensor,
    heads: Sequence[Head] | None = None,
    *,
    share_of_all_heads: bool = False,
) -> Iterator[AttentionRecord]:
    """Record the attention of one forward pass over whole sequences that runs inside the ``with`` block.

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

    Raises:
        RequestError: the masks are not bool [batch, length], a sequence has no row or no column, or no head is named.
    """
    record = AttentionRecord(rows, columns, heads, share_of_all_heads)
    token = _active.set(record)
    try:
        yield record
    finally:
        _active.reset(token)


@dataclass(frozen=True, eq=False)
class _Call:
    """What one layer's attention was called with: all that its weights follow from."""

    query: torch.Tensor  # [batch, heads, length, dim]
    key: torch.Tensor  # [batch, key heads, length, dim]
    mask: torch.Tensor | None  # [batch or 1, heads or 1, length, >= length], bool (True = seen) or additive
    scaling: float
    softcap: float | None
    causal: bool  # only without a mask: row i sees columns 0..i

    def weights(self, b: int, rows: torch.Tensor, columns: torch.Tensor, heads: list[int] | None) -> torch.Tensor:
        """float32 [heads, rows, columns] of sequence b; memory stays bounded by working through rows in chunks."""
        query, key, mask = self.query[b], self.key[b], self.mask
        rows, columns = rows.to(query.device), columns.to(query.device)
        groups = query.shape[0] // key.shape[0]
        if heads is None:
            heads_wanted = slice(None)
        else:
            heads_wanted = torch.tensor(heads, device=query.device)
            query, key, groups = query[heads_wanted], key[heads_wanted // groups], 1
        if mask is not None:
            mask = mask[b if mask.shape[0] > 1 else 0]
            mask = mask[heads_wanted] if mask.shape[0] > 1 else mask
        # Autocast would run the product in half precision again.
        with torch.autocast(query.device.type, enabled=False):
            key = key.float().transpose(1, 2)
            chunk = max(1, _SCORE_BUDGET // (query.shape[0] * key.shape[2]))
            parts = [self._weights(query, key, mask, part, columns, groups) for part in rows.split(chunk)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _weights(self, query, key, mask, rows, columns, groups) -> torch.Tensor:
        heads, length = query.shape[0], key.shape[2]
        # Query heads that share a key head are stacked as more rows of it, so keys are never repeated.
        stacked = query[:, rows].float().reshape(heads // groups, groups * len(rows), -1)
        scores = torch.matmul(stacked, key).view(heads, len(rows), length) * self.scaling
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        if mask is None and self.causal:
            seen = torch.arange(length, device=rows.device) <= rows[:, None]
            scores = scores.masked_fill(~seen, -torch.inf)
        elif mask is not None:
            mask = mask[:, rows, :length]
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        return torch.softmax(scores, dim=-1)[:, :, columns]


class AttentionRecord:
    """The attention of one forward pass, as :func:`capture` yields it; readable once the model has run.

    Weights are post-softmax and before dropout, float32, on the model's device. Rows and patches of sequence b are
    the True positions of the masks' row b, ascending.

    Attributes:
        heads: the heads that were asked for, or None for all.
    """

    def __init__(
        self, rows: torch.Tensor, columns: torch.Tensor, heads: Sequence[Head] | None, share_of_all_heads: bool
    ) -> None:
        _check_masks(rows, columns)
        if heads is not None and not heads:
            raise RequestError(expected="at least one head", got="an empty list", remedy="Name heads, or None for all")
        self.heads = None if heads is None else tuple(Head(*head) for head in heads)
        self._shape = tuple(rows.shape)
        self._rows = [row.nonzero().squeeze(1) for row in rows]
        self._columns = [row.nonzero().squeeze(1) for row in columns]
        self._share_of_all = share_of_all_heads or heads is None
        self._with_gradient = torch.is_grad_enabled()
        self._calls: dict[int, _Call] = {}
        self._weights: dict[tuple[int, int], torch.Tensor] = {}  # (layer, b) -> [heads wanted, rows, patches]
        self._shares: dict[tuple[int, int], torch.Tensor] = {}  # (layer, b) -> [heads or heads wanted, rows]
        self._layers: dict[int, int] = {}  # layer -> its number of heads

    @property
    def layers(self) -> int:
        """How many layers the pass went through."""
        self._require_pass()
        return len(self._layers)

    def rows(self, b: int) -> np.ndarray:
        """int64 [rows], the positions in sequence b that the weights' rows belong to, ascending."""
        return self._rows[b].cpu().numpy()

    def weights(self, b: int) -> torch.Tensor:
        """float32 [layers, heads, rows, patches] of sequence b, or [heads asked for, rows, patches] in the order asked
        for when ``heads`` was given."""
        self._require_pass()
        if self.heads is not None:
            return self.select(b, self.heads)
        return torch.stack([self._layer_weights(layer, b) for layer in sorted(self._layers)])

    def select(self, b: int, heads: Sequence[Head]) -> torch.Tensor:
        """float32 [heads, rows, patches] of sequence b for the named heads, in that order.

        With gradients enabled any head may be named, so heads can be chosen from :meth:`image_share` after the pass;
        otherwise they must be among those asked for.

        Raises:
            RequestError: a head that the model does not have or the record does not hold.
        """
        self._require_pass()
        heads = [Head(*head) for head in heads]
        for head in heads:
            if not 0 <= head.head < self._layers.get(head.layer, 0):
                raise RequestError(
                    expected=f"heads within {len(self._layers)} layers x {max(self._layers.values())} heads, from 0",
                    got=f"layer {head.layer}, head {head.head}",
                    remedy="Choose heads that the model has",
                )
        per_layer = {layer: [head for head in heads if head.layer == layer] for layer in {head.layer for head in heads}}
        found: dict[Head, torch.Tensor] = {}
        for layer, wanted in per_layer.items():
            found.update(zip(wanted, self._select_layer(layer, b, [head.head for head in wanted]), strict=True))
        return torch.stack([found[head] for head in heads])

    def image_share(self, b: int) -> torch.Tensor:
        """float32 [layers, heads, rows]: each row's total weight on the image of sequence b; [heads asked for, rows] in
        the order asked for when ``heads`` was given without ``share_of_all_heads``."""
        self._require_pass()
        if not self._share_of_all:
            return self.weights(b).sum(-1)
        return torch.stack([self._layer_share(layer, b) for layer in sorted(self._layers)])

    def maps(self, b: int) -> AttentionMaps:
        """The weights of every head for sequence b, detached, as numpy arrays.

        Raises:
            RequestError: only some heads were asked for.
        """
        if self.heads is not None:
            raise RequestError(
                expected="a capture of all heads",
                got=f"a capture of {len(self.heads)} heads",
                remedy="Capture with heads=None, or read weights()",
            )
        with torch.no_grad():
            weights = self.weights(b)
            share = weights.sum(-1)
        return AttentionMaps(weights.detach().cpu().numpy(), self.rows(b), share.cpu().numpy())

    def _add(self, layer: int, call: _Call, training: bool) -> None:
        batch, heads, length = call.query.shape[:3]
        if (batch, length) != self._shape or call.key.shape[2] != length:
            raise RequestError(
                expected=f"one pass over whole sequences of shape {list(self._shape)} (batch, length)",
                got=f"queries of shape {[batch, length]} that see {call.key.shape[2]} keys",
                remedy="Run the model once on the inputs that the masks were made for; generate outside of a capture",
            )
        if self._with_gradient and training and not torch.is_grad_enabled():
            raise ModelError(
                expected="a layer that runs with gradients enabled",
                got="reentrant gradient checkpointing, which hides the layer from the gradient of captured weights",
                remedy='Use gradient_checkpointing_kwargs={"use_reentrant": False}',
            )
        self._layers[layer] = heads
        if torch.is_grad_enabled():
            self._calls[layer] = call
            return
        wanted = self._wanted(layer)
        for b in range(batch):
            if self._share_of_all:
                every = call.weights(b, self._rows[b], self._columns[b], None)
                self._shares[layer, b] = every.sum(-1)
                self._weights[layer, b] = every if wanted is None else every[wanted]
            elif wanted:
                self._weights[layer, b] = call.weights(b, self._rows[b], self._columns[b], wanted)

    def _wanted(self, layer: int) -> list[int] | None:
        if self.heads is None:
            return None
        return list(dict.fromkeys(head.head for head in self.heads if head.layer == layer))

    def _layer_weights(self, layer: int, b: int) -> torch.Tensor:
        if (layer, b) not in self._weights:
            call = self._calls[layer]
            self._weights[layer, b] = call.weights(b, self._rows[b], self._columns[b], self._wanted(layer))
        return self._weights[layer, b]

    def _layer_share(self, layer: int, b: int) -> torch.Tensor:
        if self.heads is None:
            return self._layer_weights(layer, b).sum(-1)
        if (layer, b) not in self._shares:
            with torch.no_grad():
                every = self._calls[layer].weights(b, self._rows[b], self._columns[b], None)
                self._shares[layer, b] = every.sum(-1)
        return self._shares[layer, b]

    def _select_layer(self, layer: int, b: int, heads: list[int]) -> torch.Tensor:
        held = self._wanted(layer)
        if held is None or set(heads) <= set(held):
            weights = self._layer_weights(layer, b)
            return weights[heads if held is None else [held.index(head) for head in heads]]
        if layer not in self._calls:
            raise RequestError(
                expected=f"heads of layer {layer} among those captured: {held or 'none'}",
                got=f"heads {sorted(set(heads) - set(held))}",
                remedy="Capture with these heads, or with heads=None",
            )
        return self._calls[layer].weights(b, self._rows[b], self._columns[b], heads)

    def _require_pass(self) -> None:
        if not self._layers:
            raise ModelError(
                expected="a forward pass of a prepared model inside the capture, in the same thread",
                got="a capture through which no layer ran",
                remedy="Call prepare(model) first and run the model inside the with block",
            )


def _check_masks(rows: torch.Tensor, columns: torch.Tensor) -> None:
    for name, mask in (("rows", rows), ("columns", columns)):
        if mask.dtype != torch.bool or mask.dim() != 2 or mask.shape != rows.shape:
            raise RequestError(
                expected="rows and columns as bool tensors of one shape [batch, length]",
                got=f"{name} of type {mask.dtype} with shape {list(mask.shape)}",
                remedy="Pass the masks that the encoded prompt carries",
            )
        if not bool(mask.any(dim=1).all()):
            raise RequestError(
                expected=f"at least one position in {name} of every sequence",
                got="a sequence without one",
                remedy="Leave sequences without image or text out of the capture",
            )


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
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Attention function as transformers' AttentionInterface calls it; the output is SDPA's."""
    record = _active.get()
    if record is None and softcap is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal=is_causal, **kwargs
        )
    for name in ("s_aux", "position_bias"):
        if kwargs.get(name) is not None:
            raise ModelError(
                expected="plain softmax attention",
                got=f"{type(module).__name__} adds {name} to its scores",
                remedy="Choose a model without it",
            )
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    causal = bool(causal) and attention_mask is None and query.shape[2] > 1
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    call = _Call(query, key, attention_mask, scale, softcap, causal)
    # A layer that runs again inside the backward pass is being recomputed by gradient checkpointing.
    if record is not None and torch._C._current_graph_task_id() == -1:
        if module.layer_idx in record._layers:
            raise RequestError(
                expected="one forward pass per capture",
                got=f"layer {module.layer_idx} ran a second time",
                remedy="Open a new capture for each pass",
            )
        record._add(module.layer_idx, call, module.training)
    if softcap is not None:
        return _softcapped_output(module, call, value, dropout), None
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout, scaling, is_causal=is_causal, **kwargs
    )


def _softcapped_output(module: nn.Module, call: _Call, value: torch.Tensor, dropout: float) -> torch.Tensor:
    """[batch, length, heads, dim]: attention with tanh-capped scores, which SDPA does not offer."""
    everything = torch.arange(call.key.shape[2], device=value.device)
    rows = torch.arange(call.query.shape[2], device=value.device)
    groups = call.query.shape[1] // value.shape[1]
    outputs = []
    for b in range(len(value)):
        weights = call.weights(b, rows, everything, None).to(value.dtype)
        weights = nn.functional.dropout(weights, p=dropout, training=module.training)
        outputs.append(torch.matmul(weights, value[b].repeat_interleave(groups, dim=0)))
    return torch.stack(outputs).transpose(1, 2).contiguous()
