"""Check on a GPU, in ten minutes, what only a GPU can show; the report goes into docs/performance.md.

    python -m benchmarks.gpu_check --write docs/performance.md   # on a machine with an NVIDIA GPU
    python -m benchmarks.gpu_check --device cpu                  # tries the script itself, without what needs a GPU

Each part is a process of its own with its own limit, so that one that hangs or crashes ends no other. A part that a
device cannot do is reported as left out, with the reason.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from a3tune.adapters.switch import AdapterSet
from a3tune.attention.capture import capture, prepare_capture
from a3tune.bundle import DEMO, demo_adapters
from a3tune.errors import NotEnoughMemoryError
from a3tune.inspection.inspect import inspect_image
from a3tune.inspection.passes import read_attention
from a3tune.lack_of_memory import release_memory
from a3tune.models import load as loading
from a3tune.models.load import load_model
from a3tune.parity.eager import check_checkpoint
from a3tune.training.config import TuneConfig
from a3tune.training.estimate import estimate_run
from a3tune.training.run_folder import RunFolder
from a3tune.training.tuning import tune
from a3tune.types import MedicalImage
from benchmarks.document import write_between
from benchmarks.gpu_memory import memory
from benchmarks.random_llava import SIZES, build, masks, prompt

ROOT = Path(__file__).resolve().parents[1]
MINUTES = 10
STARTING = 20
"""Seconds that a process may take until its libraries stand, beside its part's limit."""
QUESTION = "Is there a bright region on the left side?"


class Skipped(Exception):
    """A part that this device cannot do; says why."""


class Part(NamedTuple):
    """A check: what it gives, lines for the report, and its limit in seconds. It raises what it finds wrong."""

    check: Callable[[str], list[str]]
    seconds: int


def picture() -> MedicalImage:
    y, x = np.mgrid[0:96, 0:128]
    grey = np.where(((x - 40) / 25) ** 2 + ((y - 48) / 30) ** 2 < 1, 220, 40 + 80 * x // 128).astype(np.uint8)
    return MedicalImage(np.repeat(grey[:, :, None], 3, axis=2))


def need_cuda(device: str) -> None:
    if not device.startswith("cuda"):
        raise Skipped("needs an NVIDIA GPU")


def maps(device: str) -> list[str]:
    """The demo model's maps in float32 as on the CPU; capture as eager attention, also in half precision."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    found, lines = {}, []
    for place in ("cpu", device):
        model = load_model(DEMO, device=place, dtype="float32")
        found[place] = read_attention(model, model.encode(picture(), QUESTION, "yes")).weights
    worst = float(np.abs(found["cpu"] - found[device]).max())
    lines.append(f"float32 maps differ from the CPU's by {worst:.1e} at most")
    assert worst <= 1e-5, lines[-1]
    for row in check_checkpoint(loading.model_source(DEMO), device=device):
        lines.append(f"{row.name}: {row.worst_error:.1e} over {row.cases} cases")
        assert row.ok, lines[-1]
    for dtype in ("bfloat16", "float16"):
        model = load_model(DEMO, device=device, dtype=dtype)
        whole = model.encode(picture(), QUESTION, "yes")
        captured = read_attention(model, whole).weights
        model.model.set_attn_implementation("eager")
        with torch.no_grad():
            layers = model.model(**whole.inputs, output_attentions=True, use_cache=False).attentions
        eager = torch.stack([layer[0].float().cpu()[:, whole.rows[0]][:, :, whole.columns[0]] for layer in layers])
        worst = float(np.abs(captured - eager.numpy()).max())
        lines.append(f"{dtype} maps differ from eager attention in {dtype} by {worst:.1e} at most")
        assert worst <= 5e-2, lines[-1]
    return lines


@contextmanager
def data() -> Iterator[tuple[Path, Path]]:
    """(a small data set, a folder for runs)."""
    with tempfile.TemporaryDirectory(prefix="a3tune-") as name:
        folder = Path(name)
        rows = ["image,question,answer,split,mask"]
        for number in range(6):
            pixels = np.random.default_rng(number).integers(0, 90, (48, 48, 3), dtype=np.uint8)
            mask = np.zeros((48, 48), np.uint8)
            mask[8 + 3 * number : 22 + 3 * number, 6:20] = 255
            Image.fromarray(pixels).save(folder / f"i{number}.png")
            Image.fromarray(mask).save(folder / f"m{number}.png")
            split = "train" if number < 4 else "validation"
            rows.append(f"i{number}.png,Where is the mass?,left lung,{split},m{number}.png")
        (folder / "rows.csv").write_text("\n".join(rows) + "\n")
        yield folder / "rows.csv", folder / "runs"


def settings(**changed: object) -> TuneConfig:
    base = {"label_segmenter": "data", "batch_size": 2, "max_steps": 4, "evaluate_every": 2, "save_every": 2}
    return TuneConfig(**{**base, "gradient_accumulation": 1, "top_heads": 2, "dropout": 0.0, **changed})


def tuning(device: str) -> list[str]:
    """A3 runs of a few steps in each precision, with and without checkpointing, and one that goes on after a stop."""
    lines = []
    with data() as (rows, runs):
        weights = {}
        precisions = ("bf16", "fp16") if device.startswith("cuda") else ("fp32",)
        for precision in precisions:
            for checkpointing in (False, True):
                out = runs / f"{precision}{checkpointing}"
                tune(settings(precision=precision, gradient_checkpointing=checkpointing), rows, out, device=device)
                weights[precision, checkpointing] = load_file(out / "adapter/adapter_model.safetensors")
                assert all(bool(value.isfinite().all()) for value in weights[precision, checkpointing].values())
            apart = _apart_by(weights[precision, False], weights[precision, True])
            lines.append(f"4 steps in {precision}: checkpointing changes the weights by {apart:.1e} at most")
        out = runs / "stopped"
        halfway = RunFolder(out)
        stop = lambda: halfway.checkpoints.is_dir() and bool(halfway.steps_saved())  # noqa: E731
        assert tune(settings(precision=precisions[0]), rows, out, device=device, should_stop=stop).status == "stopped"
        tune(settings(precision=precisions[0]), rows, out, device=device)
        apart = _apart_by(load_file(out / "adapter/adapter_model.safetensors"), weights[precisions[0], False])
        lines.append(f"a run that was stopped goes on to weights that differ by {apart:.1e}")
        assert apart <= 1e-3, lines[-1]
    return lines


def _apart_by(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


def bits(device: str) -> list[str]:
    """Answers in 8 and 4 bit, with an adapter."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise Skipped("the package bitsandbytes is not installed")
    lines = []
    for quantization in ("8bit", "4bit"):
        model = load_model(DEMO, device=device, quantization=quantization)
        adapters = AdapterSet(model.model, demo_adapters(), identity=model)
        names = adapters.names
        inspection = inspect_image(model, picture(), QUESTION, adapters=names, adapter_set=adapters, max_new_tokens=8)
        lines.append(f"{quantization}: " + ", ".join(f'{view.adapter} "{view.answer}"' for view in inspection.views))
    return lines


def offload(device: str) -> list[str]:
    """The same answers and maps with half of the model in the machine's memory."""
    need_cuda(device)
    whole = load_model(DEMO, device=device, dtype="float32")
    room = sum(weight.nbytes for weight in whole.model.parameters()) // 2
    free = loading.available_memory
    loading.available_memory = lambda place: room if place.type == "cuda" else free(place)
    views = []
    for model in (whole, load_model(DEMO, device=device, dtype="float32", offload=True)):
        adapters = AdapterSet(model.model, demo_adapters(), identity=model)
        names = adapters.names
        views.append(inspect_image(model, picture(), QUESTION, adapters=names, adapter_set=adapters).views)
    for plain, moved in zip(*views, strict=True):
        apart = float(np.abs(plain.maps.weights - moved.maps.weights).max())
        assert plain.answer == moved.answer, f"{plain.adapter} answers otherwise when offloaded"
        assert apart <= 1e-5, f"{plain.adapter}'s maps differ by {apart:.1e} when offloaded"
    return [f"{len(views[0])} adapters answer and look alike with half of the weights offloaded"]


def waits(device: str) -> list[str]:
    """How often a training step waits for the device, as CUDA's own debugging tells."""
    need_cuda(device)
    with data() as (rows, runs), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        steps = 4
        tune(settings(max_steps=steps, evaluate_every=None, save_every=None, batch_size=4), rows, runs, device=device)
        torch.cuda.set_sync_debug_mode("default")
    found = [entry for entry in told if "synchroniz" in str(entry.message)]
    places: dict[str, int] = {}
    for entry in found:
        name = f"{Path(entry.filename).name}:{entry.lineno}"
        places[name] = places.get(name, 0) + 1
    most = sorted(places.items(), key=lambda place: -place[1])[:5]
    lines = [f"{len(found)} waits in a run of {steps} steps, most at " + ", ".join(f"{n} ({c})" for n, c in most)]
    return lines


def kernels(device: str) -> list[str]:
    """Which attention kernels a prefill runs, with capture and without."""
    need_cuda(device)
    target = torch.device(device)
    model = build(SIZES["0.1B"], target, torch.bfloat16)
    prepare_capture(model)
    inputs = prompt(model, target, torch.bfloat16)
    lines = []
    for captured in (False, True):
        rows, columns = masks(inputs["input_ids"])
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile, torch.no_grad():
            if captured:
                with capture(rows, columns):
                    model(**inputs, use_cache=False, logits_to_keep=1)
            else:
                model(**inputs, use_cache=False, logits_to_keep=1)
        events = profile.key_averages()
        attention = [
            event.key[:60] for event in events if any(w in event.key.lower() for w in ("flash", "fmha", "attn"))
        ]
        lines.append(f"capture {'on' if captured else 'off'}: {sum(e.count for e in events)} launches; {attention[:2]}")
    return lines


def estimate(device: str) -> list[str]:
    """What a run is expected to take."""
    with data() as (rows, _):
        found = estimate_run(settings(), rows, device=device)
    assert found.fits, found.remedy
    peak, free = found.peak_bytes / 1e9, found.free_bytes / 1e9
    return [f"{found.step_seconds:.2f} s a step, {peak:.2f} GB at the peak of {free:.1f} GB"]


def out_of_memory(device: str) -> list[str]:
    """A question that does not fit is told as that, and the next one is answered."""
    need_cuda(device)
    model = load_model(DEMO, device=device)
    before = inspect_image(model, picture(), QUESTION, max_new_tokens=4).views[0].answer
    release_memory()
    used = torch.cuda.memory_reserved(device) / torch.cuda.mem_get_info(device)[1]
    torch.cuda.set_per_process_memory_fraction(used, device)
    filler = []
    # Down to the gaps that only small tensors find.
    for numbers in (1 << 23, 1 << 18, 1 << 13, 1 << 7):
        with suppress(torch.OutOfMemoryError):
            while True:
                filler.append(torch.empty(numbers, device=device))
    try:
        inspect_image(model, picture(), QUESTION, max_new_tokens=4)
        raise AssertionError("the question was answered without memory")
    except NotEnoughMemoryError as error:
        told = str(error)
    filler.clear()
    torch.cuda.set_per_process_memory_fraction(1.0, device)
    assert inspect_image(model, picture(), QUESTION, max_new_tokens=4).views[0].answer == before
    return [f'told: "{told}"; the next question was answered as before']


def speed(device: str) -> list[str]:
    """The table of `benchmarks.model_speed`, at 7B where the GPU holds it."""
    options = ["--device", device, "--skip-loading"]
    free = torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else 0
    options += [] if free > 24e9 else ["--small"] if free else ["--tiny", "--pairs", "1", "--answer-tokens", "2"]
    options += ["--minutes", "2"] if free > 42e9 or not free else ["--minutes", "2", "--skip-training"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.model_speed", *options], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout.strip().splitlines()


PARTS = {
    "maps": Part(maps, 90),
    "out of memory": Part(out_of_memory, 30),
    "waits": Part(waits, 45),
    "offload": Part(offload, 40),
    "bits": Part(bits, 60),
    "tuning": Part(tuning, 120),
    "estimate": Part(estimate, 40),
    "kernels": Part(kernels, 30),
    "memory": Part(memory, 60),
    "speed": Part(speed, 200),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the parts, print the report, and write it into a document if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"in all (default {MINUTES})")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help='put the report between this document\'s "gpu" marks'
    )
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.part:
        print(json.dumps(_here(options.part, options.device)))
        return 0
    if not options.device:
        print("There is no GPU here: nothing was checked. --device cpu tries the script itself.")
        return 0
    ends, report, failed = time.monotonic() + 60 * options.minutes, [_head(options.device)], False
    for name in options.only:
        state, lines = _apart(name, options.device, min(STARTING + PARTS[name].seconds, ends - time.monotonic()))
        failed |= state not in ("ok", "left out")
        table = [line for line in lines if line.startswith("|")]
        report.append(f"**{name}**: {state}." + "".join(f"\n* {line}" for line in lines if line and line not in table))
        report += ["\n".join(table)] if table else []
        print(report[-1] if not table else report[-2], flush=True)
    if options.write is not None:
        write_between(options.write, "\n\n".join(report), "gpu")
    return int(failed)


def _here(name: str, device: str) -> tuple[str, list[str]]:
    try:
        return "ok", PARTS[name].check(device)
    except Skipped as reason:
        return "left out", [str(reason)]
    except Exception as error:  # whatever a part finds wrong belongs into the report
        return "FAILED", [f"{type(error).__name__}: {str(error)[:500]}"]


def _apart(name: str, device: str, seconds: float) -> tuple[str, list[str]]:
    """A part in a process of its own, ended when its time is over."""
    if seconds < 1:
        return "left out", ["the time of all parts was over"]
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--device", device, "--part", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, cwd=ROOT)
    except subprocess.TimeoutExpired:
        return "NOT FINISHED", [f"ended after {seconds:.0f} s"]
    told = [line for line in done.stdout.splitlines() if line.startswith('["')]
    if not told:
        last = done.stderr.strip().splitlines()[-1:]
        return "FAILED", [f"ended with status {done.returncode}", *last]
    state, lines = json.loads(told[-1])
    return state, lines


def _head(device: str) -> str:
    kind = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{platform.machine()}, no GPU"
    return f"{kind}, torch {torch.__version__}, {date.today().isoformat()}."


if __name__ == "__main__":
    sys.exit(main())
