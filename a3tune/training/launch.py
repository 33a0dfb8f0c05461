"""How a run was launched: what would not be trained as it is asked for is refused before anything is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping

from a3tune.errors import RequestError

_NOT_YET = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor or context parallelism",
}

# One of them is there in every process of torchrun and of the usual MPIs.
_RANKS = ("RANK", "PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


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


def check_processes(environment: Mapping[str, str]) -> None:
    """Refuse a launcher that was asked for several processes and started one.

    Raises:
        RequestError: ``accelerate launch --cpu --num_processes 2``, which starts a single process.
    """
    asked = environment.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_ADDR" in environment
    if asked and not any(name in environment for name in _RANKS):
        raise RequestError(
            expected="as many processes as the launcher was asked for",
            got="accelerate launch --cpu starts one, whatever --num_processes says",
            remedy="Write accelerate launch --multi_gpu --num_processes 2 -m a3tune ... --device cpu, which needs no "
            "GPU, or leave --num_processes out",
        )


def process_count() -> int:
    """How many processes a launcher has started; 1 without one."""
    text = os.environ.get("WORLD_SIZE", "")
    return int(text) if text.isdigit() and int(text) else 1


def is_first_process() -> bool:
    """Whether this is the first of the processes that a launcher started, or the only one."""
    return os.environ.get("RANK", "0") == "0"
