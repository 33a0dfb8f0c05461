"""What a run folder says of the run in it, also of one that an earlier version began."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from a3tune.errors import DataError
from a3tune.training.run_folder import IDENTITY_NAME, RunFolder, RunIdentity
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


def test_a_run_goes_on_only_with_the_pictures_that_it_was_begun_on(tmp_path):
    run = RunFolder(tmp_path / "run")
    facts = {"source": "m", "fingerprint": "a" * 64}
    begun = RunIdentity(model={**facts, "convention": "medgemma-ct"}, data={}, config=asdict(tiny_config()))
    run.start(begun, {})
    assert run.read()["model"]["convention"] == "medgemma-ct"
    assert run.check(begun)
    words = "a run of another model: convention is 'medgemma-ct' there, None here"
    with pytest.raises(DataError, match=words):
        run.check(replace(begun, model={**facts, "convention": None}))
    # What an earlier version began says nothing of it, and was given pictures as they are shown.
    run.update(model=facts)
    assert run.check(replace(begun, model={**facts, "convention": None}))
    with pytest.raises(DataError, match="convention is None there, 'medgemma-ct' here"):
        run.check(begun)


def test_a_run_of_an_earlier_version_goes_on_with_its_former_fingerprint(tmp_path):
    run = RunFolder(tmp_path / "run")
    begun = RunIdentity(model={"source": "m", "fingerprint": "1" * 16}, data={}, config=asdict(tiny_config()))
    run.start(begun, {})
    now = replace(begun, model={"source": "m", "fingerprint": "a" * 64}, former_fingerprint="1" * 16)
    assert run.check(now)
    with pytest.raises(DataError, match="a run of another model: fingerprint is"):
        run.check(replace(now, former_fingerprint="2" * 16))
    run.start(now, {})
    assert run.read()["model"]["fingerprint"] == "a" * 64


def test_a_new_run_takes_the_settings_as_they_are(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert run.as_begun(tiny_config()).targets == "auto"
    run.start(identity(tiny_config()), {})
    assert run.as_begun(tiny_config()).targets == "auto"
    assert run.check(identity(tiny_config()))


def test_an_older_run_goes_on_a_second_time_too(older):
    older.start(identity(older.as_begun(tiny_config())), {})
    assert older.as_begun(tiny_config()).targets == "weak"
    assert older.check(identity(older.as_begun(tiny_config())))


def test_checkpoints_of_an_earlier_version_are_of_the_run_that_goes_on(older):
    folder = older.checkpoint(10)
    folder.mkdir(parents=True)
    (folder / IDENTITY_NAME).write_text(json.dumps({part: older.read()[part] for part in ("model", "data", "config")}))
    assert older.saved_by_this_run(10, identity(older.as_begun(tiny_config())))
    assert not older.saved_by_this_run(10, identity(tiny_config(targets="weak", seed=tiny_config().seed + 1)))
    assert not older.saved_by_this_run(20, identity(older.as_begun(tiny_config())))


def test_an_older_run_goes_on_under_a_preset_that_allows_shared_images_by_now(older):
    assert older.check(identity(older.as_begun(tiny_config(allow_shared_images=True))))
