"""What a run folder says of the run in it, also of one that an earlier version began."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from a3tune.errors import DataError
from a3tune.training.run import RunFolder, RunIdentity
from tests.support.tuning_data import tiny_config

NEW = ("targets", "validation_targets", "allow_shared_images")


def identity(config):
    return RunIdentity(model={}, data={}, config=asdict(config))


@pytest.fixture
def older(tmp_path):
    """The folder of a run whose settings were written down before there were some of today's."""
    config = tiny_config(targets="weak")
    record = {name: value for name, value in asdict(config).items() if name not in NEW}
    run = RunFolder(tmp_path / "run")
    run.start(RunIdentity(model={}, data={}, config=record), {})
    return run


def test_a_run_of_an_earlier_version_goes_on_with_the_weak_labels_that_it_began_with(older):
    config = older.as_begun(tiny_config())
    assert config.targets == "weak"
    assert older.check(identity(config))
    with pytest.raises(DataError, match="targets is 'weak' there, 'truth' here"):
        older.check(identity(tiny_config(targets="truth")))


def test_a_new_run_takes_the_settings_as_they_are(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert run.as_begun(tiny_config()).targets == "auto"
    run.start(identity(tiny_config()), {})
    assert run.as_begun(tiny_config()).targets == "auto"
    assert run.check(identity(tiny_config()))
