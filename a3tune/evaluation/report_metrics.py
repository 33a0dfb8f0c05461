"""Metrics of radiology reports over a whole split, as the literature on reports counts them.

BLEU, ROUGE-L, CIDEr and METEOR are pycocoevalcap's. None of them knows what is true: "no effusion" and "effusion" are
close by all of them, which is why findings are matched with their negation beside (`a3tune.evaluation.findings`).
"""

from __future__ import annotations

import contextlib
import io
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge

from a3tune.evaluation.corpus_statistics import Function, bleu, corpus_difference, corpus_interval, ratio
from a3tune.evaluation.findings import finding_counts, findings_available
from a3tune.evaluation.items import EvaluatedItem
from a3tune.evaluation.radeval import MEASURED, measure, radeval_installed
from a3tune.evaluation.statistics import Difference, mean_interval, paired_difference
from a3tune.evaluation.text_normalisation import normalise_strict

_LEAST_WORDS = 6
_LEAST_DESCRIBED = 3

# Of `a3tune.evaluation.findings.finding_counts`: shared, said, wanted, against, both.
_FINDINGS: Mapping[str, Function] = {
    "findings precision": ratio((1, 0, 0, 0, 0), (0, 1, 0, 0, 0)),
    "findings recall": ratio((1, 0, 0, 0, 0), (0, 0, 1, 0, 0)),
    "findings F1": ratio((2, 0, 0, 0, 0), (0, 1, 1, 0, 0)),
    "findings contradicted": ratio((0, 0, 0, 1, 0), (0, 0, 0, 0, 1)),
}
_NO_INTERVAL = "; no interval: RadEval gives one number for all reports"
_ELSEWHERE = "RadGraph F1, CheXbert F1, BERTScore, GREEN"
_NEEDS = (
    "not measured here: they need RadEval (pip install RadEval, Python 3.11 or later) and its models' weights; "
    "--export radeval writes the reports as it reads them"
)


@dataclass(frozen=True)
class TextMetric:
    """One number over all reports of a system.

    Attributes:
        system: whose.
        name: "BLEU-1" ... "BLEU-4", "ROUGE-L", "CIDEr", "METEOR", "findings F1", ....
        value: 0 to 1; CIDEr 0 to 10. None where it could not be measured.
        reports: over how many.
        note: why it could not be measured, or what a reader must know of it.
        low, high: its interval over images; None where it has none.
        images: about how many images the reports are.
    """

    system: str
    name: str
    value: float | None
    reports: int
    note: str = ""
    low: float | None = None
    high: float | None = None
    images: int = 0


@dataclass(frozen=True, eq=False)
class MeasuredReports:
    """One number over all reports of a system, with what each report has to do with it.

    Attributes:
        system, name, value, note: as in `TextMetric`.
        reports: the items with the reports.
        statistics: float64 [reports, k]; None where only the number of all reports is known.
        function: from sums of the statistics to the number; None where it is the mean of the one statistic.
        most: the largest value that there can be.
    """

    system: str
    name: str
    value: float | None
    note: str
    reports: Sequence[EvaluatedItem]
    statistics: np.ndarray | None = None
    function: Function | None = None
    most: float = 1.0

    def metric(self, seed: int = 0) -> TextMetric:
        """The number with its interval: over images, which are drawn."""
        count, images = len(self.reports), [item.cluster for item in self.reports]
        told = TextMetric(self.system, self.name, self.value, count, self.note, images=len(set(images)))
        if self.statistics is None or self.value is None:
            return told
        if self.function is None:
            found = mean_interval(self.statistics[:, 0] / self.most, images, seed=seed)
        else:
            found = corpus_interval(self.statistics, images, self.function, seed=seed)
        low, high = (end * self.most if math.isfinite(end) else None for end in (found.low, found.high))
        return replace(told, low=low, high=high)

    def against(self, after: MeasuredReports, *, seed: int = 0, comparisons: int = 1) -> Difference | None:
        """How another system's number differs on the reports that both have; None where it has none."""
        if self.statistics is None or after.statistics is None:
            return None
        later = {item.number: place for place, item in enumerate(after.reports)}
        places = [(place, later[item.number]) for place, item in enumerate(self.reports) if item.number in later]
        if not places:
            return None
        here, there = (list(side) for side in zip(*places, strict=True))
        images = [self.reports[place].cluster for place in here]
        one, two = self.statistics[here], after.statistics[there]
        if self.function is None:
            return paired_difference(one[:, 0], two[:, 0], images, seed=seed, comparisons=comparisons)
        return corpus_difference(one, two, images, self.function, seed=seed, comparisons=comparisons)


def is_report(item: EvaluatedItem) -> bool:
    """Whether the right answer to a question is a report: an open one of six words or more, or of three where a
    description is asked for, so that short reports of normal images are not left out."""
    least = _LEAST_DESCRIBED if item.groups.get("topic") == "report" else _LEAST_WORDS
    return item.answer_type == "open" and len(normalise_strict(item.answer).split()) >= least


def measure_reports(systems: Mapping[str, Sequence[EvaluatedItem]]) -> dict[str, list[MeasuredReports]]:
    """The report metrics of each system, by its name, over its open questions whose right answer is a report; none of
    a system without any.

    Texts are put in the strict normalisation first; an answer that is missing or empty counts as no words.
    """
    chosen = {
        system: [item for item in items if item.prediction is not None and is_report(item)]
        for system, items in systems.items()
    }
    chosen = {system: items for system, items in chosen.items() if items}
    elsewhere = _elsewhere(chosen)
    with _Meteor() as meteor:
        return {
            system: [*_metrics_of(system, items, meteor), *elsewhere[system], *_findings(system, items)]
            for system, items in chosen.items()
        }


def _metrics_of(system: str, chosen: Sequence[EvaluatedItem], meteor: _Meteor) -> list[MeasuredReports]:
    wanted = {number: [normalise_strict(item.answer)] for number, item in enumerate(chosen)}
    said = {number: [normalise_strict(item.prediction or "")] for number, item in enumerate(chosen)}
    scorer = BleuScorer(n=4)
    for number, right in wanted.items():
        scorer += (said[number][0], right)
    counts = [(one["testlen"], *one["reflen"], *one["correct"], *one["guess"]) for one in scorer.ctest]
    statistics = np.array(counts, np.float64)
    found = []
    for order in (1, 2, 3, 4):
        value = float(bleu(order)(statistics.sum(axis=0))[0])
        found.append(MeasuredReports(system, f"BLEU-{order}", value, "", chosen, statistics, bleu(order)))
    mean, each = Rouge().compute_score(wanted, said)
    found.append(MeasuredReports(system, "ROUGE-L", float(mean), "", chosen, _column(each)))
    if len(chosen) > 1:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocoevalcap prints as it goes
            mean, each = Cider().compute_score(wanted, said)
        note = "its interval is over images; how rare a word is stays as in all reports"
        found.append(MeasuredReports(system, "CIDEr", float(mean), note, chosen, _column(each), most=10.0))
    else:
        # CIDEr weighs words by how rare they are among the reports: with a single one nothing is rare.
        found.append(MeasuredReports(system, "CIDEr", None, "needs at least two reports", chosen))
    return [*found, meteor.measure(system, chosen, wanted, said)]


def _column(values: Sequence[float]) -> np.ndarray:
    return np.asarray(values, np.float64)[:, None]


def _pairs(items: Sequence[EvaluatedItem]) -> list[tuple[str, str]]:
    return [(item.answer, item.prediction or "") for item in items]


def _elsewhere(reports: Mapping[str, Sequence[EvaluatedItem]]) -> dict[str, list[MeasuredReports]]:
    """By system what RadEval measures, or that it is not installed."""
    if not radeval_installed():
        return {system: [MeasuredReports(system, _ELSEWHERE, None, _NEEDS, items)] for system, items in reports.items()}
    found: dict[str, list[MeasuredReports]] = {system: [] for system in reports}
    for name, (title, _, told) in MEASURED.items() if reports else ():
        values = measure(name, [_pairs(items) for items in reports.values()])
        for place, (system, items) in enumerate(reports.items()):
            value, note = (
                (None, values) if isinstance(values, str) else (values[place], f"{told}{_NO_INTERVAL}".lstrip("; "))
            )
            found[system].append(MeasuredReports(system, title, value, note, items))
    return found


def java() -> str | None:
    """The Java that METEOR runs on; None where there is none."""
    return shutil.which("java")


class _Meteor:
    """METEOR's Java, started with the first reports and kept for those of other systems: it reads its tables for
    seconds."""

    def __init__(self) -> None:
        self._started: Meteor | None = None

    def __enter__(self) -> _Meteor:
        return self

    def measure(
        self,
        system: str,
        chosen: Sequence[EvaluatedItem],
        wanted: dict[int, list[str]],
        said: dict[int, list[str]],
    ) -> MeasuredReports:
        if java() is None:
            return MeasuredReports(system, "METEOR", None, "not measured: Java is not installed", chosen)
        self._started = self._started or Meteor()
        whole, each = self._started.compute_score(wanted, said)
        mean = float(np.mean(each))
        note = f"of all reports at once; interval and differences are of the mean of each report's own, {mean:.3f}"
        return MeasuredReports(system, "METEOR", float(whole), note, chosen, _column(each))

    def __exit__(self, *_: object) -> None:
        if self._started is None:
            return
        process = self._started.meteor_p
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _findings(system: str, reports: Sequence[EvaluatedItem]) -> list[MeasuredReports]:
    if not findings_available():
        note = "not measured: negspacy is not installed"
        return [MeasuredReports(system, name, None, note, reports) for name in _FINDINGS]
    statistics = np.array([finding_counts(*pair) for pair in _pairs(reports)], np.float64)
    found = []
    for name, function in _FINDINGS.items():
        value = float(function(statistics.sum(axis=0))[0])
        known = math.isfinite(value)
        note = "" if known else "no finding is named"
        found.append(
            MeasuredReports(
                system, name, value if known else None, note, reports, statistics if known else None, function
            )
        )
    return found
