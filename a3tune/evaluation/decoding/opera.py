"""OPERA's over-trust penalty: beams whose words lean on one earlier word lose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import LogitsProcessor

from a3tune.adapters.a3moe.token_spans import TokenSpans
from a3tune.attention.capture import capture
from a3tune.evaluation.decoding.formulas import over_trust
from a3tune.evaluation.decoding.method import DecodingContext
from a3tune.types import Head

BEAMS, SCALE, PENALTY, CANDIDATES = 5, 50.0, 1.0, 5


@contextmanager
def opera(context: DecodingContext) -> Iterator[list[LogitsProcessor]]:
    """OPERA (Huang et al., CVPR 2024), its penalty in beam search. Each of a beam's best next words is read once, and
    the highest head of the last layer tells how much the answer's words lean on one before them. Its second part, going
    back after fifteen words that lean on the same one, is not done: such answers are rare in question answering."""
    yield [_OverTrust(context)]


class _OverTrust(LogitsProcessor):
    def __init__(self, context: DecodingContext) -> None:
        self._context, self._start = context, context.batch.length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if input_ids.shape[1] == self._start:
            return scores  # the first word leans on none
        best = scores.topk(CANDIDATES, dim=-1)
        penalty = self._penalty(input_ids, best.indices)
        lowest = scores.scatter(1, best.indices, best.values - PENALTY * penalty.to(scores))
        # Words that were not looked at must not gain by the others' penalty.
        others = torch.ones_like(scores, dtype=torch.bool).scatter(1, best.indices, False)
        return lowest.masked_fill(others, -torch.inf)

    @torch.no_grad()
    def _penalty(self, input_ids: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """float [rows, candidates]."""
        batch, model = self._context.batch, self._context.model
        rows, count = candidates.shape
        repeat = rows * count
        sequences = torch.cat([input_ids.repeat_interleave(count, dim=0), candidates.reshape(-1, 1)], dim=1)
        grown = sequences.shape[1] - self._start
        inputs = {name: torch.cat([tensor] * repeat) for name, tensor in batch.inputs.items()}
        for name, tensor in inputs.items():
            if tensor.dim() == 2 and tensor.shape[1] == self._start:
                fill = tensor.new_full((len(tensor), grown), 1 if name == "attention_mask" else 0)
                inputs[name] = torch.cat([tensor, fill], dim=1)
        inputs["input_ids"] = sequences
        words = torch.zeros_like(sequences, dtype=torch.bool).cpu()
        words[:, self._start :] = True
        options = {}
        if any(batch.starts):
            options["position_ids"] = (inputs["attention_mask"].cumsum(dim=-1) - 1).clamp(min=0)
        last = [Head(model.layers - 1, head) for head in range(model.heads)]
        found = []
        with TokenSpans(batch.question, batch.columns, growing=True), capture(words, words, last) as record:
            model.model(**inputs, **options, use_cache=False)
        for b in range(len(sequences)):
            found.append(over_trust(record.weights(b).amax(dim=0), SCALE))
        return torch.stack(found).reshape(rows, count).to(candidates.device)
