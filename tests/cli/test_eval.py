"""``python -m a3tune eval`` from its options to the files, and one clear line for each slip."""

import json

import pytest

from a3tune.cli.main import main
from tests.support.tuning_data import write_data


@pytest.fixture(autouse=True)
def without_java(monkeypatch):
    """METEOR would start Java for every report, which takes seconds."""
    monkeypatch.setattr("a3tune.evaluation.report_metrics.java", lambda: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("evaluated"))


def test_a_model_is_evaluated_scored_and_compared(data, tiny_checkpoint, tmp_path, capfd):
    command = ["eval", "--data", str(data), "--model", str(tiny_checkpoint("llava")), "--device", "cpu"]
    command += ["--max-new-tokens", "4", "--batch-size", "2", "--export", "markdown,lmms-eval"]
    assert main([*command, "--out", str(tmp_path / "one")]) == 0
    told = capfd.readouterr()
    assert "4 questions about 2 images" in told.out
    assert "100% Writing the report" in told.err
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert {"items.jsonl", "report.json", "report.csv", "report.md", "lmms_eval", "evaluation.json"} <= names
    assert json.loads((tmp_path / "one" / "report.json").read_text())["provenance"]["settings"]["masks"] == "true"
    items = tmp_path / "one" / "items.jsonl"
    assert main(["eval", "--data", str(data), "--predictions", str(items), "--out", str(tmp_path / "two")]) == 0
    assert "4 questions" in capfd.readouterr().out
    assert main(["eval", "compare", str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    assert "4 questions in both (0 and 0 in one alone)" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "x"], "--data is not given"),
        (["--data", "x"], "--out is not given"),
        (["compare", "a"], "Write: eval compare A B"),
        (["compare", "a", "b"], "a/items.jsonl cannot be read"),
        (["--data", "nowhere", "--out", "x"], "nowhere"),
        (["--data", "DATA", "--out", "x", "--split", "test"], "no questions of the split 'test'"),
        (["--data", "DATA", "--out", "x", "--controls", "moon"], "'moon'"),
        (["--data", "DATA", "--out", "x", "--decoding", "magic"], "no decoding 'magic'"),
        (["--data", "DATA", "--out", "x", "--adapters", "nobody"], "no adapter 'nobody'"),
        (["--data", "DATA", "--out", "x", "--batch-size", "0"], "batch_size is 0"),
        (["--data", "DATA", "--out", "x", "--limit", "0"], "limit of at least 1"),
        (["--data", "DATA", "--out", "x", "--export", "word"], "'word'"),
        (["--data", "DATA", "--out", "x", "--predictions", "none.json"], "none.json cannot be read"),
    ],
)
def test_slips_are_told_in_one_line(arguments, words, data, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["eval", *(str(data) if part == "DATA" else part for part in arguments)]) == 2
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("a3tune eval: ")
    assert words in error
    assert not (tmp_path / "x").exists()
