"""What evaluations and a checkpointed pass take of a GPU's memory at most: a part of `benchmarks.gpu_check`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from transformers import AutoProcessor

from a3tune.attention.capture import capture, prepare_capture
from a3tune.bundle import DEMO_MODEL
from a3tune.evaluation.answering import answer_batch
from a3tune.evaluation.decoding.registry import decoding_named
from a3tune.evaluation.head_sets import HeadSet
from a3tune.evaluation.reading import read_attention_of
from a3tune.evaluation.systems import GREEDY
from a3tune.models.model import VisionLanguageModel
from benchmarks.other_questions import encoded
from benchmarks.random_llava import SIZES, build, masks, prompt

_SETS = (HeadSet("critical heads"),)


def memory(device: str) -> list[str]:
    """Peak memory of evaluating 1, 4 and 16 questions at once, and of a checkpointed training pass."""
    target = torch.device(device)
    cuda = target.type == "cuda"
    size = "7B" if cuda and torch.cuda.mem_get_info(target)[0] > 30e9 else "0.1B" if cuda else "tiny"
    dtype = torch.bfloat16 if cuda else torch.float32
    model = build(SIZES[size], target, dtype)
    prepare_capture(model)
    one = prompt(model, target, dtype)
    asked = VisionLanguageModel("random", model, AutoProcessor.from_pretrained(DEMO_MODEL))
    question = encoded(asked, one)
    lines = []

    def peak(work: Callable[[], object], what: str) -> None:
        if cuda:
            torch.cuda.reset_peak_memory_stats(target)
        before = torch.cuda.memory_allocated(target) if cuda else 0
        work()
        lines.append(f"{size}, {what}: {_above(torch.cuda.max_memory_allocated(target) - before if cuda else 0)}")

    def evaluate(count: int) -> None:
        several = [question] * count
        answer_batch(asked, several, decoding_named(GREEDY), text_only=list, max_new_tokens=8, head_sets=_SETS)

    for count in (1, 4, 16):
        peak(partial(evaluate, count), f"{count} x answers with maps")
        peak(
            partial(read_attention_of, asked, [question] * count, [None] * count, _SETS),
            f"{count} x maps of given answers",
        )
    # Before transformers 5.21 there is the old name alone, which warns since.
    newer = getattr(model, "activation_checkpointing_enable", None)
    (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})
    model.train()
    embeddings = model.get_input_embeddings()
    embeddings.register_forward_hook(lambda module, args, output: output.requires_grad_())

    def step() -> None:
        with capture(*masks(one["input_ids"])) as record:
            model(**one, use_cache=False, logits_to_keep=1).logits.sum().backward()
        assert record.image_share(0).isfinite().all()

    peak(step, "checkpointed pass with capture")
    return lines


def _above(peak: int) -> str:
    return f"{peak / 1e9:.2f} GB above the weights" if peak else "done, without a measure of memory"
