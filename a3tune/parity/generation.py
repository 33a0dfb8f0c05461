"""Check that attention read while an answer is written is what eager attention gives, whatever the key-value cache."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, Cache, QuantizedCache, StaticCache
from transformers.masking_utils import eager_mask

from a3tune.attention.capture import IMPLEMENTATION, attention_modules, capture, prepare_capture
from a3tune.attention.record import AttentionRecord
from a3tune.inspection.passes import answer_with_maps, read_attention
from a3tune.models.encoded_prompt import EncodedPrompt
from a3tune.models.model import GeneratedAnswer, VisionLanguageModel
from a3tune.prefixes.cache import PrefixCache

MOST_TOKENS = 12
"""Length of the answers that are compared."""

_FEW = 4  # tokens that are written where the cache is the point


def written_differences(
    model: VisionLanguageModel,
    prompts: Sequence[EncodedPrompt],
    answers: Sequence[GeneratedAnswer],
    eager: Sequence[torch.Tensor],
) -> tuple[int, dict[str, tuple[int, float]]]:
    """How far attention that is read while an answer is written is from eager attention, and from capture's own in one
    pass over prompt and answer.

    Args:
        model: prepared for capture.
        prompts: without answers.
        answers: what the model answered with at most as many tokens as each has, without capture.
        eager: of each prompt with its answer, from one pass: float32 [layers, heads, rows, patches].

    Returns:
        how many answers came out otherwise, and by check: heads compared and the largest absolute difference.
    """
    differing, worst = 0, 0.0
    for prompt, answer, expected in zip(prompts, answers, eager, strict=True):
        again, maps = answer_with_maps(model, prompt, max_new_tokens=MOST_TOKENS)
        differing += again != answer
        replayed = read_attention(model, model.append_answer(prompt, answer.token_ids))
        for other in (expected.numpy(), replayed.weights):
            worst = max(worst, _difference(maps.weights, other))
    heads = model.layers * model.heads
    found = {
        "attention while answering": (len(prompts) * heads, worst),
        "attention while answering, static cache": (heads, _static_difference(model, prompts[0], answers[0], eager[0])),
    }
    if saturates() and _bears_quantized(model):
        found["attention while answering, quantized cache"] = (heads, _quantized_difference(model, prompts[0]))
    return differing, found


def reused_difference(model: VisionLanguageModel, first: EncodedPrompt, second: EncodedPrompt) -> float:
    """How far the attention of a question about an image that was read for another one is from a fresh run's; infinite
    where the answers differ.

    Args:
        model: prepared for capture.
        first, second: prompts about one image, without answers.
    """
    prefixes = PrefixCache()
    answer_with_maps(model, first, max_new_tokens=_FEW, prefixes=prefixes)
    answer, maps = answer_with_maps(model, second, max_new_tokens=_FEW, prefixes=prefixes)
    expected, fresh = answer_with_maps(model, second, max_new_tokens=_FEW)
    return _difference(maps.weights, fresh.weights) if answer == expected else float("inf")


def _static_difference(
    model: VisionLanguageModel, prompt: EncodedPrompt, answer: GeneratedAnswer, eager: torch.Tensor
) -> float:
    cache = StaticCache(model.text_config, max_cache_len=prompt.length + _FEW)
    record, ids = _captured(model, prompt, cache)
    words = min(_FEW, len(answer.token_ids))
    if ids[:words] != answer.token_ids[:words]:
        return float("inf")
    rows = int(prompt.rows.sum()) + min(words, _FEW - 1)  # the last token that is written is not read
    return _difference(record.maps(0).weights[:, :, :rows], eager.numpy()[:, :, :rows])


def saturates() -> bool:
    """Whether this torch takes numbers that 8 bits cannot hold for the largest that they can. Transformers' quantized
    cache takes its scale from the prompt: with a torch that does not (2.11), a later word's larger key is no number,
    nor is any implementation's attention to it.
    """
    return bool(torch.tensor(1e4).to(torch.float8_e4m3fn).float().isfinite())


def _bears_quantized(model: VisionLanguageModel) -> bool:
    try:
        QuantizedCache("fp8", model.text_config)
    except ValueError:  # layers of a type that transformers has no such cache for
        return False
    return True


def _quantized_difference(model: VisionLanguageModel, prompt: EncodedPrompt) -> float:
    """To what the class's own eager function gives on the very same queries and quantized keys.

    Two runs would not do: a difference in the last bit now and then becomes one of a whole step of the quantization.
    """
    seen: dict[nn.Module, list[torch.Tensor]] = {}
    with _eager_beside(seen):
        record, _ = _captured(model, prompt, QuantizedCache("fp8", model.text_config))
    prepare_capture(model.model)
    rows, columns = prompt.rows[0].nonzero().squeeze(1), prompt.columns[0].nonzero().squeeze(1)
    layers = [
        torch.cat([first[:, rows][:, :, columns], *(later[:, :, columns] for later in steps)], dim=1)
        for first, *steps in (seen[module] for module in attention_modules(model.model))
    ]
    return _difference(record.maps(0).weights, torch.stack(layers).numpy())


def _captured(
    model: VisionLanguageModel, prompt: EncodedPrompt, cache: Cache
) -> tuple[AttentionRecord, tuple[int, ...]]:
    config = model.generation_config_for(_FEW)
    config.update(min_new_tokens=_FEW, disable_compile=True)
    with torch.no_grad(), capture(prompt.rows, prompt.columns, growing=True) as record:
        whole = model.model.generate(**prompt.inputs, generation_config=config, past_key_values=cache)
    return record, tuple(whole[0, prompt.length :].tolist())


@contextmanager
def _eager_beside(seen: dict[nn.Module, list[torch.Tensor]]) -> Iterator[None]:
    """Have every captured layer run its class's eager function, whose weights are kept by layer, [heads, rows, keys] of
    each pass, until `prepare_capture` is called again."""
    captured = AttentionInterface()[IMPLEMENTATION]

    def both(
        module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **options: Any
    ) -> Any:
        captured(module, query, key, value, *args, **options)
        eager = sys.modules[type(module).__module__].eager_attention_forward
        output, weights = eager(module, query, key, value, *args, **options)
        seen.setdefault(module, []).append(weights[0].cpu())
        return output, None

    AttentionInterface.register(IMPLEMENTATION, both)
    AttentionMaskInterface.register(IMPLEMENTATION, eager_mask)
    yield


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max())
