"""The alignment of one batch: which heads are pulled, how far their attention is from the targets, and where it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from a3tune.attention.critical_heads import critical_heads, visual_ratio
from a3tune.attention.loss import alignment_loss
from a3tune.attention.record import AttentionRecord
from a3tune.errors import NotEnoughMemoryError
from a3tune.memory_advice import to_make_a_step
from a3tune.models.memory import available_memory
from a3tune.models.model import VisionLanguageModel
from a3tune.training.collate import Questions
from a3tune.training.config import TuneConfig
from a3tune.training.methods import Objective
from a3tune.types import Head


def align(
    record: AttentionRecord, batch: dict[str, Any], objective: Objective, fixed: Sequence[Head] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed alignment loss, and summed attention mass in the target, of the questions that have one.

    Args:
        record: the capture of the batch's pass, with gradient.
        batch: from `a3tune.training.collate.Collator`; masks and targets on the CPU, so that no device is waited for.
        objective: form of the loss, rows and selection of heads.
        fixed: the heads, where they are chosen once.
    """
    losses, masses = [], []
    known = [b for b, target in enumerate(batch["targets"]) if target.any()]
    for b, heads in zip(known, _heads(record, known, objective, fixed), strict=True):
        target, weights = batch["targets"][b], record.select(b, heads)
        if objective.rows == "answer":
            places = batch["writing"][b][batch["rows"][b]].nonzero().squeeze(1)
            weights = weights.index_select(1, places.to(weights.device, non_blocking=True))
        losses.append(alignment_loss(weights, target, form=objective.form, combine=objective.combine))
        attention = weights.detach().mean(dim=0)
        inside = attention @ target.amax(dim=0).to(attention, non_blocking=True)
        masses.append((inside / attention.sum(dim=-1).clamp(min=1e-12)).mean())
    zero = batch["inputs"]["input_ids"].new_zeros((), dtype=torch.float32)
    return (torch.stack(losses).sum(), torch.stack(masses).sum()) if losses else (zero, zero)


def check_alignment(questions: Questions, objective: Objective, model: VisionLanguageModel, config: TuneConfig) -> None:
    """Refuse heads whose attention alone would not fit beside the model: every head of a large batch can take more than
    the rest of the step.

    Raises:
        NotEnoughMemoryError: naming what they take and what is free.
    """
    if not objective.aligns:
        return
    longest = max(range(len(questions)), key=lambda index: len(questions.items[index].question))
    prompt = questions[longest].prompt
    heads = objective.head_count if objective.selection != "all" else model.layers * model.heads
    # float32 scores of each row on the whole sequence, their softmax, and the gradient.
    needed = config.batch_size * heads * int(prompt.rows.sum()) * prompt.length * 4 * 3
    free = available_memory(model.device)
    if needed > free:
        raise NotEnoughMemoryError(
            expected=f"{needed / 1e9:.1f} GB for the attention of {heads} heads in a batch of {config.batch_size}",
            got=f"{free / 1e9:.1f} GB are free on {model.device}",
            remedy=f"Align fewer heads (top_heads), or {to_make_a_step(config)}",
        )


def _heads(
    record: AttentionRecord, known: Sequence[int], objective: Objective, fixed: Sequence[Head] | None
) -> Sequence[Sequence[Head]]:
    """The heads to align of each of these questions."""
    if objective.selection == "fixed":
        return [fixed or ()] * len(known)
    ratios = [visual_ratio(record.image_share(b).detach()) for b in known]
    if objective.selection == "all" and known:
        layers, heads = ratios[0].shape
        return [[Head(layer, head) for layer in range(layers) for head in range(heads)]] * len(known)
    # Together, since the device is waited for once whatever is read from it.
    together = torch.stack(ratios).cpu() if known else torch.empty(0)
    return [critical_heads(ratio, objective.head_count) for ratio in together]
