"""Passes of the model in which attention is read: those that write an answer, and one over a given answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from a3tune.adapters.a3moe.token_spans import TokenSpans
from a3tune.adapters.mixed_batch import mixed_rows
from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.attention.capture import capture, prepare_capture
from a3tune.errors import Cancelled
from a3tune.lack_of_memory import memory_for
from a3tune.memory_advice import TO_ANSWER
from a3tune.models.encoded_prompt import EncodedBatch, EncodedPrompt
from a3tune.models.model import GeneratedAnswer, VisionLanguageModel
from a3tune.prefixes.batch import PrefixReader
from a3tune.prefixes.cache import PrefixCache, PromptReading
from a3tune.types import AttentionMaps


def answer_with_maps(
    model: VisionLanguageModel,
    prompt: EncodedPrompt,
    *,
    max_new_tokens: int = 64,
    on_word: Callable[[tuple[int, ...], Callable[[], AttentionMaps]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    prefixes: PrefixCache | None = None,
    name: str = "",
) -> tuple[GeneratedAnswer, AttentionMaps]:
    """The answer, and the attention of every head from every text token up to its last word to the image.

    The maps are those that :func:`read_attention` gives for prompt and answer, read in the passes that write it.

    Args:
        prompt: a prompt without an answer.
        max_new_tokens: longest answer in tokens.
        on_word: called after each word's token with all of them so far, and what gives the maps up to there: the last
            row is that from which the last of them was written.
        should_stop: asked after each token.
        prefixes: what is kept for questions about the same image; see :mod:`a3tune.prefixes.cache`.
        name: of the adapter at work, whose prefixes are its own.

    Raises:
        RequestError: the context is full.
        Cancelled: ``should_stop`` said so.
    """
    prepare_capture(model.model)
    with model.lock, torch.inference_mode():
        reading = PromptReading(model, prompt, prefixes, name)
        behind = () if reading.read is None else (reading.read,)
        with capture(prompt.rows, prompt.columns, growing=True, behind=behind) as record:
            answer = model.generate(
                prompt,
                max_new_tokens=max_new_tokens,
                read_last=True,
                on_token=None if on_word is None else lambda ids: on_word(ids, lambda: record.maps(0)),
                should_stop=should_stop,
                inputs=reading.inputs,
                cache=reading.cache,
            )
        reading.keep(record)
    if answer.ending == "stopped":
        raise Cancelled
    return answer, record.maps(0)


def answers_together(
    model: VisionLanguageModel,
    prompt: EncodedPrompt,
    adapters: AdapterSet,
    names: Sequence[str],
    *,
    max_new_tokens: int = 64,
    on_word: Callable[[tuple[int, ...]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[tuple[GeneratedAnswer, AttentionMaps]]:
    """What :func:`answer_with_maps` gives with each of several adapters, from one batch with a row for each.

    Args:
        model, prompt: as in :func:`answer_with_maps`.
        adapters: mounted on ``model``; those named can share a batch (`a3tune.adapters.mixed_batch`).
        names: of the set, or "base".
        max_new_tokens, should_stop: as in :func:`answer_with_maps`.
        on_word: called after each word's token with all of them so far, of the first answer that has not ended.

    Raises:
        AdapterError: they cannot share a batch.
        RequestError: the context is full.
        Cancelled: ``should_stop`` said so.
    """
    prepare_capture(model.model)
    with model.lock, adapters.using(BASE):
        batch = _of_rows(model, prompt, len(names))
    rows = {name: slice(place, place + 1) for place, name in enumerate(names)}
    spans = TokenSpans(batch.question, batch.columns, growing=True)
    reading = capture(batch.rows, batch.columns, growing=True)
    with model.lock, torch.inference_mode(), mixed_rows(adapters, rows), spans, reading as record:
        answers = model.generate_rows(
            batch.inputs,
            prompt.length,
            max_new_tokens=max_new_tokens,
            read_last=True,
            on_token=on_word,
            should_stop=should_stop,
        )
    if any(answer.ending == "stopped" for answer in answers):
        raise Cancelled
    return [(answer, _up_to_end(record.maps(b), prompt, answer)) for b, answer in enumerate(answers)]


def _of_rows(model: VisionLanguageModel, prompt: EncodedPrompt, count: int) -> EncodedBatch:
    """The prompt as so many rows, whose image is looked at once where that is proven; for several images it is not."""
    prompts = [prompt] * count
    return PrefixReader(model).batch(prompts, "") if len(prompt.images) == 1 else model.collate(prompts)


def _up_to_end(maps: AttentionMaps, prompt: EncodedPrompt, answer: GeneratedAnswer) -> AttentionMaps:
    """Without the rows in which a sequence was padded while others went on."""
    count = int((maps.rows < prompt.length + len(answer.token_ids)).sum())
    return AttentionMaps(maps.weights[:, :, :count], maps.rows[:count], maps.image_share[:, :, :count])


def read_attention(model: VisionLanguageModel, prompt: EncodedPrompt) -> AttentionMaps:
    """Attention of every head from every text token to the image, from one forward pass: what a given answer needs.

    Args:
        prompt: a prompt, usually with its answer appended, so that the maps belong to the very tokens shown.
    """
    prepare_capture(model.model)
    with model.lock, torch.inference_mode(), capture(prompt.rows, prompt.columns) as record:
        model.model(**prompt.inputs, **({"logits_to_keep": 1} if model.keeps_logits else {}), use_cache=False)
    return record.maps(0)


@contextmanager
def adapted(
    model: VisionLanguageModel, adapters: AdapterSet | None, name: str, prompt: EncodedPrompt, *, growing: bool = False
) -> Iterator[None]:
    """The model with one adapter at work, its experts told where question and image stand, for nobody else meanwhile.

    Args:
        model: the model, on which ``adapters`` is mounted.
        adapters: None for a model without any.
        name: "base" or an adapter of the set.
        prompt: what the model is going to read.
        growing: True while text is generated behind the prompt.

    Raises:
        NotEnoughMemoryError: the block took more memory than there is.
    """
    if adapters is None:
        with memory_for("an answer and its maps", TO_ANSWER):
            yield
        return
    question = torch.zeros_like(prompt.columns)
    question[0, list(prompt.question)] = True
    # The layers at work are shared by all threads, so nobody else may run the model until this is over.
    spans = TokenSpans(question, prompt.columns, growing=growing)
    with memory_for("an answer and its maps", TO_ANSWER), model.lock, adapters.using(name), spans:
        yield
