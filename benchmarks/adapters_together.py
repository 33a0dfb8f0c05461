"""Ways to have base, LoRA and A3MoE answer one question to a random model: one of them, one by one, in one batch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from peft import get_peft_model
from transformers import LlavaForConditionalGeneration

from a3tune.adapters.a3moe import TokenSpans
from a3tune.adapters.mixed_batch import mixed_rows
from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.attention.capture import capture
from a3tune.training.config import TuneConfig
from a3tune.training.methods import adapter_config
from benchmarks.random_llava import BEFORE, IMAGE_TOKEN, PATCHES, masks, some_heads, twin

NAMES = (BASE, "lora", "a3")


def adapters_together(
    base: LlavaForConditionalGeneration, inputs: dict[str, torch.Tensor], tokens: int
) -> dict[str, Callable[[], object]]:
    """An answer of that many tokens with the maps of critical heads by each of the three, by all of them one after
    another, and by all of them as three rows of one batch."""
    adapters = _adapters(base)
    options = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "pad_token_id": 0}
    options["suppress_tokens"] = [IMAGE_TOKEN]
    rows, columns = masks(inputs["input_ids"])
    question = torch.zeros_like(rows)
    question[:, BEFORE + PATCHES :] = True

    def answer(at_work: AbstractContextManager[object], count: int = 1) -> list[torch.Tensor]:
        batch = {name: part.repeat(count, *[1] * (part.ndim - 1)) for name, part in inputs.items()}
        of_rows, of_columns, of_question = (mask.repeat(count, 1) for mask in (rows, columns, question))
        spans = TokenSpans(of_question, of_columns, growing=True)
        reading = capture(of_rows, of_columns, some_heads(base), growing=True)
        with torch.inference_mode(), at_work, spans, reading as record:
            adapters.base.generate(**batch, **options)
        return [record.weights(b) for b in range(count)]

    def together() -> object:
        return answer(mixed_rows(adapters, {name: slice(b, b + 1) for b, name in enumerate(NAMES)}), len(NAMES))

    return {
        **{name: lambda name=name: answer(adapters.using(name)) for name in NAMES},
        "all three, one by one": lambda: [answer(adapters.using(name)) for name in NAMES],
        "all three, one batch": together,
    }


def _adapters(base: LlavaForConditionalGeneration) -> AdapterSet:
    held = AdapterSet(twin(base))
    for name in NAMES[1:]:
        with tempfile.TemporaryDirectory() as folder:
            model = get_peft_model(twin(base), adapter_config(TuneConfig(method=name)))
            model.save_pretrained(folder, save_embedding_layers=False)
            held.add(name, Path(folder))
    return held
