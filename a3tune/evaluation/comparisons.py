"""Two systems on the same questions, number by number, with tests that are corrected for their number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from a3tune.evaluation.items import EvaluatedItem, shared_questions
from a3tune.evaluation.report_metrics import MeasuredReports, measure_reports
from a3tune.evaluation.statistics import Difference, holm, paired_difference, verdict

REPORTS = "reports"
"""The mode of numbers of whole reports (`a3tune.evaluation.report_metrics`)."""
COMPARED = (
    "strict.accuracy",
    "strict.recall",
    "strict.exact_match",
    "given.attention_mass",
    "generated.attention_mass",
)
"""The numbers whose differences are tested, besides those of whole reports; Holm corrects over all of them."""


@dataclass(frozen=True)
class Comparison:
    """One number of two systems.

    Attributes:
        before, after: the systems.
        name, mode: as in `Metric`.
        difference: after less before.
        p_holm: the p value corrected for all comparisons of the report.
        verdict: in words.
        fixed, broken: numbers of the questions that the second alone, and the first alone, answers right; empty for
            numbers that are no 0 or 1.
    """

    before: str
    after: str
    name: str
    mode: str
    difference: Difference
    p_holm: float
    verdict: str
    fixed: tuple[int, ...] = ()
    broken: tuple[int, ...] = ()


def compare_pairs(
    systems: Sequence[tuple[Sequence[EvaluatedItem], Sequence[EvaluatedItem]]],
    *,
    seed: int = 0,
    reports: Mapping[str, Sequence[MeasuredReports]] | None = None,
) -> list[Comparison]:
    """Systems two by two, number by number, on the questions that both have; corrected for all comparisons of all.

    Args:
        systems: what is compared, the first one before.
        seed: of the draws of intervals and tests.
        reports: `a3tune.evaluation.report_metrics.measure_reports` of the systems by name; measured where it is None.
    """
    pairs_of = []
    texts = []
    for first, other in systems:
        pairs = shared_questions(first, other)
        further = dict.fromkeys(part for one, two in pairs for part in (*one.further_attention, *two.further_attention))
        for dotted in (*COMPARED, *(f"{part}.attention_mass" for part in further)):
            if any(math.isfinite(one.value(dotted)) and math.isfinite(two.value(dotted)) for one, two in pairs):
                pairs_of.append((dotted, pairs))
        if pairs:
            names = (pairs[0][0].system, pairs[0][1].system)
            texts += [(names, *measured) for measured in _measured_by_both(first, other, reports)]
    count = len(pairs_of) + len(texts)
    found: list[tuple[tuple[str, str], tuple[str, str], Difference, tuple[int, ...], tuple[int, ...], bool]] = []
    for dotted, pairs in pairs_of:
        before, after = ([item.value(dotted) for item in side] for side in zip(*pairs, strict=True))
        images = [item.cluster for item, _ in pairs]
        difference = paired_difference(before, after, images, seed=seed, comparisons=count)
        fixed: tuple[int, ...] = ()
        broken: tuple[int, ...] = ()
        if dotted in ("strict.accuracy", "strict.exact_match"):
            fixed = tuple(a.number for a, b in pairs if (a.value(dotted), b.value(dotted)) == (0, 1))
            broken = tuple(a.number for a, b in pairs if (a.value(dotted), b.value(dotted)) == (1, 0))
        found.append(((pairs[0][0].system, pairs[0][1].system), named(dotted), difference, fixed, broken, True))
    for names, one, two in texts:
        changed = one.against(two, seed=seed, comparisons=count)
        if changed is not None:
            found.append((names, (one.name, REPORTS), changed, (), (), one.most == 1))
    corrected = holm([difference.p for _, _, difference, *_ in found])
    return [
        Comparison(*names, *named, difference, p, verdict(difference, p, points=points), fixed, broken)
        for (names, named, difference, fixed, broken, points), p in zip(found, corrected, strict=True)
    ]


def _measured_by_both(
    first: Sequence[EvaluatedItem],
    other: Sequence[EvaluatedItem],
    reports: Mapping[str, Sequence[MeasuredReports]] | None,
) -> list[tuple[MeasuredReports, MeasuredReports]]:
    """The numbers of reports that two systems have, which can be drawn anew."""
    names = (first[0].system, other[0].system)
    if reports is None:
        names = ("before", "after")  # folders of one name have systems of one name
        reports = measure_reports(dict(zip(names, (first, other), strict=True)))
    one, two = ({m.name: m for m in reports.get(name, ()) if m.statistics is not None} for name in names)
    return [(one[name], two[name]) for name in one if name in two]


def named(dotted: str) -> tuple[str, str]:
    """(name, mode) of an item's number."""
    part, _, name = dotted.rpartition(".")
    when, comma, heads = part.partition(", ")
    return name, {"given": "given answer", "generated": "generated answer"}.get(when, when) + comma + heads
