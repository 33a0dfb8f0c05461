"""Runs that are started, measured and compared, without a page."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from a3tune.errors import DataError, RequestError
from app.access.deployment import DEPLOYMENTS, LOCAL
from app.access.visits import new_secret
from app.common.identity import owner_of
from app.models.service import ModelService
from app.tune.plans import Plan
from app.tune.service import TuneService


def last(reports):
    return list(reports)[-1]


def test_an_almost_full_disk_starts_nothing(service, owner, upload, monkeypatch):
    checked = last(service.data.add_archive(owner, upload(), "mine"))
    monkeypatch.setattr("a3tune.data.intake.shutil.disk_usage", lambda place: SimpleNamespace(free=1 << 20))
    with pytest.raises(DataError, match="of free disk"):
        service.start(owner, checked.data.id, Plan())
    assert service.jobs.jobs(owner) == ()


def test_why_nothing_can_be_started_is_told_before(service, owner, upload, monkeypatch):
    assert "No data set is chosen" in service.obstacle(owner, None)
    good = last(service.data.add_archive(owner, upload(), "mine")).data
    assert service.obstacle(owner, good.id) == ""
    bad = last(service.data.add_archive(owner, upload([("none.png", "Is it?", "yes", "train")] * 2), "bad")).data
    assert "fault" in service.obstacle(owner, bad.id)
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    assert "ZeroGPU" in service.obstacle(owner, good.id)


def test_a_plan_that_was_measured_and_does_not_fit_is_not_started(service, owner, upload, monkeypatch):
    checked = last(service.data.add_archive(owner, upload(), "mine"))
    name, large, small = checked.data.id, Plan(settings={"batch_size": "64"}), Plan(settings={"batch_size": "1"})
    found = {"fits": False, "remedy": "set batch_size to 32"}
    monkeypatch.setattr("app.tune.service.run_module", lambda *arguments: found)
    monkeypatch.setattr(service.jobs, "submit", lambda *arguments, **facts: "started")
    assert service.start(owner, name, large) == "started", "nothing is known of it yet"
    assert not last(service.measure(owner, name, large))["fits"]
    with pytest.raises(RequestError, match="To make it fit: set batch_size to 32; or measure again"):
        service.start(owner, name, large)
    assert service.start(owner, name, small) == "started"
    found = {"fits": True, "remedy": ""}
    last(service.measure(owner, name, large))
    assert service.start(owner, name, large) == "started"


def test_other_tabs_are_told_of_data_and_of_what_runs_held_out(service, owner, upload):
    first = last(service.data.add_archive(owner, upload(), "first")).data
    last(service.data.add_archive(owner, upload([("1.png", "Is it?", "no", "train")]), "second"))
    for name, known in (("a" * 12, first.id), ("b" * 12, "gone")):
        job = service.jobs.studio.runs(owner) / name
        (job / "run").mkdir(parents=True)
        (job / "run/run.json").write_text("{}")
        (job / "job.json").write_text(json.dumps({"title": "mine", "model": "demo", "data_name": known}))
    sources = service.data_sources(owner)
    assert [source.title for source in sources] == ["second", "first", "first, as “mine” held it out"]
    run = service.jobs.studio.runs(owner) / ("a" * 12) / "run"
    assert sources[2].arguments == ("--data", str(first.path), "--held-out-by", str(run))
    assert (sources[2].key, sources[2].environment) == ("a" * 12, first.environment)
    service.data.delete(owner, first.id)
    assert [source.title for source in service.data_sources(owner)] == ["second"]
    assert service.data_sources(owner_of(new_secret())) == ()


def test_what_is_forgotten_is_gone_from_memory_and_disk(service, owner, upload):
    other = owner_of(new_secret())
    for visitor in (owner, other):
        last(service.data.add_archive(visitor, upload(), "mine"))
    place = service.jobs.studio.root / owner
    assert place.is_dir()
    service.forget(owner)
    assert not place.exists()
    assert [path for path in service.jobs.studio.root.rglob("*") if owner in path.name] == []
    assert len(service.data._checked) == 1, "only the other visitor's is known"
    assert len(service.data.sets.all(other)) == 1
    service.forget(owner)  # nothing is left to forget


def test_where_nothing_is_kept_a_restart_finds_nothing_and_touches_nothing_else(tmp_path, owner, upload):
    def begin(name):
        slot = SimpleNamespace(profile="demo", adapters=("base",))
        return TuneService(slot, SimpleNamespace(), tmp_path / "studio", DEPLOYMENTS[name])

    home, server = begin("local"), begin("server")
    for service in (home, server):
        last(service.data.add_archive(owner, upload(), "mine"))
    # What the process held is free, as if it were gone: a copy that nobody holds is what is left of another one.
    left = server.jobs.studio.root.with_name("a3tune-left")
    shutil.copytree(server.jobs.studio.root, left)
    again = begin("space")
    assert not left.exists()
    assert again.data.sets.all(owner) == ()
    assert len(server.data.sets.all(owner)) == len(home.data.sets.all(owner)) == 1


@pytest.mark.parametrize(
    ("settings", "steps"),
    [({"max_steps": "100000000"}, "100,000,000"), ({"max_steps": "null", "epochs": "10000"}, "[0-9]+0,000")],
)
def test_a_run_of_too_many_steps_is_refused(service, owner, upload, settings, steps):
    checked = last(service.data.add_archive(owner, upload(), "mine"))
    plan = Plan(settings={"batch_size": "1", "gradient_accumulation": "1", **settings})
    service.jobs.studio = replace(service.jobs.studio, deployment=replace(LOCAL, run_steps=1000))
    with pytest.raises(RequestError, match=f"The plan makes {steps}.*A3TUNE_RUN_STEPS"):
        service.start(owner, checked.data.id, plan)
    assert service.jobs.jobs(owner) == ()


@pytest.mark.parametrize("name", ["/etc/passwd", "someone/scorer", "hub:someone/sam/sam.pth", "http://evil.example/x"])
@pytest.mark.parametrize("setting", ["label_scorer", "label_segmenter"])
def test_a_setting_names_nothing_that_may_not_be_loaded(service, owner, upload, setting, name):
    slot = SimpleNamespace(profile="demo", choice=SimpleNamespace(source="demo"), device="cpu")
    models = ModelService(slot, SimpleNamespace(names=("litemedsam", "demo")), deployment=DEPLOYMENTS["space"])
    service.check_part = models.check_part
    service.adapters.check_hub = service.data.check_hub = models.check_hub
    checked = last(service.data.add_archive(owner, upload(), "mine"))
    for begin in (service.start, lambda *given: list(service.measure(*given))):
        with pytest.raises(RequestError, match=r"offered here.*--any-model"):
            begin(owner, checked.data.id, Plan(settings={setting: name}))
    with pytest.raises(RequestError, match=r"an adapter that is offered here.*Give it as a ZIP"):
        service.adapters.load(owner, "", hub_id="someone/adapter")
    with pytest.raises(RequestError, match=r"a data set that is offered here.*Give it as a ZIP"):
        list(service.data.add_public(owner, "someone/data"))
    for known in ("auto", *(("demo", "biomedclip") if setting == "label_scorer" else ("data", "litemedsam"))):
        service._config(Plan(settings={setting: known}))
