"""How a run was launched: what would not be trained as it is asked for is refused before anything is loaded."""

from __future__ import annotations

import os

from a3tune.errors import RequestError

_NOT_YET = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor or context parallelism",
}


def check_launch(device: str) -> None:
    """Refuse ways of spreading a model that the losses and checkpoints do not bear, and a GPU by number.

    Raises:
        RequestError: with what works instead.
    """
    for variable, name in _NOT_YET.items():
        if os.environ.get(variable, "").lower() in ("1", "true", "yes", "on", "y", "t"):
            raise RequestError(
                expected="one process, or several with a whole model each (accelerate launch --multi_gpu)",
                got=f"The run was launched with {name}, under which attention and checkpoints would not be right",
                remedy="Launch without it; quantization 4bit and gradient_checkpointing save memory",
            )
    number = device.partition("cuda:")[2]
    if number not in ("", "0"):
        raise RequestError(
            expected='"auto", "cpu" or "cuda": a run computes on the first GPU that it can see',
            got=f"{device!r}",
            remedy=f"Set CUDA_VISIBLE_DEVICES={number} and choose cuda",
        )
