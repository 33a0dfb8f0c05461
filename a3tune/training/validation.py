"""How a model does on held-out questions: loss, exactly right answers, and where its critical heads look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from a3tune.attention.answer import answer_attention
from a3tune.attention.capture import capture
from a3tune.attention.metrics import attention_mass
from a3tune.lack_of_memory import in_halves
from a3tune.progress import Progress, no_progress
from a3tune.storage import whole_file
from a3tune.training.collate import Collator, Question, Questions

COLUMNS = ("loss", "tokens", "right", "mass", "looked")


@dataclass(frozen=True, eq=False)
class Tally:
    """What a model did with the questions of a split, one by one; those of several processes are added up.

    Attributes:
        table: float64 [questions, 5], zeros where nobody asked: summed cross-entropy of the answer's tokens, their
            number, 1 where it is exactly right, attention mass inside the target, 1 where there is one.
        closed: bool [questions]: which are closed ones.
    """

    table: torch.Tensor
    closed: torch.Tensor

    @classmethod
    def of(cls, questions: Questions) -> Tally:
        """Nothing asked yet."""
        closed = [item.answer_type == "closed" for item in questions.items]
        return cls(torch.zeros(len(closed), len(COLUMNS), dtype=torch.float64), torch.tensor(closed, dtype=torch.bool))

    @property
    def right(self) -> torch.Tensor:
        """float64 [questions], 0 or 1."""
        return self.table[:, 2]

    def save(self, path: Path) -> None:
        """Write the table, complete or not at all."""
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as stream:
            np.save(stream, self.table.numpy())

    @classmethod
    def load(cls, path: Path, questions: Questions) -> Tally | None:
        """What `save` wrote about these questions; None when there is no such file."""
        tally = cls.of(questions)
        with suppress(OSError, ValueError):
            table = torch.from_numpy(np.load(path))
            return cls(table, tally.closed) if table.shape == tally.table.shape else None
        return None

    def metrics(self) -> dict[str, float]:
        """ "loss", "accuracy", "closed_accuracy", "open_accuracy" and "attention_mass"; those without a question are
        left out."""
        loss, tokens, right, mass, looked = self.table.T
        asked = tokens > 0
        closed, opened = asked & self.closed, asked & ~self.closed
        parts = {
            "loss": (loss.sum(), tokens.sum()),
            "accuracy": (right.sum(), asked.sum()),
            "closed_accuracy": (right[closed].sum(), closed.sum()),
            "open_accuracy": (right[opened].sum(), opened.sum()),
            "attention_mass": (mass.sum(), looked.sum()),
        }
        return {name: float(total / count) for name, (total, count) in parts.items() if count}


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
        logits [batch, kept, vocabulary] on the model's device, and the ids that come next where the batch's labels are:
        int64 [batch, kept], -100 off the answers.
    """
    # The token at position i is predicted at position i - 1.
    following = functional.pad(batch["labels"][:, 1:], (0, 1), value=-100)
    positions = (following != -100).any(dim=0).nonzero().squeeze(1)
    places = positions.to(batch["inputs"]["input_ids"].device, non_blocking=True)
    options = {"logits_to_keep": places} if keeps else {}
    logits = model(**batch["inputs"], **extra, **options, use_cache=False).logits
    return (logits if keeps else logits[:, places]), following[:, positions]


@torch.no_grad()
def answer_map(
    model: nn.Module,
    question: Question,
    *,
    collate: Collator,
    to_device: Callable[[dict[str, Any]], dict[str, Any]],
    extra: Callable[[dict[str, Any]], dict[str, torch.Tensor]],
    keeps: bool,
) -> tuple[np.ndarray | None, bool]:
    """Where a model looks while the reference answer is written, and whether it would answer exactly so.

    Alone, not in a batch: a batch of the training's size fits, and no larger one need.

    Args:
        model, to_device, extra, keeps: as in `validate`.
        question: the question.
        collate: of its encoder.

    Returns:
        float64 [patches], see `a3tune.attention.answer.AnswerAttention`, None where it is not finite; and whether each
        token is the model's first choice.
    """
    batch = to_device(collate([question]))
    with capture(batch["rows"], batch["columns"]) as record:
        logits, following = answer_logits(model, batch, extra(batch), keeps)
    chosen = logits.argmax(dim=-1).cpu()
    right = bool(((chosen == following.cpu()) | (following.cpu() == -100)).all())
    if not record.image_share(0).isfinite().all():
        return None, right
    return answer_attention(record, 0, batch["writing"][0][batch["rows"][0]], closed=True).weights, right


@torch.no_grad()
def validate(
    model: nn.Module,
    questions: Questions,
    indices: Sequence[int],
    *,
    batch_size: int,
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
        to_device: moves a batch to the model's device.
        extra: batch -> further keyword arguments of the model.
        keeps: whether the model takes ``logits_to_keep``.
        on_progress: told before each pass how far it is.
    """
    tally = Tally.of(questions)
    collate = Collator(questions.encoder)

    def ask(places: Sequence[int]) -> list[None]:
        chosen = [questions[index] for index in places]
        batch = to_device(collate(chosen))
        with capture(batch["rows"], batch["columns"]) as record:
            logits, following = answer_logits(model, batch, extra(batch), keeps)
        following = following.to(logits.device, non_blocking=True)
        answered = following != -100
        losses = functional.cross_entropy(
            logits.float().transpose(1, 2), following, ignore_index=-100, reduction="none"
        ).sum(dim=1)
        right = ((logits.argmax(dim=-1) == following) | ~answered).all(dim=1)
        sums = torch.stack([losses, answered.sum(dim=1), right], dim=1)
        tally.table[list(places), :3] = sums.cpu().double()
        for b, (place, question) in enumerate(zip(places, chosen, strict=True)):
            if question.target.any():
                writing = batch["writing"][b][batch["rows"][b]]
                found = answer_attention(record, b, writing, closed=True)
                tally.table[place, 3] = float(attention_mass(found.weights, question.coverage))
                tally.table[place, 4] = 1
        return []

    for start in range(0, len(indices), batch_size):
        on_progress("Validating", start / len(indices))
        in_halves(ask, indices[start : start + batch_size])
    return tally
