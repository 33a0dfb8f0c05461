"""Choosing what is in memory, with tiny models: permission, fetching, replacing, and who is told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

from a3tune.bundle import DEMO_NAME
from a3tune.errors import A3TuneError, Cancelled, LabelError, ModelError, RequestError
from a3tune.models import memory
from app.access.deployment import LOCAL
from app.access.identity import Asker, Identity
from app.engine.background import Step
from app.engine.model_slot import ModelChoice, ModelSlot
from app.engine.region_slot import RegionSlot
from app.inspect.export_request import command_line
from app.inspect.service import InspectService
from app.models.service import ModelService, Work
from app.models.tab import model_answers
from app.models.values import catalogue_value, offer_value, work_value
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[3]
LAST = 60.0


class Services:
    """A page's services around a tiny model, and what people do with them."""

    def __init__(self, folder: Path, **options) -> None:
        self.slot = ModelSlot(str(folder), device="cpu")
        self.regions = RegionSlot(device="cpu")
        self.inspecting = InspectService(self.slot, self.regions)
        self.ready: list[str] = []
        self.models = ModelService(
            self.slot, self.regions, on_loaded=lambda: self.ready.append(self.slot.profile), **options
        )
        self.slot.start()
        self.slot.wait(None)

    def finish(self, work: Work) -> Work:
        until(lambda: work.over)
        return work

    def load(self, kind: str, name: object, *how) -> Work:
        return self.finish(self.models.load(kind, str(name), *how))

    def value(self) -> dict:
        return json.loads(json.dumps(catalogue_value(self.models.show())))


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("A3TUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def llava(tiny_checkpoint) -> Path:
    return tiny_checkpoint("llava")


@pytest.fixture
def gemma(tiny_checkpoint) -> Path:
    return tiny_checkpoint("gemma3")


@pytest.fixture
def services(llava):
    return Services(llava, any_model=True)


@pytest.fixture
def png(tmp_path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (48, 80, 3), dtype=np.uint8)).save(path)
    return path


def follow(service: InspectService, name: str) -> None:
    until(lambda: service.faithfulness.follow(name)[1] is not None)


def ask(service: InspectService, visit: str = "one", question: str = "Is there a mass?"):
    service.questions.reserve(visit)
    return list(service.questions.ask(visit, question))[-1]


# ---- replacing -------------------------------------------------------------------------------


def test_another_model_takes_the_place_and_earlier_results_stay(services, llava, gemma, png):
    service = services.inspecting
    service.sessions.open_file("one", png, remove=False)
    before = ask(service)
    work = services.load("model", gemma)
    assert (work.error, work.loaded) == (None, True)
    assert services.ready == [str(gemma)]
    assert services.slot.wait(0).config.model_type == "gemma3"
    assert services.slot.status.name == gemma.name
    after = ask(service)
    assert (before.inspection.model, after.inspection.model) == (
        service.results.of("one")[1].inspection.model,
        gemma.name,
    )
    assert before.inspection.model != gemma.name
    maps = before.inspection.views[0].maps.weights
    np.testing.assert_array_equal(service.results.head_map(before.id, "base", 1, 0), maps[1, 0])
    assert service.reopening.reopen("one", before.id).inspection is before.inspection
    assert f"--model {services.slot.profile} " in command_line(after, ["base"])
    assert f"--model {llava} " in command_line(before, ["base"]), "the model that answered, not the one in memory"
    with pytest.raises(RequestError, match=r"was replaced since.*Models page"):
        service.faithfulness.start(before.id, "base", "curves", "mean", [0])


def test_whoever_is_being_answered_gets_the_answer_and_who_comes_meanwhile_that_of_the_new_model(
    services, llava, gemma, png, monkeypatch
):
    service, slot = services.inspecting, services.slot
    service.sessions.open_file("one", png, remove=False)
    service.sessions.open_file("two", png, remove=False)
    generate = type(slot.wait(0)).generate
    answering, go_on = threading.Event(), threading.Event()

    def slow(model, prompt, **options):
        answering.set()
        go_on.wait(LAST)
        return generate(model, prompt, **options)

    monkeypatch.setattr(type(slot.wait(0)), "generate", slow)
    service.questions.reserve("one")
    running = service.questions.ask("one", "Is there a mass?")
    next(running)
    answering.wait(LAST)
    assert services.value()["answering"] == 1
    service.questions.reserve("two")
    waiting = service.questions.ask("two", "Is there a mass?")
    assert next(waiting).what == "Waiting for another visitor's question"
    work = services.models.load("model", str(gemma))
    until(lambda: slot.generation.closed)
    service.sessions.open_file("three", png, remove=False)
    service.questions.reserve("three")
    late = service.questions.ask("three", "Is there a mass?")
    assert next(late).what.startswith("Waiting for another model")
    go_on.set()
    models = [list(questions)[-1].inspection.model for questions in (running, waiting, late)]
    assert models == [llava.name, llava.name, gemma.name]
    assert services.finish(work).loaded
    assert services.value()["answering"] == 0


def test_what_all_share_is_not_changed_too_often(llava):
    limited = Services(llava, deployment=replace(LOCAL, model_changes=1))
    assert limited.load("model", llava).loaded
    with pytest.raises(RequestError, match="A3TUNE_MODEL_CHANGES"):
        limited.load("model", llava)


def test_changing_what_all_share_is_an_operators_act(services, llava, monkeypatch):
    state, named, act = model_answers(services.models)
    request = {"action": "load", "kind": "model", "name": str(llava)}
    monkeypatch.setattr("app.access.identity.asking", lambda: Asker(Identity("tuner")))
    assert "role operator" in state({})["locked"]
    for answer in (act(request), act({"action": "cancel"}), named(request)):
        assert answer["error"]["expected"] == "The role operator to change what all visitors share."
    assert services.models.show().work is None
    monkeypatch.setattr("app.access.identity.asking", lambda: Asker(Identity("operator")))
    assert state({})["locked"] == ""
    assert act(request) == {}
    assert services.finish(services.models.show().work).loaded


def test_a_check_of_a_map_is_told_too(services, gemma, png):
    service = services.inspecting
    service.sessions.open_file("one", png, remove=False)
    finished = ask(service)
    with services.slot.in_use:
        name = service.faithfulness.start(finished.id, "base", "curves", "mean", [0])
        work = services.models.load("model", str(gemma))
        services.slot.generation.left.wait(LAST)
        with pytest.raises(RequestError, match="was replaced by"):
            follow(service, name)
    assert services.finish(work).loaded


def test_what_cannot_be_loaded_leaves_the_model_in_its_place(services, llava, tmp_path, monkeypatch):
    model = services.slot.wait(0)
    copy = shutil.copytree(llava, tmp_path / "copy")
    whole = (copy / "model.safetensors").read_bytes()
    cases = {
        "cut": (lambda: (copy / "model.safetensors").write_bytes(whole[:-300]), "damaged.*Fetch the file again"),
        "missing": (lambda: (copy / "model.safetensors").unlink(), "without weights.*Fetch the missing files"),
        "kind": (
            lambda: (copy / "config.json").write_text('{"model_type": "llama"}'),
            "answers questions about images",
        ),
        "absent": (lambda: shutil.rmtree(copy), "no folder at.*Check the path"),
    }
    for damage, message in cases.values():
        damage()
        work = services.load("model", copy)
        assert not work.loaded
        with pytest.raises(ModelError, match=message):
            raise work.error
        assert services.slot.wait(0) is model, "nothing was let go"
    monkeypatch.setattr(memory, "available_memory", lambda device: 1_000_000)
    monkeypatch.setattr("a3tune.catalogue.available_memory", lambda device: 1_000_000)
    work = services.load("model", llava)
    with pytest.raises(
        ModelError, match=r"0\.0 GB of memory are free.*needs about 0\.6 GB in float32.*smaller precision"
    ):
        raise work.error
    assert services.slot.wait(0) is model


def test_the_former_model_comes_back_when_the_new_one_fails_late(services, llava, gemma, monkeypatch, png):
    service = services.inspecting
    service.sessions.open_file("one", png, remove=False)
    folder = services.slot.profile
    from a3tune.models import load

    real = load.load_model

    def fail(source, **options):
        if source == str(gemma):
            raise ModelError(expected="luck", got="none", remedy="Try again")
        return real(source, **options)

    monkeypatch.setattr(load, "load_model", fail)
    work = services.load("model", gemma)
    assert "luck" in str(work.error)
    assert not work.loaded
    assert (services.slot.profile, services.slot.status.state) == (folder, "ready")
    assert ask(service).inspection.model == Path(folder).name


def test_going_back_to_the_first_model_brings_the_operators_adapters_back(gemma):
    slot = ModelSlot("demo", {}, device="cpu")
    first = slot.adapters
    slot.start()
    slot.wait(None)
    slot.switch(ModelChoice(str(gemma)))
    assert (slot.adapters, slot.generation.folders) == (("base",), {})
    slot.switch(ModelChoice())
    assert slot.adapters == first
    assert slot.status.name == DEMO_NAME


MEMORY = """
from a3tune.process import SERVER, prepare_process
prepare_process(SERVER)  # as the page does
import json, sys, psutil, numpy as np
from pathlib import Path
from a3tune.lack_of_memory import release_memory
from app.inspect.service import InspectService
from app.engine.model_slot import ModelChoice, ModelSlot
from app.engine.region_slot import RegionSlot

def resident():
    release_memory()
    return psutil.Process().memory_info().rss

small, large, picture = sys.argv[1:]
slot = ModelSlot(small, device="cpu")
slot.start()
slot.wait(None)
service = InspectService(slot, RegionSlot())
service.sessions.open_file("one", Path(picture), remove=False)

def ask():
    service.questions.reserve("one")
    return list(service.questions.ask("one", "Is there a mass?"))[-1]

def turn(source):
    slot.switch(ModelChoice(source))
    ask()
    return resident()

# Once round first: what torch keeps for good after its first large product is no model's.
turn(large)
before = turn(small)
held, size = turn(large), slot.size
after = turn(small)
print(json.dumps({"size": size, "held": held - before, "left": after - before}))
"""


def test_replacing_a_model_gives_its_memory_back(llava, tiny_model, png, tmp_path):
    import copy

    small = tiny_model("llava")
    config = copy.deepcopy(small.config)
    config.text_config.hidden_size, config.text_config.intermediate_size = 1024, 3000
    config.text_config.num_hidden_layers = 5
    type(small.model)(config).save_pretrained(tmp_path / "large")
    small.processor.save_pretrained(tmp_path / "large")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(llava), str(tmp_path / "large"), str(png)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["size"] > 150e6
    assert figures["held"] > 0.95 * figures["size"]
    assert figures["left"] < 0.05 * figures["size"], figures


# ---- permission ------------------------------------------------------------------------------


def test_only_what_is_offered_can_be_named(llava, gemma):
    services = Services(llava, offered=[str(gemma), "medgemma-4b"])
    keys = {(entry["kind"], entry["key"]) for entry in services.value()["entries"]}
    assert {("model", str(gemma)), ("model", "medgemma-4b"), ("model", str(llava))} <= keys
    assert ("model", "llava-med-7b") not in keys
    assert {key for kind, key in keys if kind != "model"} == {"litemedsam", "demo-scorer"}
    needs = {entry["key"]: entry["needs"]["float32"] for entry in services.value()["entries"]}
    assert needs[str(gemma)]["verdict"] == "fits", "its files tell"
    assert needs["medgemma-4b"]["words"] == "17.8 GB"
    for kind, name in (
        ("model", "owner/name"),
        ("model", "llava-med-7b"),
        ("model", "/etc"),
        ("segmenter", "sam-vit-b"),
        ("scorer", "biomedclip"),
        ("scorer", "owner/clip"),
    ):
        with pytest.raises(RequestError, match="--any-model"):
            services.models.load(kind, name)
        with pytest.raises(RequestError, match="--any-model"):
            services.models.download(kind, name)
    with pytest.raises(RequestError, match="one of the list"):
        services.models.load("kitchen", "sink")
    assert services.load("model", gemma).loaded
    assert services.load("model", llava).loaded, "what it was started with can be chosen again"


def test_a_name_of_ones_own_is_described_before_it_is_loaded(services, llava, gemma, tmp_path, monkeypatch):
    offer = services.models.describe("model", f" {gemma} ")
    value = offer_value(offer)
    assert (value["title"], value["place"], value["current"]) == (gemma.name, "On this machine", False)
    assert value["needs"]["float32"]["verdict"] == "fits", "its files tell"
    assert value["usual"] == "float32"
    assert services.models.describe("model", str(llava)).current
    monkeypatch.setattr("a3tune.models.precision.total_memory", lambda device: 1)
    large = offer_value(services.models.describe("model", str(gemma)))
    assert (large["usual"], large["needs"]["auto"]) == ("bfloat16", large["needs"]["bfloat16"])
    empty = offer_value(services.models.describe("model", str(tmp_path)))
    assert (empty["weights"], empty["needs"]["float32"]["verdict"]) == ("", "unknown")
    away = offer_value(services.models.describe("model", "owner/name"))
    assert (away["here"], away["place"], away["page"]) == (False, "Not downloaded", "https://huggingface.co/owner/name")
    assert offer_value(services.models.describe("segmenter", "owner/name"))["page"] is None, "a path"
    assert "Neither" in offer_value(services.models.describe("model", "some thing"))["about"]
    part = offer_value(services.models.describe("segmenter", "hub:owner/name/vit_b.pth"))
    assert (part["kind"], part["here"], part["page"]) == ("segmenter", False, "https://huggingface.co/owner/name")
    for odd in ("../../etc", "<b>x</b>", "a b", "~nobody-here/x", "x" * 300, "\0", "a/b/c/d"):
        for kind in ("model", "segmenter", "scorer"):
            assert offer_value(services.models.describe(kind, odd))["kind"] == kind
    with pytest.raises(RequestError, match="none"):
        services.models.describe("model", " ")
    with pytest.raises(RequestError, match="--any-model"):
        Services(llava, offered=[]).models.describe("model", "/etc")


def test_a_files_name_keeps_its_letters_in_a_message(services, tmp_path):
    error = work_value(services.load("model", tmp_path), ())["error"]
    assert error["got"] == f"No config.json in {tmp_path.name}."
    assert error["expected"] == "config.json in the model folder."


def test_precisions_of_this_machine(services, gemma):
    for precision in ("8bit", "4bit"):
        with pytest.raises(RequestError, match=r"pip install bitsandbytes.*Choose one of float32, bfloat16, float16"):
            services.models.load("model", str(gemma), precision)
    with pytest.raises(RequestError, match="no GPU"):
        services.models.load("model", str(gemma), "auto", True)
    with pytest.raises(RequestError, match="3bit"):
        services.models.load("model", str(gemma), "3bit")
    assert services.load("model", gemma, "bfloat16").loaded
    assert str(services.slot.wait(0).dtype) == "torch.bfloat16"
    value = services.value()
    assert value["choice"] == {"precision": "bfloat16", "offload": False}
    assert {option["key"] for option in value["precisions"] if option["obstacle"]} == {"8bit", "4bit"}


# ---- fetching --------------------------------------------------------------------------------


def test_offline_and_gated_and_missing_are_told_apart(services, fake_hub, gemma, monkeypatch):
    fake_hub.repositories["google/medgemma-4b-it"] = gemma
    fake_hub.gated.add("google/medgemma-4b-it")
    error = work_value(services.load("model", "medgemma-4b"), ())["error"]
    assert "licence" in error["got"]
    assert "hf auth login" in error["remedy"]
    error = work_value(services.load("model", "owner/absent"), ())["error"]
    assert "no model named owner/absent" in error["got"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = work_value(services.load("model", "llava-med-7b"), ())["error"]
    assert "out of reach" in error["got"]
    assert "hf download microsoft/llava-med-v1.5-mistral-7b" in error["remedy"]
    error = work_value(services.load("segmenter", "medsam"), ())["error"]
    assert "litemedsam" in error["remedy"]
    assert services.slot.status.state == "ready"


def test_a_download_is_cancelled_taken_up_and_shown(services, fake_hub, gemma, monkeypatch):
    fake_hub.repositories["google/medgemma-4b-it"] = gemma
    progress = Work.progress

    def cancel_half_way(work, what, share):
        if share > 0.5:
            services.models.cancel()
        progress(work, what, share)

    monkeypatch.setattr(Work, "progress", cancel_half_way)
    work = services.finish(services.models.download("model", "medgemma-4b"))
    assert isinstance(work.error, Cancelled)
    value = work_value(work, ())
    assert value["error"] is None
    assert "kept" in value["message"]
    monkeypatch.setattr(Work, "progress", progress)
    fake_hub.served.clear()
    work = services.finish(services.models.download("model", "medgemma-4b"))
    assert (work.error, work.loaded) == (None, False)
    whole = (gemma / "model.safetensors").stat().st_size
    assert 0 < fake_hub.served["model.safetensors"] < 0.8 * whole
    (entry,) = (entry for entry in services.value()["entries"] if entry["key"] == "medgemma-4b")
    assert entry["here"]
    assert services.slot.status.state == "ready"
    assert services.load("model", "google/medgemma-4b-it").loaded
    assert services.slot.status.name == "google/medgemma-4b-it"


def test_one_thing_at_a_time(services, gemma):
    with services.slot.in_use:
        work = services.models.load("model", str(gemma))
        with pytest.raises(RequestError, match="Something else is going on"):
            services.models.download("model", "demo")
    assert services.finish(work).loaded


def test_the_time_left_follows_the_last_seconds(monkeypatch):
    clock = iter([100.0, 110.0, 115.0, 130.0])
    monkeypatch.setattr("app.models.service.time.monotonic", lambda: next(clock))
    work = Work("model", "x", lambda work: None)
    work.progress("fetching x: 0 of 10 GB", 0.0)
    assert work.seconds_left is None
    work.progress("fetching x: 1 of 10 GB", 0.1)
    assert work.seconds_left == pytest.approx(90)
    work.progress("fetching x: 2 of 10 GB", 0.2)
    work.progress("fetching x: 6 of 10 GB", 0.6)
    assert work.seconds_left == pytest.approx(0.4 * 20 / 0.5)


# ---- parts -----------------------------------------------------------------------------------


def test_a_scorer_takes_the_place_of_another_and_whoever_waits_is_told(services, small_scorer, png):
    regions = services.inspecting.regions
    image_regions = services.inspecting.sessions.open_file("one", png, remove=False).regions
    told: list[BaseException] = []

    def find() -> None:
        try:
            regions.find(image_regions, "mass")
        except A3TuneError as error:
            told.append(error)

    services.regions.wait(None)
    with services.regions.in_use:
        visitor = threading.Thread(target=find)
        visitor.start()
        generation = services.regions.generation
        work = services.models.load("scorer", str(small_scorer))
        generation.left.wait(LAST)
        visitor.join(LAST)
    assert services.finish(work).loaded, work.error
    assert "replaced" in str(told[0])
    assert services.regions.names[1] == str(small_scorer)
    value = services.value()
    assert {entry["key"] for entry in value["entries"] if entry["current"]} >= {str(small_scorer), "litemedsam"}
    bad = services.load("segmenter", png)
    with pytest.raises(LabelError, match="not plain weights and was not executed"):
        raise bad.error
    assert services.regions.names == ("litemedsam", str(small_scorer)), "the former parts come back"
    assert services.regions.wait(None) is not None


def test_steps_of_a_question_that_waits_for_a_model_say_so(llava, png):
    slot = ModelSlot(str(llava), device="cpu")
    service = InspectService(slot, RegionSlot(device="cpu"))
    service.sessions.open_file("one", png, remove=False)
    service.questions.reserve("one")
    steps = service.questions.ask("one", "Is there a mass?")
    assert next(steps) == Step("Loading the model", 0.0)
    slot.start()
    assert list(steps)[-1].inspection.model == llava.name
