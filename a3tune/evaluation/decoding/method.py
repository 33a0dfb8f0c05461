"""The one interface of all ways of decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from transformers import LogitsProcessor

from a3tune.models.model import VisionLanguageModel
from a3tune.models.prompt import EncodedBatch


@dataclass(frozen=True, eq=False)
class DecodingContext:
    """What a way of decoding may look at for one batch.

    Attributes:
        model: the model; the adapter at work is mounted.
        batch: the prompts, padded on the left.
        text_only: the same prompts without their images, padded on the left.
    """

    model: VisionLanguageModel
    batch: EncodedBatch
    text_only: Callable[[], EncodedBatch]


class GoingBack(Exception):
    """Raised by a logits processor that takes back what was written: the answer is begun again, with the same
    processors, which know by then what is not to be written again."""


@contextmanager
def nothing_changed(context: DecodingContext) -> Iterator[list[LogitsProcessor]]:
    """No logits processor and no change of the attention."""
    yield []


@dataclass(frozen=True)
class Decoding:
    """One way of decoding.

    Attributes:
        name: as it is asked for.
        title: what it is, with its source.
        settings: its numbers, for the report.
        options: what it changes in the generation config.
        applied: for the length of a ``with`` block puts what it changes in the model's attention into place, and gives
            the logits processors to add.
        second_reading: whether it reads the prompts a second time meanwhile, which models that keep their own count of
            places (M-RoPE) do not bear.
        alone: whether it takes one question at a time.
    """

    name: str
    title: str
    settings: Mapping[str, float | int | str] = field(default_factory=dict, hash=False)
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    applied: Callable[[DecodingContext], Any] = nothing_changed
    second_reading: bool = False
    alone: bool = False

    @property
    def samples(self) -> bool:
        """Whether the answer depends on the seed."""
        return bool(self.options.get("do_sample"))
