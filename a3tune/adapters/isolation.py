"""What loading an adapter does to its base model, taken back and kept, so that it can be put in place and out again.

PEFT writes some adapters into the base itself: biases that were trained, saved embeddings, layers in place of others,
hooks. All of that is found by comparing the base before and after, whatever kind of adapter it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

_ABSENT: Any = object()


class Change(NamedTuple):
    """One entry of a module's dictionaries (children, weights, buffers, hooks, attributes) that an adapter changes."""

    holder: dict[Any, Any]
    key: Any
    before: Any
    after: Any

    def put(self, *, adapted: bool) -> None:
        """Set the adapter's value, or the base's own."""
        value = self.after if adapted else self.before
        if value is _ABSENT:
            self.holder.pop(self.key, None)
        else:
            self.holder[self.key] = value


class _CopyBeforeWrite(TorchDispatchMode):
    """While at work, keeps a copy of each of ``tensors`` before an operation of this thread writes into it."""

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        super().__init__()
        self.originals: dict[int, torch.Tensor] = {}
        self._by_storage: dict[int, list[torch.Tensor]] = {}
        for tensor in tensors:
            if tensor.device.type != "meta" and tensor.numel():
                self._by_storage.setdefault(tensor.untyped_storage().data_ptr(), []).append(tensor)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for place, argument in enumerate(function._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[place] if place < len(args) else kwargs.get(argument.name)
                for tensor in value if isinstance(value, (list, tuple)) else [value]:
                    if isinstance(tensor, torch.Tensor) and tensor.device.type != "meta" and tensor.numel():
                        self._keep(tensor)
        return function(*args, **kwargs)

    def _keep(self, written: torch.Tensor) -> None:
        start, end = _extent(written)
        for tensor in self._by_storage.get(written.untyped_storage().data_ptr(), ()):
            first, last = _extent(tensor)
            if id(tensor) not in self.originals and first < end and start < last:
                self.originals[id(tensor)] = tensor.detach().clone()


def _extent(tensor: torch.Tensor) -> tuple[int, int]:
    """The addresses between which a tensor's numbers lie."""
    span = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    return tensor.data_ptr(), tensor.data_ptr() + span * tensor.element_size()


@contextmanager
def taken_back(base: nn.Module) -> Iterator[list[Change]]:
    """Whatever happens to ``base`` in the block is undone at its end, bit for bit.

    Operations of other threads are not watched: nobody else may change the model meanwhile.

    Yields:
        A list that holds, once the block is over, every change that was undone, to put in place again.
    """
    changes: list[Change] = []
    tensors = list({id(tensor): tensor for tensor in [*base.parameters(), *base.buffers()]}.values())
    held = [(tensor, tensor.data) for tensor in tensors]
    holders = [(holder, dict(holder)) for module in base.modules() for holder in _dictionaries(module)]
    watch = _CopyBeforeWrite(tensors)
    try:
        with watch:
            yield changes
    finally:
        adapted = {}
        for tensor, data in held:
            original = watch.originals.get(id(tensor), data)
            if tensor.data_ptr() != data.data_ptr() or tensor.shape != data.shape or tensor.dtype != data.dtype:
                adapted[id(tensor)] = copy.deepcopy(tensor)
                tensor.data = data
            elif not _same_bits(tensor, original):
                adapted[id(tensor)] = copy.deepcopy(tensor)
            if original is not data:
                data.copy_(original)
        for holder, before in holders:
            for key in {**before, **holder}:
                was, now = before.get(key, _ABSENT), holder.get(key, _ABSENT)
                now = adapted.get(id(now), now)
                if now is not was and not (_is_plain(was) and was == now):
                    changes.append(Change(holder, key, was, now))
        for change in changes:
            change.put(adapted=False)


def _dictionaries(module: nn.Module) -> list[dict[Any, Any]]:
    """The dictionaries that make a module what it is: its attributes, and those among them that are dictionaries."""
    settings = [
        vars(value) for name, value in vars(module).items() if name in ("config", "generation_config") and value
    ]
    return [vars(module), *(value for value in vars(module).values() if isinstance(value, dict)), *settings]


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.data_ptr() == other.data_ptr() or not one.numel():
        return True
    return torch.equal(*(value.detach().contiguous().reshape(-1).view(torch.uint8) for value in (one, other)))
