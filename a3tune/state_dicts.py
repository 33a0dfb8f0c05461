"""State dicts as others wrote them: names without what wrappers put before them, numbers that are no weights, and
whether two hold the same."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

# What torch.compile and FSDP put into names, wherever the wrapped module stands.
_ANYWHERE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
_WHOLE = 1 << 16
_ROWS = 8
_EIGHT_BITS = ("int8", "uint8", "float8", "qint8", "quint8")


def plain_names(names: Iterable[str], tops: Sequence[str] = ("",)) -> dict[str, str]:
    """Stored name -> the model's own name, without what torch.compile, FSDP, DataParallel and Lightning put before it.

    Args:
        names: the stored names.
        tops: what follows "model." where that was put before every name by a wrapper; "" for a model none of whose own
            names begin so.

    Raises:
        ValueError: two names become one.
    """
    plain = {}
    for name in names:
        short = name
        for part in _ANYWHERE:
            short = short.replace(part, "")
        plain[name] = _without_modules(short)
    wrapped = tuple(f"model.{top}" for top in tops)
    while plain and all(n.startswith("model.") for n in plain.values()) and any(map(_begins(wrapped), plain.values())):
        plain = {name: _without_modules(short.removeprefix("model.")) for name, short in plain.items()}
    often = Counter(plain.values())
    if len(often) < len(plain):
        twice = next(name for name, short in plain.items() if often[short] > 1)
        raise ValueError(f"{twice} and another weight are one without the names of wrappers")
    return plain


def _without_modules(name: str) -> str:
    """A name without "module." at its beginning, which a model that was wrapped twice has twice."""
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def _begins(beginnings: tuple[str, ...]) -> Any:
    return lambda name: name.startswith(beginnings)


def quantized(dtypes: Mapping[str, torch.dtype]) -> str:
    """The first weight that is stored in 8 bit, in words; "" when none is. Its numbers mean nothing without the scales
    that a quantizer keeps beside them."""
    for name, dtype in dtypes.items():
        kind = str(dtype).removeprefix("torch.")
        if kind.startswith(_EIGHT_BITS):
            return f"{name} is stored as {kind}, quantized"
    return ""


def first_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """In what two sets of weights differ, in words; "" when they are the same.

    Values are compared in the coarser of the two data types. Of a tensor of more than 65,536 numbers the first and
    last row and six between are read. Buffers of whole numbers, and a second name of one tensor, may be in one alone.

    Args:
        one, other: name -> tensor, or an open safetensors file's slice.
    """
    for names, others in ((one, other), (other, one)):
        for name in names:
            if name not in others and not _is_spare(name, names):
                return f"only one of them holds {name}"
    for name in sorted(one.keys() & other.keys()):
        if tuple(_shape(one[name])) != tuple(_shape(other[name])):
            return f"{name} has another shape"
        first, second = _sample(one[name]), _sample(other[name])
        coarse = min((first.dtype, second.dtype), key=lambda dtype: (dtype.itemsize, str(dtype)))
        if not torch.equal(first.to(coarse).nan_to_num(), second.to(coarse).nan_to_num()):
            return f"{name} has other values"
    return ""


def _is_spare(name: str, state: Mapping[str, Any]) -> bool:
    value, shape = _sample(state[name]), tuple(_shape(state[name]))
    if not value.is_floating_point():
        return True
    same = (key for key in state if key != name and tuple(_shape(state[key])) == shape)
    return any(torch.equal(value, _sample(state[key])) for key in same)


def _shape(value: Any) -> Sequence[int]:
    return value.shape if isinstance(value, torch.Tensor) else value.get_shape()


def _sample(value: Any) -> torch.Tensor:
    shape = _shape(value)
    if not shape or math.prod(shape) <= _WHOLE:
        return value[...] if isinstance(value, torch.Tensor) else value[:]
    rows = torch.linspace(0, shape[0] - 1, min(_ROWS, shape[0])).round().int().tolist()
    return torch.cat([value[row : row + 1] for row in rows])
