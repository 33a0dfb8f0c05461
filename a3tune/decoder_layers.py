"""The layers of a language model, and which of them look at single tokens, so that their attention can be shown."""

from __future__ import annotations

from typing import Any

from a3tune.errors import ModelError

# As transformers' configurations name them in ``layer_types``.
_SOFTMAX = {"full_attention", "sliding_attention", "chunked_attention"}
_WITHOUT_WEIGHTS = {"linear_attention", "conv", "mamba", "mlp", "moe"}


def attention_layers(text_config: Any) -> tuple[int, ...]:
    """The layers with softmax attention, ascending.

    Args:
        text_config: the language model's configuration.

    Raises:
        ModelError: there are none, or layers whose attention is neither plain softmax nor without weights on tokens.
    """
    count = text_config.num_hidden_layers
    kinds = (getattr(text_config, "layer_types", None) or ["full_attention"] * count)[:count]
    unknown = sorted(set(kinds) - _SOFTMAX - _WITHOUT_WEIGHTS)
    found = tuple(index for index, kind in enumerate(kinds) if kind in _SOFTMAX)
    if unknown or not found:
        raise ModelError(
            expected="a language model with layers of plain softmax attention, whose weights can be shown",
            got=f"{text_config.model_type} has layers of {' and '.join(unknown or sorted(set(kinds)))}",
            remedy="Choose a model of a class in docs/models.md",
        )
    return found


def layer_modules(decoder: Any) -> list[Any]:
    """The modules of a language model's layers, lowest first.

    Args:
        decoder: what ``get_decoder`` of the whole model gives: the layers' own module, or one with a head around that.
    """
    inner = decoder if hasattr(decoder, "layers") else decoder.model
    return list(inner.layers.children())
