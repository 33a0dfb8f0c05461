"""Time what seeing and tuning attention costs on a LLaVA-Med shaped model with random weights, in one run.

    python -m benchmarks.model_speed                                      # 7B, bfloat16, on a GPU
    python -m benchmarks.model_speed --small                              # 0.1B: 1024 wide, 8 layers; on a CPU
    python -m benchmarks.model_speed --small --write docs/performance.md  # the same, into the table there

The prompt has 640 tokens, 576 of them image patches. Four ways to run the prompt once (prefill): plain SDPA, with
capture of as many critical heads as a layer has, with capture of all heads, and eager attention with
``output_attentions``. Four ways to answer: generation alone, with capture of the critical heads or of all heads in the
passes that write, and eager with ``output_attentions``. The first word of a first question about an image and that of
another one, for the base model, LoRA and A3MoE, with the maps of all heads, beside plain prefill. An answer with the
maps of the critical heads by base, LoRA and A3MoE: by each, by all three one by one, and by all three as the rows of
one batch. Three training steps, optimizer included: LoRA of rank 64, A3Tune (A3MoE adapters, heads chosen in the step,
alignment loss), and LoRA on eager attention with the same loss on the attention it returns; in half precision under
autocast, as the trainer does. Last, what loading a checkpoint of that size takes at most, each time in a process of its
own that has loaded the demo model before, so that the program's own modules do not count.

All ways share one set of weights and take turns, so that another load on the machine hits all alike. Turns come in
pairs, the second one backwards: what drifts hits the first and the last way alike. A ratio is that of a pair's two
turns, a figure the median over the pairs. On a CPU everything runs in one thread and the time is that thread's own
processor time, which waiting for a neighbour does not count in; the wall clock stands beside it. Memory is the weights
plus the highest use while the step ran: of the GPU's allocator, or on Linux of the process's resident memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import get_peft_model
from torch import nn
from torch.nn import functional
from transformers import (
    AutoProcessor,
    LlavaForConditionalGeneration,
)

from a3tune.adapters.a3moe import record_experts
from a3tune.attention.capture import capture
from a3tune.attention.critical_heads import critical_heads, visual_ratio
from a3tune.attention.loss import alignment_loss
from a3tune.attention.record import AttentionRecord
from a3tune.bundle import DEMO_MODEL
from a3tune.lack_of_memory import trim_memory
from a3tune.models.load import load_model
from a3tune.training.config import TuneConfig
from a3tune.training.methods import adapter_config
from a3tune.types import Head
from benchmarks.adapters_together import adapters_together
from benchmarks.document import write_between
from benchmarks.other_questions import first_words
from benchmarks.random_llava import AFTER, BEFORE, IMAGE_TOKEN, PATCHES, SIZES, build, masks, prompt, some_heads, twin
from benchmarks.speed_table import Figures, Row, markdown, tabulate

ANSWER = 20


@dataclass(frozen=True)
class Way:
    """One way to do a thing.

    Attributes:
        run: does it once.
        held: tells how many bytes it keeps for itself between its turns: an adapter and its optimizer's state.
    """

    run: Callable[[], object]
    held: Callable[[], int] = lambda: 0


class Stopwatch:
    """Adds up the thread's time inside :meth:`AttentionRecord.add`, where a pass without gradients computes the maps:
    the cost of capture measured directly, and not as the small difference of two long times."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._add = AttentionRecord.add

    def __enter__(self) -> Stopwatch:
        add = self._add

        def timed(record: AttentionRecord, *call: object) -> None:
            began = time.thread_time()
            add(record, *call)
            self.seconds += time.thread_time() - began

        AttentionRecord.add = timed
        return self

    def __exit__(self, *reason: object) -> None:
        AttentionRecord.add = self._add


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write the document's table if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--small", action="store_const", const="0.1B", dest="size", default="7B", help="0.1B, for a CPU"
    )
    parser.add_argument("--tiny", action="store_const", const="tiny", dest="size", help="tries the way, not the result")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="default: bfloat16 on a GPU")
    parser.add_argument("--pairs", type=int, default=14, help="most pairs of turns for each part (default 14)")
    parser.add_argument("--minutes", type=float, default=8.0, help="about how long in all (default 8)")
    parser.add_argument("--answer-tokens", type=int, default=32)
    parser.add_argument("--skip-training", action="store_true")
    parser.add_argument("--skip-loading", action="store_true")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between this document's marks")
    parser.add_argument("--load-peak", nargs=2, metavar=("FOLDER", "DTYPE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.load_peak:
        print(json.dumps(load_peak(*options.load_peak, options.device)))
        return
    if options.size == "7B" and options.device == "cpu":
        parser.error("7B is for a GPU; choose --small")
    if options.pairs < 1 or options.answer_tokens < 1:
        parser.error("--pairs and --answer-tokens must be at least 1")
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    dtype = getattr(torch, options.dtype or ("float32" if device.type == "cpu" else "bfloat16"))
    torch.manual_seed(0)
    base = build(SIZES[options.size], device, dtype)
    # What is there now stays: collecting garbage between the turns need not walk through all imported modules.
    gc.freeze()
    weights = sum(weight.numel() * weight.element_size() for weight in base.parameters())
    head = describe(base, device, dtype)
    print(head)
    inputs = prompt(base, device, dtype)
    rows: list[Row] = []

    def part(title: str, ways: dict[str, Way], share: float) -> None:
        with Stopwatch() as watch:
            figures = measure(ways, device, watch, options.pairs, 60 * options.minutes * share)
        # A GPU works on after the thread has asked it to: there only the wall clock tells.
        rows.extend(tabulate(title, figures, weights, "wall" if device.type == "cuda" else "thread"))

    with torch.no_grad():
        part("prefill", prefills(base, inputs), 0.22)
        part(f"answer of {options.answer_tokens} tokens", answers(base, inputs, options.answer_tokens), 0.12)
        asked = {name: Way(run) for name, run in first_words(base, inputs).items()}
        part("question up to its first word", asked, 0.16)
        several = {name: Way(run) for name, run in adapters_together(base, inputs, options.answer_tokens).items()}
        part("base, lora and a3", several, 0.12)
    if not options.skip_training:
        part("training step", steps(base, inputs), 0.22)
    del inputs
    peaks = [] if options.skip_loading else load_peaks(base, device)
    table = markdown(rows, peaks)
    print(table)
    if options.write is not None:
        write_between(options.write, f"{head}\n\n{table}")


def describe(model: nn.Module, device: torch.device, dtype: torch.dtype) -> str:
    """Model and machine, in one paragraph."""
    count = sum(weight.numel() for weight in model.parameters())
    load = f", at a load of {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    if device.type == "cuda":
        place = f"{torch.cuda.get_device_name(device)}, memory by its allocator"
    else:
        place = f"{platform.machine()} with {os.cpu_count()} cores and no GPU, one thread{load}, memory as resident"
    return (
        f"{count / 1e9:.2f} billion random weights in {str(dtype).removeprefix('torch.')}, "
        f"{BEFORE + PATCHES + AFTER} tokens of which {PATCHES} are patches; {place}, torch {torch.__version__}."
    )


def prefills(base: LlavaForConditionalGeneration, inputs: dict[str, torch.Tensor]) -> dict[str, Way]:
    plain, captured, eager = twin(base, "sdpa"), twin(base), twin(base, "eager")
    rows, columns = masks(inputs["input_ids"])
    heads = some_heads(base)
    options = {**inputs, "use_cache": True, "logits_to_keep": 1}

    def capturing(wanted: list[Head] | None) -> object:
        with capture(rows, columns, wanted) as record:
            captured(**options)
        return record.weights(0)

    return {
        "plain": Way(lambda: plain(**options)),
        "critical heads": Way(lambda: capturing(heads)),
        "all heads": Way(lambda: capturing(None)),
        "eager": Way(lambda: eager(**options, output_attentions=True)),
    }


def answers(base: LlavaForConditionalGeneration, inputs: dict[str, torch.Tensor], tokens: int) -> dict[str, Way]:
    plain, captured, eager = twin(base, "sdpa"), twin(base), twin(base, "eager")
    options = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "pad_token_id": 0}
    options["suppress_tokens"] = [IMAGE_TOKEN]

    rows, columns = masks(inputs["input_ids"])

    def with_maps(wanted: list[Head] | None) -> object:
        with capture(rows, columns, wanted, growing=True) as record:
            captured.generate(**inputs, **options)
        return record.weights(0)

    return {
        "plain": Way(lambda: plain.generate(**inputs, **options)),
        "critical heads": Way(lambda: with_maps(some_heads(base))),
        "all heads": Way(lambda: with_maps(None)),
        "eager": Way(lambda: eager.generate(**inputs, **options, output_attentions=True, return_dict_in_generate=True)),
    }


def steps(base: LlavaForConditionalGeneration, inputs: dict[str, torch.Tensor]) -> dict[str, Way]:
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
        with torch.autocast(ids.device.type, base.dtype, enabled=base.dtype != torch.float32):
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

    return {
        "LoRA": Way(lambda: learn(*lora, {}, None), lambda: held(lora[1])),
        "A3Tune": Way(a3_step, lambda: held(a3[1])),
        "eager": Way(eager_step, lambda: held(eager[1])),
    }


def held(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of what an optimizer trains, and of what it keeps for it."""
    trained = [weight for group in optimizer.param_groups for weight in group["params"]]
    kept = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in (*trained, *kept))


def measure(
    ways: dict[str, Way], device: torch.device, watch: Stopwatch, pairs: int, seconds: float
) -> dict[str, Figures]:
    """Each way twice in each pair of turns, after one turn that warms up; at least two pairs, and no new one once
    ``seconds`` are over."""
    figures = {name: Figures([], [], [], []) for name in ways}
    names = list(ways)
    for name in names:
        _once(ways[name], device, watch)
    began = time.monotonic()
    for pair in range(pairs):
        if pair > 1 and time.monotonic() - began > seconds:
            break
        taken = {name: [] for name in names}
        order = names if pair % 2 == 0 else names[::-1]
        for name in (*order, *order[::-1]):
            taken[name].append(_once(ways[name], device, watch))
        for name, (one, other) in taken.items():
            figures[name].wall.append((one[0] + other[0]) / 2)
            figures[name].thread.append((one[1] + other[1]) / 2)
            figures[name].memory.append(max(one[2], other[2]))
            figures[name].capture.append((one[3] + other[3]) / 2)
    return figures


def _once(way: Way, device: torch.device, watch: Stopwatch) -> tuple[float, float, int, float]:
    """Seconds of wall clock, seconds of processor time, bytes above the shared weights, share spent in capture."""
    gc.collect()
    before = _restart_peak(device)
    watch.seconds = 0.0
    wall, thread = time.perf_counter(), time.thread_time()
    way.run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall, thread = time.perf_counter() - wall, time.thread_time() - thread
    return wall, thread, max(_peak(device) - before, 0) + way.held(), watch.seconds / thread


def _restart_peak(device: torch.device) -> int:
    """Forget the highest use so far; returns what is in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    trim_memory()
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


def load_peaks(base: LlavaForConditionalGeneration, device: torch.device) -> list[tuple[str, str, int, int]]:
    """(stored as, loaded as, bytes of the weights, bytes at the peak) for a checkpoint of the model's size."""
    found = []
    # On a GPU in half precision only: a 7B model is 15 GB on the disk then.
    kinds = ("float32", "bfloat16") if device.type == "cpu" else ("bfloat16",)
    with tempfile.TemporaryDirectory() as folder:
        AutoProcessor.from_pretrained(DEMO_MODEL).save_pretrained(folder)
        for stored in kinds:
            base.to(getattr(torch, stored)).save_pretrained(folder)
            for loaded in kinds:
                command = [sys.executable, "-m", "benchmarks.model_speed", "--load-peak", folder, loaded]
                command += ["--device", str(device)]
                done = subprocess.run(
                    command, capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[1]
                )
                found.append((stored, loaded, *json.loads(done.stdout.splitlines()[-1])))
    return found


def load_peak(folder: str, dtype: str, device: str) -> tuple[int, int]:
    """(bytes of the weights, the highest use of memory while they were loaded), in this process."""
    # What the program's own modules take when they are first needed is no checkpoint's.
    load_model(DEMO_MODEL, device=device, dtype=dtype)
    before = _restart_peak(torch.device(device))
    model = load_model(folder, device=device, dtype=dtype, allow_unused_weights=True).model
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return size, _peak(torch.device(device)) - before


if __name__ == "__main__":
    main()
