"""Which device computes."""

from __future__ import annotations

import os

import torch

from a3tune.errors import RequestError


def choose_device(device: str, *, mps: bool = True) -> torch.device:
    """The device that a name stands for.

    Args:
        device: "auto", "cpu", "cuda" (the current one), "cuda:1", ..., "mps"; "auto" is the current CUDA device where
            there is one, else MPS where there is one, else the CPU. On a ZeroGPU Space it is the CPU: the GPU that
            seems to be there is lent to single calls only.
        mps: whether "auto" may be MPS.

    Raises:
        RequestError: this machine has no such device.
    """
    if device == "auto":
        if os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true"):
            return torch.device("cpu")
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if mps and torch.backends.mps.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise RequestError(
            expected='a device such as "auto", "cpu", "cuda", "cuda:1" or "mps"', got=f"{device!r}", remedy="Choose one"
        ) from error
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (target.index or 0) >= present.get(target.type, 0):
        raise RequestError(
            expected=f"a device of this machine ({', '.join(kind for kind, count in present.items() if count)})",
            got=f"{device!r}",
            remedy='Choose one of them, or "auto"',
        )
    # By its number: a name without one is another device for whoever looks later.
    return torch.device("cuda", torch.cuda.current_device()) if device == "cuda" else target


def beside(device: torch.device) -> str:
    """Where regions are found and scored beside a model on ``device``: on the same GPU, else on the CPU."""
    return str(device) if device.type == "cuda" else "cpu"
