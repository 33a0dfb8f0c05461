"""Whether a model affirms what is not there: POPE's numbers over questions of yes and no.

Li et al., "Evaluating Object Hallucination in Large Vision-Language Models" (POPE), EMNLP 2023: "yes" is the positive
class. An answer that says neither counts as wrong and as no "yes", and is told by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from a3tune.evaluation.items import EvaluatedItem
from a3tune.evaluation.statistics import Interval, mean_interval
from a3tune.evaluation.vqa import polarity, yes_or_no


@dataclass(frozen=True)
class Hallucination:
    """One system over its questions of yes and no.

    Attributes:
        system: its name.
        accuracy, precision, recall, f1: with "yes" as the positive class; NaN where there is nothing to divide by.
        yes_share: share of the answers that say yes.
        yes_bias: ``yes_share`` less the share of right answers that are "yes": above 0 it says yes too often.
        unclear: share of the answers that say neither.
        affirmed: share of what is absent (right answer "no") that is affirmed, with its interval over images.
        absent: the same over questions after a finding or device alone ("Is there ...?").
        questions: how many.
    """

    system: str
    accuracy: float
    precision: float
    recall: float
    f1: float
    yes_share: float
    yes_bias: float
    unclear: float
    affirmed: Interval
    absent: Interval
    questions: int


def hallucination(system: str, items: Sequence[EvaluatedItem], *, seed: int = 0) -> Hallucination | None:
    """The numbers of one system; None where no question has yes or no as its right answer."""
    asked = []
    for item in items:
        wanted = yes_or_no(item.answer)
        if item.answer_type == "closed" and item.prediction is not None and wanted is not None:
            asked.append((item, wanted, polarity(item.prediction, item.question)))
    if not asked:
        return None
    count = len(asked)
    true_yes = sum(wanted == said == "yes" for _, wanted, said in asked)
    said_yes = sum(said == "yes" for _, _, said in asked)
    is_yes = sum(wanted == "yes" for _, wanted, _ in asked)
    precision, recall = _share(true_yes, said_yes), _share(true_yes, is_yes)
    none = [(item, said) for item, wanted, said in asked if wanted == "no"]

    def affirmed(chosen: Sequence[tuple[EvaluatedItem, str | None]]) -> Interval:
        values = [float(said == "yes") for _, said in chosen]
        return mean_interval(values, [item.cluster for item, _ in chosen], seed=seed)

    return Hallucination(
        system,
        sum(wanted == said for _, wanted, said in asked) / count,
        precision,
        recall,
        _share(2 * precision * recall, precision + recall),
        said_yes / count,
        (said_yes - is_yes) / count,
        sum(said is None for _, _, said in asked) / count,
        affirmed(none),
        affirmed([(item, said) for item, said in none if item.groups.get("topic") == "presence"]),
        count,
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
