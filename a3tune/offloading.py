"""Models of which a part waits in the machine's memory while a GPU computes, as accelerate's hooks bring it there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def is_offloaded(model: nn.Module) -> bool:
    """Whether some of a model's weights are brought to the device for each pass."""
    return any(_offloading(module) is not None for module in model.modules())


def execution_device(module: nn.Module) -> torch.device:
    """Where a module with a ``weight`` computes; an offloaded one's weight itself lies on no device between passes."""
    for hook in _hooks(module):
        if hook.execution_device is not None:
            return torch.empty(0, device=hook.execution_device).device
    return module.weight.device  # type: ignore[return-value]


@contextmanager
def weights_in_place(model: nn.Module) -> Iterator[None]:
    """The offloaded weights as tensors on the CPU for the length of the block: those that the hooks hold, no copies.

    The model cannot run meanwhile, and what is put on it finds weights with numbers, as in a model without hooks.
    """
    held = []
    for module in model.modules():
        hook = _offloading(module)
        for name, weight in list(module._parameters.items()):
            if hook is not None and weight is not None and weight.device.type == "meta":
                held.append((module, name, weight))
                module._parameters[name] = nn.Parameter(hook.weights_map[name], requires_grad=False)
    # PEFT distributes a model anew that has such a map, beside the hooks that stand.
    places = vars(model).pop("hf_device_map", None)
    try:
        yield
    finally:
        if places is not None:
            model.hf_device_map = places
        for module, name, weight in held:
            module._parameters[name] = weight


def _offloading(module: nn.Module) -> Any:
    return next((hook for hook in _hooks(module) if hook.offload), None)


def _hooks(module: nn.Module) -> list[Any]:
    hook = getattr(module, "_hf_hook", None)
    return [part for part in getattr(hook, "hooks", (hook,)) if hasattr(part, "execution_device")]
