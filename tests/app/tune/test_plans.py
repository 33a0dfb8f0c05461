"""Plans as settings, in words, and as commands for other machines."""

from __future__ import annotations

import argparse

import pytest
import yaml
from accelerate.commands.launch import launch_command_parser

from a3tune.errors import DataError
from a3tune.training.options import add_tune_arguments
from app.tune.plans import Plan, estimate_html, launch_command, method_choices, preset_choices


def test_plans_become_settings_and_faults_are_named():
    plan = Plan("demo", "lora+align", ("no_head_selection",), {"batch_size": "2", "learning_rate": "2e-4"})
    config = plan.config()
    assert (config.method, config.no_head_selection, config.batch_size, config.learning_rate) == (
        "lora+align", True, 2, 2e-4,
    )  # fmt: skip
    with pytest.raises(DataError, match=r"bach_size.*did you mean batch_size"):
        Plan(settings={"bach_size": "2"}).config()
    written = yaml.safe_load(plan.yaml())
    assert (written["preset"], written["method"]) == ("demo", "lora+align")
    command = launch_command(plan, "demo")
    launched = [line.split() for line in command.replace("\\\n", " ").splitlines() if line.startswith("accelerate")]
    parser = argparse.ArgumentParser()
    add_tune_arguments(parser)
    for (_, _, *words), machines, processes in zip(launched, (1, 2), (4, 16), strict=True):
        found = launch_command_parser().parse_args(words)
        assert (found.module, found.training_script, found.training_script_args[0]) == (True, "a3tune", "tune")
        assert (found.multi_gpu, found.num_machines, found.num_processes) == (True, machines, processes)
        tuned = parser.parse_args(found.training_script_args[1:])
        assert (str(tuned.data), str(tuned.out), tuned.config, tuned.model) == ("DATA", "RUN", "config.yaml", "demo")
    assert preset_choices()[0] == ("Quick look", "quick")
    assert {name for _, name in method_choices()} == {"a3", "lora", "lora+align", "a3moe"}


def test_estimates_are_told_in_words():
    found = {
        "steps": 120, "trainable": 1000, "parameters": 100_000, "step_seconds": 0.5, "label_seconds": 30.0,
        "validations": 3, "validation_seconds": 9.0, "seconds": 99.0,
        "peak_bytes": 1 << 30, "free_bytes": 2 << 30, "fits": True, "remedy": "", "busy": True,
    }  # fmt: skip
    text = estimate_html(found)
    for words in (
        "About 1 min 39 s: 30 s to find regions, 120 steps of 0.50 s, 9 s for 3 validations",
        "1.0% of the model",
        "1.0 GiB of 2.0 GiB",
    ):
        assert words in text
    assert "Another run was at work" in text
    refused = estimate_html({**found, "fits": False, "remedy": "set batch_size to 1"})
    assert "does not fit" in refused
    assert "set batch_size to 1" in refused
