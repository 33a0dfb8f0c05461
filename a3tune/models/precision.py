"""The precisions that weights can be kept in, and which of them this machine can do."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

import torch

from a3tune.models.memory import memory_needed, total_memory

Quantization = Literal["none", "8bit", "4bit"]
"""How the language model's matrices are kept."""

BITS = ("8bit", "4bit")
"""Precisions that need the package bitsandbytes, on an NVIDIA GPU or a processor."""

_TITLES = {
    "float32": "32 bit (fp32)",
    "bfloat16": "16 bit (bf16)",
    "float16": "16 bit (fp16)",
    "8bit": "8 bit",
    "4bit": "4 bit (NF4)",
}


@dataclass(frozen=True)
class Precision:
    """One way to keep weights.

    Attributes:
        key: a key of :data:`a3tune.models.memory.BYTES_PER_WEIGHT`.
        title: its name on a page.
        obstacle: why it cannot be chosen here, and what would help; "" when it can.
    """

    key: str
    title: str
    obstacle: str = ""


def usual_precision(device: torch.device, weights: int = 0) -> str:
    """What "auto" stands for: float32 on a CPU, on CUDA bfloat16 where the GPU itself has it, else float16.

    On a CPU it is bfloat16 for a model that this machine could not hold in float32 with nothing else in its memory:
    what is free at the moment does not count, so that the same machine always answers in the same precision.

    Args:
        device: where the model goes.
        weights: how many weights it has; 0 when that is not known.
    """
    if device.type == "cpu":
        return "bfloat16" if memory_needed(weights, "float32") > total_memory(device) else "float32"
    return "bfloat16" if device.type == "cuda" and _has_bf16(device) else "float16"


def list_precisions(device: torch.device) -> tuple[Precision, ...]:
    """Every precision, the largest first, with what stands in its way on ``device``."""
    return tuple(Precision(key, title, _obstacle(key, device)) for key, title in _TITLES.items())


def offload_obstacle(device: torch.device) -> str:
    """Why weights cannot be left in the machine's memory while a GPU computes; "" when they can."""
    return (
        "" if device.type == "cuda" else "This machine computes on its processor: there is no GPU to take weights off"
    )


def _obstacle(key: str, device: torch.device) -> str:
    if key in BITS:
        if device.type not in ("cuda", "cpu"):
            return "Not on Apple GPUs: choose fp16, or compute on the processor"
        if importlib.util.find_spec("bitsandbytes") is None:
            return "Needs the package bitsandbytes: pip install bitsandbytes"
    if key == "bfloat16" and device.type == "cuda" and not _has_bf16(device):
        return "This GPU does not compute in bf16: choose fp16"
    if key == "bfloat16" and device.type == "mps":
        return "Not on Apple GPUs: choose fp16"
    return ""


def _has_bf16(device: torch.device) -> bool:
    """Whether this very GPU has bf16 in hardware: older ones emulate it, many times slower than float16."""
    return torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8
