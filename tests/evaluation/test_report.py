"""What follows from the items: hallucination, right for the right reason, comparisons, report metrics and words."""

import csv
import io
import math
from dataclasses import replace

import pytest
from pycocoevalcap.meteor.meteor import Meteor

from a3tune.errors import DataError
from a3tune.evaluation.comparisons import compare_pairs
from a3tune.evaluation.export import latex_table, markdown_text
from a3tune.evaluation.findings import finding_counts, findings_of
from a3tune.evaluation.hallucination import hallucination
from a3tune.evaluation.items import EvaluatedItem
from a3tune.evaluation.report import make_report, metrics_csv
from a3tune.evaluation.report_metrics import is_report, measure_reports
from a3tune.evaluation.right_reason import CELLS, reason_table, transitions
from a3tune.evaluation.statistics import holm
from a3tune.evaluation.summary import report_text
from a3tune.evaluation.vqa import scores_of

DATA = {"name": "x", "split": "test", "questions": 8, "images": 8, "left_out": 2, "overlap_with_training": None}


def item(number, answer, prediction, *, system="base", relative=None, kind="closed", topic="presence", **fields):
    attention = {} if relative is None else {"generated": {"relative_mass": relative, "attention_mass": relative / 10}}
    return EvaluatedItem(
        f"q{number}", number, system, f"{number}.png", f"hash{number}", "Is there?", answer, kind, prediction,
        groups={"topic": topic, "answer_type": kind},
        scores={} if prediction is None else scores_of(kind, answer, prediction, ()),
        attention=attention, adapter=system, masks="true", **fields,
    )  # fmt: skip


def text_metrics(systems):
    return [measured.metric() for found in measure_reports(systems).values() for measured in found]


def test_popes_numbers():
    items = [
        item(0, "yes", "yes"), item(1, "yes", "no"), item(2, "no", "Yes, it is"), item(3, "no", "no"),
        item(4, "no", "normal"), item(5, "no", "yes", topic="side"), item(6, "left", "left"), item(7, "no", None),
    ]  # fmt: skip
    found = hallucination("base", items)
    assert found.questions == 6
    assert found.accuracy == pytest.approx(2 / 6)
    assert (found.precision, found.recall) == (pytest.approx(1 / 3), pytest.approx(1 / 2))
    assert found.f1 == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
    assert found.yes_share == pytest.approx(3 / 6)
    assert found.yes_bias == pytest.approx(1 / 6)
    assert found.unclear == pytest.approx(1 / 6)
    assert found.affirmed.value == pytest.approx(2 / 4)
    assert found.absent.value == pytest.approx(1 / 3)
    assert hallucination("base", [item(0, "left", "left")]) is None
    nothing = hallucination("base", [item(0, "no", "no")])
    assert math.isnan(nothing.precision)


def test_a_control_is_compared_with_the_same_way_of_decoding():
    systems = (
        ("base", "greedy", "", "yes"),
        ("base+beam", "beam", "", "no"),
        ("base, text only", "greedy", "text", "no"),
    )
    items = [
        replace(item(number, "yes", said, system=name, decoding=decoding, control=control), adapter="base")
        for name, decoding, control, said in systems
        for number in range(4)
    ]
    (found,) = [found for found in make_report(items, DATA, {}).controls if found.name == "strict.accuracy"]
    assert (found.adapter, found.control, found.with_image, found.without_image) == ("base", "text", 1, 0)


def test_the_right_reason_has_four_cells_and_every_case_is_named():
    before = [
        item(0, "yes", "yes", relative=3.0), item(1, "yes", "yes", relative=1.0), item(2, "no", "yes", relative=2.0),
        item(3, "no", "yes", relative=0.5), item(4, "no", "no"),
    ]  # fmt: skip
    table = reason_table("base", before)
    assert table.numbers == dict(zip(CELLS, ((0,), (1,), (2,), (3,)), strict=True))
    swept = dict(table.sweep)
    assert swept[1.0]["right, inside"] == 2
    assert swept[10.0]["right, inside"] == 0
    assert all(sum(counts.values()) == 4 for counts in swept.values())
    after = [
        item(0, "yes", "yes", relative=3.0, system="a3"), item(1, "yes", "yes", relative=4.0, system="a3"),
        item(2, "no", "no", relative=4.0, system="a3"), item(3, "no", "yes", relative=0.4, system="a3"),
    ]  # fmt: skip
    moved = transitions(before, after)
    assert ("right, outside", "right, inside", 1, (1,)) in moved.flows
    assert ("wrong, inside", "right, inside", 1, (2,)) in moved.flows
    assert sum(flow[2] for flow in moved.flows) == 4
    assert reason_table("base", [item(0, "yes", "yes")]) is None


def test_a_report_compares_fixes_and_breaks():
    before = [item(number, "yes", "yes" if number % 2 else "no") for number in range(8)]
    after = [item(number, "yes", "yes" if number > 2 else "no", system="a3") for number in range(8)]
    report = make_report([*before, *after], DATA, {})
    (found,) = report.comparisons
    assert (found.before, found.after, found.name) == ("base", "a3", "accuracy")
    assert found.fixed == (4, 6)
    assert found.broken == (1,)
    assert found.difference.value == pytest.approx(1 / 8)
    assert found.p_holm == found.difference.p
    assert report.notes[0].startswith("The data has 2 faults")
    assert "There is no open question" in report.notes[1]
    assert report.metric("a3", "accuracy").interval.value == pytest.approx(5 / 8)
    assert report.metric("a3", "accuracy", "reference").normalisation != report.metric("a3", "accuracy").normalisation
    assert report.metric("a3", "accuracy", "strict", "topic", "presence").interval.questions == 8
    assert report.metric("a3", "recall") is None
    text = report_text(report)
    assert "base -> a3, accuracy (strict): not told apart by 8 images" in text
    assert metrics_csv(report).count("\n") == len(report.metrics) + 1


def test_pairs_of_systems_are_corrected_together():
    first = [item(number, "yes", "no") for number in range(8)]
    others = [[item(number, "yes", "yes", system=name) for number in range(8)] for name in ("a", "b", "c")]
    found = compare_pairs([(first, other) for other in others])
    assert [entry.p_holm for entry in found] == pytest.approx([3 * entry.difference.p for entry in found])


def test_runs_with_other_seeds_have_a_spread_of_their_own():
    names = {"base": 8, "lora-16": 6, "lora-32": 2, "a3-seed0": 4, "a3-seed1": 6, "a3_seed2": 5, "x-seed1": 1}
    items = [
        item(number, "yes", "yes" if number < right else "no", system=name)
        for name, right in names.items()
        for number in range(8)
    ]
    report = make_report(items, DATA, {})
    found = {(seeds.recipe, seeds.name, seeds.mode): seeds for seeds in report.seeds}
    assert {recipe for recipe, _, _ in found} == {"a3"}
    accuracy = found["a3", "accuracy", "strict"]
    assert accuracy.systems == ("a3-seed0", "a3-seed1", "a3_seed2")
    assert accuracy.spread.mean == pytest.approx(5 / 8)
    assert accuracy.spread.deviation == pytest.approx(1 / 8)
    assert "a3, closed accuracy: 62.5% on average, standard deviation 12.5% over 3 runs" in report_text(report)
    assert "| a3 | accuracy | strict | 0.625 | 0.125 |" in markdown_text(report)


def test_where_a_model_looks_is_broken_down_by_structure():
    looked = {"given": {"attention_mass": 0.25, "pointing_game": 1.0, "image_share": 0.5}}
    items = [replace(item(0, "yes", "yes"), attention=looked, groups={"structure": "lung", "topic": "side"})]
    report = make_report(items, DATA, {})
    found = {metric.name: metric.interval.value for metric in report.metrics if metric.value_of_group == "lung"}
    assert (found["pointing_game"], found["image_share"]) == (1.0, 0.5)
    assert {metric.name for metric in report.metrics if metric.group == "topic"} == {
        "accuracy", "attention_mass",
    }  # fmt: skip


def test_doubts_about_an_adapters_base_are_told():
    adapters = [{"name": "base", "note": ""}, {"name": "old", "note": "its weights were not compared."}]
    report = make_report([item(1, "yes", "no")], DATA, {"settings": {"adapters": adapters}})
    assert report.notes[0] == "old: its weights were not compared."


def test_ties_cuts_and_gaps_are_told():
    items = [
        item(0, "yes", "yes", margin=1e-6),
        item(1, "yes", "yes", ending="length"),
        item(2, "yes", None, gap="no image"),
    ]  # fmt: skip
    notes = " ".join(make_report(items, DATA, {}).notes)
    assert "in 1 answer two next tokens were within 0.0001" in notes
    assert "1 answer cut" in notes
    assert "1 question without an answer; the first: q2: no image" in notes
    with pytest.raises(DataError, match="There is none"):
        make_report([], DATA, {})


REPORTS = (
    "the heart size is normal and the lungs are clear",
    "there is a small right pleural effusion with atelectasis at the base",
    "no pneumothorax is seen and the mediastinum is unremarkable today",
)


def test_report_metrics_are_those_of_pycocoevalcap():
    same = [item(number, text, text, kind="open") for number, text in enumerate(REPORTS)]
    found = {metric.name: metric for metric in text_metrics({"base": same})}
    for name in ("BLEU-1", "BLEU-4", "ROUGE-L"):
        assert found[name].value == pytest.approx(1.0, abs=1e-6)
    assert found["CIDEr"].value == pytest.approx(10.0, abs=1e-6)
    turned = [item(number, text, REPORTS[number - 1], kind="open") for number, text in enumerate(REPORTS)]
    other = {metric.name: metric.value for metric in text_metrics({"base": turned})}
    assert other["CIDEr"] < 1
    assert other["BLEU-4"] < 0.1
    assert text_metrics({"base": [item(0, "yes", "yes"), item(1, "left lung", "left lung", kind="open")]}) == []
    (single,) = [metric for metric in text_metrics({"base": same[:1]}) if metric.name == "CIDEr"]
    assert single.value is None
    assert "two reports" in single.note


@pytest.mark.parametrize(
    ("answer", "kind", "topic", "report"),
    [
        ("Chest radiograph without abnormality.", "open", "report", True),
        ("The lungs are clear on both sides.", "open", "other", True),
        ("right lower lobe", "open", "location", False),
        ("a mass", "open", "report", False),
        ("yes, and the heart is enlarged too", "closed", "report", False),
    ],
)
def test_short_answers_count_as_reports_where_a_description_is_asked_for(answer, kind, topic, report):
    asked = item(0, answer, "no", kind=kind, topic=topic)
    assert is_report(asked) is report
    assert bool(text_metrics({"base": [asked]})) is report


def test_reports_are_compared_in_one_family_and_told_with_intervals_in_every_form():
    right = [item(number, REPORTS[number % 3], REPORTS[number % 3], kind="open") for number in range(6)]
    turned = [item(number, REPORTS[number % 3], REPORTS[0], kind="open", system="a3") for number in range(6)]
    report = make_report([*right, *turned], DATA, {})
    compared = {entry.name: entry for entry in report.comparisons if entry.mode == "reports"}
    assert {"BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr"} <= set(compared)
    family = [entry.difference.p for entry in report.comparisons]
    assert [entry.p_holm for entry in report.comparisons] == pytest.approx(holm(family))
    assert compared["CIDEr"].verdict.count("points") == 0
    bleu = next(text for text in report.reports if (text.system, text.name) == ("a3", "BLEU-4"))
    assert 0 <= bleu.low < bleu.value < bleu.high < 1
    reach = f"({bleu.low:.3f} to {bleu.high:.3f})"
    assert f"BLEU-4 {bleu.value:.3f} {reach}" in report_text(report)
    assert f"| a3 | BLEU-4 | {bleu.value:.3f} {reach} | 6 |" in markdown_text(report)
    assert f"{100 * bleu.value:.1f} {{\\scriptsize [{100 * bleu.low:.1f}, {100 * bleu.high:.1f}]}}" in latex_table(
        report
    )
    rows = {(row["system"], row["metric"]): row for row in csv.DictReader(io.StringIO(metrics_csv(report)))}
    assert rows["a3", "BLEU-4"]["low"] == repr(bleu.low)
    assert (rows["a3", "BLEU-4"]["questions"], rows["a3", "BLEU-4"]["images"]) == ("6", "6")


def test_meteor_is_measured_where_java_is(monkeypatch, without_java):
    if without_java is None:
        pytest.skip("Java is not installed")
    monkeypatch.setattr("a3tune.evaluation.report_metrics.java", lambda: without_java)
    same = [item(number, text, text, kind="open") for number, text in enumerate(REPORTS)]
    turned = [item(number, text, REPORTS[number - 1], kind="open") for number, text in enumerate(REPORTS)]
    started = []
    monkeypatch.setattr("a3tune.evaluation.report_metrics.Meteor", lambda: started.append(Meteor()) or started[-1])
    found = [metric for metric in text_metrics({"base": same, "a3": turned}) if metric.name == "METEOR"]
    assert [metric.system for metric in found] == ["base", "a3"]
    assert found[0].value == pytest.approx(1.0, abs=1e-3)
    assert found[1].value < 0.2
    # Java reads its tables once for all systems, and ends.
    assert [java.meteor_p.poll() is not None for java in started] == [True]


def test_what_needs_weights_of_its_own_is_named_with_what_it_needs():
    reports = [item(number, text, text, kind="open") for number, text in enumerate(REPORTS)]
    (metric,) = [one for one in text_metrics({"base": reports}) if one.name.startswith("RadGraph F1")]
    assert metric.value is None
    assert "pip install RadEval" in metric.note
    assert "--export radeval" in metric.note


RADEVAL = """
import os

class RadEval:
    def __init__(self, metrics, show_progress):
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        (self.metric,) = metrics
        if self.metric == "bertscore":
            raise OSError("distilbert is not in the cache")
        print("loading")

    def __call__(self, refs, hyps):
        key = {"radgraph": "radgraph_partial", "f1chexbert": "f1chexbert_all_micro_f1"}[self.metric]
        return {key: sum(a == b for a, b in zip(refs, hyps)) / len(refs)}
"""


def test_radeval_measures_where_it_is_installed_and_what_it_cannot_is_told(tmp_path, monkeypatch):
    (tmp_path / "radeval.py").write_text(RADEVAL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("a3tune.evaluation.radeval.shutil.which", lambda name: None)
    right = [item(number, text, text, kind="open") for number, text in enumerate(REPORTS)]
    one = [item(number, text, REPORTS[0], kind="open", system="a3") for number, text in enumerate(REPORTS)]
    report = make_report([*right, *one], DATA, {})
    found = {(metric.system, metric.name): metric for metric in report.reports}
    for name in ("RadGraph F1", "CheXbert F1"):
        assert found["base", name].value == 1.0
        assert found["a3", name].value == pytest.approx(1 / 3)
    assert found["a3", "BERTScore"].value is None
    assert "distilbert is not in the cache" in found["a3", "BERTScore"].note
    assert "needs a GPU" in found["base", "GREEN"].note
    told = report_text(report)
    assert "base, 3 reports: BLEU-1 1.000" in told
    assert "RadGraph F1 0.333, CheXbert F1 0.333" in told
    assert told.count("distilbert") == 1


def test_meteor_is_named_as_absent_without_java():
    found = text_metrics({"base": [item(number, text, text, kind="open") for number, text in enumerate(REPORTS)]})
    (meteor,) = [metric for metric in found if metric.name == "METEOR"]
    assert meteor.value is None
    assert "Java" in meteor.note


def test_findings_are_told_from_denied_ones():
    assert findings_of("There is a small effusion. No pneumothorax or nodule is seen.") == {
        "effusion": True, "pneumothorax": False, "nodule": False,
    }  # fmt: skip
    assert findings_of("The heart is normal.") == {}
    counts = finding_counts("No effusion. A nodule is seen.", "There is an effusion. A nodule is seen.")
    assert counts == (1, 2, 1, 1, 2)
    report = "No effusion is seen. A nodule is seen."
    said = [item(0, report, "There is an effusion. A nodule is seen.", kind="open")]
    found = {
        metric.name.split()[-1]: metric.value for metric in text_metrics({"base": said}) if "findings" in metric.name
    }
    assert found == {"precision": 0.5, "recall": 1.0, "F1": pytest.approx(2 / 3), "contradicted": 0.5}


def test_findings_are_named_as_absent_without_their_rules(monkeypatch):
    monkeypatch.setattr("a3tune.evaluation.report_metrics.findings_available", lambda: False)
    found = text_metrics({"base": [item(number, text, text, kind="open") for number, text in enumerate(REPORTS)]})
    assert found[-1].value is None
    assert "negspacy" in found[-1].note
