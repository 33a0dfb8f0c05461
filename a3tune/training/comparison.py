"""How a tuned adapter does beside the base model on held-out questions: the numbers of a run's validation, for both.

``python -m a3tune.training.comparison`` takes the options of ``tune`` and ``--adapter``, reports progress and ends with
the result, each as one line of JSON. It is a program of its own, so that what it takes is given back at its end.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.attention.capture import prepare_capture
from a3tune.data.dataset import Dataset, TrainingItem
from a3tune.data.hub import dataset_place
from a3tune.data.read import read_dataset, split_dataset
from a3tune.errors import DataError
from a3tune.process import RUN, prepare_process
from a3tune.progress import Progress, no_progress
from a3tune.training.attention_targets import TargetMaker, label_source, target_plan
from a3tune.training.base_model import load_base
from a3tune.training.collate import Questions, on_device
from a3tune.training.config import TuneConfig
from a3tune.training.options import add_tune_arguments, config_of, print_answer
from a3tune.training.validation import Tally, validate

MOST_QUESTIONS = 200
"""How many questions are asked at most; they are spread evenly over the split."""

TUNED = "tuned"


@dataclass(frozen=True)
class Comparison:
    """Two models on the same questions.

    Attributes:
        split: the split that they come from, "validation" or "test".
        questions: how many were asked.
        held_out: how many the split has.
        with_target: how many of those asked have a region to look at.
        base, tuned: "loss", "accuracy", "closed_accuracy", "open_accuracy" (exactly right answers, 0 to 1) and
            "attention_mass" (share of the critical heads' attention inside the region, 0 to 1); those without a
            question are left out.
    """

    split: str
    questions: int
    held_out: int
    with_target: int
    base: dict[str, float]
    tuned: dict[str, float]


def compare_with_base(
    config: TuneConfig,
    data: str | Path,
    adapter: str | Path,
    model: str = "demo",
    *,
    device: str = "auto",
    layout: str = "auto",
    images: str | Path | None = None,
    most: int = MOST_QUESTIONS,
    allow_other_base: bool = False,
    on_progress: Progress = no_progress,
) -> Comparison:
    """Ask the base model and the adapter the held-out questions of a data set: those of its validation split, as a run
    with this configuration would hold them out, else of its test split.

    Args:
        config: the run's settings; split, seed, labels and heads count.
        adapter: a folder in PEFT's format.
        model, device, layout, images: as `a3tune.training.tuning.tune`.
        most: how many questions are asked at most.
        allow_other_base: take an adapter that was made for other weights.
        on_progress: called with what is being done and the share done, 0 to 1.

    Raises:
        DataError: the data has faults, or no question is held out.
        AdapterError: the adapter does not fit the model.
        ModelError, LabelError: a part cannot be loaded.
    """
    on_progress("Reading the data", 0.0)
    dataset = read_dataset(
        dataset_place(data), layout, images=images, check_images=False, allow_shared_images=config.allow_shared_images
    )
    dataset.raise_for_faults()
    dataset = split_dataset(dataset, config.validation_share, config.seed)
    split, items = _held_out(dataset)
    chosen = [items[place * len(items) // most] for place in range(most)] if len(items) > most else list(items)
    on_progress("Loading the model", 0.0)
    loaded = load_base(config, model, device)
    adapters = AdapterSet(loaded.model, {TUNED: adapter}, identity=loaded, allow_other_base=allow_other_base)
    prepare_capture(loaded.model)
    encoder = loaded.cpu_encoder()
    maker = TargetMaker(
        target_plan(config, validation=True),
        encoder,
        loaded.patch_grid,
        label_source(config, dataset.root, model, "cpu" if loaded.device.type == "cpu" else "auto"),
    )
    targets = maker.make(chosen, on_progress)
    questions = Questions(chosen, encoder, targets)
    tallies = {BASE: Tally.of(questions), TUNED: Tally.of(questions)}
    keeps = "logits_to_keep" in inspect.signature(loaded.model.forward).parameters
    for start in range(0, len(chosen), config.batch_size):
        on_progress("Asking both", start / len(chosen))
        for name, tally in tallies.items():
            with adapters.using(name) as asked:
                found = validate(
                    asked,
                    questions,
                    range(start, min(start + config.batch_size, len(chosen))),
                    batch_size=config.batch_size,
                    to_device=lambda batch: on_device(batch, loaded.device),
                    extra=_masks if adapters.takes_masks(name) else _no_masks,
                    keeps=keeps,
                )
            tally.table.add_(found.table)
    on_progress("Done", 1.0)
    return Comparison(
        split=split,
        questions=len(chosen),
        held_out=len(items),
        with_target=sum(bool(targets.masks(index).any()) for index in range(len(chosen))),
        base=tallies[BASE].metrics(),
        tuned=tallies[TUNED].metrics(),
    )


def _held_out(dataset: Dataset) -> tuple[str, tuple[TrainingItem, ...]]:
    for split in ("validation", "test"):
        if dataset.of(split):
            return split, tuple(dataset.of(split))
    raise DataError(
        expected="questions that are not trained on",
        got="The data has no validation and no test split",
        remedy="Write a split (a repair under Data does), or set validation_share above 0",
    )


def _no_masks(batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {}


def _masks(batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {"a3_question_mask": batch["question"], "a3_image_mask": batch["columns"]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print lines of JSON: progress as "what" and "share", then the comparison's fields, or "error" in words."""
    parser = argparse.ArgumentParser(description="Compare a tuned adapter with the base model on held-out questions.")
    add_tune_arguments(parser)
    parser.add_argument("--adapter", type=Path, required=True, metavar="DIR", help="adapter folder in PEFT's format")
    parser.add_argument(
        "--allow-other-base", action="store_true", help="take an adapter that was made for other weights"
    )
    options = parser.parse_args(arguments)
    prepare_process(RUN)

    def report(what: str, share: float) -> None:
        print(json.dumps({"what": what, "share": round(share, 3)}), flush=True)

    return print_answer(
        lambda: compare_with_base(
            config_of(options),
            options.data,
            options.adapter,
            options.model,
            device=options.device,
            layout=options.layout,
            images=options.images,
            allow_other_base=options.allow_other_base,
            on_progress=report,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
