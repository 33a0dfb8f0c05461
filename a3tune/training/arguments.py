"""From a configuration to the arguments of Hugging Face's Trainer."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import torch
from transformers import TrainingArguments

from a3tune.models.model import VisionLanguageModel
from a3tune.training.config import TuneConfig

TIMEOUT = timedelta(days=2)
"""How long processes wait for the first one, which may have many labels to make."""

_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


def training_arguments(
    config: TuneConfig, folder: Path, model: VisionLanguageModel, *, questions: int, validates: bool, processes: int
) -> TrainingArguments:
    """What a configuration means to the Trainer.

    Args:
        config: the settings.
        folder: where checkpoints go.
        model: the loaded model; its device and data type decide on the precision.
        questions: training questions.
        validates: whether there are validation questions.
        processes: how many processes take part.
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
        lr_scheduler_type=_SCHEDULES[config.schedule],
        warmup_steps=config.warmup_ratio,
        max_grad_norm=config.gradient_clip,
        optim="adamw_torch",
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
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=False,
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
