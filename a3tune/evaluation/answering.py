"""Answers to a batch of prompts: left-padded, so that every answer begins in the same step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from a3tune.adapters.a3moe.token_spans import TokenSpans
from a3tune.attention.capture import capture
from a3tune.attention.record import AttentionRecord
from a3tune.errors import ModelError, RequestError
from a3tune.evaluation.decoding.method import Decoding, DecodingContext, GoingBack
from a3tune.evaluation.head_sets import HeadSet
from a3tune.evaluation.passes import taken_over
from a3tune.models.model import VisionLanguageModel
from a3tune.models.prompt import EncodedBatch, EncodedPrompt
from a3tune.prefixes.supported_models import counts_plainly


@dataclass(frozen=True)
class Answer:
    """What a model answered to one prompt of a batch.

    Attributes:
        text: the answer in words, special tokens removed.
        token_ids: the generated ids exactly, without the token that ends the answer.
        ending: "end" when the model ended its answer, "length" when the limit cut it.
        margin: the smallest difference between the best two next tokens' scores over the steps that wrote the answer.
        weights: float64 [patches] for each set of heads, where the model looked meanwhile (see
            `a3tune.attention.answer`); none where it was not read in the passes that wrote the answer.
    """

    text: str
    token_ids: tuple[int, ...]
    ending: Literal["end", "length"]
    margin: float
    weights: tuple[np.ndarray, ...] = ()


@torch.no_grad()
def answer_batch(
    model: VisionLanguageModel,
    prompts: Sequence[EncodedPrompt],
    decoding: Decoding,
    *,
    text_only: Callable[[], Sequence[EncodedPrompt]],
    max_new_tokens: int = 64,
    seed: int = 0,
    head_sets: Sequence[HeadSet] = (),
    collate: Callable[[Sequence[EncodedPrompt]], EncodedBatch] | None = None,
) -> list[Answer]:
    """Answer several prompts at once; the adapter at work is mounted, and the caller holds the model's lock.

    In float32 the words do not depend on which prompts share a batch, except where `Answer.margin` is below
    `a3tune.evaluation.items.TIE`, or where the way of decoding samples.

    Args:
        prompts: without answers.
        decoding: how.
        text_only: the same prompts without their images, asked for where ``decoding`` needs them.
        max_new_tokens: limit of an answer's length; a smaller room left in the model's context counts instead.
        seed: of a way of decoding that samples.
        head_sets: where the model looks is read in these, too, in the very passes that write; the way of decoding must
            then change neither attention nor beams. The model is prepared for it (`a3tune.attention.capture`).
        collate: gives the batch with what was read before (`a3tune.prefixes.batch.PrefixReader.batch`), for a way of
            decoding that changes neither attention nor beams; None reads the prompts whole.

    Raises:
        RequestError: the context is full.
        ModelError: the model does not bear this way of decoding.
    """
    if decoding.second_reading and not counts_plainly(model):
        raise ModelError(
            expected="a model that numbers the places of its tokens one by one",
            got=f"{type(model.model).__name__} keeps its own count, which two readings at once would share",
            remedy=f"Leave {decoding.name} out for this model",
        )
    if decoding.alone and len(prompts) > 1:
        return [
            answer_batch(
                model,
                [prompt],
                decoding,
                text_only=lambda place=place: [text_only()[place]],  # type: ignore[misc]
                max_new_tokens=max_new_tokens,
                seed=seed + place,
            )[0]
            for place, prompt in enumerate(prompts)
        ]
    batch = model.collate(prompts, padding_side="left") if collate is None else collate(prompts)
    room = min(max_new_tokens, model.context_length - batch.length)
    if room < 1:
        raise RequestError(
            expected=f"room for an answer within a context of {model.context_length} tokens",
            got=f"a prompt of {batch.length} tokens",
            remedy="Shorten the question",
        )
    # The last word is read where the model goes on to the next, which is then not kept.
    config = model.generation_config_for(room + bool(head_sets))
    config.update(**decoding.options)
    context = DecodingContext(model, batch, lambda: model.collate(text_only(), padding_side="left"))
    # Sampling draws from torch's own generator, which is back afterwards as it was.
    devices = [model.device] if model.device.type == "cuda" else []
    behind, known = taken_over(batch)
    watched = capture(batch.rows, batch.columns, growing=True, behind=behind) if head_sets else nullcontext()
    with torch.random.fork_rng(devices), spans_of(batch), decoding.applied(context) as processors, watched as record:
        sequences = None
        while sequences is None:
            torch.manual_seed(seed)
            margins = _Margins(len(prompts), model.end_token_ids, room)
            with suppress(GoingBack):
                sequences = model.model.generate(
                    **batch.inputs,
                    **known,
                    generation_config=config,
                    logits_processor=LogitsProcessorList([*processors, margins]),
                )
    answers = [
        _answer(model, row[:room], margin)
        for row, margin in zip(sequences[:, batch.length :].tolist(), margins.smallest(), strict=True)
    ]
    if record is None:
        return answers
    return [
        replace(answer, weights=_weights(record, b, prompt, len(answer.token_ids), head_sets))
        for b, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
    ]


def _weights(
    record: AttentionRecord, b: int, prompt: EncodedPrompt, words: int, head_sets: Sequence[HeadSet]
) -> tuple[np.ndarray, ...]:
    """float64 [patches] for each set: each word is written from the row before its own, the first from the last one of
    the prompt."""
    before = int(prompt.rows.sum())
    writing = torch.zeros(before + words, dtype=torch.bool)
    writing[before - 1 : before - 1 + words] = True
    return tuple(one.weights(record, b, writing, closed=False) for one in head_sets)


def spans_of(batch: EncodedBatch) -> TokenSpans:
    """Where question and image stand in the prompts of a batch behind which text is generated.

    Adapters with experts have to be told, too, that a prompt has no image.
    """
    return TokenSpans(batch.question, batch.columns, growing=True)


def _answer(model: VisionLanguageModel, ids: list[int], margin: float) -> Answer:
    ends = model.end_token_ids
    place = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    words = tuple(ids[:place])
    return Answer(model.decode(words), words, "end" if place < len(ids) else "length", margin)


class _Margins(LogitsProcessor):
    """Watches how close the second choice came, as long as a row is being written."""

    def __init__(self, rows: int, ends: set[int], steps: int) -> None:
        self._ends, self._left = sorted(ends), steps
        self._least = torch.full((rows,), torch.inf)
        self._written = torch.zeros(rows, dtype=torch.bool)
        self._started = False

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not self._left:
            return scores
        self._left -= 1
        rows = len(self._least)
        if self._started:
            last = input_ids.view(rows, -1, input_ids.shape[1])[:, 0, -1].cpu()
            self._written |= torch.isin(last, torch.tensor(self._ends))
        self._started = True
        best = scores.view(rows, -1, scores.shape[1])[:, 0].float().topk(2, dim=-1).values.cpu()
        gap = torch.where(self._written, torch.inf, best[:, 0] - best[:, 1])
        self._least = torch.minimum(self._least, gap)
        return scores

    def smallest(self) -> list[float]:
        return self._least.tolist()
