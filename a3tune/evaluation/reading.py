"""Where a model looks while given answers are written, for a batch of prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from a3tune.attention.answer import measure_answer
from a3tune.evaluation.head_sets import HeadSet
from a3tune.evaluation.passes import read_batch
from a3tune.lack_of_memory import in_halves
from a3tune.models.memory import total_memory
from a3tune.models.model import VisionLanguageModel
from a3tune.models.prompt import EncodedBatch, EncodedPrompt

# The maps of one batch, which lie in the machine's memory whatever the device, may take this share of all there is: not
# of what is free at the moment, so that a resumed evaluation reads as it began.
_LEAST, _SHARE = 512 * 1024 * 1024, 8


@torch.no_grad()
def read_attention_of(
    model: VisionLanguageModel,
    prompts: Sequence[EncodedPrompt],
    coverages: Sequence[np.ndarray | None],
    head_sets: Sequence[HeadSet],
    collate: Callable[[Sequence[EncodedPrompt]], EncodedBatch] | None = None,
) -> list[list[tuple[dict[str, float | None], np.ndarray]]]:
    """For each prompt with its answer, and each set of heads, its `measured` numbers and the map that they are of,
    float64 [patches]. The adapter at work is mounted, and the caller holds the model's lock.

    Args:
        prompts: with answers.
        coverages: float [patches] of each, or None.
        head_sets: what is read.
        collate: gives the batch with what was read before (`a3tune.prefixes.batch.PrefixReader.batch`); None reads the
            prompts whole.
    """
    pairs = list(zip(prompts, coverages, strict=True))
    step = max(1, _most_bytes() // max(_bytes(model, prompt) for prompt in prompts))
    read: list[list[tuple[dict[str, float | None], np.ndarray]]] = []
    for start in range(0, len(pairs), step):
        read += in_halves(lambda chosen: _read(model, chosen, head_sets, collate), pairs[start : start + step])
    return read


def _read(
    model: VisionLanguageModel,
    pairs: Sequence[tuple[EncodedPrompt, np.ndarray | None]],
    head_sets: Sequence[HeadSet],
    collate: Callable[[Sequence[EncodedPrompt]], EncodedBatch] | None,
) -> list[list[tuple[dict[str, float | None], np.ndarray]]]:
    prompts = [prompt for prompt, _ in pairs]
    # Nobody reads the scores of the next tokens, which for a batch would take gigabytes.
    options: dict[str, Any] = {"logits_to_keep": 1} if model.keeps_logits else {}
    batch = model.collate(prompts) if collate is None else collate(prompts)
    _, record = read_batch(model, batch, **options)
    read = []
    for b, (prompt, coverage) in enumerate(pairs):
        writing = batch.writing[b][batch.rows[b]]
        maps = [one.weights(record, b, writing, closed=prompt.closed) for one in head_sets]
        read.append([(measured(weights, coverage), weights) for weights in maps])
    return read


def measured(weights: np.ndarray, coverage: np.ndarray | None) -> dict[str, float | None]:
    """The numbers of `a3tune.attention.answer.measure_answer`, None for what is not defined."""
    found = measure_answer(weights, coverage)
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def readable_while_writing(model: VisionLanguageModel, prompts: Sequence[EncodedPrompt], words: int) -> bool:
    """Whether memory is to hold the attention of all of these prompts at once, each with so many words behind it."""
    return sum(_bytes(model, prompt, words) for prompt in prompts) <= _most_bytes()


def _most_bytes() -> int:
    return max(_LEAST, total_memory(torch.device("cpu")) // _SHARE)


def _bytes(model: VisionLanguageModel, prompt: EncodedPrompt, words: int = 0) -> int:
    rows, patches = int(prompt.rows.sum()) + words, sum(len(image) for image in prompt.images)
    return model.layers * model.heads * rows * patches * 4
