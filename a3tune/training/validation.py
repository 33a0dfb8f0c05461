"""How a model does on held-out questions: loss, exactly right answers, and where its critical heads look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from a3tune.attention.capture import capture
from a3tune.attention.critical_heads import critical_heads, visual_ratio
from a3tune.attention.record import AttentionRecord
from a3tune.progress import Progress, no_progress
from a3tune.training.collate import Collator, Question, Questions
from a3tune.types import Head


@dataclass
class Tally:
    """Sums over questions; those of several processes are added up before they are read.

    Attributes:
        loss, tokens: summed cross-entropy of the answers' tokens, and their number.
        closed, closed_right, open, open_right: questions of each answer type, and how many are exactly right.
        mass, looked: summed attention mass inside the target, over the questions that have a target, and their number.
    """

    loss: float = 0.0
    tokens: float = 0.0
    closed: float = 0.0
    closed_right: float = 0.0
    open: float = 0.0
    open_right: float = 0.0
    mass: float = 0.0
    looked: float = 0.0

    def tensor(self, device: torch.device) -> torch.Tensor:
        """float64 [8]."""
        return torch.tensor([getattr(self, item.name) for item in fields(self)], dtype=torch.float64, device=device)

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Tally:
        return cls(*tensor.tolist())

    def metrics(self) -> dict[str, float]:
        """ "loss", "accuracy", "closed_accuracy", "open_accuracy" and "attention_mass"; those without a question are
        left out."""
        parts = {
            "loss": (self.loss, self.tokens),
            "accuracy": (self.closed_right + self.open_right, self.closed + self.open),
            "closed_accuracy": (self.closed_right, self.closed),
            "open_accuracy": (self.open_right, self.open),
            "attention_mass": (self.mass, self.looked),
        }
        return {name: total / count for name, (total, count) in parts.items() if count}


def answer_logits(
    model: nn.Module, batch: dict[str, Any], extra: dict[str, torch.Tensor], keeps: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """One forward pass; logits only where an answer's token is next.

    Args:
        model: the model, perhaps wrapped.
        batch: from `a3tune.training.collate.Collator`.
        extra: further keyword arguments of the model.
        keeps: whether the model takes ``logits_to_keep``.

    Returns:
        logits [batch, kept, vocabulary] and the ids that come next, int64 [batch, kept], -100 off the answers.
    """
    # The token at position i is predicted at position i - 1.
    following = functional.pad(batch["labels"][:, 1:], (0, 1), value=-100)
    positions = (following != -100).any(dim=0).nonzero().squeeze(1)
    options = {"logits_to_keep": positions} if keeps else {}
    logits = model(**batch["inputs"], **extra, **options, use_cache=False).logits
    return (logits if keeps else logits[:, positions]), following[:, positions]


@torch.no_grad()
def validate(
    model: nn.Module,
    questions: Questions,
    indices: Sequence[int],
    *,
    batch_size: int,
    head_count: int,
    fixed_heads: Sequence[Head] | None,
    to_device: Callable[[dict[str, Any]], dict[str, Any]],
    extra: Callable[[dict[str, Any]], dict[str, torch.Tensor]],
    keeps: bool,
    on_progress: Progress = no_progress,
) -> Tally:
    """Ask some questions of a split; the model is in evaluation mode.

    An answer is exactly right when each of its tokens and the end token is the model's first choice after the ones
    before: just then greedy decoding writes this answer and stops.

    Args:
        model: the prepared (attention can be captured), perhaps wrapped model.
        questions, indices: which questions.
        batch_size: questions in one pass.
        head_count: K; the critical heads are chosen for each question when ``fixed_heads`` is None.
        to_device: moves a batch to the model's device.
        extra: batch -> further keyword arguments of the model.
        keeps: whether the model takes ``logits_to_keep``.
        on_progress: told before each pass how far it is.
    """
    tally = Tally()
    collate = Collator(questions.encoder)
    for start in range(0, len(indices), batch_size):
        on_progress("Validating", start / len(indices))
        chosen = [questions[index] for index in indices[start : start + batch_size]]
        batch = to_device(collate(chosen))
        with capture(batch["rows"], batch["columns"]) as record:
            logits, following = answer_logits(model, batch, extra(batch), keeps)
        answered = following != -100
        tally.loss += float(functional.cross_entropy(logits[answered].float(), following[answered], reduction="sum"))
        tally.tokens += int(answered.sum())
        right = ((logits.argmax(dim=-1) == following) | ~answered).all(dim=1).tolist()
        for b, question in enumerate(chosen):
            kind = question.item.answer_type
            setattr(tally, kind, getattr(tally, kind) + 1)
            setattr(tally, f"{kind}_right", getattr(tally, f"{kind}_right") + right[b])
            if question.target.any():
                tally.mass += _mass(record, batch, b, question, head_count, fixed_heads)
                tally.looked += 1
    return tally


def _mass(
    record: AttentionRecord,
    batch: dict[str, Any],
    b: int,
    question: Question,
    count: int,
    fixed: Sequence[Head] | None,
) -> float:
    """Share of the critical heads' attention to the image that lies in the target, while the answer is written."""
    heads = critical_heads(visual_ratio(record.image_share(b)), count) if fixed is None else fixed
    writing = batch["writing"][b][batch["rows"][b]]
    attention = record.select(b, heads)[:, writing].mean(dim=(0, 1)).double()
    target = question.target.amax(dim=0).to(attention)
    return float((attention * target).sum() / attention.sum().clamp(min=1e-12))


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

    Args: as `validate`.
    """
    collate = Collator(questions.encoder)
    ratios: list[torch.Tensor] = []
    for start in range(0, len(indices), batch_size):
        batch = to_device(collate([questions[index] for index in indices[start : start + batch_size]]))
        with capture(batch["rows"], batch["columns"]) as record:
            model(**batch["inputs"], **extra(batch), use_cache=False)
        for b in range(len(batch["labels"])):
            ratios.append(visual_ratio(record.image_share(b)).double())
    return critical_heads(sum(ratios[1:], ratios[0]) / len(indices), count)
