"""Several runs of one recipe that differ in their seed alone: told apart from intervals, which are over images."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from a3tune.evaluation.statistics import Spread, spread_of_runs

_SEEDED = re.compile(r"(.+?)[-_]?seed[-_]?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class SeedSpread:
    """One number over the runs of a recipe.

    Attributes:
        recipe: the adapters' common name.
        systems: the runs, by the systems' names.
        name, mode: the number, as in `a3tune.evaluation.report.Metric`.
        spread: mean and spread over the runs.
    """

    recipe: str
    systems: tuple[str, ...]
    name: str
    mode: str
    spread: Spread


def seed_spreads(numbers: Mapping[tuple[str, str, str], float]) -> list[SeedSpread]:
    """The spread of every number over the runs of each recipe: adapters that are called NAME-seed1, NAME-seed2, ...

    Args:
        numbers: (system, name, mode) -> value.
    """
    recipes: dict[str, list[str]] = {}
    for system in dict.fromkeys(system for system, _, _ in numbers):
        match = _SEEDED.fullmatch(system)
        if match:
            recipes.setdefault(match[1], []).append(system)
    found = []
    for recipe, members in recipes.items():
        for name, mode in dict.fromkeys((name, mode) for system, name, mode in numbers if system in members):
            values = [numbers.get((system, name, mode), math.nan) for system in members]
            if len(members) > 1 and all(map(math.isfinite, values)):
                found.append(SeedSpread(recipe, tuple(members), name, mode, spread_of_runs(values)))
    return found
