"""Metrics of radiology reports over a whole split, as the literature on reports counts them.

BLEU, ROUGE-L, CIDEr and METEOR are pycocoevalcap's. None of them knows what is true: "no effusion" and "effusion" are
close by all of them, which is why findings are matched with their negation beside (`a3tune.evaluation.findings`).
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge

from a3tune.evaluation.findings import findings_available, match_findings
from a3tune.evaluation.items import EvaluatedItem
from a3tune.evaluation.radeval import MEASURED, measure, radeval_installed
from a3tune.evaluation.text_normalisation import normalise_strict

LEAST_WORDS = 6
"""From so many words on, an answer counts as a report."""

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
    """

    system: str
    name: str
    value: float | None
    reports: int
    note: str = ""


def text_metrics(systems: Mapping[str, Sequence[EvaluatedItem]]) -> list[TextMetric]:
    """The report metrics of each system, by its name, over its open questions whose right answer is a report; none of
    a system without any.

    Texts are put in the strict normalisation first; an answer that is missing or empty counts as no words.
    """
    chosen = {
        system: [
            item
            for item in items
            if item.answer_type == "open"
            and item.prediction is not None
            and len(normalise_strict(item.answer).split()) >= LEAST_WORDS
        ]
        for system, items in systems.items()
    }
    chosen = {system: items for system, items in chosen.items() if items}
    elsewhere = _elsewhere({system: _pairs(items) for system, items in chosen.items()})
    with _Meteor() as meteor:
        return [
            metric
            for system, items in chosen.items()
            for metric in (*_metrics_of(system, items, meteor), *elsewhere[system], *_findings(system, _pairs(items)))
        ]


def _metrics_of(system: str, chosen: Sequence[EvaluatedItem], meteor: _Meteor) -> list[TextMetric]:
    wanted = {number: [normalise_strict(item.answer)] for number, item in enumerate(chosen)}
    said = {number: [normalise_strict(item.prediction or "")] for number, item in enumerate(chosen)}
    found: dict[str, float | None] = {}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocoevalcap prints as it goes
        for order, value in enumerate(Bleu(4).compute_score(wanted, said, verbose=0)[0], 1):
            found[f"BLEU-{order}"] = float(value)
        found["ROUGE-L"] = float(Rouge().compute_score(wanted, said)[0])
        # CIDEr weighs words by how rare they are among the reports: with a single one nothing is rare.
        found["CIDEr"] = float(Cider().compute_score(wanted, said)[0]) if len(chosen) > 1 else None
    notes = {"CIDEr": "needs at least two reports"}
    metrics = [
        TextMetric(system, name, value, len(chosen), notes.get(name, "") if value is None else "")
        for name, value in found.items()
    ]
    return [*metrics, meteor.measure(system, wanted, said)]


def _pairs(items: Sequence[EvaluatedItem]) -> list[tuple[str, str]]:
    return [(item.answer, item.prediction or "") for item in items]


def _elsewhere(reports: Mapping[str, list[tuple[str, str]]]) -> dict[str, list[TextMetric]]:
    """By system what RadEval measures, or that it is not installed."""
    if not radeval_installed():
        return {system: [TextMetric(system, _ELSEWHERE, None, len(pairs), _NEEDS)] for system, pairs in reports.items()}
    found: dict[str, list[TextMetric]] = {system: [] for system in reports}
    for name, (title, _, told) in MEASURED.items() if reports else ():
        values = measure(name, list(reports.values()))
        for place, (system, pairs) in enumerate(reports.items()):
            value, note = (None, values) if isinstance(values, str) else (values[place], told)
            found[system].append(TextMetric(system, title, value, len(pairs), note))
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

    def measure(self, system: str, wanted: dict[int, list[str]], said: dict[int, list[str]]) -> TextMetric:
        if java() is None:
            return TextMetric(system, "METEOR", None, len(wanted), "not measured: Java is not installed")
        self._started = self._started or Meteor()
        return TextMetric(system, "METEOR", float(self._started.compute_score(wanted, said)[0]), len(wanted))

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


def _findings(system: str, reports: list[tuple[str, str]]) -> list[TextMetric]:
    names = {"precision": "findings precision", "recall": "findings recall", "f1": "findings F1",
             "contradicted": "findings contradicted"}  # fmt: skip
    if not findings_available():
        note = "not measured: negspacy is not installed"
        return [TextMetric(system, name, None, len(reports), note) for name in names.values()]
    return [
        TextMetric(system, names[key], value, len(reports), "" if value is not None else "no finding is named")
        for key, value in match_findings(reports).items()
    ]
