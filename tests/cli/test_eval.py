"""``python -m a3tune eval`` from its options to the files, and one clear line for each slip."""

import errno
import json
import os

import pytest
from PIL import Image

from a3tune.bundle import demo_adapters
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
    command += [
        "--max-new-tokens",
        "4",
        "--batch-size",
        "2",
        "--export",
        "markdown,lmms-eval,radeval",
        "--heads",
        "critical",
        "all",
    ]
    assert main([*command, "--out", str(tmp_path / "one")]) == 0
    told = capfd.readouterr()
    assert "4 questions about 2 images" in told.out
    assert "mass, own, all heads" in told.out
    assert "Nothing to export as radeval: the data has nothing of that kind." in told.out
    assert "100% Writing the report" in told.err
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert {"items.jsonl", "report.json", "report.csv", "report.md", "lmms_eval", "evaluation.json"} <= names
    assert json.loads((tmp_path / "one" / "report.json").read_text())["provenance"]["settings"]["masks"] == "true"
    items = tmp_path / "one" / "items.jsonl"
    assert main(["eval", "--data", str(data), "--predictions", str(items), "--out", str(tmp_path / "two")]) == 0
    assert "4 questions" in capfd.readouterr().out
    assert main(["eval", "compare", str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    assert "4 questions in both (0 and 0 in one alone)" in capfd.readouterr().out


def test_a_mask_of_another_size_and_an_adapter_of_another_base_are_told(tiny_checkpoint, tmp_path, capfd):
    rows = write_data(tmp_path / "data", images=3, validation=1)
    Image.new("L", (5, 4), 255).save(tmp_path / "data" / "mask1.png")
    command = ["eval", "--data", str(rows), "--split", "all", "--model", str(tiny_checkpoint("llava"))]
    command += ["--device", "cpu", "--max-new-tokens", "2", "--out"]
    lora = demo_adapters()["lora"]
    assert main([*command, str(tmp_path / "other"), "--adapters", f"base,x={lora}"]) == 2
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("a3tune eval: ")
    assert f"x ({lora}) does not fit: It was made for other weights" in error
    assert not (tmp_path / "other").exists()
    assert main([*command, str(tmp_path / "out")]) == 0
    told = capfd.readouterr().out
    assert "4 questions about 2 images" in told
    assert "faults: rows with one are not in any number. The first:" in told
    assert "mask1.png has 5 x 4 pixels" in told


def test_a_disk_that_fills_is_told_and_the_evaluation_goes_on(data, tiny_checkpoint, tmp_path, capfd, monkeypatch):
    command = ["eval", "--data", str(data), "--split", "all", "--model", str(tiny_checkpoint("llava"))]
    command += ["--device", "cpu", "--max-new-tokens", "2", "--batch-size", "1", "--out"]
    assert main([*command, str(tmp_path / "unbroken")]) == 0
    written = []

    def full(descriptor):
        written.append(descriptor)
        if len(written) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("a3tune.evaluation.journal.os.fsync", full)
        assert main([*command, str(tmp_path / "out")]) == 2
    assert "No space left on device" in capfd.readouterr().err
    assert not (tmp_path / "out" / "report.json").exists()
    assert main([*command, str(tmp_path / "out")]) == 0
    for name in ("items.jsonl", "report.json", "maps.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()


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
        (["--data", "DATA", "--out", "x", "--heads", "some"], "'some'"),
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


def test_a_launcher_that_starts_one_process_where_several_were_asked_for_is_told(data, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert main(["eval", "--data", str(data), "--out", "x"]) == 2
    assert "starts one, whatever --num_processes says" in capfd.readouterr().err
    assert not (tmp_path / "x").exists()
