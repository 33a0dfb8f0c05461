"""Ways to ask a random model about an image that it has read for another question, up to the first word."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from peft import get_peft_model
from transformers import AutoProcessor, LlavaForConditionalGeneration

from a3tune.adapters.a3moe import TokenSpans
from a3tune.bundle import DEMO_MODEL
from a3tune.errors import Cancelled
from a3tune.inspection.passes import answer_with_maps
from a3tune.models.encoded_prompt import EncodedPrompt
from a3tune.models.model import VisionLanguageModel
from a3tune.prefixes.cache import PrefixCache
from a3tune.training.config import TuneConfig
from a3tune.training.methods import adapter_config
from benchmarks.random_llava import BEFORE, PATCHES, twin

IMAGE = tuple(range(BEFORE, BEFORE + PATCHES))


def first_words(
    base: LlavaForConditionalGeneration, inputs: dict[str, torch.Tensor]
) -> dict[str, Callable[[], object]]:
    """The base model's prompt run once and no more; then for the base model, LoRA and A3MoE the first question about an
    image and another one, each up to its first word with the maps of all heads."""
    processor = AutoProcessor.from_pretrained(DEMO_MODEL)
    plain = twin(base, "sdpa")
    ways: dict[str, Callable[[], object]] = {"plain prefill": lambda: plain(**inputs, use_cache=True, logits_to_keep=1)}
    for name, method in (("base", None), ("LoRA", "lora"), ("A3MoE", "a3")):
        model = VisionLanguageModel("random", twin(base), processor)
        if method is not None:
            model.model = get_peft_model(model.model, adapter_config(TuneConfig(method=method))).eval()
        ways[f"{name}, first"] = _asked(model, inputs, None)
        ways[f"{name}, another"] = _asked(model, inputs, PrefixCache())
    return ways


def encoded(model: VisionLanguageModel, inputs: dict[str, torch.Tensor]) -> EncodedPrompt:
    """The prompt whose tensors these are: what stands behind the image is its question."""
    ids = tuple(inputs["input_ids"][0].tolist())
    return EncodedPrompt(inputs, ids, (IMAGE,), tuple(range(IMAGE[-1] + 1, len(ids))), (), "", model.tokenizer)


def _asked(
    model: VisionLanguageModel, inputs: dict[str, torch.Tensor], prefixes: PrefixCache | None
) -> Callable[[], object]:
    def ask(ids: torch.Tensor) -> None:
        prompt = encoded(model, {**inputs, "input_ids": ids})
        question = torch.zeros_like(prompt.columns)
        question[0, list(prompt.question)] = True
        spans = TokenSpans(question, prompt.columns, growing=True)
        with spans, suppress(Cancelled):
            answer_with_maps(model, prompt, should_stop=lambda: True, prefixes=prefixes)

    def run() -> None:
        if prefixes is not None and not len(prefixes.store):  # read for another question
            other = inputs["input_ids"].clone()
            other[0, IMAGE[-1] + 1 :] = other[0, IMAGE[-1] + 1 :].flip(0)
            ask(other)
            if not len(prefixes.store):
                raise MemoryError("too little memory is free to keep what was read")
        ask(inputs["input_ids"])

    return run
