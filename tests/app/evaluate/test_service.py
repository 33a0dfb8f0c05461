"""Visitors' evaluations: what is asked of what, in whose queue, under which limits, and who may read it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from a3tune.errors import RequestError
from a3tune.evaluation.decoding.registry import decoding_named
from a3tune.evaluation.items import ITEMS_NAME
from app.access.identity import ASKER, Asker, Identity
from app.access.visits import new_secret
from app.common.identity import owner_of
from app.common.studio_folder import StudioFolder
from app.engine.ids import DataSetId
from app.evaluate.choice import BASE, DECODINGS, PHANTOM, EvaluationChoice, read_choice
from app.evaluate.service import EvaluateService
from app.jobs.jobs import JobQueue
from app.jobs.sources import DataSource


@pytest.fixture
def owner():
    return owner_of(new_secret())


@pytest.fixture
def service(tmp_path, owner, monkeypatch):
    """The service of a visitor with a data set and an adapter; nothing is started."""
    monkeypatch.setattr(JobQueue, "advance", lambda queue: None)
    slot = SimpleNamespace(profile="demo", folders={"a3": tmp_path / "bundled"})
    queue = JobQueue(StudioFolder(tmp_path / "studio"))
    source = DataSource(
        "run", "mine, held out", DataSetId("d"), ("--data", "D", "--held-out-by", "R"), {"A3TUNE_CACHE": "c"}
    )
    adapter = queue.studio.runs(owner) / "run" / "run" / "adapter"
    return EvaluateService(
        slot,
        queue,
        lambda asked: [source] if asked == owner else [],
        lambda asked: {"own": adapter} if asked == owner else {},
    )


def after(command, name):
    return command[command.index(name) + 1]


def test_what_is_chosen_is_the_command_that_is_run(service, owner, tmp_path):
    choice = read_choice("run", "validation", ["own", "a3", BASE], "weak", ["vcd"], ["text", "blank"], 40.0)
    job = service.start(owner, choice)
    command = job.record["command"]
    assert command[1:4] == ["-m", "a3tune", "eval"]
    assert after(command, "--out") == str(job.run)
    assert after(command, "--held-out-by") == "R"
    own = service._own(owner)["own"]
    assert after(command, "--adapters") == f"base,own={own},a3={tmp_path / 'bundled'}"
    expected = {
        "--split": "validation",
        "--masks": "weak",
        "--decoding": "vcd",
        "--controls": "text,blank",
        "--limit": "40",
    }
    assert {name: after(command, name) for name in expected} == expected
    assert job.record["environment"]["A3TUNE_CACHE"] == "c"
    assert (job.command, job.state) == ("eval", "queued")
    assert [view.status for view in service.views(owner)] == ["queued"]
    assert service.views(owner_of(new_secret())) == ()


def test_heads_are_chosen_by_name_and_number(service, owner):
    assert service.head_choices(owner) == [("All heads", "all")]
    run = service._own(owner)["own"].parent
    run.mkdir(parents=True)
    config = {"method": "a3", "no_alignment": False, "ratio": 1.0}
    (run / "run.json").write_text(json.dumps({"config": config}))
    assert service.head_choices(owner)[1] == ("Those that own aligned", "aligned:own")
    choice = read_choice(PHANTOM, "", [BASE], "", [], [], 0, ["all", "aligned:own"], 12)
    command = service.start(owner, choice).record["command"]
    place = command.index("--heads")
    assert command[place + 1 : place + 4] == ["all", f"aligned:own={run}", "critical:12"]
    for heads, words in (
        (("aligned:stranger",), "'stranger' is gone"),
        (("aligned:base",), "'base' is none"),
        (("--images=/",), "'--images=/'"),
        (("critical:0",), "'critical:0'"),
    ):
        with pytest.raises(RequestError, match=words):
            service.start(owner, EvaluationChoice(heads=heads))
    (run / "run.json").write_text(json.dumps({"config": config | {"method": "lora"}}))
    assert service.head_choices(owner) == [("All heads", "all")]


def test_left_empty_the_command_decides(service, owner):
    command = service.start(owner, EvaluationChoice()).record["command"]
    assert after(command, "--data") == PHANTOM
    assert not {"--split", "--masks", "--limit", "--decoding", "--allow-other-base", "--heads"} & set(command)


def test_what_is_gone_or_makes_no_sense_is_refused(service, owner):
    for choice, words in (
        (EvaluationChoice(data="other"), "It is gone"),
        (EvaluationChoice(adapters=("stranger",)), "'stranger' is gone"),
        (EvaluationChoice(adapters=()), "Nothing is chosen"),
        (EvaluationChoice(limit=0), "at least 1 question"),
    ):
        with pytest.raises(RequestError, match=words):
            service.start(owner, choice)
    with pytest.raises(RequestError, match="It is gone"):
        service.start(owner_of(new_secret()), EvaluationChoice(data="run"))


def test_the_data_of_an_adapter_is_what_its_run_held_out(service, owner):
    assert service.data_of_adapter(owner, "own") == "run"
    assert service.data_of_adapter(owner, "a3") == PHANTOM
    assert service.adapter_choices(owner) == ["base", "a3", "own"]
    assert service.data_choices(owner)[1] == ("mine, held out", "run")


def test_an_adapter_for_other_weights_goes_along_with_the_visitors_word(service, owner):
    folder = service._own(owner)["own"]
    folder.mkdir(parents=True)
    (folder / "loaded.json").write_text(json.dumps({"allow_other_base": True}))
    assert "--allow-other-base" in service.start(owner, EvaluationChoice(adapters=("own",))).record["command"]


def test_viewers_start_and_measure_nothing(service, owner, monkeypatch):
    scope = {ASKER: Asker(Identity("viewer"))}
    monkeypatch.setattr(
        "app.access.identity.LocalContext.request", SimpleNamespace(get=lambda _: SimpleNamespace(scope=scope))
    )
    for act in (service.start, service.estimate):
        with pytest.raises(RequestError, match="role tuner to evaluate"):
            act(owner, EvaluationChoice())


def test_what_was_found_is_read_by_its_owner_alone(service, owner, tmp_path, write_evaluation):
    for title in ("one", "two"):
        job = service.start(owner, EvaluationChoice(), title)
        write_evaluation(job.run, tmp_path / "data")
        record = {**job.record, "queued": None}
        (job.folder / "job.json").write_text(json.dumps(record))
        (job.folder / "exit.json").write_text(json.dumps({"code": 0}))
    two, one = (view.job for view in service.views(owner))
    news = service.news(owner, one.id, False)
    assert (news["head"]["status"], news["results"]["systems"]) == ("finished", ["base", "a3"])
    assert news["others"] == [["two", two.id]]
    assert "results" not in service.news(owner, one.id, True)
    found = service.compare(owner, one.id, two.id)
    assert (found["before"], found["after"], found["questions"], found["settings"]) == ("one", "two", 5, {})
    asked = service.question(owner, one.id, 1)
    question = asked.question
    assert (question.picture.name, question.question, question.answer) == ("1.png", "Is there a mass, 1?", "yes")
    assert asked.adapters == ("base", "a3")
    with pytest.raises(RequestError, match="number 9"):
        service.question(owner, one.id, 9)
    with pytest.raises(RequestError, match="no such run"):
        service.news(owner_of(new_secret()), one.id, False)
    (one.run / ITEMS_NAME).unlink()
    service.forget(owner)


@pytest.mark.parametrize(
    ("record", "facts", "status", "words"),
    [
        ({"status": "stopped"}, {"exit": {"code": 2}}, "stopped", "Resume goes on there"),
        ({"status": "running"}, {"exit": {"code": None, "signal": 9, "out_of_memory": False}}, "failed", "SIGKILL"),
        ({"status": "running"}, {"exit": {"signal": 9, "out_of_memory": True}}, "failed", "Ask for shorter answers"),
        ({"status": "running"}, {"cancelled": True}, "stopped", "Cancelled."),
        ({"status": "running"}, {"over_time": True}, "stopped", "as long as a run may be"),
        ({"status": "finished"}, {"exit": {"code": 1}}, "failed", "Resume goes on there"),
        ({}, {"exit": {"code": 2}, "log": "a3tune eval: The adapter 'x' is gone."}, "failed", "adapter 'x' is gone"),
    ],
)
def test_ends_of_every_kind_are_told(service, owner, record, facts, status, words):
    job = service.start(owner, EvaluationChoice())
    job.run.mkdir()
    if record:
        (job.run / "evaluation.json").write_text(json.dumps(record))
    (job.folder / "exit.json").write_text(json.dumps(facts.pop("exit", {})))
    (job.folder / "log.txt").write_text(facts.pop("log", ""))
    (job.folder / "job.json").write_text(json.dumps({**job.record, "queued": None, **facts}))
    (view,) = service.views(owner)
    assert view.status == status
    assert words in view.words
    assert view.can_resume


def test_every_way_of_decoding_is_one_of_the_commands():
    assert {decoding_named(name).name for name in DECODINGS} == set(DECODINGS)
