"""A GPU that is not there, for machines without one.

Within ``pretend_cuda()`` the device "cuda" exists: its tensors say that they lie on ``cuda:0`` and hold a tensor on the
CPU. What a real one refuses is refused (an operation on tensors of both devices), and what makes the program wait for
the device is counted: reading a value, sizes that depend on values, and copies that do not go on in the background.
Kernels are counted too: every operation that is no view.
"""

from __future__ import annotations

import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
GPU = torch.device("cuda", 0)
FREE = 100 << 30
"""Bytes of memory that it has."""

# The only operations that take tensors of both devices; an index from the CPU is copied first.
_COPIES = (aten.copy_.default, aten._to_copy.default)
_INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
# What gives a value to Python, or a shape that only the device knows.
_WAITING = (
    "_local_scalar_dense",
    "equal",
    "is_nonzero",
    "nonzero",
    "masked_select",
    "unique",
    "bincount",
    "unique_dim",
)


class Counts:
    """What a block did to the pretended device.

    Attributes:
        waits: how often it was waited for, by what and where: "item at a3tune/sequence_positions.py:15".
        copies: copies to the device that went on in the background.
        kernels: operations on it.
    """

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self.copies = self.kernels = 0

    def wait(self, what: str) -> None:
        places = [frame for frame in traceback.extract_stack() if f"{os.sep}a3tune{os.sep}" in frame.filename]
        place = f"a3tune{places[-1].filename.rpartition('a3tune')[2]}:{places[-1].lineno}" if places else "a library"
        self.waits[f"{what} at {place}"] += 1

    @property
    def waited(self) -> int:
        return sum(self.waits.values())


class GpuTensor(torch.Tensor):
    """A tensor on the pretended device."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> GpuTensor:
        found = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=GPU,
        )  # fmt: skip
        found.held = held
        return found

    def tolist(self) -> Any:
        if _modes:
            _modes[-1].counts.wait("tolist")
        return self.held.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def __repr__(self) -> str:
        return f"GpuTensor({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Outside of the block only what ends it is still run: backward passes, the memory's release.
        return _run(func, args, kwargs or {}, _modes[-1] if _modes else None)


class _Mode(TorchDispatchMode):
    def __init__(self, counts: Counts, *, double: bool) -> None:
        super().__init__()
        self.counts, self.double = counts, double

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self)


_modes: list[_Mode] = []


@contextmanager
def pretend_cuda(*, double: bool = True) -> Iterator[Counts]:
    """A block in which the device "cuda" exists.

    Args:
        double: whether it knows float64, which Apple's GPUs do not.
    """
    mode = _Mode(Counts(), double=double)
    torch._C._ensureCUDADeviceGuardSet()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "mem_get_info", lambda device=None: (FREE, FREE))
        # Tensors of inference mode cannot be held, and there are no random numbers of the device.
        patch.setattr(torch, "inference_mode", torch.no_grad)
        patch.setattr(torch.random, "fork_rng", lambda *devices, **options: nullcontext())
        torch._C._set_only_lift_cpu_tensors(True)
        _modes.append(mode)
        try:
            with mode:
                yield mode.counts
        finally:
            _modes.pop()
            torch._C._set_only_lift_cpu_tensors(False)


def to_gpu(model: torch.nn.Module) -> None:
    """Move a model's weights and buffers there, in place."""
    _move(model, GpuTensor)


def to_cpu(model: torch.nn.Module) -> None:
    """Move them back."""
    _move(model, lambda tensor: tensor.held)


def _move(model: torch.nn.Module, moved: Callable[[Any], torch.Tensor]) -> None:
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                held = moved(weight.detach() if isinstance(weight, GpuTensor) else weight.data)
                module._parameters[name] = torch.nn.Parameter(held, weight.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = moved(buffer)


def _run(func: Any, args: Any, kwargs: dict[str, Any], mode: _Mode | None) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    here = [tensor for tensor in tensors if isinstance(tensor, GpuTensor)]
    away = [tensor for tensor in tensors if not isinstance(tensor, GpuTensor)]
    wanted = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
    if wanted == "cuda":
        kwargs = {**kwargs, "device": torch.device("cpu")}
    mixed = [tensor for tensor in away if tensor.dim() > 0]
    if here and mixed and func not in (*_COPIES, *_INDEXING):
        shapes = [(tuple(tensor.shape), str(tensor.device)) for tensor in tensors]
        raise RuntimeError(f"Expected all tensors to be on the same device, but {func} got {shapes}")
    if func is aten._fused_sdp_choice.default:
        return 0  # the plain mathematics
    target = wanted == "cuda" if wanted is not None else bool(here)
    if func is aten.copy_.default:
        target = isinstance(args[0], GpuTensor)
    if mode is not None and (here or target):
        _count(func, args, kwargs, here, mixed, target, mode.counts)
    plain = tree_map(lambda leaf: leaf.held if isinstance(leaf, GpuTensor) else leaf, (args, kwargs))
    result = func(*plain[0], **plain[1])
    name = func._schema.name
    if name.endswith("_") and not name.endswith("__") and args and isinstance(args[0], torch.Tensor):
        return args[0]

    def placed(leaf: Any) -> Any:
        if not target or not isinstance(leaf, torch.Tensor) or isinstance(leaf, GpuTensor):
            return leaf
        if mode is not None and not mode.double and leaf.dtype == torch.float64:
            raise TypeError("Cannot convert a tensor to float64: the device does not know it")
        return GpuTensor(leaf)

    return tree_map(placed, result)


def _count(func: Any, args: Any, kwargs: Any, here: list, mixed: list, target: bool, counts: Counts) -> None:
    name = func._schema.name.removeprefix("aten::")
    if func in _COPIES:
        if bool(here) != target or (func is aten.copy_.default and mixed):
            behind = kwargs.get("non_blocking", args[2] if func is aten.copy_.default and len(args) > 2 else False)
            if target and behind:
                counts.copies += 1
            else:
                counts.wait("copy to the device" if target else "copy from the device")
    elif name in _WAITING:
        counts.wait(name.removeprefix("_"))
    elif func in _INDEXING:
        indices = [leaf for leaf in tree_leaves(args[1]) if isinstance(leaf, torch.Tensor)]
        if any(index.dtype == torch.bool for index in indices):
            counts.wait("index by a mask")
        elif mixed:
            counts.wait("index from the CPU")
    if not func.is_view:
        counts.kernels += 1
