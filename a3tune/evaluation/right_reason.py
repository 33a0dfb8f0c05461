"""Right for the right reason: whether the answer is right, and whether attention is where it belongs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from a3tune.evaluation.items import EvaluatedItem, shared_questions

THRESHOLD = 2.0
"""Attention counts as inside from this relative mass on: twice what a map without any preference has there. A share of
the attention itself would call every small structure "outside"."""
SWEEP = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
NUMBER = "relative_mass"

RIGHT_INSIDE, RIGHT_OUTSIDE = "right, inside", "right, outside"
WRONG_INSIDE, WRONG_OUTSIDE = "wrong, inside", "wrong, outside"
CELLS = (RIGHT_INSIDE, RIGHT_OUTSIDE, WRONG_INSIDE, WRONG_OUTSIDE)


@dataclass(frozen=True)
class ReasonTable:
    """One system's questions that have a place to look at, in four cells.

    Attributes:
        system: its name.
        threshold: the relative mass from which attention counts as inside.
        counts: cell -> how many questions.
        numbers: cell -> the questions' numbers, in order: the cases behind the count.
        sweep: (threshold, cell -> count) for each of `SWEEP`.
    """

    system: str
    threshold: float
    counts: dict[str, int]
    numbers: dict[str, tuple[int, ...]]
    sweep: tuple[tuple[float, dict[str, int]], ...]


@dataclass(frozen=True)
class Transitions:
    """How questions moved from cell to cell between two systems.

    Attributes:
        before, after: the systems.
        threshold: as in `ReasonTable`.
        flows: (cell before, cell after, how many, the questions' numbers), largest first; empty ones left out.
    """

    before: str
    after: str
    threshold: float
    flows: tuple[tuple[str, str, int, tuple[int, ...]], ...]


def cell_of(item: EvaluatedItem, threshold: float = THRESHOLD) -> str | None:
    """The cell of one item, by where it looked while it wrote its own answer; None where there is no place to look at,
    or no answer."""
    number = item.value(f"generated.{NUMBER}")
    if item.prediction is None or not math.isfinite(number):
        return None
    return CELLS[(0 if item.right else 2) + (0 if number >= threshold else 1)]


def reason_table(system: str, items: Sequence[EvaluatedItem], threshold: float = THRESHOLD) -> ReasonTable | None:
    """The table of one system; None where no question has a place to look at."""
    numbers: dict[str, list[int]] = {cell: [] for cell in CELLS}
    for item in items:
        cell = cell_of(item, threshold)
        if cell is not None:
            numbers[cell].append(item.number)
    if not any(numbers.values()):
        return None
    return ReasonTable(
        system,
        threshold,
        {cell: len(found) for cell, found in numbers.items()},
        {cell: tuple(found) for cell, found in numbers.items()},
        tuple((step, _counts(items, step)) for step in SWEEP),
    )


def transitions(
    before: Sequence[EvaluatedItem], after: Sequence[EvaluatedItem], threshold: float = THRESHOLD
) -> Transitions | None:
    """How the questions that both have moved; None where there are none."""
    moved: dict[tuple[str, str], list[int]] = {}
    for item, later in shared_questions(before, after):
        first, second = cell_of(item, threshold), cell_of(later, threshold)
        if first is not None and second is not None:
            moved.setdefault((first, second), []).append(item.number)
    if not moved:
        return None
    ordered = sorted(moved.items(), key=lambda flow: (-len(flow[1]), flow[0]))
    flows = tuple((first, second, len(numbers), tuple(numbers)) for (first, second), numbers in ordered)
    return Transitions(before[0].system, after[0].system, threshold, flows)


def _counts(items: Sequence[EvaluatedItem], threshold: float) -> dict[str, int]:
    found = Counter(cell_of(item, threshold) for item in items)
    return {cell: found[cell] for cell in CELLS}
