"""What a run will take on this machine, from steps and a validation that are really made.

``python -m a3tune.training.estimate`` takes the options of ``tune`` and prints one line of JSON; ``tune --estimate``
says the same in words. It is a program of its own, so that its peak of memory is the step's, and so that a step that
does not fit ends nothing else.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from a3tune import memory_advice
from a3tune.attention.capture import prepare_capture
from a3tune.bundle import model_source
from a3tune.data.dataset import Dataset, TrainingItem
from a3tune.data.hub import dataset_place
from a3tune.data.read import read_dataset, split_dataset
from a3tune.device import beside, choose_device
from a3tune.errors import LabelError, NotEnoughMemoryError, is_lack_of_memory
from a3tune.geometry.patch_grid import to_patches
from a3tune.images import load_image
from a3tune.labels.sources import item_prompt
from a3tune.models.conversion import model_folder
from a3tune.models.load import count_weights
from a3tune.models.memory import BYTES_PER_WEIGHT, available_memory
from a3tune.models.prompt import PromptEncoder
from a3tune.process import RUN, prepare_process
from a3tune.training.arguments import training_arguments
from a3tune.training.attention_targets import PatchTargets, label_source
from a3tune.training.base_model import load_base
from a3tune.training.batch_alignment import check_alignment
from a3tune.training.collate import Questions, QuestionStream, load_images
from a3tune.training.config import TuneConfig
from a3tune.training.launch import check_launch
from a3tune.training.methods import add_adapter, objective_of, parameter_count, trainable_count
from a3tune.training.options import add_tune_arguments, config_of, print_answer
from a3tune.training.run_folder import RunFolder
from a3tune.training.trainer import AlignmentTrainer

_STEPS = 3
_SAMPLED = 20  # images
# What a step takes beside the measured peak: other questions are longer, and memory comes in pieces.
_MARGIN = 1.15


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        steps: optimiser steps of the run.
        trainable, parameters: numbers that are trained, and numbers of the whole model.
        step_seconds: one optimiser step.
        label_seconds: making the weak labels that are missing; 0 when none are.
        validations: how often the held-out questions are asked, the base model's turn included.
        validation_seconds: all of these together.
        seconds: the whole run, without loading the model and reading the data.
        peak_bytes: most memory that the measured step took, of the device (of the process, on the CPU).
        free_bytes: what this device (or machine) had free.
        fits: whether the run can be expected to fit.
        remedy: what to change when it cannot; "" when it fits.
    """

    steps: int
    trainable: int
    parameters: int
    step_seconds: float
    label_seconds: float
    validations: int
    validation_seconds: float
    seconds: float
    peak_bytes: int
    free_bytes: int
    fits: bool
    remedy: str


def estimate_run(
    config: TuneConfig,
    data: str | Path,
    model: str = "demo",
    *,
    device: str = "auto",
    layout: str = "auto",
    images: str | Path | None = None,
) -> Estimate:
    """Make a few steps with the longest questions and the image of each, validate on these, and reckon from it.

    Targets are made up for it (the left half of each image), since labels take long and cost a step the same
    whatever they are.

    Args: as `a3tune.training.tuning.tune`.

    Raises:
        DataError, ModelError, LabelError, RequestError: as `tune`.
    """
    check_launch(device)
    dataset = read_dataset(
        dataset_place(data, with_images=images is None),
        layout,
        images=images,
        check_images=False,
        allow_shared_images=config.allow_shared_images,
        several_images=True,
    )
    dataset.raise_for_faults()
    dataset = split_dataset(dataset, config.validation_share, config.seed)
    items = dataset.of("train")
    target = choose_device(device)
    free = available_memory(target)
    weights = weight_bytes(model, config.quantization)
    steps = config.max_steps or max(1, -(-round(config.epochs * len(items)) // config.effective_batch()))
    if weights > free:
        return _too_large(config, steps, weights, free, memory_advice.to_hold_the_weights(config))
    loaded = load_base(config, model, str(target))
    # Of the accumulated batches each is like the other: one or two tell.
    batches = min(config.gradient_accumulation, 2)
    small = replace(config, max_steps=_STEPS, gradient_accumulation=batches, evaluate_every=None, early_stopping=None)
    longest = sorted(items, key=lambda item: len(item.question) + len(item.answer), reverse=True)
    chosen = longest[: small.effective_batch()]
    try:
        trainable, seconds, asking = _measure(small, loaded, model, chosen)
    except NotEnoughMemoryError:
        return _too_large(config, steps, free, free, memory_advice.to_make_a_step(config))
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_lack_of_memory(error):
            raise
        return _too_large(config, steps, free, free, memory_advice.to_make_a_step(config))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if target.type == "cuda":
        peak = torch.cuda.max_memory_allocated(target)
    step_seconds = seconds * config.gradient_accumulation / batches
    labels = _label_seconds(config, dataset, model, beside(target)) if config.aligns else 0.0
    held_out = len(dataset.of("validation"))
    # The base model first, then every so many steps, and after the last one.
    validations = 1 + -(-steps // (config.evaluate_every or steps)) if held_out else 0
    validating = validations * held_out * asking
    fits = peak * _MARGIN < free
    return Estimate(
        steps=steps,
        trainable=trainable,
        parameters=parameter_count(loaded.model),
        step_seconds=round(step_seconds, 4),
        label_seconds=round(labels, 1),
        validations=validations,
        validation_seconds=round(validating, 4),
        seconds=round(labels + steps * step_seconds + validating, 1),
        peak_bytes=int(peak),
        free_bytes=int(free),
        fits=fits,
        remedy="" if fits else memory_advice.to_make_a_step(config),
    )


def weight_bytes(model: str, quantization: str = "none") -> int:
    """Bytes that a checkpoint's weights take; 0 when its files are not on this machine.

    Args:
        model: as of `a3tune.training.tuning.tune`.
        quantization: how they are kept: as in the files ("none"), or in a precision of
            `a3tune.models.memory.BYTES_PER_WEIGHT`.

    Raises:
        ModelError: there is no such checkpoint.
    """
    folder = model_folder(model_source(model))
    if quantization != "none":
        return int(count_weights(folder) * BYTES_PER_WEIGHT[quantization])
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


class _Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self, device: torch.device) -> None:
        self.ends: list[float] = []
        self._device = device

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.ends.append(time.perf_counter())


class _Unsaved(AlignmentTrainer):
    """A trainer that keeps nothing."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        return

    def asking_seconds(self) -> float:
        """Seconds of a validation for each of its questions."""
        began = time.perf_counter()
        tally = self._validated(self.adapter_inputs)
        return (time.perf_counter() - began) / len(tally.table)


def _measure(config: TuneConfig, model: Any, source: str, items: Sequence[TrainingItem]) -> tuple[int, float, float]:
    """(trainable numbers, seconds of one step, seconds of a validation for each question)."""
    encoder = model.cpu_encoder()
    targets = PatchTargets.pack([(_left_half(model, encoder, item), False) for item in items])
    questions = Questions(items, encoder, targets)
    objective = objective_of(config, model)
    if objective.selection == "fixed":
        # Choosing heads beforehand costs a step nothing.
        objective = replace(objective, selection="dynamic")
    check_alignment(questions, objective, model, config)
    tuned = add_adapter(model, config, source)
    prepare_capture(tuned)
    clock = _Clock(model.device)
    with tempfile.TemporaryDirectory(prefix="a3tune-") as folder:
        run = RunFolder(folder)
        run.checkpoints.mkdir()
        arguments = training_arguments(
            config, run.checkpoints, model, questions=len(questions), validates=False, processes=1
        )
        stream = QuestionStream(questions, steps=_STEPS, per_step=config.effective_batch(), seed=config.seed)
        trainer = _Unsaved(tuned, arguments, stream, questions, objective, run, {}, callbacks=[clock])
        trainer.train()
        asking = trainer.asking_seconds()
    # The first step also warms up.
    return trainable_count(tuned), min(later - earlier for earlier, later in itertools.pairwise(clock.ends)), asking


def _left_half(model: Any, encoder: PromptEncoder, item: TrainingItem) -> np.ndarray:
    """float32 [1, patches]: a target of the left half of each image."""
    images = load_images(item)
    found = []
    for image, group in zip(images, encoder.encode_placed(images, item.question).images, strict=True):
        mask = np.zeros((image.height, image.width), bool)
        mask[:, : image.width // 2] = True
        found.append(to_patches(mask, model.patch_grid(image.height, image.width, len(group))))
    return np.concatenate(found)[None]


def _label_seconds(config: TuneConfig, dataset: Dataset, model: str, device: str) -> float:
    """Seconds of making the labels that are missing, from one of them; how many are, by a look at some images."""
    source = label_source(config, dataset.root, model, device)
    items = [item for split in ("train", "validation") for item in dataset.of(split)]
    if source is None or source.has_store or not items:
        return 0.0
    labeller = source.labeller
    if labeller is None:
        return 0.0
    by_image = list({part.image: part for item in items for part in item.parts}.values())
    sampled = by_image[:: -(-len(by_image) // _SAMPLED)]
    missing, each = 0, 0.0
    for item in sampled:
        image, prompt = load_image(item.image), item_prompt(item, config.label_template)
        if not source.find(image, {prompt: (prompt,)}):
            missing += 1
            if missing == 1:
                began = time.perf_counter()
                with suppress(LabelError):
                    labeller.rank(image, (prompt,))
                each = time.perf_counter() - began
    return each * missing / len(sampled) * len(by_image)


def _too_large(config: TuneConfig, steps: int, needed: int, free: int, remedy: str) -> Estimate:
    return Estimate(steps, 0, 0, 0.0, 0.0, 0, 0.0, 0.0, needed, free, False, remedy)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the estimate as one line of JSON: its fields, or "error" with the reason in words."""
    parser = argparse.ArgumentParser(description="Measure one step of a tuning run.")
    add_tune_arguments(parser)
    options = parser.parse_args(arguments)
    prepare_process(RUN)
    return print_answer(
        lambda: estimate_run(
            config_of(options),
            options.data,
            options.model,
            device=options.device,
            layout=options.layout,
            images=options.images,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
