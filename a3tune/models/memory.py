"""How much memory there is, and how much a model needs."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from a3tune.errors import ModelError
from a3tune.memory_advice import TO_LOAD_A_MODEL

BYTES_PER_WEIGHT = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "8bit": 1.1, "4bit": 0.65}
"""Precision -> bytes of memory for each weight; quantized models keep embeddings and scales in half precision."""

WORKING_MEMORY = 600_000_000
"""Bytes that a question needs beside the weights: activations, the key-value cache and the captured maps."""

ON_THE_GPU = 0.85
"""Share of a GPU's free memory that weights may fill when the rest of them stays in the machine's memory."""

_CGROUP = Path("/sys/fs/cgroup")


def memory_needed(weights: int, precision: str) -> int:
    """Bytes that a model of ``weights`` parameters needs to answer, in a precision of :data:`BYTES_PER_WEIGHT`."""
    return int(weights * BYTES_PER_WEIGHT[precision]) + WORKING_MEMORY


def available_memory(device: torch.device) -> int:
    """Bytes that are free on ``device``: of a GPU, else of this machine or of the container around the process."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    return free if limit is None or used is None else min(free, limit - used)


def total_memory(device: torch.device) -> int:
    """Bytes that ``device`` has in all."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    whole = psutil.virtual_memory().total
    return min(whole, _cgroup("memory.max") or whole)


def check_room(needed: int, device: torch.device, what: str, *, and_machine: bool = False) -> None:
    """Refuse what cannot fit before anything is read.

    Args:
        and_machine: whether what ``device``, a GPU, does not hold may stay in the machine's memory.

    Raises:
        ModelError: less than ``needed`` bytes are free.
    """
    free, where = available_memory(device), str(device)
    if and_machine:
        free = int(free * ON_THE_GPU) + available_memory(torch.device("cpu"))
        where = f"{device} and in the machine's memory together, since weights are never left on a disk,"
    if needed > free:
        raise ModelError(
            expected=f"about {needed / 1e9:.1f} GB of free memory on {where} for {what}",
            got=f"{free / 1e9:.1f} GB are free",
            remedy=TO_LOAD_A_MODEL,
        )


def _cgroup(name: str) -> int | None:
    try:
        text = (_CGROUP / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
