"""What is compared in an evaluation: an adapter with a way of decoding, on the images as they are or on others; and
what its attention is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Control = Literal["", "text", "blank", "other"]
CONTROLS: tuple[Control, ...] = ("text", "blank", "other")
"""Text only, a grey image of the same size, and the image of another patient."""
Masks = Literal["true", "weak", "none"]
MASKS: tuple[Masks, ...] = ("true", "weak", "none")
"""The data's own masks, weak labels, or nothing."""
GREEDY = "greedy"


@dataclass(frozen=True)
class System:
    """One column of the result.

    Attributes:
        adapter: "base" or the name of an adapter.
        decoding: name of the way of decoding (see `a3tune.evaluation.decoding`).
        control: what the model is shown instead of the image; "" for the image itself.
    """

    adapter: str
    decoding: str = GREEDY
    control: Control = ""

    @property
    def name(self) -> str:
        """ "base", "a3+vcd", "base, blank image"."""
        name = self.adapter if self.decoding == GREEDY else f"{self.adapter}+{self.decoding}"
        shown = {"": "", "text": ", text only", "blank": ", blank image", "other": ", image of another patient"}
        return name + shown[self.control]


def systems_of(adapters: tuple[str, ...], decodings: tuple[str, ...], controls: tuple[Control, ...]) -> list[System]:
    """Every adapter greedily and under each control, and the other ways of decoding on the first adapter alone: they
    are baselines beside it."""
    plain = [System(adapter) for adapter in adapters]
    baselines = [System(adapters[0], decoding) for decoding in decodings if decoding != GREEDY]
    shown = [System(adapter, GREEDY, control) for adapter in adapters for control in controls]
    return plain + baselines + shown
