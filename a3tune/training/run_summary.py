"""What a run tells: its steps while it trains, notes on its targets, and what it came to."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import peft
import torch
import transformers

from a3tune import __version__
from a3tune.errors import DataError
from a3tune.progress import Progress
from a3tune.training.config import TuneConfig
from a3tune.training.verdict import Verdict
from a3tune.wording import counted


@dataclass(frozen=True)
class RunSummary:
    """What a run came to.

    Attributes:
        folder: the run folder.
        status: "finished", or "stopped" when somebody asked for it (start again to go on).
        step, steps: the last step made, and all steps of the run.
        best_step: the step of the lowest validation loss, whose adapter is kept; None without validation.
        metrics: the last validation's numbers.
        adapter: folder of the adapter; None when the run was stopped before its first checkpoint.
        seconds: wall-clock time of this start.
        targets: how many training questions have "weak" or "truth" targets, or "none".
        notes: what a person should know, in words.
        verdict: the adapter beside the base model; None without validation, or before the run's end.
    """

    folder: Path
    status: str
    step: int
    steps: int
    best_step: int | None
    metrics: dict[str, float]
    adapter: Path | None
    seconds: float
    targets: dict[str, int]
    notes: tuple[str, ...] = ()
    verdict: Verdict | None = None


class StepReporter(transformers.TrainerCallback):
    """Tells the caller how far the training is."""

    def __init__(self, report: Progress) -> None:
        self._report = report

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._report(f"Training, step {state.global_step} of {state.max_steps}", state.global_step / state.max_steps)


def run_notes(
    config: TuneConfig,
    counts: Mapping[str, int],
    held_out: Mapping[str, int] | None,
    aligns: bool,
    several: int = 0,
    *,
    unsure: bool = False,
) -> list[str]:
    """Notes on what attention is aligned with and measured on, and on a run that nothing compares with its base.

    Args:
        config: the run's settings.
        counts: how many training questions have a "weak" target, a "truth" target, "none".
        held_out: the same of the held-out questions; None where there are none.
        aligns: whether the run aligns attention.
        several: how many questions are about several images.
        unsure: whether the best regions count whatever their score, since none had the least one.

    Raises:
        DataError: it does, and not one training question has a target.
    """
    notes = []
    total, none = sum(counts.values()), counts["none"]
    least = None if unsure else config.label_min_score
    if unsure:
        notes.append(
            f"Not one training question has a region with a score of {config.label_min_score:g} (label_min_score), so "
            "that the best ones count whatever their score (allow_unsure_regions). The scorer is sure of none of them: "
            "look at some before you rely on what attention learnt."
        )
    if none and aligns:
        if none == total:
            remedy = "Check label_segmenter and label_scorer, or tune without alignment (method lora or a3moe)"
            if least is not None and not config.allow_unsure_regions:
                remedy = f"Lower label_min_score (it is {least:g}) or set it to null. {remedy}"
            raise DataError(
                expected="regions for at least some questions, since the method aligns attention with them",
                got="Not one training question has a region",
                remedy=remedy,
            )
        limit = "" if least is None else f" Regions below label_min_score ({least:g}) are left out."
        notes.append(
            f"{none} of {total} training questions have no region to look at: no alignment term for them.{limit}"
        )
    if counts["truth"] or (held_out or counts)["truth"]:
        words = "{truth} of them by the data's own masks, {weak} by weak labels, {none} by nothing"
        measured = f" Attention is measured on held-out questions: {words.format(**held_out)}." if held_out else ""
        notes.append(f"Training questions: {words.format(**counts)}.{measured}")
    if several:
        notes.append(
            f"{counted(several, 'question is', 'questions are')} about several images: attention is to go to the "
            "regions of all of them, and an image without one counts as one in which there is nothing to look at."
        )
    if held_out is None:
        notes.append(
            "There are no validation questions: nothing says whether this adapter answers better or worse than the "
            "base model, and the last step is kept. Evaluate it on questions that it was not trained on."
        )
    return notes


def last_validation(history: list[dict[str, float]]) -> dict[str, float]:
    """The numbers of the last validation in the Trainer's history; none where there was none."""
    entries = [entry for entry in history if any(name.startswith("eval_") for name in entry)]
    if not entries:
        return {}
    return {name.removeprefix("eval_"): value for name, value in entries[-1].items() if name.startswith("eval_")}


def versions() -> dict[str, str]:
    """Package -> version of what a run rests on."""
    modules = {"torch": torch, "transformers": transformers, "peft": peft, "accelerate": accelerate, "numpy": np}
    versions = {name: module.__version__ for name, module in modules.items()}
    return {"a3tune": __version__, "python": platform.python_version(), **versions}
