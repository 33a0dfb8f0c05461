"""Tables for a paper and files for other programs hold the report's very numbers."""

import json
from dataclasses import replace

import pytest

from a3tune.errors import RequestError
from a3tune.evaluation.export import EXPORTS, export, latex_table, markdown_text
from a3tune.evaluation.figures import numbers_figure
from a3tune.evaluation.items import EvaluatedItem, read_items, write_items
from a3tune.evaluation.predictions import read_predictions
from a3tune.evaluation.report import make_report
from a3tune.evaluation.vqa import scores_of

REPORT = "there is a small right pleural effusion today"


def items():
    made = []
    for system, wrong in (("base", 2), ("a_3 & more", 1)):
        for number in range(6):
            kind, answer = ("open", REPORT) if number == 5 else ("closed", "yes")
            said = "no" if number < wrong else answer
            made.append(
                EvaluatedItem(
                    f"q|{number}", number, system, f"{number}.png", f"h{number}", "Is it?", answer, kind, said,
                    scores=scores_of(kind, answer, said, ()), groups={"topic": "presence"}, adapter=system,
                )
            )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def report():
    return make_report(
        items(),
        {"name": "my|data", "split": "test", "questions": 6, "images": 6, "splits": {"train": 1000, "test": 6}},
        {"format": 1},
    )


def test_the_tables_hold_the_numbers(report):
    text = markdown_text(report)
    assert "# Evaluation on my\\|data" in text
    assert "| accuracy | strict | 0.600 (" in text
    (accuracy,) = (one for one in report.comparisons if one.name == "accuracy")
    found = accuracy.difference
    reach = f"+0.2000 ({found.low:.3f} to {found.high:.3f})"
    assert f"| base | a_3 & more | accuracy | strict | {reach} | {found.p:.3g} | {found.p_mcnemar:.3g} |" in text
    assert "## accuracy (strict) by topic" in text
    latex = latex_table(report)
    assert "Questions of all splits: train 1,000, test 6." in text
    for table in (text, latex):
        assert "strict: NFKC, lower case" in table
        assert "reference: VQA evaluation" in table
    assert "relative mass: times chance" in latex
    assert "a\\_3 \\& more" in latex
    assert "accuracy & strict & 60.0 {\\scriptsize [" in latex
    texts = {text.name for text in report.reports if text.value is not None}
    assert latex.count("\\\\\n") == 1 + len({(m.name, m.mode) for m in report.metrics if not m.group}) + len(texts)


def test_every_export_is_written(report, tmp_path):
    for kind in EXPORTS:
        for path in export(kind, report, items(), tmp_path):
            assert path.stat().st_size > 0
    results = json.loads((tmp_path / "lmms_eval" / "base" / "results.json").read_text())
    assert results["results"]["my_data"]["strict_accuracy,none"] == pytest.approx(0.6)
    samples = tmp_path / "lmms_eval" / "base" / "samples_my_data.jsonl"
    # They are what the reader of predictions takes.
    assert [item.text for item in read_predictions(samples)] == [item.prediction for item in items()[:6]]
    rows = [json.loads(line) for line in (tmp_path / "radeval.jsonl").read_text().splitlines()]
    assert [(row["system"], row["ref"], row["hyp"]) for row in rows] == [
        ("base", REPORT, REPORT), ("a_3 & more", REPORT, REPORT),
    ]  # fmt: skip
    with pytest.raises(RequestError, match="no export 'word'"):
        export("word", report, items(), tmp_path)


def test_items_come_back_as_they_were(tmp_path):
    write_items(tmp_path / "items.jsonl", items())
    assert list(read_items(tmp_path / "items.jsonl")) == items()


def test_no_two_systems_look_alike_in_the_figure():
    made = [replace(item, system=f"system {number}") for number in range(14) for item in items()[:6]]
    axes = numbers_figure(make_report(made, {"name": "x"}, {})).axes[0]
    looks = [(found.lines[0].get_color(), found.lines[0].get_marker()) for found in axes.containers]
    assert len(looks) == 14
    assert len(set(looks)) == 14
