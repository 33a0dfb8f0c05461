"""Processes that write and are really killed (SIGKILL) at random moments: whether what was saved is still there, and
whole.

    python -m benchmarks.killed [--kills 25] [--seed 7]

Each process saves one version after the other into the same place: an inspection, labels, a tuning run's checkpoints,
an adapter for giving away, or what a server keeps encrypted. After each kill the version that is read has to be the
last one that the process said is saved, or the one after it, and every file of it has to be of that version; a run is
gone on with, and has to end at an unbroken run's weights, to the last bit.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from a3tune.bundle import EXAMPLES, demo_adapters
from a3tune.images import load_image
from a3tune.types import ScoredRegion, WeakLabels
from app.engine.ids import OwnerId
from app.kept.kept_folders import KeptFolders

_PICTURE = EXAMPLES / "chest_mass.png"
_KEY, _OWNER, _ITEM = bytes(32), OwnerId("a" * 40), "0123456789ab"
_LARGEST = 3 << 20
# More than a process makes before it is killed.
_STEPS = 40


class Kind(NamedTuple):
    """Something that is saved.

    Attributes:
        save: saves one version after the other in a folder; tells each one's number once it is saved.
        read: the number of the version in a folder, after checking that all of it is of that version.
    """

    save: Callable[[Path, Callable[[int], None]], None]
    read: Callable[[Path], int]


def check(good: object, what: str) -> None:
    """Say what did not hold."""
    if not good:
        raise AssertionError(what)


def versions(folder: Path, read: Callable[[Path], int]) -> Iterator[int]:
    """The numbers after that of what is there."""
    first = read(folder) + 1
    yield from range(first, first + 1_000_000)


# ---- labels ----------------------------------------------------------------------------------------


def save_labels(folder: Path, said: Callable[[int], None]) -> None:
    """Version n has n regions, up to 9, and the prompt n."""
    from a3tune.labels.export import write_labels
    from a3tune.labels.segmenters.segmentation import region_from_mask

    image = load_image(_PICTURE)
    for number in versions(folder, read_labels):
        regions = []
        for place in range(number % 9 + 1):
            mask = np.zeros((image.height, image.width), bool)
            mask[10 * place : 10 * place + 8, 10:30] = True
            regions.append(ScoredRegion(region_from_mask(mask), 1.0, place + 1, 1.0, str(number)))
        labels = WeakLabels(tuple(regions), str(number), "segmenter", "scorer")
        write_labels(labels, image, folder, [str(number)], {})
        said(number)


def read_labels(folder: Path) -> int:
    """See `save_labels`."""
    if not (folder / "labels.json").exists():
        return 0
    record = json.loads((folder / "labels.json").read_text())
    number = int(record["prompt"])
    with np.load(folder / "masks.npz") as arrays:
        check(len(arrays["masks"]) == len(record["regions"]) == number % 9 + 1, "masks and record belong together")
    with Image.open(folder / "regions.png") as picture:
        picture.load()
    return number


# ---- inspections -----------------------------------------------------------------------------------


def save_inspection(folder: Path, said: Callable[[int], None]) -> None:
    """Version n has the question n, and n in its maps' file."""
    from a3tune.inspection.inspect import inspect_image
    from a3tune.inspection.record import write_inspection
    from a3tune.models.load import load_model
    from app.engine.model_slot import model_source

    made = inspect_image(load_model(model_source("demo"), device="cpu"), load_image(_PICTURE), "Is there a mass?")
    for number in versions(folder, read_inspection):
        views = tuple(replace(view, visual_ratio=np.full_like(view.visual_ratio, number)) for view in made.views)
        write_inspection(replace(made, question=str(number), views=views), folder)
        said(number)


def read_inspection(folder: Path) -> int:
    """See `save_inspection`."""
    if not (folder / "inspect.json").exists():
        return 0
    number = int(json.loads((folder / "inspect.json").read_text())["question"])
    with np.load(folder / "attention_base.npz") as arrays:
        check((arrays["visual_ratio"] == number).all(), "maps and record belong together")
        check(np.isfinite(arrays["maps"]).all(), "the maps are whole")
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
    return number


# ---- what a server keeps ---------------------------------------------------------------------------


def save_kept(folder: Path, said: Callable[[int], None]) -> None:
    """Version n is a data set whose two files say n, opened, written and sealed."""
    kept = KeptFolders(folder, _KEY)
    for number in versions(folder, lambda folder: _version(kept)):
        kept.open(_OWNER)
        place = kept.open_root / _OWNER / "data" / _ITEM
        place.mkdir(parents=True, exist_ok=True)
        # As a data set is changed: what is new is put into place at once.
        (place / "new").write_bytes(f"{number:08}".encode() * (_LARGEST // 8))
        (place / "new").replace(place / "data.json")
        kept.close(_OWNER)
        said(number)


def read_kept(folder: Path) -> int:
    """See `save_kept`."""
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.killed", "--number", str(folder)], capture_output=True, text=True, check=True
    )
    return int(process.stdout)


def _version(kept: KeptFolders) -> int:
    kept.open(_OWNER)
    file = kept.open_root / _OWNER / "data" / _ITEM / "data.json"
    content = file.read_bytes() if file.exists() else b"0"
    number = int(content[:8])
    check(content in (b"0", f"{number:08}".encode() * (_LARGEST // 8)), "what is kept is whole")
    return number


# ---- tuning runs -----------------------------------------------------------------------------------


def save_tuning(folder: Path, said: Callable[[int], None]) -> None:
    """Version n is the checkpoint of step n of one run."""
    from transformers import TrainerCallback

    class Told(TrainerCallback):
        def on_save(self, args: object, state: Any, control: object, **facts: object) -> None:
            said(state.global_step)

    _tune(folder / "run", [Told()])


def read_tuning(folder: Path) -> int:
    """Goes on with the run to its end, and removes it."""
    from a3tune.training.run_folder import RunFolder

    run, whole = RunFolder(folder / "run"), RunFolder(folder / "whole")
    found = run.steps_saved()[-1]
    _tune(run.path, [])
    if not whole.path.exists():
        _tune(whole.path, [])
    for name in ("adapter", f"checkpoints/checkpoint-{_STEPS}"):
        weights = [(one.path / name / "adapter_model.safetensors").read_bytes() for one in (run, whole)]
        check(weights[0] == weights[1], f"{name} is an unbroken run's")
    steps = [event["step"] for event in run.event_log.read() if event["event"] == "step"]
    check(steps == list(range(1, _STEPS + 1)), "each step is told once")
    check(not list(run.path.rglob(".*.part")), "nothing half-written is left")
    shutil.rmtree(run.path)
    return found


def _tune(run: Path, callbacks: Sequence[Any]) -> None:
    import torch

    from a3tune.training.tuning import tune
    from tests.support.tuning_data import tiny_config, write_data

    torch.set_num_threads(1)
    rows = write_data(run.parent / "data")
    config = tiny_config(max_steps=_STEPS, save_every=1, evaluate_every=10, max_length=400)
    check(tune(config, rows, run, "demo", device="cpu", callbacks=callbacks).status == "finished", "the run ended well")


# ---- adapters for giving away ----------------------------------------------------------------------


def save_export(folder: Path, said: Callable[[int], None]) -> None:
    """Version n is a folder of its own."""
    from a3tune.training.export import export_adapter

    adapter = next(iter(demo_adapters().values()))
    for number in versions(folder, read_export):
        export_adapter(adapter, folder / str(number))
        said(number)


def read_export(folder: Path) -> int:
    """See `save_export`."""
    numbers = sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal()) if folder.is_dir() else []
    for number in numbers[-2:]:
        check((folder / str(number) / "adapter_config.json").is_file(), "the settings are there")
        check(load_file(folder / str(number) / "adapter_model.safetensors"), "the weights are whole")
    check(numbers == list(range(1, len(numbers) + 1)), "none is missing")
    return len(numbers)


KINDS = {
    "labels": Kind(save_labels, read_labels),
    "inspection": Kind(save_inspection, read_inspection),
    "tuning": Kind(save_tuning, read_tuning),
    "keeping": Kind(save_kept, read_kept),
    "export": Kind(save_export, read_export),
}


def kill_once(kind: str, folder: Path, chance: random.Random) -> tuple[int, int]:
    """Let a process save, and kill it at a random moment after its first save; the version that it said is saved, and
    the one that is read.

    Raises:
        AssertionError: something saved is lost, or something half-written is read.
    """
    command = [sys.executable, "-m", "benchmarks.killed", "--save", kind, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        begun = time.monotonic()
        said = [int(process.stdout.readline())]
        said.append(int(process.stdout.readline()))
        time.sleep(chance.uniform(0, 2 * min(2.0, max(0.05, time.monotonic() - begun))))
        process.kill()
        said += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    check(process.returncode == -signal.SIGKILL, f"{kind}: it was still at work when it was killed")
    found = KINDS[kind].read(folder)
    check(found in (said[-1], said[-1] + 1), f"{kind}: {said[-1]} was saved, {found} is read")
    return said[-1], found


def main(arguments: Sequence[str] | None = None) -> None:
    """Kill processes and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", nargs="*", choices=KINDS, default=tuple(KINDS))
    parser.add_argument("--save", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--number", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.save:
        KINDS[options.save[0]].save(Path(options.save[1]), lambda number: print(number, flush=True))
        return
    if options.number:
        print(_version(KeptFolders(options.number, _KEY)))
        return
    chance = random.Random(options.seed)
    killed: dict[str, int] = dict.fromkeys(options.only, 0)
    with tempfile.TemporaryDirectory(prefix="a3tune-killed-") as place:
        for number in range(options.kills):
            kind = options.only[number % len(options.only)]
            (Path(place) / kind).mkdir(exist_ok=True)
            said, found = kill_once(kind, Path(place) / kind, chance)
            killed[kind] += 1
            print(f"{number + 1}: {kind}, {said} saved, {found} read", file=sys.stderr, flush=True)
    lines = ["| Killed while saving | Times | What was saved is there, and whole |", "| --- | ---: | --- |"]
    lines += [f"| {kind} | {count} | {count} of {count} |" for kind, count in killed.items() if count]
    command = " ".join(("python -m benchmarks.killed", *(sys.argv[1:] if arguments is None else arguments)))
    lines += ["", f"`{command}`, seed {options.seed}, {time.strftime('%Y-%m-%d')}."]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
