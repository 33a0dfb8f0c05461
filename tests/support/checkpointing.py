"""Switch checkpointing on under the name that the installed transformers has for it."""

from __future__ import annotations


def recompute_activations(model, reentrant: bool) -> None:
    """Recompute activations in the backward pass; releases before 5.21 call that gradient checkpointing, and later
    ones warn about that name."""
    newer = hasattr(model, "activation_checkpointing_enable")
    enable = model.activation_checkpointing_enable if newer else model.gradient_checkpointing_enable
    enable({"use_reentrant": reentrant})
