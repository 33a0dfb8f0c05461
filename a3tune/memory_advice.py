"""What a person can do when a model or a step of training does not fit into memory."""

from __future__ import annotations

from typing import Protocol

TO_LOAD_A_MODEL = (
    "Close other programs, or choose a smaller precision (half, 8 or 4 bit), offloading to the CPU, a smaller model or "
    "another device"
)

TO_MAKE_A_STEP = (
    "Set a smaller batch_size with more gradient_accumulation, switch gradient_checkpointing on, or set quantization "
    "to 4bit"
)
"""When the settings of the run are not at hand."""


TO_ANSWER = (
    "Use a shorter question, a shorter answer or a smaller image, close other programs, or load the model in 8 or 4 bit"
)
TO_CHECK = "Close other programs, use a smaller image, or load the model in a smaller precision (half, 8 or 4 bit)"
TO_MOUNT = "Choose an adapter of a lower rank, remove others, or load the model in 8 or 4 bit"
TO_EVALUATE = "Ask for shorter answers (--max-new-tokens), load the model in 8 or 4 bit, or close other programs"
TO_GO_ON = (
    "Close other programs, use smaller images, or load the model in a smaller precision (half, 8 or 4 bit); the same "
    "command can then be given again"
)
"""Where it is not known what took the memory."""
TO_LABEL = "Choose a smaller segmenter such as lite-medsam, make labels on the device cpu, or close other programs"


class StepSettings(Protocol):
    """What decides how much memory a step of training takes; see `a3tune.training.config.TuneConfig`."""

    @property
    def batch_size(self) -> int: ...
    @property
    def gradient_accumulation(self) -> int: ...
    @property
    def gradient_checkpointing(self) -> bool: ...
    @property
    def precision(self) -> str: ...
    @property
    def quantization(self) -> str: ...


def to_make_a_step(settings: StepSettings) -> str:
    """What to change so that a step takes less memory, the least harmful first."""
    changes = []
    if settings.batch_size > 1:
        more = settings.gradient_accumulation * 2
        changes.append(f"set batch_size to {settings.batch_size // 2} and gradient_accumulation to {more}")
    if not settings.gradient_checkpointing:
        changes.append("switch gradient_checkpointing on")
    if settings.precision == "fp32":
        changes.append("set precision to bf16")
    return ", or ".join([*changes, to_hold_the_weights(settings)])


def to_hold_the_weights(settings: StepSettings) -> str:
    """What to change so that the base model's weights take less memory."""
    smaller = [] if settings.quantization == "4bit" else ["set quantization to 4bit (needs the package bitsandbytes)"]
    return ", or ".join([*smaller, "choose a smaller base model, or a machine with more memory (see Scale)"])
