"""The Tune tab's services without a page: data taken in, repaired and removed, regions corrected, plans, adapters."""

from __future__ import annotations

import argparse
import io
import json
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import yaml
from accelerate.commands.launch import launch_command_parser
from PIL import Image

from a3tune.errors import DataError, RequestError
from a3tune.labels.segmenters.segmentation import Segmentation, region_from_mask
from a3tune.labels.sources import LabelSource
from a3tune.labels.store import LabelStore
from a3tune.training.config import load_config
from a3tune.training.options import add_tune_arguments
from a3tune.training.targets import TargetMaker, target_plan
from a3tune.types import PatchGrid, PatchTile, ScoredRegion
from app.common.identity import new_secret, owner_of
from app.engine.background import in_steps
from app.engine.model_slot import ModelGeneration
from app.tune.data.regions import LabelPreview, row_value
from app.tune.data.service import MOST_SETS, CheckedData
from app.tune.data_panel import DataPanel
from app.tune.service import Plan, TuneService, place_notice
from app.tune.values import (
    comparison_table,
    data_report,
    estimate_text,
    labels_value,
    method_choices,
    preset_choices,
    repair_choices,
)

SIZE = 32


class Maker:
    """Stands for segmenter and scorer: two squares in every image, the left one better; boxes become regions."""

    def __init__(self):
        self.segmenter = SimpleNamespace(name="squares", digest="1", parameters={}, segment_box=self.region)
        self.scorer = SimpleNamespace(name="left", digest="2", score=self.score, embed_texts=lambda texts: None)
        self.segmenter.segment = self.segment

    @staticmethod
    def region(image, box):
        x, y, width, height = (int(edge) for edge in box)
        mask = np.zeros((image.height, image.width), bool)
        mask[y : y + height, x : x + width] = True
        return region_from_mask(mask)

    def segment(self, image):
        boxes = ((4, 8, 8, 12), (18, 8, 8, 12))
        return Segmentation(tuple(self.region(image, box) for box in boxes), "squares", image.height, image.width, ())

    @staticmethod
    def score(image, regions, prompt):
        order = sorted(regions, key=lambda region: region.box[0])
        return tuple(ScoredRegion(region, 30.0 - n, n + 1, 0.5, prompt) for n, region in enumerate(order))


class Slot:
    """A region slot that has its parts."""

    def __init__(self):
        self.in_use = threading.Lock()
        self.maker = Maker()
        self.generation = ModelGeneration("What finds and ranks regions")

    def wait(self, timeout):
        return self.maker


@pytest.fixture
def desk(tmp_path):
    return TuneService(SimpleNamespace(profile="demo", adapters=("base", "a3")), Slot(), tmp_path / "studio")


@pytest.fixture
def owner():
    return owner_of(new_secret())


def picture(shade):
    stream = io.BytesIO()
    Image.fromarray(np.full((SIZE, SIZE), shade, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def upload(tmp_path):
    """(rows, name) -> an uploaded ZIP in a folder of its own, as Gradio leaves it."""

    def write(rows=None, name="mine.zip"):
        rows = rows or [(f"{n}.png", "Where is it?", "left", "train" if n else "validation") for n in range(4)]
        (tmp_path / "upload").mkdir(exist_ok=True)
        with zipfile.ZipFile(tmp_path / "upload" / name, "w") as archive:
            lines = ["image,question,answer,split", *(",".join(row) for row in rows)]
            archive.writestr("data.csv", "\n".join(lines))
            for number in range(4):
                archive.writestr(f"{number}.png", picture(60 * number))
        return tmp_path / "upload" / name

    return write


def last(reports):
    return list(reports)[-1]


def test_an_upload_is_looked_through_and_leaves_nothing_where_it_came(desk, owner, upload):
    archive = upload()
    checked = last(desk.data.take_archive(owner, archive, "mine"))
    assert isinstance(checked, CheckedData)
    assert (checked.dataset.counts.items, checked.dataset.counts.errors) == (4, 0)
    assert len(checked.gallery) == 4
    assert not archive.parent.exists()
    assert [data.title for data in desk.data.all(owner)] == ["mine"]
    report = data_report(checked)
    assert "Ready to train on" in report
    assert "3 train, 1 validation" in report or "1 validation, 3 train" in report


def test_the_same_upload_again_is_the_same_data_set(desk, owner, upload):
    first = last(desk.data.take_archive(owner, upload(), "mine"))
    again = last(desk.data.take_archive(owner, upload(), "other"))
    assert (again.data.name, again.same) == (first.data.name, True)
    assert "uploaded the very same data before" in data_report(again)
    other = owner_of(new_secret())
    assert last(desk.data.take_archive(other, upload(), "mine")).data.name != first.data.name


def test_what_is_refused_or_is_no_data_set_leaves_nothing(desk, owner, tmp_path):
    (tmp_path / "bad").mkdir()
    for content in ({"../evil.csv": "x"}, {"data.csv": "colour,size\nred,1\n", "a.png": "x"}):
        path = tmp_path / "bad" / "bad.zip"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in content.items():
                archive.writestr(name, text)
        with pytest.raises(DataError):
            last(desk.data.take_archive(owner, path, "bad"))
        assert not path.exists()
    assert desk.data.all(owner) == ()
    assert list(desk.jobs.home(owner, "data").iterdir()) == []


def test_faults_are_repaired_and_the_repaired_data_is_what_runs(desk, owner, upload):
    rows = [
        ("0.png", "Is <b>it</b>?", "yes", "train"),
        ("none.png", "Is it?", "yes", "train"),
        ("1.png", "Is it?", "no", ""),
    ]
    checked = last(desk.data.take_archive(owner, upload(rows), "mine"))
    report = data_report(checked)
    assert "1 fault keeps it" in report
    assert "data.csv:3 image" in report
    assert "<b>it</b>" not in report
    with pytest.raises(RequestError, match="has 1 fault"):
        desk.start(owner, checked.data.name, Plan())
    names = [name for _, name in repair_choices(checked)]
    assert names == ["rows", "split"]
    repaired = last(desk.data.repair(owner, checked.data.name, names))
    assert (repaired.dataset.counts.errors, repaired.dataset.counts.items) == (0, 2)
    assert set(repaired.dataset.counts.splits) == {"train", "validation"}
    arguments = desk._arguments(repaired.data, repaired.data.folder / "config.yaml")
    assert arguments[arguments.index("--images") + 1] == str(repaired.data.files)
    desk.data.delete(owner, checked.data.name)
    assert not checked.data.folder.exists()


def test_nobody_reaches_the_data_of_others(desk, owner, upload):
    checked = last(desk.data.take_archive(owner, upload(), "mine"))
    other = owner_of(new_secret())
    for name in (checked.data.name, f"../../{owner}/data/{checked.data.name}", "..", None):
        for act in (desk.data.get, desk.data.check, desk.data.delete):
            with pytest.raises(RequestError, match="no such data set"):
                act(other, name)
    with pytest.raises(RequestError, match="no such data set"):
        desk.start(other, checked.data.name, Plan())


def test_a_visitor_may_not_fill_the_disk_with_data_sets(desk, owner, upload, monkeypatch):
    monkeypatch.setattr("app.tune.data.service.MOST_SETS", 1)
    last(desk.data.take_archive(owner, upload(), "mine"))
    with pytest.raises(RequestError, match="at most 1 data sets"):
        last(desk.data.take_archive(owner, upload([("1.png", "Is it?", "no", "train")]), "second"))
    assert MOST_SETS > 1


def test_an_almost_full_disk_starts_nothing(desk, owner, upload, monkeypatch):
    checked = last(desk.data.take_archive(owner, upload(), "mine"))
    monkeypatch.setattr("a3tune.data.intake.shutil.disk_usage", lambda place: SimpleNamespace(free=1 << 20))
    with pytest.raises(DataError, match="of free disk"):
        desk.start(owner, checked.data.name, Plan())
    assert desk.jobs.jobs(owner) == ()


def test_regions_are_shown_corrected_and_used_by_the_training(desk, owner, upload):
    checked = last(desk.data.take_archive(owner, upload(), "mine"))
    name = checked.data.name
    config = load_config("demo", {"label_min_score": 100})
    # Nothing that was found is sure enough to be a target; what a person chooses is, whatever its score.
    assert all(row.chosen == () and row.regions for row in last(desk.labels.preview(owner, name, config)).rows)
    preview = last(desk.labels.preview(owner, name, load_config("demo", {"label_min_score": None})))
    assert isinstance(preview, LabelPreview)
    assert len(preview.rows) == 3, "the training images"
    row = preview.rows[0]
    left, right = row.regions
    assert row.chosen == (left, right)[: preview.most]
    value = row_value(0, row)
    assert value["regions"][0]["outlines"] == [[4, 8, 4, 19, 11, 19, 11, 8]]
    json.loads(labels_value(preview, "secret", name))

    drawn = desk.labels.draw(owner, name, 0, [0, 0, 6, 6])
    (new,) = drawn.drawn
    kept = desk.labels.choose(owner, name, 0, [new])
    assert (kept.chosen, kept.corrected) == ((new,), True)
    with pytest.raises(RequestError, match="no such region"):
        desk.labels.choose(owner, name, 0, ["nothing"])
    with pytest.raises(RequestError, match="no such row"):
        desk.labels.choose(owner, name, 7, [])
    # The training looks into the folder "labels" beside the data first: the patch of the drawn box, and no other.
    store = LabelStore(checked.dataset.root / "labels")
    tiles = (PatchTile(0, 4, 4, (0.0, 0.0, float(SIZE), float(SIZE))),)
    edges = [(8.0 * c, 8.0 * r, 8.0 * c + 8, 8.0 * r + 8) for r in range(4) for c in range(4)]
    grid = PatchGrid(np.array(edges), tiles, SIZE, SIZE)
    encoder = SimpleNamespace(encode=lambda images, question: SimpleNamespace(images=[range(16)]))
    targets = TargetMaker(target_plan(config), encoder, lambda *size: grid, LabelSource([store])).make([row.item])
    assert targets.masks(0)[0].nonzero()[0].tolist() == [0]
    assert desk.labels.choose(owner, name, 0, []).chosen == ()
    # Shown again, the corrected choice is there.
    again = last(desk.labels.preview(owner, name, config)).rows[0]
    assert (again.chosen, again.corrected) == ((), True)


def test_a_method_without_alignment_needs_no_regions(desk, owner, upload):
    checked = last(desk.data.take_archive(owner, upload(), "mine"))
    preview = last(desk.labels.preview(owner, checked.data.name, load_config("demo", {"method": "lora"})))
    assert preview.rows == ()
    assert "needs no regions" in preview.note


def test_plans_become_settings_and_faults_are_named(desk):
    plan = Plan("demo", "lora+align", ("no_head_selection",), {"batch_size": "2", "learning_rate": "2e-4"})
    config = desk.config(plan)
    assert (config.method, config.no_head_selection, config.batch_size, config.learning_rate) == (
        "lora+align", True, 2, 2e-4,
    )  # fmt: skip
    with pytest.raises(DataError, match=r"bach_size.*did you mean batch_size"):
        desk.config(Plan(settings={"bach_size": "2"}))
    assert desk.steps(Plan(settings={"max_steps": "null", "epochs": "2", "batch_size": "4"}), 10) == 5
    text, command = desk.launch_text(plan)
    assert yaml.safe_load(text)["method"] == "lora+align"
    launched = [line.split() for line in command.replace("\\\n", " ").splitlines() if line.startswith("accelerate")]
    parser = argparse.ArgumentParser()
    add_tune_arguments(parser)
    for (_, _, *words), machines, processes in zip(launched, (1, 2), (4, 16), strict=True):
        found = launch_command_parser().parse_args(words)
        assert (found.module, found.training_script, found.training_script_args[0]) == (True, "a3tune", "tune")
        assert (found.multi_gpu, found.num_machines, found.num_processes) == (True, machines, processes)
        tuned = parser.parse_args(found.training_script_args[1:])
        assert (str(tuned.data), str(tuned.out), tuned.config, tuned.model) == ("DATA", "RUN", "config.yaml", "demo")
    assert preset_choices(desk.presets())[0] == ("Quick look", "quick")
    assert {name for _, name in method_choices()} == {"a3", "lora", "lora+align", "a3moe"}


def test_looking_at_no_data_changes_nothing_on_the_page(desk, owner):
    part = DataPanel(desk, visitor=None)
    part._outputs = ["one widget", "another"]
    assert list(part.look(owner, None)) == [[gr.skip()] * 2]
    assert list(part._take_archive(owner, None)) == [[gr.skip()] * 3]


def test_where_training_cannot_be_done_it_is_told(desk, owner, upload, monkeypatch, tmp_path):
    assert place_notice() == ""
    checked = last(desk.data.take_archive(owner, upload(), "mine"))
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    assert "duplicate the Space" in place_notice()
    with pytest.raises(RequestError, match="ZeroGPU lends a GPU for seconds"):
        desk.start(owner, checked.data.name, Plan())
    monkeypatch.delenv("SPACES_ZERO_GPU")
    monkeypatch.setenv("SPACE_ID", "house/space")
    monkeypatch.setattr("app.tune.service.devices", lambda: ("cpu",))
    monkeypatch.setattr("app.tune.service.DEVICE_FILES", tmp_path)
    assert "no GPU" in place_notice()
    (tmp_path / "nvidia0").touch()
    assert place_notice() == "", "torch is not loaded yet, but there is a GPU"


def test_a_plan_that_was_measured_and_does_not_fit_is_not_started(desk, owner, upload, monkeypatch):
    checked = last(desk.data.take_archive(owner, upload(), "mine"))
    name, large, small = checked.data.name, Plan(settings={"batch_size": "64"}), Plan(settings={"batch_size": "1"})
    found = {"fits": False, "remedy": "set batch_size to 32"}
    monkeypatch.setattr(desk, "_subprocess_tasks", SimpleNamespace(run=lambda *arguments: found))
    monkeypatch.setattr(desk.jobs, "submit", lambda *arguments, **facts: "started")
    assert desk.start(owner, name, large) == "started", "nothing is known of it yet"
    assert not desk.measure(owner, name, large)["fits"]
    with pytest.raises(RequestError, match="To make it fit: set batch_size to 32; or measure again"):
        desk.start(owner, name, large)
    assert desk.start(owner, name, small) == "started"
    found = {"fits": True, "remedy": ""}
    desk.measure(owner, name, large)
    assert desk.start(owner, name, large) == "started"


def test_estimates_are_told_in_words():
    found = {
        "steps": 120, "trainable": 1000, "parameters": 100_000, "step_seconds": 0.5, "label_seconds": 30.0,
        "seconds": 90.0, "peak_bytes": 1 << 30, "free_bytes": 2 << 30, "fits": True, "remedy": "", "busy": True,
    }  # fmt: skip
    text = estimate_text(found)
    for words in ("1 min 30 s for 120 steps", "30 s to find regions", "1.0% of the model", "1.0 GiB of 2.0 GiB"):
        assert words in text
    assert "Another run was at work" in text
    refused = estimate_text({**found, "fits": False, "remedy": "set batch_size to 1"})
    assert "does not fit" in refused
    assert "set batch_size to 1" in refused


def test_adapters_of_runs_and_uploads_are_offered_to_their_owner_only(desk, owner):
    assert desk.adapters.of(owner) == {}
    for kind, name, facts in (
        ("runs", "a" * 12, {"title": "first", "model": "demo"}),
        ("runs", "b" * 12, {"title": "first", "model": "demo"}),
        ("runs", "c" * 12, {"title": "of another base", "model": "house/model"}),
        ("runs", "e" * 12, {"title": "a3", "model": "demo"}),
        ("runs", "f" * 12, {"title": "SLAKE, v1.5", "model": "demo"}),
    ):
        folder = desk.jobs.home(owner, kind) / name
        (folder / "run/adapter").mkdir(parents=True)
        (folder / "run/adapter/adapter_model.safetensors").write_bytes(b"x")
        (folder / "job.json").write_text(json.dumps(facts))
    loaded = desk.jobs.home(owner, "adapters") / "d"
    loaded.mkdir(parents=True)
    (loaded / "adapter_model.safetensors").write_bytes(b"x")
    (loaded / "loaded.json").write_text('{"title": "loaded"}')
    found = desk.adapters.of(owner)
    # No name of those that all visitors share, and none that PEFT or a command line cannot take.
    assert set(found) == {"first", "first (2)", "loaded", "a3 (2)", "SLAKE- v1-5"}
    assert found["loaded"] == loaded
    assert desk.adapters.name_of(owner, "e" * 12) == "a3 (2)"
    assert desk.adapters.name_of(owner, "c" * 12) == ""
    other = owner_of(new_secret())
    assert desk.adapters.of(other) == {}
    for act in (desk.adapters.remove, desk.adapters.zip, desk.adapters.before_after):
        with pytest.raises(RequestError, match="no such adapter"):
            act(other, "loaded")
    with pytest.raises(RequestError, match="belongs to a run"):
        desk.adapters.remove(owner, "first")
    desk.adapters.remove(owner, "loaded")
    assert "loaded" not in desk.adapters.of(owner)
    assert not loaded.exists()


def test_steps_that_came_together_are_told_once():
    ready = threading.Event()

    def work(report):
        for number in range(100):
            report("working", number / 100)
        ready.set()
        return "done"

    reports = in_steps(work)
    first = next(reports)
    ready.wait(10)
    rest = list(reports)
    assert (first if isinstance(first, str) else rest[-1]) == "done"
    assert len(rest) < 100


def test_columns_are_named_and_the_copy_is_what_runs(desk, owner, upload):
    archive = upload()
    with zipfile.ZipFile(archive) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    files["data.csv"] = files["data.csv"].replace(b"image,question,answer", b"scan,asked,told")
    with zipfile.ZipFile(archive, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    checked = last(desk.data.take_archive(owner, archive, "mine"))
    assert checked.naming.columns == ("scan", "asked", "told", "split")
    assert repair_choices(checked) == []
    with pytest.raises(RequestError, match="has 1 fault"):
        desk.start(owner, checked.data.name, Plan())
    named = last(
        desk.data.name_columns(owner, checked.data.name, {"image": "scan", "question": "asked", "answer": "told"})
    )
    assert (named.dataset.counts.errors, named.dataset.counts.items, named.naming) == (0, 4, None)
    assert named.data.arguments[-1] == str(named.data.files)
    other = owner_of(new_secret())
    with pytest.raises(RequestError, match="no such data set"):
        desk.data.name_columns(other, checked.data.name, {})


def test_an_adapter_is_compared_on_the_data_of_its_run_while_that_is_there(desk, owner, upload, monkeypatch):
    first = last(desk.data.take_archive(owner, upload(), "first")).data
    second = last(desk.data.take_archive(owner, upload([("1.png", "Is it?", "no", "train")]), "second")).data
    job = desk.jobs.home(owner, "runs") / ("a" * 12)
    (job / "run/adapter").mkdir(parents=True)
    (job / "run/adapter/adapter_model.safetensors").write_bytes(b"x")
    (job / "job.json").write_text(json.dumps({"title": "mine", "model": "demo", "data_name": first.name}))
    (job / "config.yaml").write_text("method: lora\n")
    loaded = desk.jobs.home(owner, "adapters") / "d"
    loaded.mkdir(parents=True)
    (loaded / "adapter_model.safetensors").write_bytes(b"x")
    (loaded / "loaded.json").write_text('{"title": "loaded"}')
    asked = []

    def run(owner, module, arguments, environment, report):
        given = dict(zip(arguments[::2], arguments[1::2], strict=True))
        asked.append(
            (given["--data"], given["--adapter"], yaml.safe_load(Path(given["--config"]).read_text())["method"])
        )
        return {"questions": 3}

    monkeypatch.setattr(desk.adapters._subprocess_tasks, "run", run)
    assert last(desk.compare(owner, "mine", second.name, Plan())) == {"questions": 3}
    last(desk.compare(owner, "loaded", second.name, Plan(method="a3moe")))
    desk.data.delete(owner, first.name)
    last(desk.compare(owner, "mine", second.name, Plan()))
    assert asked == [
        (str(first.path), str(job / "run/adapter"), "lora"),
        (str(second.path), str(loaded), "a3moe"),
        (str(second.path), str(job / "run/adapter"), "lora"),
    ]
    with pytest.raises(RequestError, match="no such adapter"):
        desk.compare(owner, "another", second.name, Plan())


def test_a_comparison_is_told_as_a_table():
    found = {
        "split": "validation", "questions": 57, "held_out": 57, "with_target": 40,
        "base": {"accuracy": 0.5, "attention_mass": 0.1, "loss": 1.0},
        "tuned": {"accuracy": 0.75, "attention_mass": 0.05, "loss": 0.5},
    }  # fmt: skip
    text = comparison_table("<mine>", found)
    assert "&lt;mine&gt;" in text
    assert "<td data-tone=better>+25.0</td>" in text
    assert "<td data-tone=worse>\N{MINUS SIGN}5.0</td>" in text
    assert "<td data-tone=better>\N{MINUS SIGN}0.500</td>" in text
    assert "57 questions of the validation split" in text
    assert "So few tell little" in text
