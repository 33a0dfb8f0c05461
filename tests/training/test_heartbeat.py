"""Signs of life between steps: what is written, how often, and that it changes nothing."""

import pytest
import torch
from safetensors.torch import load_file

from a3tune.training import heartbeat as heartbeat
from a3tune.training.heartbeat import Heartbeat
from a3tune.training.run_folder import RunFolder
from a3tune.training.tuning import tune
from tests.support.tuning_data import tiny_config, write_data


def works(folder: RunFolder) -> list[tuple]:
    return [
        tuple(event[key] for key in ("what", "done", "count", "step"))
        for event in folder.event_log.read()
        if event["event"] == "work"
    ]


def test_a_sign_is_written_when_nothing_was_told_for_a_second(tmp_path):
    now = 10.0
    run = RunFolder(tmp_path)
    sign = Heartbeat(run, lambda: now)
    sign.beat("Validating", 0, 9, 4)
    now = 11.0
    sign.beat("Validating", 3, 9, 4)
    sign.beat("Validating", 4, 9, 4)
    now = 11.9
    sign.rest()
    now = 12.5
    sign.beat("Validating", 6, 9, 4)
    now = 13.0
    sign.beat("Saving a checkpoint", step=4)
    assert works(run) == [("Validating", 3, 9, 4), ("Saving a checkpoint", 0, 0, 4)]


def test_a_process_that_writes_nothing_tells_nothing(tmp_path):
    now = iter(range(10))
    Heartbeat(None, lambda: next(now)).beat("Validating", 1, 2)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def run(tiny_checkpoint, tmp_path):
    """name -> run folder of a finished run of two steps, each of two batches."""
    rows = write_data(tmp_path / "data", images=6)
    config = tiny_config(max_steps=2, batch_size=2, gradient_accumulation=2, evaluate_every=2, save_every=2)

    def start(name):
        tune(config, rows, tmp_path / name, str(tiny_checkpoint("llava")), device="cpu")
        return RunFolder(tmp_path / name)

    return start


def test_everything_that_takes_long_tells_how_far_it_is_and_changes_no_weight(run, monkeypatch):
    monkeypatch.setattr(heartbeat, "INTERVAL", float("inf"))
    silent = run("silent")
    assert not works(silent)
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.0)
    lively = run("lively")
    told = works(lively)
    held_out = next(event for event in lively.event_log.read() if event["event"] == "validation")["questions"]
    assert [entry for entry in told if entry[0] == "Batches of the next step"] == [
        ("Batches of the next step", batch, 2, step) for step in (0, 1) for batch in (1, 2)
    ]
    validating = [entry for entry in told if entry[0] == "Validating"]
    assert validating == [("Validating", done, held_out, step) for step in (0, 2) for done in range(0, held_out, 4)]
    assert ("Saving a checkpoint", 0, 0, 2) in told
    assert ("Looking at the watched questions", 1, 2, 0) in told
    one, other = (load_file(folder.adapter / "adapter_model.safetensors") for folder in (silent, lively))
    assert all(torch.equal(one[name], other[name]) for name in one)
