"""Where a model looks while it writes an answer: the one definition behind every attention number of this project.

The heads are the K with the highest visual ratio (A3Tune, ACL 2025) over the text tokens after the image, up to the
last word of the answer, K being the number of heads of one layer unless another is asked for: chosen anew for every
question and adapter. The map is their mean over the rows that write the answer's words, each read where the model
stands when it chooses the word. The token that ends an answer is neither written nor read, so that a given answer and
one that the model writes itself are measured alike.

An inspection, the validation while tuning, the page and an evaluation all read it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from a3tune.attention.critical_heads import critical_heads, visual_ratio
from a3tune.attention.metrics import measure
from a3tune.attention.record import AttentionRecord
from a3tune.types import Head


@dataclass(frozen=True, eq=False)
class AnswerAttention:
    """Where one sequence's critical heads look while the answer is written.

    Attributes:
        ratio: float32 [layers, heads], the visual ratio of every head, 0 to 1.
        heads: the critical heads, highest ratio first, or those that were asked for.
        weights: float64 [patches], their mean map; sums to their mean share of attention on the image.
    """

    ratio: np.ndarray
    heads: tuple[Head, ...]
    weights: np.ndarray


def answer_attention(
    record: AttentionRecord,
    b: int,
    writing: torch.Tensor,
    *,
    closed: bool,
    count: int | None = None,
    heads: Sequence[Head] | None = None,
) -> AnswerAttention:
    """Read it off a captured pass over prompt and answer, or off the passes that wrote the answer.

    Args:
        record: the capture of every head.
        b: which sequence.
        writing: bool [rows of the sequence], those from which the answer's words are written; where there are none,
            the answer is empty and every row counts. Rows of the record behind these are padding, and do not count.
        closed: whether the sequence's last row is the token that ends the answer.
        count: K; None for the number of heads of one layer.
        heads: the heads that are read; the critical ones when None.

    Raises:
        ModelError: a ratio is not a finite number.
        RequestError: the model has not that many heads.
    """
    share = record.image_share(b).detach()[..., : len(writing)]
    rows = torch.ones(share.shape[-1], dtype=torch.bool, device=share.device)
    rows[-1] = not closed or len(rows) == 1
    ratio = visual_ratio(share, rows)
    chosen_heads = tuple(heads or critical_heads(ratio, share.shape[1] if count is None else count))
    writing = writing.to(share.device)
    chosen = record.select(b, chosen_heads).detach()[:, : len(writing)][:, writing if bool(writing.any()) else rows]
    return AnswerAttention(ratio.cpu().numpy(), chosen_heads, chosen.cpu().double().mean(dim=(0, 1)).numpy())


def measure_answer(weights: np.ndarray, coverage: np.ndarray | None) -> dict[str, float]:
    """The numbers of one map: those of `a3tune.attention.metrics.measure`, and "image_share".

    Args:
        weights: float [patches], as in `AnswerAttention`.
        coverage: float [patches], 0 to 1: how much of each patch the target covers; None where no target is known.
    """
    numbers = {name: float(value) for name, value in measure(weights, coverage).items()}
    numbers["image_share"] = float(weights.sum(dtype=np.float64))
    return numbers
