"""Heads that are chosen once, before training, instead of anew for every sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import nn

from a3tune.attention.capture import capture
from a3tune.attention.critical_heads import critical_heads, visual_ratio
from a3tune.models.model import VisionLanguageModel
from a3tune.training.collate import Collator, Questions, QuestionStream, on_device
from a3tune.training.config import TuneConfig
from a3tune.types import Head

_QUESTIONS = 64


def choose_heads(
    model: VisionLanguageModel, stream: QuestionStream, count: int, config: TuneConfig
) -> tuple[Head, ...]:
    """The ``count`` heads that look most at the image on average over the first questions of a run.

    Args:
        model: with its adapter, attention capture prepared.
        stream: the run's questions in their order.
        count: how many heads.
        config: the run's settings.
    """
    questions, masks = stream.questions, config.has_experts
    model.model.eval()
    return calibrate_heads(
        model.model,
        questions,
        [stream.index(place) for place in range(min(_QUESTIONS, len(questions)))],
        batch_size=config.batch_size,
        count=count,
        to_device=lambda batch: on_device(batch, model.device),
        extra=lambda batch: {"a3_question_mask": batch["question"], "a3_image_mask": batch["columns"]} if masks else {},
    )


def agreed_heads(
    model: VisionLanguageModel,
    stream: QuestionStream,
    count: int,
    config: TuneConfig,
    known: Sequence[Sequence[int]] | None,
    state: PartialState,
) -> tuple[Head, ...]:
    """The heads that a run aligns, the same on every process: those that it wrote down, else as `choose_heads`."""
    chosen = [[Head(*head) for head in known or ()]]
    if state.is_main_process and not chosen[0]:
        chosen = [list(choose_heads(model, stream, count, config))]
    if state.num_processes > 1:
        broadcast_object_list(chosen)
    return tuple(chosen[0])


@torch.no_grad()
def calibrate_heads(
    model: nn.Module,
    questions: Questions,
    indices: Sequence[int],
    *,
    batch_size: int,
    count: int,
    to_device: Callable[[dict[str, Any]], dict[str, Any]],
    extra: Callable[[dict[str, Any]], dict[str, torch.Tensor]],
) -> tuple[Head, ...]:
    """The ``count`` heads that look most at the image on average over some questions.

    Args: as `a3tune.training.validation.validate`.
    """
    collate = Collator(questions.encoder)
    ratios: list[torch.Tensor] = []
    for start in range(0, len(indices), batch_size):
        batch = to_device(collate([questions[index] for index in indices[start : start + batch_size]]))
        with capture(batch["rows"], batch["columns"]) as record:
            model(**batch["inputs"], **extra(batch), use_cache=False)
        for b in range(len(batch["labels"])):
            ratios.append(visual_ratio(record.image_share(b)).cpu().double())
    return critical_heads(sum(ratios[1:], ratios[0]) / len(indices), count)
