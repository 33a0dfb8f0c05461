"""``python -m a3tune tune``: the run, and the summary that it prints."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from a3tune.cli.ineffective_options import refuse_ineffective
from a3tune.errors import A3TuneError, Cancelled, FirstBatchShown, RequestError
from a3tune.progress import SteadyProgress
from a3tune.storage import read_json
from a3tune.training.estimate_words import estimate_words
from a3tune.training.launch import check_processes, is_first_process, process_count
from a3tune.training.options import add_tune_arguments, config_of
from a3tune.wording import counted

if TYPE_CHECKING:
    from a3tune.training.config import TuneConfig
    from a3tune.training.run_summary import RunSummary

HELP = "tune adapters so that attention falls where it matters"
STOPPED = 3
_ABLATED = {
    "no_alignment": ("a3", "lora+align"),
    "no_head_selection": ("a3", "lora+align"),
    "no_query_experts": ("a3", "a3moe"),
    "no_key_experts": ("a3", "a3moe"),
}
"""Ablation -> the methods that have what it leaves out."""

add_arguments = add_tune_arguments


def run(options: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        0 when the run is finished (with --estimate: when it fits, else 1), 3 when it was stopped on request; the same
        command then goes on.

    Raises:
        A3TuneError: bad input; of several processes only the first raises, the others write it and end with 2.
    """
    if options.estimate:
        names = ("show_batch", "resume", "report_to")
        refuse_ineffective(options, names, "with --estimate", "settings and data to measure; no run begins")
        return _estimate(options)
    check_processes(os.environ)
    try:
        config = _config(options)
        # torch and transformers take seconds to load: a slip in the options is told before.
        from a3tune.training.config_file import cited_preset
        from a3tune.training.paper_presets import paper_differences, paper_presets
        from a3tune.training.run_folder import RunFolder
        from a3tune.training.tuning import tune

        preset = cited_preset(options.config)
        if preset in paper_presets() and is_first_process():
            differences = paper_differences(preset, config, process_count(), options.model)
            print(f"How this run differs from the paper's scripts for {preset}:")
            print(*(f"* {line}" for line in differences), sep="\n", flush=True)

        with SteadyProgress() as progress:
            summary = tune(
                config,
                options.data,
                options.out,
                options.model,
                device=options.device,
                layout=options.layout,
                images=options.images,
                resume=options.resume,
                show_batch=options.show_batch,
                report_to=options.report_to,
                on_progress=progress,
            )
    except FirstBatchShown:
        if is_first_process():
            folder = RunFolder(options.out).batch
            print(describe_batch(read_json(folder / "batch.json")))
            print(f"Pictures in {folder}. Start the same command without --show-batch to tune.")
        return 0
    except Cancelled:
        if is_first_process():
            print(f"Stopped before the first step. Start the same command again to go on: {options.out}")
        return STOPPED
    except A3TuneError as error:
        if is_first_process():
            raise
        # It may be this process's alone, and then nobody else would say why the run ended.
        print(f"Process {os.environ.get('RANK')}: {error}", file=sys.stderr, flush=True)
        return 2
    if is_first_process():
        print(describe(summary))
        sys.stdout.flush()
    return 0 if summary.status == "finished" else STOPPED


def _config(options: argparse.Namespace) -> TuneConfig:
    """The settings asked for.

    Raises:
        RequestError: an ablation of what the method does not have.
    """
    config = config_of(options)
    names = (name for name in _ABLATED if config.method not in _ABLATED[name])
    refuse_ineffective(options, names, f"with the method {config.method}", "a --method with what it leaves out")
    return config


def _estimate(options: argparse.Namespace) -> int:
    """Say what the run would take; 1 where it does not fit. Nothing is written."""
    if process_count() > 1:
        raise RequestError(
            expected="one process, on whose device a step is measured",
            got=f"--estimate was launched with {process_count()}",
            remedy="Leave accelerate launch out; several processes share the steps of an epoch",
        )
    config = _config(options)
    from a3tune.training.estimate import estimate_run  # torch: see run

    print("Making a few steps with your data ...", flush=True)
    found = estimate_run(
        config, options.data, options.model, device=options.device, layout=options.layout, images=options.images
    )
    print(estimate_words(asdict(found)))
    return 0 if found.fits else 1


def describe_batch(batch: dict[str, Any]) -> str:
    """The first batch in words (see `a3tune.training.first_batch`): what is learnt in double braces."""
    lines = [f"The first of {batch['size']} questions in a batch; only {{{{ }}}} is learnt, all else is masked:"]
    for number, question in enumerate(batch["questions"]):
        marks = {"masked": "{text}", "learnt": "{{{{{text}}}}}", "image": "[{tokens} image patches]"}
        text = "".join(marks.get(p["kind"], "[{tokens} of padding]").format(**p) for p in question["pieces"])
        where = "its own marks" if question["known"] else counted(question["regions"], "weak label")
        lines += [f"{number}. {question['image']} ({number}.png, target: {where})", text]
    return "\n".join(lines)


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
    if summary.verdict is not None:
        lines.append(summary.verdict.words())
    elif summary.best_step is not None and summary.best_step != summary.step:
        lines.append(f"The adapter is the one of step {summary.best_step}, with the lowest validation loss.")
    lines += summary.notes
    if summary.status == "stopped":
        lines.append("Start the same command again to go on.")
    if summary.adapter is not None:
        lines.append(f"Adapter: {summary.adapter}")
    return "\n".join(lines)
