"""Base, LoRA and A3MoE adapters in one pass: each row of a batch goes through the layers of its own adapter.

PEFT's own mixed batches (``adapter_names``) know LoRA adapters of one PEFT model alone. Here a linear layer in whose
place adapters of an `AdapterSet` have layers of their own computes the base's part for all rows at once, and then each
adapter's part for its rows; what the base computes for all rows is computed as `a3tune.adapters.batched_linear` has
it. Experts are chosen from these rows' own question and image, and their gates are kept on the cache under the
adapter's name. Apart from the rounding of other matrix shapes each row is what it is alone.

What can be mixed is said by `reason_against_mixing`; everything else runs one adapter after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from a3tune.adapters.a3moe import A3MoeConfig, ExpertLinear
from a3tune.adapters.a3moe.token_spans import window_of_rows
from a3tune.adapters.batched_linear import BatchedLinear
from a3tune.adapters.isolation import Change
from a3tune.adapters.switch import BASE, AdapterSet, name_in_layers
from a3tune.decoder_layers import layer_modules
from a3tune.errors import AdapterError
from a3tune.offloading import is_offloaded

# Modules whose linear layers are called with [batch, tokens, features]; layers of sparse experts are not.
_HOLDERS = ("Attention", "MLP")


class MixedLinear(BatchedLinear):
    """A linear layer of the base with, for some rows of its batch, what an adapter has in its place.

    Args:
        base_layer: the base's own.
        batch: how many rows a pass has.
        parts: adapter, its layer, its rows.
    """

    def __init__(
        self, base_layer: nn.Linear, batch: int, parts: Sequence[tuple[str, LoraLinear | ExpertLinear, slice]]
    ) -> None:
        super().__init__(base_layer)
        self._batch, self._parts = batch, tuple(parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, tokens, in] to [batch, tokens, out]."""
        if x.ndim != 3 or len(x) != self._batch:
            raise AdapterError(
                expected=f"passes over {self._batch} rows, one adapter to each",
                got=f"a pass over {list(x.shape)}",
                remedy="Ask one adapter after the other",
            )
        result = super().forward(x)
        for name, layer, rows in self._parts:
            if isinstance(layer, LoraLinear):
                result[rows] += _lora(layer, name, x[rows]).to(result.dtype)
            elif layer.role[name] == "plain":
                result[rows] = layer.adapted(result[rows], x[rows], name)
            else:
                with window_of_rows(len(x), x.shape[1], rows):
                    result[rows] = layer.adapted(result[rows], x[rows], name)
        return result


def reason_against_mixing(adapters: AdapterSet, names: Sequence[str]) -> str:
    """Why adapters cannot share a batch; "" where they can.

    They can when each is the base, plain LoRA (no DoRA or other variant) or A3MoE, and all that it changes are linear
    layers in the attention and MLP modules of the language model: no biases, no modules that were trained in full, no
    layers of the vision tower or of sparse experts. Quantized and offloaded models are not mixed.

    Args:
        adapters: the set.
        names: of the set, or "base".

    Raises:
        AdapterError: the set does not hold a name.
    """
    configs = {name: adapters.config(name) for name in names}
    if len(configs) < len(names):
        return "an adapter is named twice"
    if getattr(adapters.base, "is_quantized", False):
        return "the model is quantized"
    if is_offloaded(adapters.base):
        return "the model is partly left in the machine's memory"
    places = {id(holder) for holder in _holders(adapters.base)}
    for name, config in configs.items():
        if config is not None and config.peft_type not in ("LORA", "A3MOE"):
            return f"{name} is of the kind {getattr(config.peft_type, 'value', config.peft_type)}"
        for change in adapters.changes(name):
            if _is_layer(change):
                if type(change.before) is not nn.Linear or id(change.holder) not in places:
                    return f"{name} is at work outside the attention and MLP layers of the language model"
                if not _is_plain(change.after, name_in_layers(name)):
                    return f"{name} is more than plain LoRA"
            elif not _carries(change, isinstance(config, A3MoeConfig)):
                return f"{name} changes more of the base model than linear layers"
    return ""


@contextmanager
def mixed_rows(adapters: AdapterSet, rows: Mapping[str, slice]) -> Iterator[None]:
    """Have each row of the passes of the base model in this block go through its own adapter.

    The caller holds the model's lock, and gives A3MoE adapters the masks of the whole batch (`a3moe.TokenSpans`).
    Afterwards the adapter that was at work is so again.

    Args:
        adapters: the set.
        rows: by adapter (or "base") the rows of the batch that are its own; together all rows, each once.

    Raises:
        AdapterError: these adapters cannot share a batch.
    """
    reason = reason_against_mixing(adapters, tuple(rows))
    if reason:
        raise AdapterError(
            expected="adapters that can share a batch", got=reason, remedy="Ask one adapter after the other"
        )
    batch = max(part.stop for part in rows.values())
    layers: dict[tuple[int, str], list[tuple[str, Change]]] = {}
    carried: list[Change] = []
    for name in rows:
        for change in adapters.changes(name):
            if _is_layer(change):
                layers.setdefault((id(change.holder), change.key), []).append((name, change))
            elif name != BASE and adapters.takes_masks(name):
                carried.append(change)
    mixed = []
    for found in layers.values():
        first = found[0][1]
        parts = [(name_in_layers(name), change.after, rows[name]) for name, change in found]
        mixed.append(Change(first.holder, first.key, first.before, MixedLinear(first.before, batch, parts)))
    if batch > 1:
        mixed += [
            Change(holder, key, layer, BatchedLinear(layer))
            for holder, key, layer in _linear_layers(adapters.base)
            if (id(holder), key) not in layers
        ]
    with adapters.using(BASE):
        try:
            for change in (*carried, *mixed):
                change.put(adapted=True)
            yield
        finally:
            for change in (*carried, *mixed):
                change.put(adapted=False)


def _lora(layer: LoraLinear, name: str, x: torch.Tensor) -> torch.Tensor:
    """What plain LoRA adds, as PEFT computes it."""
    down, up = layer.lora_A[name], layer.lora_B[name]
    x = layer.lora_dropout[name](layer._cast_input_dtype(x, down.weight.dtype))
    return up(down(x)) * layer.scaling[name]


def _holders(base: nn.Module) -> Iterator[dict[str, nn.Module | None]]:
    """Where the linear layers stand that can be mixed."""
    for layer in layer_modules(base.get_decoder()):  # type: ignore[operator]
        for module in layer.children():
            if type(module).__name__.endswith(_HOLDERS):
                yield module._modules


def _linear_layers(base: nn.Module) -> Iterator[tuple[dict[str, nn.Module | None], str, nn.Linear]]:
    """The language model's own plain linear layers, its head too: what holds each, and by which name."""
    head = base.get_output_embeddings()  # type: ignore[operator]
    heads = (module._modules for module in base.modules() if head is not None and head in module._modules.values())
    for holder in (*_holders(base), *heads):
        for key, layer in holder.items():
            if type(layer) is nn.Linear and not layer._forward_hooks and not layer._forward_pre_hooks:
                yield holder, key, layer


def _is_layer(change: Change) -> bool:
    return isinstance(change.after, BaseTunerLayer)


def _is_plain(layer: BaseTunerLayer, name: str) -> bool:
    """Whether a layer adds to what the base's gives, and that is all."""
    if type(layer) is ExpertLinear:
        return not layer.disable_adapters
    plain = type(layer) is LoraLinear and not layer.lora_variant
    return plain and name in layer.lora_A and not layer.merged and not layer.disable_adapters


def _carries(change: Change, experts: bool) -> bool:
    """Whether a change brings token masks to the experts, or only keeps PEFT's books."""
    hook = isinstance(change.key, int) or str(change.key).startswith("_a3")
    return (experts and hook) or change.key == "peft_config"
