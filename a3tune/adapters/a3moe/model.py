"""Puts A3MoE layers into a model and carries the token masks of each call to them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

from a3tune.adapters.a3moe.config import A3MoeConfig
from a3tune.adapters.a3moe.layer import ExpertLayer, ExpertLinear, _unmergeable
from a3tune.adapters.a3moe.questions import PromptTokens
from a3tune.adapters.a3moe.token_spans import (
    SpanWindow,
    TokenSpans,
    current_prompt,
    current_spans,
    set_prompt,
    set_window,
)
from a3tune.errors import AdapterError

MASKS = ("a3_question_mask", "a3_image_mask")
_USE = """## Loading

The method of this adapter, A3MoE, comes with the package `a3tune`: import it before PEFT loads the adapter, or PEFT
fails with `KeyError: 'A3MOE'`.

```python
import a3tune
from peft import PeftModel

model = PeftModel.from_pretrained(base_model, "PATH")
```
"""
_GROWING = "a3_growing"
_WINDOW = "a3_window"
_CACHE = "a3_gates"
# What transformers calls what a generation has seen: since 5.24, and before.
_CACHE_NAMES = ("cache", "past_key_values")


class A3MoeModel(BaseTuner):
    """PEFT's tuner for A3MoE; made by `peft.get_peft_model` and `PeftModel.from_pretrained`."""

    prefix: str = "expert_"
    tuner_layer_cls = ExpertLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 (the name and type are PEFT's)

    def _prepare_model(self, peft_config: A3MoeConfig, model: nn.Module) -> None:
        needed = {"query": peft_config.query_experts > 1, "key": peft_config.key_experts > 1}
        found = {
            peft_config.role(name)
            for name, module in model.named_modules()
            if isinstance(module, (nn.Linear, ExpertLayer)) and self._check_target_module_exists(peft_config, name)
        }
        for role, wanted in needed.items():
            if wanted and role not in found:
                names = peft_config.query_modules if role == "query" else peft_config.key_modules
                raise AdapterError(
                    expected=f"a linear layer for the {role} experts: target_modules={peft_config.target_modules!r} "
                    f"and {role}_modules={names!r}",
                    got="No layer of the model has such a name",
                    remedy=f"Name the model's own layers, or set {role}_experts=1",
                )

    def _create_and_replace(
        self,
        peft_config: A3MoeConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str | None,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, ExpertLayer):
            target.update_layer(adapter_name, peft_config)
            return
        if isinstance(target, BaseTunerLayer) or not isinstance(target, nn.Linear):
            raise AdapterError(
                expected="torch.nn.Linear layers as targets of A3MoE",
                got=f"{current_key} is a {type(target).__name__}",
                remedy="Leave it out with exclude_modules, or load the base model without other adapters",
            )
        layer = ExpertLinear(target, current_key or target_name, adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        carry_windows(model)

    def unload(self) -> nn.Module:
        model = super().unload()
        for module in model.modules():
            for name in ("_a3_hooks", "_a3_prompt_hooks"):
                for handle in module.__dict__.pop(name, ()):
                    handle.remove()
        return model

    def _check_merge_allowed(self) -> None:
        raise _unmergeable()

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        spans = self._spans(args, kwargs)
        if spans is None:
            yield
            return
        with spans:
            yield

    def _spans(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TokenSpans | None:
        question, image = (kwargs.get(name) for name in MASKS)
        if question is None and image is None and current_spans() is not None:
            return None
        if image is None:
            prompt = _prompt_of(self.model, args, kwargs)
            image = None if prompt is None else prompt.image
        if question is None and image is None:
            return None
        return TokenSpans(question, image, growing=bool(kwargs.get(_GROWING)))


class A3MoePeftModel(PeftModel):
    """A PEFT model whose ``forward`` and ``generate`` also take the token masks.

    ``a3_question_mask``: bool [batch, length], each row's own question; found from ``input_ids`` when the adapter
    knows the ids around it (`A3MoeConfig.question_before`). ``a3_image_mask``: bool [batch, length], its image tokens;
    found from ``input_ids`` when the base model names its image token. ``length`` counts padding and image tokens.
    Generation keeps the gate of the prompt for every new token; generated tokens are no image tokens, so key experts
    leave them alone.
    """

    special_peft_forward_args: set[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.special_peft_forward_args = {*self.special_peft_forward_args, *MASKS, _GROWING}

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        return super().generate(*args, **{**kwargs, _GROWING: True})

    def create_or_update_model_card(self, output_dir: str) -> None:
        """PEFT's card, with the import that PEFT needs before it can load the adapter."""
        super().create_or_update_model_card(output_dir)
        card = Path(output_dir) / "README.md"
        text = card.read_text(encoding="utf-8")
        if _USE not in text:
            card.write_text(f"{text.rstrip()}\n\n{_USE}", encoding="utf-8")


def carry_windows(model: nn.Module) -> None:
    """Have the decoder hand each pass's window down to its attention layers (once per module, however often called).

    The window is made where the decoder's layers are called, outside any gradient checkpoint, and rides in their
    keyword arguments; the module that holds the adapted projections takes it out again. The tokens that the model
    itself is called with are kept for the length of the call: the decoder sees embeddings only.
    """
    modules = dict(model.named_modules())
    if "_a3_prompt_hooks" not in model.__dict__:
        model.__dict__["_a3_prompt_hooks"] = [
            model.register_forward_pre_hook(_keep_prompt, with_kwargs=True),
            model.register_forward_hook(_forget_prompt, always_call=True),
        ]
    for name, module in list(modules.items()):
        if not (isinstance(module, ExpertLayer) and set(module.role.values()) - {"plain"}):
            continue
        path = name.split(".")
        holders = [".".join(path[:end]) for end in range(len(path) - 1, -1, -1)]
        stack = next((holder for holder in holders if isinstance(modules.get(holder), nn.ModuleList)), None)
        if stack is None:
            continue
        attention, decoder = modules[holders[0]], modules[stack.rpartition(".")[0]]
        if "_a3_hooks" not in attention.__dict__:
            attention._a3_hooks = [
                attention.register_forward_pre_hook(_enter, with_kwargs=True),
                attention.register_forward_hook(_leave, always_call=True),
            ]
        if "_a3_hooks" not in decoder.__dict__ and _takes_keywords(decoder):
            decoder._a3_hooks = [
                decoder.register_forward_pre_hook(_open, with_kwargs=True),
                decoder.register_forward_hook(_keep, with_kwargs=True),
            ]


def _takes_keywords(module: nn.Module) -> bool:
    parameters = inspect.signature(module.forward).parameters.values()
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)


def _prompt_of(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> PromptTokens | None:
    ids = kwargs.get("input_ids", args[0] if args else kwargs.get("inputs"))
    if not isinstance(ids, torch.Tensor) or ids.ndim != 2 or ids.dtype not in (torch.int64, torch.int32):
        return None
    config = getattr(model, "config", None)
    token = getattr(config, "image_token_id", getattr(config, "image_token_index", None))
    return PromptTokens(ids, kwargs.get("attention_mask"), token)


def _keep_prompt(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    set_prompt(_prompt_of(module, args, kwargs))


def _forget_prompt(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    set_prompt(None)


def _open(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    """Make the window of this pass of the decoder."""
    sequence = kwargs.get("inputs_embeds")
    if sequence is None:
        sequence = kwargs.get("input_ids", args[0] if args else None)
    cache = next((kwargs[name] for name in _CACHE_NAMES if kwargs.get(name) is not None), None)
    past = int(cache.get_seq_length()) if cache is not None else 0
    gates = getattr(cache, _CACHE, {}) if past else {}
    if sequence is None:
        return None
    spans, prompt = current_spans(), current_prompt(sequence.shape[0], sequence.shape[1])
    if spans is None and not gates and prompt is None:
        return None
    if spans is None:
        # With gates and no ids, this pass goes on from a prompt, and what is generated is no image.
        told = bool(gates) and (prompt is None or prompt.image_token is None)
        window = SpanWindow(None, None, gates, told, prompt)
    else:
        window = spans.window(sequence.shape[0], sequence.shape[1], past, gates)
    return args, {**kwargs, _WINDOW: window}


def _keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    """Leave the gates of this pass with the cache that it filled."""
    window = kwargs.get(_WINDOW)
    cache = next((found for name in _CACHE_NAMES if (found := getattr(output, name, None)) is not None), None)
    if window is not None and cache is not None:
        setattr(cache, _CACHE, window.gates)


def _enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    if _WINDOW not in kwargs:
        return None
    kwargs = dict(kwargs)
    set_window(kwargs.pop(_WINDOW))
    return args, kwargs


def _leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    set_window(None)
