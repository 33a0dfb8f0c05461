"""``python -m a3tune tune``: the options, and the summary that it prints."""

from __future__ import annotations

import argparse
import importlib.resources
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from a3tune.errors import A3TuneError, Cancelled

if TYPE_CHECKING:
    from a3tune.training.config import TuneConfig
    from a3tune.training.tuning import RunSummary

ABLATIONS = ("no-alignment", "no-query-experts", "no-key-experts", "no-head-selection")
STOPPED = 3


def add_tune_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.epilog = (
        "Several GPUs: accelerate launch --multi_gpu --num_processes 2 -m a3tune tune --data ...; the same with "
        "--device cpu at its end runs two processes without a GPU. Each takes batch_size questions in every step."
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="PATH", help="file of rows, or folder of a data set"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder; an unfinished run goes on")
    parser.add_argument("--model", default="demo", help="demo, a checkpoint folder or a hub id (default demo)")
    parser.add_argument("--method", help="a3, lora, lora+align or a3moe (default: the configuration's)")
    parser.add_argument("--config", metavar="FILE", help=f"YAML file or preset: {', '.join(_presets())}")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change one setting")
    for name in ABLATIONS:
        parser.add_argument(f"--{name}", action="store_true", help=f"ablation: {name.replace('-', ' ')}")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images, where it lies elsewhere")
    parser.add_argument("--layout", default="auto", help="layout of the data (default: told from its keys)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default auto)")
    parser.add_argument("--resume", action="store_true", help="go on with an unfinished run, never start a new one")


def run_tune(options: argparse.Namespace, on_progress: Callable[[str, float], None] | None = None) -> int:
    """Run the command.

    Returns:
        0 when the run is finished, 3 when it was stopped on request; the same command then goes on.

    Raises:
        A3TuneError: bad input; of several processes only the first raises, the others end quietly with 2.
    """
    try:
        config = config_of(options)
        # torch and transformers take seconds to load: a slip in the options is told before.
        from a3tune.training.tuning import tune

        summary = tune(
            config,
            options.data,
            options.out,
            options.model,
            device=options.device,
            layout=options.layout,
            images=options.images,
            resume=options.resume,
            on_progress=on_progress,
        )
    except Cancelled:
        if is_first_process():
            print(f"Stopped before the first step. Start the same command again to go on: {options.out}")
        return STOPPED
    except A3TuneError:
        if is_first_process():
            raise
        return 2
    if is_first_process():
        print(describe(summary))
        sys.stdout.flush()
    return 0 if summary.status == "finished" else STOPPED


def config_of(options: argparse.Namespace) -> TuneConfig:
    """The settings that the options ask for: file or preset, then --set, then the options of their own.

    Raises:
        DataError: unknown settings or values out of range.
    """
    from a3tune.training.config import load_config, parse_overrides  # torch: see run_tune

    overrides: dict[str, object] = dict(parse_overrides(options.set))
    if options.method is not None:
        overrides["method"] = options.method
    for name in ABLATIONS:
        key = name.replace("-", "_")
        if getattr(options, key):
            overrides[key] = True
    return load_config(options.config, overrides)


def describe(summary: RunSummary) -> str:
    """The summary in a few lines."""
    minutes, seconds = divmod(round(summary.seconds), 60)
    lines = [f"{summary.status.capitalize()} at step {summary.step} of {summary.steps} ({minutes} min {seconds} s)."]
    if summary.metrics:
        names = {
            "loss": "loss {:.4f}",
            "accuracy": "{:.1%} exactly right",
            "closed_accuracy": "closed {:.1%}",
            "open_accuracy": "open {:.1%}",
            "attention_mass": "attention inside the regions {:.1%}",
        }
        shown = [text.format(summary.metrics[name]) for name, text in names.items() if name in summary.metrics]
        lines.append(f"Last validation: {', '.join(shown)}.")
    if summary.best_step is not None and summary.best_step != summary.step:
        lines.append(f"The adapter is the one of step {summary.best_step}, with the lowest validation loss.")
    lines += summary.notes
    if summary.status == "stopped":
        lines.append("Start the same command again to go on.")
    if summary.adapter is not None:
        lines.append(f"Adapter: {summary.adapter}")
    return "\n".join(lines)


def is_first_process() -> bool:
    """Whether this is the first of the processes that a launcher started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _presets() -> list[str]:
    """Names of the presets, read from the folder: the module that checks them loads torch."""
    files = importlib.resources.files(__package__).joinpath("presets").iterdir()
    return sorted(entry.name.removesuffix(".yaml") for entry in files if entry.name.endswith(".yaml"))
