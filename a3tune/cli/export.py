"""``python -m a3tune export``: an adapter merged into its base, or made ready to give away."""

from __future__ import annotations

import argparse
from pathlib import Path

from a3tune.bundle import DEMO
from a3tune.cli.ineffective_options import refuse_ineffective
from a3tune.cli.model_options import add_device_option, add_dtype_option
from a3tune.progress import SteadyProgress

HELP = "merge a LoRA adapter into its base model and check it, or copy an adapter with another strength"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--adapter", type=Path, required=True, metavar="DIR", help="adapter folder in PEFT's format")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder for the result")
    parser.add_argument(
        "--as",
        dest="form",
        choices=("merged", "adapter"),
        default="merged",
        help="merged: a model of its own, saved only if it answers as base and adapter do (LoRA only: A3MoE's experts "
        "depend on question and image); adapter: settings, weights and card (default merged)",
    )
    parser.add_argument("--model", default=DEMO, help="the base: demo, a checkpoint folder or a hub id (default demo)")
    parser.add_argument(
        "--strength",
        type=float,
        default=1.0,
        metavar="S",
        help="multiply the adapter's change of the base, above 0 to 2 (default 1: as tuned)",
    )
    add_device_option(parser)
    add_dtype_option(parser, "precision that is merged and saved in")
    parser.add_argument(
        "--allow-other-base",
        action="store_true",
        help="use an adapter that was made for other weights of the same shapes all the same",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; returns 0."""
    if options.form == "adapter":
        names = ("model", "device", "dtype", "allow_other_base")
        refuse_ineffective(options, names, "with --as adapter", "an adapter and a strength; no model is loaded")
    from a3tune.training.export import export_adapter, export_merged  # torch: see a3tune.cli.main

    if options.form == "adapter":
        export_adapter(options.adapter, options.out, strength=options.strength)
        print(f"Adapter: {options.out}")
        return 0
    with SteadyProgress(at_once=False) as progress:
        done = export_merged(
            options.adapter,
            options.out,
            options.model,
            strength=options.strength,
            device=options.device,
            dtype=options.dtype,
            allow_other_base=options.allow_other_base,
            on_progress=progress,
        )
    print(
        f"Model: {done.folder}\n{done.checks} answers are those of base and adapter, word for word; logits differ by "
        f"{done.error:.1g} of the largest."
    )
    return 0
