"""What a run folder says of the run in it, also of one that an earlier version began."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace

import pytest

from a3tune.errors import DataError
from a3tune.training.config import TuneConfig
from a3tune.training.run_folder import IDENTITY_NAME, RunFolder
from a3tune.training.run_identity import RunIdentity
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
    run.event_log.add("step", step=1)
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
    words = "a run of another model: convention is 'medgemma-ct' there, none here"
    with pytest.raises(DataError, match=words):
        run.check(replace(begun, model={**facts, "convention": None}))
    # What an earlier version began says nothing of it, and was given pictures as they are shown.
    run.update(model=facts)
    assert run.check(replace(begun, model={**facts, "convention": None}))
    with pytest.raises(DataError, match="convention is none there, 'medgemma-ct' here"):
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


@pytest.mark.parametrize("name", [item.name for item in fields(TuneConfig) if item.name != "targets"])
def test_a_run_goes_on_when_a_setting_was_added_that_changes_nothing(tmp_path, name):
    config = TuneConfig(targets="weak")
    run = RunFolder(tmp_path / "run")
    run.start(RunIdentity({}, {}, {key: value for key, value in asdict(config).items() if key != name}), {})
    run.checkpoint(10).mkdir()
    assert run.check(identity(config), resume=True)


def test_an_older_run_does_not_go_on_with_another_value_of_a_setting_that_it_lacks(tmp_path):
    config = TuneConfig(targets="weak")
    run = RunFolder(tmp_path / "run")
    record = {name: value for name, value in asdict(config).items() if name != "label_minimum_side"}
    run.start(RunIdentity({}, {}, record), {})
    run.checkpoint(10).mkdir()
    with pytest.raises(DataError) as caught:
        run.check(identity(replace(config, label_minimum_side=5, ratio=0.2)))
    told = caught.value.got.partition("another configuration: ")[2].split("; ")
    assert sorted(told) == ["label_minimum_side is none there, 5 here", "ratio is 0.06 there, 0.2 here"]


def test_settings_may_change_in_the_same_folder_while_no_step_has_been_made(tmp_path):
    run, before, after = RunFolder(tmp_path / "run"), identity(tiny_config()), identity(tiny_config(seed=9))
    run.start(before, {"fixed_heads": [[0, 1]]})
    run.event_log.add("base_validation", step=0, loss=1.0)
    run.tally(None).parent.mkdir()
    run.tally(None).write_bytes(b"of other questions")
    with pytest.raises(DataError, match="another configuration: seed is 4 there, 9 here"):
        run.check(after, resume=True)
    assert not run.check(after)
    run.start(after, {})
    record = run.read()
    assert (record["config"]["seed"], record.get("fixed_heads")) == (9, None)
    assert not run.tally(None).exists()
    assert run.event_log.read() == []
    assert run.check(after)
    run.event_log.add("step", step=1)
    with pytest.raises(DataError, match="another configuration: seed is 9 there, 4 here"):
        run.check(before)
