"""OPERA: beams whose words lean on one earlier word lose, and where many do the answer goes back behind that word."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import LogitsProcessor

from a3tune.adapters.a3moe.token_spans import TokenSpans
from a3tune.attention.capture import capture
from a3tune.evaluation.decoding.formulas import leant_on, over_trust, summary_word
from a3tune.evaluation.decoding.method import DecodingContext, GoingBack
from a3tune.types import Head

BEAMS, SCALE, PENALTY, CANDIDATES = 5, 50.0, 1.0, 5
THRESHOLD = 15
"""From how many words that lean on the same one on an answer goes back behind it."""
TIMES = 5
"""How often it goes back to the same place."""


@contextmanager
def opera(context: DecodingContext) -> Iterator[list[LogitsProcessor]]:
    """OPERA (Huang et al., CVPR 2024). Each of a beam's best next words is read once, and the highest head of the last
    layer tells how much the answer's words lean on one before them, which is its penalty. Where `THRESHOLD` words of
    the best beam lean on the same one, the search begins anew behind that word, and the word that followed it there is
    left out; never before a place that it went back to before, and at most `TIMES` times to each, then to the word
    before. The words that count are all of the answer."""
    yield [_Opera(context)]


class _Opera(LogitsProcessor):
    def __init__(self, context: DecodingContext) -> None:
        self._context, self._start = context, context.batch.length
        self._kept: tuple[int, ...] = ()
        """The words that the answer begins with since it last went back."""
        self._left_out: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
        """Words before -> those that do not follow them any more."""
        self._times: Counter[int] = Counter()
        self._last = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        written = [tuple(row) for row in input_ids[:, self._start :].tolist()]
        count = len(written[0])
        if count < len(self._kept):
            only = torch.full_like(scores, -torch.inf)
            only[:, self._kept[count]] = scores[:, self._kept[count]]
            return only
        scores = scores.clone()
        for row, words in enumerate(written):
            scores[row, sorted(self._left_out.get(words, ()))] = -torch.inf
        if not count:
            return scores  # the first word leans on none
        best = scores.topk(CANDIDATES, dim=-1)
        attention = self._attention(input_ids, best.indices)
        self._go_back(written[0], attention[0, 0, :-1, :-1])
        penalty = over_trust(attention, SCALE)
        lowest = scores.scatter(1, best.indices, best.values - PENALTY * penalty.to(scores))
        # Words that were not looked at must not gain by the others' penalty.
        others = torch.ones_like(scores, dtype=torch.bool).scatter(1, best.indices, False)
        return lowest.masked_fill(others, -torch.inf)

    def _go_back(self, words: tuple[int, ...], attention: torch.Tensor) -> None:
        """Begin again where too many of the best beam's words lean on one.

        Args:
            words: of the best beam, the first of all.
            attention: float [words, words].

        Raises:
            GoingBack: they do, and the word that followed can be left out.
        """
        place = summary_word(leant_on(attention, SCALE), THRESHOLD)
        if place is None or place < self._last:
            return
        self._last = place
        place -= self._times[place] >= TIMES
        if place < 0 or self._times[place] >= TIMES:
            return
        self._times[place] += 1
        self._kept = words[: place + 1]
        self._left_out[self._kept].add(words[place + 1])
        raise GoingBack

    @torch.no_grad()
    def _attention(self, input_ids: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """float [rows, candidates, words, words]: of the answer with each candidate, the highest head's."""
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
        with TokenSpans(batch.question, batch.columns, growing=True), capture(words, words, last) as record:
            model.model(**inputs, **options, use_cache=False)
        found = torch.stack([record.weights(b).amax(dim=0) for b in range(len(sequences))])
        return found.unflatten(0, (rows, count)).to(candidates.device)
