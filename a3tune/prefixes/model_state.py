"""Whether a model is still what it was when something of its work was kept: its weights, its adapters, its hooks."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from torch.nn.modules import module as all_modules

from a3tune.models.model import VisionLanguageModel

# Whose hooks only hand things along: those of others may change what a module gives, each time in another way.
_KNOWN_HOOKS = ("transformers.", "peft.", "a3tune.")


class ModelState:
    """Weights and LoRA settings of some modules, to be compared later; holds no weight in memory.

    Weights that were put in the place of others count as changed, also when they lie at the same address, and so do
    those that were written to, unless through ``.data``.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._weights = [(weakref.ref(weight), _version(weight)) for weight in _weights(modules)]
        self._settings = list(_settings(modules))

    def holds(self, modules: Sequence[nn.Module]) -> bool:
        """Whether modules have these very weights and settings, unchanged."""
        weights = list(_weights(modules))
        return (
            len(weights) == len(self._weights)
            and all(
                ref() is weight and version == _version(weight)
                for weight, (ref, version) in zip(weights, self._weights, strict=True)
            )
            and self._settings == list(_settings(modules))
        )


def image_modules(model: VisionLanguageModel) -> list[nn.Module]:
    """All modules that are no part of the language model: vision tower and projector among them."""
    base = base_of(model)
    text = set(model.language_model.modules()) | set(base.get_output_embeddings().modules())
    return [module for module in base.modules() if module not in text]


def text_modules(model: VisionLanguageModel) -> list[nn.Module]:
    """The modules of the language model, of the scores of next tokens too."""
    return [*model.language_model.modules(), *base_of(model).get_output_embeddings().modules()]


def is_plain(modules: Iterable[nn.Module]) -> bool:
    """Whether modules give the same for the same input each time: set to evaluation, without hooks of others and
    without a ``forward`` of their own (as offloaded ones have)."""
    hooks = [all_modules._global_forward_hooks, all_modules._global_forward_pre_hooks]
    return not any(hooks) and all(
        not module.training
        and "forward" not in vars(module)
        and all(_is_known(hook) for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()))
        for module in modules
    )


def is_adapted(modules: Iterable[nn.Module], *, lora_too: bool = True) -> bool:
    """Whether an adapter is at work in modules; with ``lora_too=False`` one of another kind than plain LoRA."""
    adapted = [module for module in modules if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper))]
    return any(lora_too or not _is_plain_lora(module) for module in adapted)


def adds_tokens(model: VisionLanguageModel) -> bool:
    """Whether PEFT puts learnt tokens before the prompt."""
    wrapper = model.model
    return isinstance(wrapper, PeftModel) and any(config.is_prompt_learning for config in wrapper.peft_config.values())


def base_of(model: VisionLanguageModel) -> Any:
    """The Hugging Face model below PEFT's wrapper, if it has one."""
    return model.model.get_base_model() if hasattr(model.model, "get_base_model") else model.model


def _is_plain_lora(module: nn.Module) -> bool:
    own = isinstance(module, LoraLayer) and type(module).__module__.startswith("peft.tuners.lora.")
    # A variant may look at other tokens (activated LoRA) or at the weights' size (DoRA).
    return own and not module.lora_variant


def _is_known(hook: Any) -> bool:
    return str(getattr(getattr(hook, "func", hook), "__module__", "")).startswith(_KNOWN_HOOKS)


def _weights(modules: Iterable[nn.Module]) -> Iterator[torch.Tensor]:
    for module in modules:
        for weight in (*module._parameters.values(), *module._buffers.values()):
            if weight is not None:
                yield weight


def _version(weight: torch.Tensor) -> tuple[int, int]:
    """Where a weight lies and how often it was written to; tensors of inference mode do not count that."""
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version


def _settings(modules: Iterable[nn.Module]) -> Iterator[tuple[Any, ...]]:
    for module in modules:
        if isinstance(module, BaseTunerLayer):
            scaling = tuple(getattr(module, "scaling", {}).items())
            yield bool(module.disable_adapters), tuple(module.active_adapters), tuple(module.merged_adapters), scaling
