"""Finding the question in a prompt's token ids, by the ids that stand around it in the adapter's chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from a3tune.errors import AdapterError

Patterns = Sequence[Sequence[int]]
"""Several runs of token ids, one of which stands at the place."""

_REMEDY = (
    "Pass a3_question_mask (bool [batch, length]), or ask one question in the chat template that the adapter was "
    "trained with"
)


class PromptTokens(NamedTuple):
    """The tokens of one call of the model, as it was given them.

    Attributes:
        ids: int64 [batch, length], image tokens expanded.
        attention: [batch, length], 0 on padding; None when nothing is padded.
        image_token: the id of an image's patches; None when the model names none.
    """

    ids: torch.Tensor
    attention: torch.Tensor | None
    image_token: int | None

    def fits(self, batch: int, tokens: int) -> bool:
        """Whether these are the tokens of a pass over [batch, tokens]."""
        return self.ids.shape == (batch, tokens)

    def part(self, rows: slice) -> PromptTokens:
        """Those of some rows of the batch."""
        return self._replace(ids=self.ids[rows], attention=None if self.attention is None else self.attention[rows])

    @property
    def image(self) -> torch.Tensor | None:
        """bool [batch, length]: the image tokens."""
        return None if self.image_token is None else self.ids == self.image_token

    def find_questions(self, before: Patterns, after: Patterns, *, continuing: bool = False) -> torch.Tensor | None:
        """Where each row's only question stands.

        Args:
            before, after: see `A3MoeConfig.question_before` and `question_after`.
            continuing: the row's question was read in an earlier pass: None is then the answer that is expected.

        Returns:
            bool [batch, length], or None when the question was read before.

        Raises:
            AdapterError: a row holds no question, or more than one.
        """
        if continuing and self.ids.shape[1] == 1:
            return None
        ids, padded = self.ids, self.attention
        if padded is not None and padded.shape == ids.shape:
            ids = ids.masked_fill(padded == 0, -1)
        mask = torch.zeros(self.ids.shape, dtype=torch.bool)
        for row, tokens in enumerate(ids.tolist()):
            found = question_spans(tokens, before, after, self.image_token)
            if continuing and not found:
                continue
            if continuing or len(found) != 1 or found[0].start is None:
                raise _not_one(row, found, continuing)
            mask[row, found[0].start : found[0].stop] = True
        return None if continuing else mask.to(self.ids.device)


class Span(NamedTuple):
    """A place that ends as a question does: tokens ``start`` to ``stop`` - 1; ``start`` is None where no single
    beginning was found for it."""

    start: int | None
    stop: int


def question_spans(ids: Sequence[int], before: Patterns, after: Patterns, image_token: int | None) -> list[Span]:
    """Every place in ``ids`` that ends as a question does.

    A question holds no image token: it begins after the last image before its end, or after the last question's end.
    Where several patterns match at one place, the longest counts: they are the ways in which the template's own
    letters are cut into tokens next to different questions.
    """
    begins: dict[int, int] = {}
    for first, end in _matches(ids, before):
        begins[first] = max(end, begins.get(first, 0))
    ends: dict[int, int] = {}
    for start, end in _matches(ids, after):
        ends[end] = min(start, ends.get(end, start))
    spans = []
    floor = 0
    for end, stop in sorted(ends.items()):
        image = max((place for place in range(floor, stop) if ids[place] == image_token), default=-1)
        starts = {begin for begin in begins.values() if max(floor, image + 1) <= begin < stop}
        spans.append(Span(starts.pop() if len(starts) == 1 else None, stop))
        floor = end
    return spans


def _matches(ids: Sequence[int], patterns: Patterns) -> list[tuple[int, int]]:
    """(first, one past the last) of each place where a pattern stands."""
    wanted = [list(pattern) for pattern in patterns]
    return [
        (place, place + len(pattern))
        for pattern in wanted
        for place in range(len(ids) - len(pattern) + 1)
        if ids[place] == pattern[0] and list(ids[place : place + len(pattern)]) == pattern
    ]


def _not_one(row: int, found: Sequence[Span], continuing: bool) -> AdapterError:
    places = ", ".join(
        f"tokens {span.start} to {span.stop - 1}"
        if span.start is not None
        else f"one that ends before token {span.stop} with no certain beginning"
        for span in found
    )
    got = f"Row {row} holds {len(found) or 'none'}" + (f": {places}" if found else "")
    if continuing:
        got += ", after the one that was read in an earlier pass"
    return AdapterError(
        expected="exactly one question in each row, when a3_question_mask is not passed", got=got, remedy=_REMEDY
    )
