"""Time what seeing and tuning attention costs on a LLaVA-Med shaped model with random weights, in one run.

    python benchmarks/model_speed.py                 # 7B, bfloat16, on a GPU
    python benchmarks/model_speed.py --small         # 0.1B: 1024 wide, 8 layers; float32 on a CPU

The prompt has 640 tokens, 576 of them image patches. Four ways to run the prompt once (prefill): plain SDPA, with
capture of as many critical heads as a layer has, with capture of all heads, and eager attention with
``output_attentions``. Three ways to answer: generation alone, with the replay that gives every head's map, and eager
with ``output_attentions``. Three training steps, optimizer included: LoRA of rank 64, A3Tune (A3MoE adapters, heads
chosen in the step, alignment loss), and LoRA on eager attention with the same loss on the attention it returns.

All of them share one set of weights and take turns, so that another load on the machine hits all alike; a figure is
the median over the repeats, a ratio the median of the ratios within each turn. On a CPU the time is the process's
own, which a neighbour disturbs less than the wall clock. Memory is the weights plus the highest use while the step
ran: of the GPU's allocator, or on Linux of the process's resident memory.
"""

from __future__ import annotations

import argparse
import copy
import gc
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import get_peft_model
from torch import nn
from torch.nn import functional
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, MistralConfig

from a3tune.adapters.a3moe import record_experts
from a3tune.attention.capture import capture, prepare
from a3tune.attention.heads import critical_heads, visual_ratio
from a3tune.attention.loss import alignment_loss
from a3tune.models.memory import release_memory
from a3tune.training.config import TuneConfig
from a3tune.training.methods import adapter_config
from a3tune.types import Head

BEFORE, PATCHES, AFTER = 12, 576, 52
ANSWER = 20
IMAGE_TOKEN = 3
LIMITS = {"critical heads": 1.02, "all heads": 1.10, "A3Tune": 1.05}


@dataclass(frozen=True)
class Size:
    """The language model's and the vision tower's shape."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int
    vocabulary: int
    vision: int
    vision_layers: int


SIZES = {
    "7B": Size(4096, 14336, 32, 32, 8, 32001, 1024, 24),
    "0.1B": Size(1024, 2816, 8, 16, 4, 8000, 128, 2),
    "tiny": Size(64, 96, 2, 4, 2, 200, 32, 2),
}


@dataclass
class Figures:
    """What one way cost in each turn: seconds of wall clock and of the process, bytes above the weights."""

    wall: list[float]
    process: list[float]
    memory: list[int]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--small", action="store_const", const="0.1B", dest="size", default="7B", help="0.1B, for a CPU"
    )
    parser.add_argument("--tiny", action="store_const", const="tiny", dest="size", help="tries the way, not the result")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="default: bfloat16 on a GPU")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--answer-tokens", type=int, default=32)
    parser.add_argument("--skip-training", action="store_true")
    options = parser.parse_args(arguments)
    if options.size == "7B" and options.device == "cpu":
        parser.error("7B is for a GPU; choose --small")
    if options.repeats < 1 or options.answer_tokens < 1:
        parser.error("--repeats and --answer-tokens must be at least 1")
    device = torch.device(options.device)
    dtype = getattr(torch, options.dtype or ("float32" if device.type == "cpu" else "bfloat16"))
    torch.manual_seed(0)
    base = build(SIZES[options.size], device, dtype)
    weights = sum(weight.numel() * weight.element_size() for weight in base.parameters())
    count = sum(weight.numel() for weight in base.parameters())
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} cores"
    print(f"{count / 1e9:.2f} billion weights, {str(dtype).removeprefix('torch.')}, {name}, torch {torch.__version__},")
    print(f"{torch.get_num_threads()} thread(s), {BEFORE + PATCHES + AFTER} tokens, {options.repeats} repeats")
    inputs = prompt(base, device, dtype)
    with torch.no_grad():
        show("prefill", measure(prefills(base, inputs), device, options.repeats), weights, device)
        ways = answers(base, inputs, options.answer_tokens)
        show(f"answer of {options.answer_tokens} tokens", measure(ways, device, options.repeats), weights, device)
    if not options.skip_training:
        show("training step", measure(steps(base, inputs), device, options.repeats), weights, device)


def build(size: Size, device: torch.device, dtype: torch.dtype) -> LlavaForConditionalGeneration:
    """LLaVA on Mistral with random weights, built in place."""
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=size.vision, intermediate_size=4 * size.vision, num_hidden_layers=size.vision_layers,
            num_attention_heads=max(1, size.vision // 64), image_size=336, patch_size=14,
        ),
        text_config=MistralConfig(
            vocab_size=size.vocabulary, hidden_size=size.hidden, intermediate_size=size.intermediate,
            num_hidden_layers=size.layers, num_attention_heads=size.heads, num_key_value_heads=size.key_heads,
            max_position_embeddings=4096, sliding_window=None,
        ),
        image_token_index=IMAGE_TOKEN, image_seq_length=PATCHES,
    )  # fmt: skip
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return LlavaForConditionalGeneration(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(default)


def prompt(model: LlavaForConditionalGeneration, device: torch.device, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    words = torch.randint(4, model.config.text_config.vocab_size, (1, BEFORE + AFTER), device=device)
    image = torch.full((1, PATCHES), IMAGE_TOKEN, device=device)
    ids = torch.cat([words[:, :BEFORE], image, words[:, BEFORE:]], dim=1)
    pixels = torch.randn(1, 3, 336, 336, device=device, dtype=dtype)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


def twin(model: nn.Module, attention: str | None = None) -> LlavaForConditionalGeneration:
    """The same model once more, on the same weights; ``attention`` None for one that is prepared for capture."""
    copied = copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})
    if attention is None:
        copied.set_attn_implementation("sdpa")
        prepare(copied)
    else:
        copied.set_attn_implementation(attention)
    return copied


def masks(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """bool [1, length]: the text after the image, and the image."""
    columns = (ids == IMAGE_TOKEN).cpu()
    rows = torch.zeros_like(columns)
    rows[:, BEFORE + PATCHES :] = True
    return rows, columns


def some_heads(model: LlavaForConditionalGeneration) -> list[Head]:
    """As many heads as a layer has, spread over all layers."""
    text = model.config.text_config
    return [Head(i * text.num_hidden_layers // text.num_attention_heads, i) for i in range(text.num_attention_heads)]


def prefills(base: LlavaForConditionalGeneration, inputs: dict[str, torch.Tensor]) -> dict[str, Callable[[], object]]:
    plain, captured, eager = twin(base, "sdpa"), twin(base), twin(base, "eager")
    rows, columns = masks(inputs["input_ids"])
    heads = some_heads(base)
    options = {**inputs, "use_cache": True, "logits_to_keep": 1}

    def capturing(wanted: list[Head] | None) -> object:
        with capture(rows, columns, wanted) as record:
            captured(**options)
        return record.weights(0)

    return {
        "plain": lambda: plain(**options),
        "critical heads": lambda: capturing(heads),
        "all heads": lambda: capturing(None),
        "eager": lambda: eager(**options, output_attentions=True),
    }


def answers(
    base: LlavaForConditionalGeneration, inputs: dict[str, torch.Tensor], tokens: int
) -> dict[str, Callable[[], object]]:
    plain, captured, eager = twin(base, "sdpa"), twin(base), twin(base, "eager")
    options = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "pad_token_id": 0}
    options["suppress_tokens"] = [IMAGE_TOKEN]

    def with_maps() -> object:
        whole = captured.generate(**inputs, **options)
        rows, columns = masks(whole)
        with capture(rows, columns) as record:
            captured(
                input_ids=whole, pixel_values=inputs["pixel_values"], attention_mask=torch.ones_like(whole),
                use_cache=False, logits_to_keep=1,
            )  # fmt: skip
        return record.weights(0)

    return {
        "plain": lambda: plain.generate(**inputs, **options),
        "all heads": with_maps,
        "eager": lambda: eager.generate(**inputs, **options, output_attentions=True, return_dict_in_generate=True),
    }


def steps(base: LlavaForConditionalGeneration, inputs: dict[str, torch.Tensor]) -> dict[str, Callable[[], object]]:
    ids = inputs["input_ids"]
    rows, columns = masks(ids)
    question = torch.zeros_like(ids, dtype=torch.bool)
    question[:, BEFORE + PATCHES : -ANSWER] = True
    places = torch.arange(ids.shape[1] - ANSWER - 1, ids.shape[1] - 1, device=ids.device)
    following = ids[0, -ANSWER:]
    target = torch.zeros(1, PATCHES, device=ids.device)
    target[:, : PATCHES // 8] = 1
    tune = TuneConfig()
    count = base.config.text_config.num_attention_heads

    def trainable(method: str, attention: str | None):
        config = TuneConfig(method=method)
        model = get_peft_model(twin(base, attention), adapter_config(config)).train()
        chosen = [weight for weight in model.parameters() if weight.requires_grad]
        return model, torch.optim.AdamW(chosen, lr=1e-4)

    def learn(model: nn.Module, optimizer: torch.optim.Optimizer, extra: dict, aligned: Callable | None) -> None:
        output = model(**inputs, **extra, use_cache=False, logits_to_keep=places)
        loss = functional.cross_entropy(output.logits[0].float(), following)
        if aligned is not None:
            loss = loss + tune.ratio * aligned(output)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def pulled(weights: torch.Tensor) -> torch.Tensor:
        return alignment_loss(weights, target, form=tune.alignment, combine=tune.masks)

    lora, a3, eager = trainable("lora", "sdpa"), trainable("a3", None), trainable("lora", "eager")

    def a3_step() -> None:
        spans = {"a3_question_mask": question, "a3_image_mask": columns.to(ids.device)}
        with capture(rows, columns, [Head(0, 0)], share_of_all_heads=True) as record, record_experts():

            def aligned(output) -> torch.Tensor:
                heads = critical_heads(visual_ratio(record.image_share(0).detach()), count)
                return pulled(record.select(0, heads))

            learn(*a3, spans, aligned)

    def eager_step() -> None:
        def aligned(output) -> torch.Tensor:
            seen = torch.stack([layer[0][:, rows[0]][:, :, columns[0]] for layer in output.attentions])
            heads = critical_heads(visual_ratio(seen.detach().sum(-1)), count)
            return pulled(torch.stack([seen[head.layer, head.head] for head in heads]))

        learn(*eager, {"output_attentions": True}, aligned)

    return {"LoRA": lambda: learn(*lora, {}, None), "A3Tune": a3_step, "eager": eager_step}


def measure(ways: dict[str, Callable[[], object]], device: torch.device, repeats: int) -> dict[str, Figures]:
    """Each way once a turn, for ``repeats`` turns after one that warms up; the order turns too."""
    figures = {name: Figures([], [], []) for name in ways}
    for turn in range(repeats + 1):
        names = list(ways)
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            gc.collect()
            before = _restart_peak(device)
            wall, process = time.perf_counter(), time.process_time()
            ways[name]()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            wall, process = time.perf_counter() - wall, time.process_time() - process
            if turn:
                figures[name].wall.append(wall)
                figures[name].process.append(process)
                figures[name].memory.append(max(_peak(device) - before, 0))
    return figures


def _restart_peak(device: torch.device) -> int:
    """Forget the highest use so far; returns what is in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    release_memory()
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")  # see proc(5): resets the peak resident set size
    return _resident("VmRSS")


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident("VmHWM")


def _resident(name: str) -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def show(title: str, figures: dict[str, Figures], weights: int, device: torch.device) -> None:
    clock = "wall" if device.type == "cuda" else "process"
    first = next(iter(figures.values()))
    print(f"\n{title:24}{'wall ms':>10}{'process ms':>12}{'x time':>9}{'peak GB':>10}{'x memory':>10}{'at most':>9}")
    for name, taken in figures.items():
        pairs = zip(getattr(taken, clock), getattr(first, clock), strict=True)
        slower = statistics.median(own / plain for own, plain in pairs)
        peak = weights + statistics.median(taken.memory)
        larger = peak / (weights + statistics.median(first.memory))
        limit = f"{LIMITS[name]:.2f}" if name in LIMITS and "answer" not in title else ""
        wall, process = (statistics.median(part) * 1e3 for part in (taken.wall, taken.process))
        print(f"{name:24}{wall:10.1f}{process:12.1f}{slower:9.3f}{peak / 1e9:10.3f}{larger:10.3f}{limit:>9}")


if __name__ == "__main__":
    main()
