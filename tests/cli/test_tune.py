"""The tune command: options to settings, exit codes, what is printed."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from a3tune.cli.tune import describe, run
from a3tune.errors import Cancelled, DataError, RequestError
from a3tune.training import options, tuning
from a3tune.training.config_file import preset_names
from a3tune.training.launch import check_processes
from a3tune.training.options import add_tune_arguments, config_of
from a3tune.training.run_summary import RunSummary
from tests.support.tuning_data import write_data

ROOT = Path(__file__).resolve().parents[2]


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_tune_arguments(parser)
    return parser.parse_args(["--data", "d", "--out", "o", *arguments])


def summary(status="finished", **options):
    facts = {"best_step": 4, "metrics": {"loss": 0.5, "accuracy": 0.25}, "adapter": Path("o/adapter"), "seconds": 65.2,
             "targets": {}, "notes": ("Mind the gap.",)}  # fmt: skip
    return RunSummary(Path("o"), status, 6, 9, **{**facts, **options})


def test_options_become_settings():
    config = config_of(
        parse("--method", "lora+align", "--set", "ratio=0.5", "--set", "max_steps=7", "--no-head-selection")
    )
    assert (config.method, config.ratio, config.max_steps, config.no_head_selection) == ("lora+align", 0.5, 7, True)
    assert config_of(parse("--config", "demo")).alignment == "log_mass"
    with pytest.raises(DataError, match="no setting"):
        config_of(parse("--set", "ratoi=1"))


def test_paper_exact_takes_the_scripts_settings_for_all_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    arguments = ("--model", "llava-med", "--config", "vqa-rad-v1.5", "--paper-exact")
    config = config_of(parse(*arguments, "--set", "label_segmenter=/data/sam_vit_h_4b8939.pth"))
    assert (config.gradient_accumulation, config.validation_share, config.epochs) == (8, 0, 9)
    assert config.label_segmenter == "/data/sam_vit_h_4b8939.pth"
    with pytest.raises(DataError, match="The model is the demo model"):
        config_of(parse("--config", "vqa-rad-v1.5", "--paper-exact"))
    with pytest.raises(DataError, match="not with settings that begin with none"):
        config_of(parse("--model", "llava-med", "--paper-exact"))


def test_a_preset_of_the_paper_says_how_it_differs_from_its_scripts(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(tuning, "tune", lambda *args, **options: summary())
    assert run(parse("--config", "slake")) == 0
    printed = capsys.readouterr().out
    assert "scripts for slake:\n* The model is demo; LLaVA-Med v1 (7B) in the scripts" in printed
    assert "\n* precision is auto; bf16 in the scripts" in printed
    # A file that begins with the preset, as the page writes it, differs in what it says otherwise.
    file = tmp_path / "mine.yaml"
    file.write_text("preset: slake\nratio: 0.05\n", encoding="utf-8")
    assert run(parse("--config", str(file))) == 0
    printed = capsys.readouterr().out
    assert "scripts for slake:" in printed
    assert "\n* ratio is 0.05; 0.03 in the scripts" in printed
    assert config_of(parse("--model", "m", "--config", str(file), "--paper-exact")).label_segmenter == "sam-vit-h"
    assert run(parse("--config", "quick")) == 0
    assert "scripts" not in capsys.readouterr().out


def test_a_launcher_that_starts_one_process_instead_of_several_is_told(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(RequestError, match=r"starts one, whatever --num_processes says.*--multi_gpu .* --device cpu"):
        run(parse())
    check_processes({"ACCELERATE_USE_CPU": "True"})
    check_processes({"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "RANK": "0"})


def test_help_names_every_preset_and_loads_no_torch():
    assert options._presets() == list(preset_names())
    code = (
        "import argparse, sys; from a3tune.training.options import add_tune_arguments; "
        "add_tune_arguments(argparse.ArgumentParser()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_summary_says_what_matters():
    text = describe(summary())
    assert "Finished at step 6 of 9 (1 min 5 s)." in text
    assert "loss 0.5000, 25.0% exactly right" in text
    assert "the one of step 4" in text
    assert "Mind the gap." in text
    assert "Start the same command again" in describe(summary("stopped"))


@pytest.mark.parametrize(("status", "code"), [("finished", 0), ("stopped", 3)])
def test_exit_codes(monkeypatch, capsys, status, code):
    monkeypatch.setattr(tuning, "tune", lambda *args, **options: summary(status))
    assert run(parse()) == code
    assert "Adapter:" in capsys.readouterr().out


def test_a_stop_before_the_first_step(monkeypatch, capsys):
    def stopped(*args, **options):
        raise Cancelled

    monkeypatch.setattr(tuning, "tune", stopped)
    assert run(parse()) == 3
    assert "Stopped before the first step" in capsys.readouterr().out


def test_of_several_processes_one_speaks(monkeypatch, capsys):
    def failing(*args, **options):
        raise DataError(expected="e", got="g", remedy="r")

    monkeypatch.setattr(tuning, "tune", failing)
    with pytest.raises(DataError):
        run(parse())
    monkeypatch.setenv("RANK", "1")
    assert run(parse()) == 2
    monkeypatch.setattr(tuning, "tune", lambda *args, **options: summary())
    assert run(parse()) == 0
    assert capsys.readouterr().out == ""


def test_bad_data_ends_before_a_model_is_looked_for(tmp_path):
    rows = write_data(tmp_path / "data")
    (tmp_path / "data/image1.png").unlink()
    options = parse("--model", "/nowhere")
    options.data, options.out = rows, tmp_path / "run"
    with pytest.raises(DataError, match=r"image1.png"):
        run(options)
    assert not (tmp_path / "run").exists()
