"""From a configuration to the arguments of Hugging Face's Trainer."""

from __future__ import annotations

import math
import os
from dataclasses import MISSING, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.training_args import OptimizerNames

from a3tune.errors import DataError
from a3tune.models.model import VisionLanguageModel
from a3tune.training.config import TuneConfig, nearest
from a3tune.wording import listed

TIMEOUT = timedelta(days=2)
"""How long processes wait for the first one, which may have many labels to make."""


def runs_on_processor(device: str) -> bool:
    """Whether a run takes no GPU: told so, or by ``accelerate launch --cpu``, or since there is none.

    Args:
        device: "auto", "cpu", "cuda", ...
    """
    told = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    there = torch.cuda.is_available() or torch.backends.mps.is_available()
    return device == "cpu" or (device == "auto" and (told or not there))


def check_optimizer(config: TuneConfig) -> None:
    """Try a configuration's optimizer and schedule on a single number, before anything large is loaded.

    Raises:
        DataError: the Trainer has no such optimizer, it needs a package that is missing or a model of its own, or an
            option is unknown, out of range or without effect.
    """
    names = [entry.value for entry in OptimizerNames]
    if config.optimizer not in names:
        raise DataError(
            expected=f"an optimizer of the Trainer: {listed(names, 100)}",
            got=f"optimizer is {config.optimizer!r}{nearest(config.optimizer, names)}",
            remedy="Correct the name",
        )
    if config.schedule in ("reduce_lr_on_plateau", "greedy") and config.evaluate_every is None:
        raise DataError(
            expected="validations, by whose loss the learning rate is changed",
            got=f"schedule is {config.schedule!r}, but evaluate_every is null",
            remedy="Set evaluate_every, or choose another schedule",
        )
    plain = _without_devices(config)
    try:
        kind, known = Trainer.get_optimizer_cls_and_kwargs(plain)
        for name, value in _options(config.optimizer_options, "optimizer_options").items():
            plain.optim_args = f"{name}={value}"
            # The Trainer gives each group of weights the setting's own weight decay.
            if name == "weight_decay" or Trainer.get_optimizer_cls_and_kwargs(plain)[1] == known:
                raise DataError(
                    expected="options that change something",
                    got=f"optimizer_options: {name}={value} has no effect on {config.optimizer}",
                    remedy="Leave it out",
                )
        plain.optim_args = config.optimizer_options
        kind, options = Trainer.get_optimizer_cls_and_kwargs(plain)
        number = nn.Parameter(torch.zeros(1))
        optimizer = kind([number], **options)
        schedule = _schedule(config)
        get_scheduler(schedule, optimizer, 1, 10, _options(config.schedule_options, "schedule_options"))
    except (ImportError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            expected="an optimizer and a schedule that the Trainer can make here",
            got=f"optimizer {config.optimizer}, schedule {config.schedule}: {' '.join(str(error).split())[:300]}",
            remedy="Install what is missing, correct the options, or choose another one",
        ) from error


def _without_devices(config: TuneConfig) -> TrainingArguments:
    """The Trainer's arguments as far as they say something of its optimizer; their initialiser would find devices and
    processes anew, under those of a launcher."""
    plain = object.__new__(TrainingArguments)
    for field in fields(TrainingArguments):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        setattr(plain, field.name, None if default is MISSING else default)
    plain.optim, plain.learning_rate = OptimizerNames(config.optimizer), config.learning_rate
    return plain


def _options(text: str | None, name: str) -> dict[str, Any]:
    """``a=1,b=two`` as a dictionary, values read as in YAML."""
    options = {}
    for pair in (text or "").split(","):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if pair.strip() and not (equals and key.isidentifier() and value):
            raise DataError(
                expected="options such as beta1=0.9,beta2=0.95",
                got=f"{name} is {text!r}",
                remedy="Write name=value, separated by commas",
            )
        if key:
            options[key] = _value(value)
    return options


def _value(text: str) -> Any:
    try:
        return float(text) if "e" in text.lower() else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        return text


def _schedule(config: TuneConfig) -> str:
    """The Trainer's name of a schedule; a constant rate is warmed up too."""
    return "constant_with_warmup" if config.schedule == "constant" else config.schedule


def training_arguments(
    config: TuneConfig,
    folder: Path,
    model: VisionLanguageModel,
    *,
    questions: int,
    validates: bool,
    processes: int,
    name: str | None = None,
) -> TrainingArguments:
    """What a configuration means to the Trainer.

    Args:
        config: the settings.
        folder: where checkpoints go.
        model: the loaded model; its device and data type decide on the precision.
        questions: training questions.
        validates: whether there are validation questions.
        processes: how many processes take part.
        name: of the run, for what reports on it.
    """
    cpu = model.device.type == "cpu"
    steps = config.max_steps or max(1, math.ceil(config.epochs * questions / config.effective_batch(processes)))
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=max(config.batch_size, 4),
        gradient_accumulation_steps=config.gradient_accumulation,
        max_steps=steps,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        lr_scheduler_type=_schedule(config),
        lr_scheduler_kwargs=_options(config.schedule_options, "schedule_options"),
        warmup_steps=config.warmup_ratio,
        max_grad_norm=config.gradient_clip,
        optim=config.optimizer,
        optim_args=config.optimizer_options,
        bf16=model.dtype == torch.bfloat16,
        fp16=not cpu and model.dtype == torch.float16,
        **_checkpointing(config.gradient_checkpointing),
        logging_strategy="steps",
        logging_steps=1,
        # A loss that is no number ends the run instead of being hidden in an average.
        logging_nan_inf_filter=False,
        eval_strategy="steps" if validates else "no",
        eval_steps=config.evaluate_every or steps,
        save_strategy="steps",
        save_steps=config.save_every or steps,
        metric_for_best_model="loss" if validates else None,
        greater_is_better=False if validates else None,
        seed=config.seed,
        use_cpu=cpu,
        run_name=name,
        # Callbacks that report elsewhere are made by a3tune.training.reporting.
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        # From pinned memory copies to a GPU go on in the background.
        dataloader_pin_memory=model.device.type == "cuda",
        ddp_find_unused_parameters=False,
        ddp_timeout=int(TIMEOUT.total_seconds()),
    )
    # Without a launcher one device is used; the Trainer would spread batches over all with DataParallel.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _checkpointing(wanted: bool) -> dict[str, bool | dict[str, bool] | None]:
    # transformers 5.20, the newest for Python 3.10, knows only the older name; later ones warn about it.
    kind = "activation" if hasattr(TrainingArguments, "activation_checkpointing") else "gradient"
    # The reentrant kind would hide the attention from the gradient of the alignment loss.
    options = {"use_reentrant": False} if wanted else None
    return {f"{kind}_checkpointing": wanted, f"{kind}_checkpointing_kwargs": options}
