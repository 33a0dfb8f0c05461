"""Optimizers and schedules by the Trainer's names, tried before anything is loaded."""

from typing import get_args

import pytest
from accelerate import PartialState
from transformers.trainer_utils import SchedulerType

from a3tune.errors import DataError
from a3tune.training.arguments import check_optimizer
from a3tune.training.config import Schedule, TuneConfig


def test_schedules_are_those_of_the_trainer():
    assert set(get_args(Schedule)) == {entry.value for entry in SchedulerType}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "sgd", "optimizer_options": "momentum=0.9, nesterov=true"},
        {"schedule": "warmup_stable_decay", "schedule_options": "num_decay_steps=3,min_lr_ratio=0.1"},
        {"schedule": "cosine_with_min_lr", "schedule_options": "min_lr=1e-6"},
    ],
)
def test_what_the_trainer_can_make_is_taken(settings):
    check_optimizer(TuneConfig(**settings))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": "adamw_trch"}, r"optimizer is 'adamw_trch' \(did you mean adamw_torch"),
        ({"optimizer": "adafactor", "optimizer_options": "beta1=0.9"}, "beta1=0.9 has no effect on adafactor"),
        ({"optimizer": "sgd", "optimizer_options": "weight_decay=0.1"}, "weight_decay=0.1 has no effect on sgd"),
        ({"optimizer_options": "beta1"}, "optimizer_options is 'beta1'"),
        ({"optimizer": "galore_adamw"}, "optimizer galore_adamw, schedule cosine: "),
        ({"schedule_options": "cycles=2"}, "schedule cosine: .*cycles"),
        ({"schedule": "cosine_with_min_lr"}, "schedule cosine_with_min_lr: .*min_lr"),
        ({"schedule": "reduce_lr_on_plateau", "evaluate_every": None}, "evaluate_every is null"),
        ({"schedule": "greedy", "evaluate_every": None}, "schedule is 'greedy', but evaluate_every is null"),
    ],
)
def test_what_it_cannot_make_is_refused(settings, words):
    with pytest.raises(DataError, match=words):
        check_optimizer(TuneConfig(**settings))


def test_trying_an_optimizer_finds_no_processes_anew():
    """A launcher's processes would be left without each other: nobody would wait, and gradients stay apart."""
    PartialState(cpu=True)
    before = dict(PartialState._shared_state)
    check_optimizer(TuneConfig())
    assert before == PartialState._shared_state
