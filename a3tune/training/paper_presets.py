"""The paper's presets beside the released scripts that they cite: the scripts' own settings, and what stays different.

What is said of the scripts was read in their code (A3Tune, "Focus on What Matters", ACL 2025, released for review).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from a3tune.errors import DataError
from a3tune.training.config import TuneConfig
from a3tune.training.config_file import load_config, preset_names

OWN_PRESETS = ("demo", "quick")
"""Presets of this project, which cite no script."""

_BATCH = 1
_LATER = "-v1.5"
_MODELS = ("LLaVA-Med v1 (7B)", "LLaVA-Med v1.5 (Mistral 7B)")


def paper_presets() -> tuple[str, ...]:
    """Names of the presets that cite a script of the paper, in alphabetical order."""
    return tuple(name for name in preset_names() if name not in OWN_PRESETS)


def exact_settings(preset: str | None, processes: int = 1) -> dict[str, Any]:
    """The settings in which the scripts differ from a preset of the paper.

    Args:
        preset: its name; None where a run's settings come from no preset.
        processes: how many take part; together they make a step of as many questions as the scripts' processes do.

    Raises:
        DataError: the preset cites no script, or a step of the scripts cannot be shared out among the processes.
    """
    if preset not in paper_presets():
        raise DataError(
            expected=f"a preset of the paper: {', '.join(paper_presets())}",
            got=f"--paper-exact goes with such a preset, not with {preset or 'settings that begin with none'}",
            remedy="Name one with --config, or leave --paper-exact out",
        )
    step = load_config(preset).effective_batch()
    if step % processes:
        raise DataError(
            expected=f"a number of processes that divides {step}, the questions of one step in the scripts",
            got=f"{processes} processes take part",
            remedy=f"Start with {math.gcd(step, 4)} processes, or leave --paper-exact out",
        )
    return {
        "batch_size": _BATCH,
        "gradient_accumulation": step // processes,
        # All training questions are trained on, nothing is chosen by a validation, and the last step is kept.
        "validation_share": 0.0,
        "evaluate_every": None,
        "early_stopping": None,
        "precision": "bf16",
        "label_segmenter": "sam-vit-h",
        "label_scorer": "biomedclip",
    }


def paper_differences(preset: str, config: TuneConfig, processes: int = 1, model: str | None = None) -> list[str]:
    """How a run differs from the scripts that its preset cites, one sentence each.

    Args:
        preset: a name out of `paper_presets`.
        config: the run's settings.
        processes: how many take part.
        model: the name of the base model, which is told where it does not say that it is the scripts'; None: not told.

    Raises:
        DataError: as `exact_settings`, except for the number of processes.
    """
    step = load_config(preset).effective_batch()
    exact = load_config(preset, exact_settings(preset, processes if step % processes == 0 else 1))
    found = []
    if model is not None and not _named_like_theirs(preset, model):
        found.append(f"The model is {model}; {_MODELS[preset.endswith(_LATER)]} in the scripts.")
    if config.effective_batch(processes) != step:
        found.append(f"A step has {config.effective_batch(processes)} questions; {step} in the scripts.")
    for item in fields(TuneConfig):
        value, there = getattr(config, item.name), getattr(exact, item.name)
        if item.name.startswith("label_") and not config.aligns:
            continue
        if value != there and item.name not in ("batch_size", "gradient_accumulation"):
            found.append(
                f"{item.name} is {_words(value)}; {_words(there)} in the scripts{_REASONS.get(item.name, '')}."
            )
    return found + _by_design(preset, config)


_REASONS: Mapping[str, str] = {
    "validation_share": ", which train on all of the training data",
    "evaluate_every": ", which keep the last step",
    "label_segmenter": ", which use SAM ViT-H",
    "label_scorer": ", which use BiomedCLIP",
}


def _named_like_theirs(preset: str, model: str) -> bool:
    name = model.rstrip("/").rpartition("/")[2].lower()
    return "llava-med" in name and (_LATER in name) == preset.endswith(_LATER)


def _by_design(preset: str, config: TuneConfig) -> list[str]:
    """What no setting makes the same: mostly faults of the scripts that are not repeated."""
    later = preset.endswith(_LATER)
    found = ["Cross-entropy is averaged over all answer tokens of a step; the scripts average the means of questions."]
    if config.has_experts:
        found.append("A run that was stopped goes on with all of its weights; the scripts begin the experts anew.")
    if config.has_experts and not later:
        found.append(
            "Image tokens are found in each prompt; the scripts count on a fixed place, which their evaluation misses "
            "by one token."
        )
    if config.aligns:
        found += [
            "Regions keep the picture's shape and colours, and a patch counts by the share of it that a region covers; "
            "the scripts squash pictures to 256 x 256 with red and blue exchanged and look at one pixel of each patch.",
        ]
        if config.alignment == "mass":
            found.append("A mask that covers no patch has no alignment term; in the scripts it adds a constant.")
    if config.has_experts and config.query_experts > 1:
        found.append("The query router reads the question alone; in the scripts also the first words after it.")
    if config.has_experts and config.key_experts > 1:
        found.append("The key router learns from every loss; in the scripts only from the balance loss.")
        if config.key_top_k > 1:
            found.append(
                f"{config.key_top_k} key experts are mixed by their weights; the scripts apply one of the "
                f"{config.key_top_k}, the one with the largest number."
            )
        if config.balance > 0:
            found.append(
                "The balance loss has an effect; the scripts' weight does not reach the model."
                if later
                else "The balance loss counts every expert; the scripts fold them into 4."
            )
    return found


def _words(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
