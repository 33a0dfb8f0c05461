"""Processes that are really killed: whatever the moment, the run goes on to the weights of an unbroken one."""

import multiprocessing
import os
import random
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from a3tune.training.run_folder import RunFolder
from a3tune.training.tuning import tune
from tests.support.tuning_data import tiny_config, write_data

STEPS = 16
PATIENCE = 120


def work(rows, out, model):
    """One start of the run, in a process of its own."""
    torch.set_num_threads(1)
    tune(tiny_config(max_steps=STEPS, save_every=3, evaluate_every=4), rows, out, model, device="cpu")


@pytest.fixture(scope="module")
def start(tiny_checkpoint, tmp_path_factory):
    """out -> process that works on the run in this folder."""
    rows = str(write_data(tmp_path_factory.mktemp("killed"), images=6))
    # A server that has torch loaded and has computed nothing yet forks each process in no time.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["a3tune.training.tuning", "tests.training.test_killed"])

    def begin(out):
        process = context.Process(target=work, args=(rows, str(out), str(tiny_checkpoint("llava"))))
        process.start()
        return process

    return begin


def last_step(out):
    """The last step that the run has told."""
    return max((event["step"] for event in RunFolder(out).event_log.read() if event["event"] == "step"), default=0)


def wait_for_step(process, out, step):
    ends = time.monotonic() + PATIENCE
    while last_step(out) < step:
        assert process.is_alive(), "the run ended before it could be killed"
        assert time.monotonic() < ends
        process.join(0.005)


def test_killed_at_five_random_steps_it_ends_at_the_weights_of_an_unbroken_run(start, tmp_path):
    whole = start(tmp_path / "whole")
    whole.join(PATIENCE)
    assert whole.exitcode == 0
    out = tmp_path / "broken"
    for step in sorted(random.Random(11).sample(range(1, STEPS - 3), 5)):
        process = start(out)
        wait_for_step(process, out, step)
        os.kill(process.pid, signal.SIGKILL)
        process.join(PATIENCE)
        assert process.exitcode == -signal.SIGKILL
        assert RunFolder(out).read()["status"] == "training"
    last = start(out)
    last.join(PATIENCE)
    assert last.exitcode == 0
    assert RunFolder(out).read()["status"] == "finished"
    for name in ("adapter", f"checkpoints/checkpoint-{STEPS}"):
        one, other = (load_file(folder / name / "adapter_model.safetensors") for folder in (tmp_path / "whole", out))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert not list(out.rglob("*.part"))
    assert [last_step(folder) for folder in (tmp_path / "whole", out)] == [STEPS, STEPS]


def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path):
    run = RunFolder(tmp_path)
    run.event_log.add("step", step=1)
    with (tmp_path / "events.jsonl").open("a") as stream:
        stream.write('{"event": "attention", "step": 1, "ma')
    run.event_log.forget_after(1)
    run.event_log.add("step", step=2)
    assert [event["step"] for event in run.event_log.read()] == [1, 2]
