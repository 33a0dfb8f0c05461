"""The options of ``python -m a3tune tune``, which looking ahead at a run and measuring one take too."""

from __future__ import annotations

import argparse
import importlib.resources
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3tune.bundle import is_demo
from a3tune.errors import A3TuneError, DataError
from a3tune.training.launch import process_count

if TYPE_CHECKING:
    from a3tune.training.config import TuneConfig

ABLATIONS = ("no-alignment", "no-query-experts", "no-key-experts", "no-head-selection")


def add_tune_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.epilog = (
        "Several GPUs: accelerate launch --multi_gpu --num_processes 2 -m a3tune tune --data ...; the same with "
        "--device cpu at its end runs two processes without a GPU. Each takes batch_size questions in every step."
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="PATH",
        help="file of rows, folder of a data set, or owner/name of a public data set of the hub",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder; an unfinished run goes on")
    parser.add_argument("--model", default="demo", help="demo, a checkpoint folder or a hub id (default demo)")
    parser.add_argument("--method", help="a3, lora, lora+align or a3moe (default: the configuration's)")
    parser.add_argument("--config", metavar="FILE", help=f"YAML file or preset: {', '.join(_presets())}")
    parser.add_argument(
        "--paper-exact",
        action="store_true",
        help="with a preset of the paper, or a file that begins with one: the settings of its released scripts to the "
        "letter (labels by SAM ViT-H and BiomedCLIP, no validation held out, last step kept, their batch over all "
        "processes); what still differs is printed",
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change one setting")
    for name in ABLATIONS:
        parser.add_argument(f"--{name}", action="store_true", help=f"ablation: {name.replace('-', ' ')}")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images, where it lies elsewhere")
    parser.add_argument("--layout", default="auto", help="layout of the data (default: told from its keys)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default auto)")
    parser.add_argument(
        "--report-to",
        type=lambda text: [name.strip() for name in text.split(",") if name.strip()],
        default=[],
        metavar="LIST",
        help="where else the run reports to: tensorboard, wandb, mlflow, separated by commas, each set by its usual "
        "variables (WANDB_MODE=offline, MLFLOW_TRACKING_URI, ...)",
    )
    parser.add_argument(
        "--show-batch",
        action="store_true",
        help="end before the first step and show the first batch as the model gets it: the decoded words, those that "
        "are learnt, and in RUN/batch the pictures after the processor with the target patches; without this option "
        "the same command goes on",
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="make a few steps and a validation with the data, say how long the whole run would take, labels included, "
        "how much memory, and how many numbers it trains, and end; nothing is written",
    )
    parser.add_argument("--resume", action="store_true", help="go on with an unfinished run, never start a new one")


def print_answer(find: Callable[[], Any]) -> int:
    """Print what a function finds as one line of JSON: its fields, or "error" with the reason in words.

    Returns:
        the program's exit status.
    """
    try:
        found = asdict(find())
    except A3TuneError as error:
        print(json.dumps({"error": str(error)}))
        return 1
    print(json.dumps(found))
    return 0


def config_of(options: argparse.Namespace) -> TuneConfig:
    """The settings that the options ask for: file or preset, then --paper-exact, --set and the options of their own.

    Raises:
        DataError: unknown settings or values out of range, or --paper-exact with what the paper's scripts do not have.
    """
    # torch: a slip in the options is told first
    from a3tune.training.config_file import cited_preset, load_config, parse_overrides
    from a3tune.training.paper_presets import exact_settings

    overrides: dict[str, object] = {}
    if options.paper_exact:
        if is_demo(options.model):
            raise DataError(
                expected="LLaVA-Med v1 or v1.5, which the paper's scripts tune",
                got="The model is the demo model",
                remedy="Name it with --model, or leave --paper-exact out",
            )
        overrides = exact_settings(cited_preset(options.config), process_count())
    overrides |= parse_overrides(options.set)
    if options.method is not None:
        overrides["method"] = options.method
    for name in ABLATIONS:
        key = name.replace("-", "_")
        if getattr(options, key):
            overrides[key] = True
    return load_config(options.config, overrides)


def _presets() -> list[str]:
    """Names of the presets, read from the folder: the module that checks them loads torch."""
    files = importlib.resources.files(__package__).joinpath("presets").iterdir()
    return sorted(entry.name.removesuffix(".yaml") for entry in files if entry.name.endswith(".yaml"))
