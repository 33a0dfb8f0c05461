"""What a run takes of its machine, for its events."""

from __future__ import annotations

from contextlib import suppress

import psutil
import torch

_GIB = 1 << 30


def resources_used(device: torch.device) -> dict[str, float]:
    """What this process takes at the moment.

    Args:
        device: where the model is.

    Returns:
        "memory_gib": of a CUDA device the most that tensors took since the start, elsewhere the process's resident
        set, in GiB; "gpu_use": share of the time that a CUDA device was at work, 0 to 1, where its driver's library
        (package nvidia-ml-py) can be asked.
    """
    if device.type != "cuda":
        return {"memory_gib": round(psutil.Process().memory_info().rss / _GIB, 3)}
    used = {"memory_gib": round(torch.cuda.max_memory_allocated(device) / _GIB, 3)}
    with suppress(ImportError, RuntimeError):
        used["gpu_use"] = torch.cuda.utilization(device) / 100
    return used
