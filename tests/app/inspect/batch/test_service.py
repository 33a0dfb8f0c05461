"""One question about many images, on a tiny random model with a segmenter that draws the same boxes everywhere."""

from __future__ import annotations

import csv
import io
import re
import threading
from dataclasses import replace

import numpy as np
import pytest
from peft import LoraConfig
from PIL import Image
from pydicom.data import get_testdata_file

from a3tune.errors import LabelError, RequestError
from a3tune.labels.segmenters.segmentation import Segmentation, region_from_mask
from app.access.deployment import LOCAL
from app.engine.background import Task
from app.engine.region_slot import RegionSlot
from app.inspect.batch.batch import chip_value
from app.inspect.service import InspectService
from app.inspect.sessions.results import MOST_RESULTS, ResultStore
from tests.support.adapter_sets import save_adapters

QUESTION = "Where is the liver?"
PATIENCE = 60


class Boxes:
    """Finds four boxes in every picture but in black ones."""

    name, digest, parameters = "boxes", "1", {}

    def segment(self, image):
        if not image.pixels.any():
            raise LabelError(expected="a picture", got="The image is blank", remedy="Give another")
        found = []
        for top in (0.1, 0.5):
            for left in (0.1, 0.6):
                mask = np.zeros((image.height, image.width), dtype=bool)
                rows, columns = (int(share * side) for share, side in zip((top, left), mask.shape, strict=True))
                mask[rows : rows + image.height // 3, columns : columns + image.width // 4] = True
                found.append(region_from_mask(mask))
        return Segmentation(tuple(found), self.name, image.height, image.width)

    def forget(self, sha256):
        pass


@pytest.fixture(scope="module")
def region_slot(small_scorer):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("a3tune.labels.segmenters_and_scorers.LiteMedSamSegmenter", lambda device: Boxes())
        slot = RegionSlot(str(small_scorer), device="cpu")
        slot.wait(None)
    return slot


@pytest.fixture(scope="module")
def own(slot, tmp_path_factory):
    """An adapter of the visitor's own."""
    config = LoraConfig(r=2, lora_alpha=32, target_modules=r".*language_model.*\.q_proj", init_lora_weights=False)
    return save_adapters(slot.wait(None).model, {"mine": config}, tmp_path_factory.mktemp("adapters"))


@pytest.fixture
def service(slot, region_slot):
    return InspectService(slot, region_slot)


@pytest.fixture
def files(tmp_path):
    """A picture, a broken file, a DICOM file, a black picture: each in an upload folder of its own."""
    noise = np.random.default_rng(3).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    names = ("one.png", "broken.png", "=ct.dcm", "black.png")
    paths = [tmp_path / str(place) / name for place, name in enumerate(names)]
    for path in paths:
        path.parent.mkdir()
    Image.fromarray(noise).save(paths[0])
    paths[1].write_bytes(b"\x89PNG\r\n\x1a\n" + b"no picture")
    with open(get_testdata_file("CT_small.dcm"), "rb") as dicom:
        paths[2].write_bytes(dicom.read())
    Image.fromarray(np.zeros((40, 40), dtype=np.uint8)).save(paths[3])
    return paths


def finished(service, batch):
    """Wait until the work is over; the news of it."""
    assert over(batch.task)
    return service.batches.news(batch.id, 0)


def over(task: Task) -> bool:
    with task._changed:
        return task._changed.wait_for(lambda: task.over, PATIENCE)


def test_rows_are_what_the_page_gives_one_by_one_and_a_broken_file_is_a_row_with_its_reason(service, files, own):
    contents = {path.name: path.read_bytes() for path in files}
    adapters = ("base", "mine")
    batch = service.batches.start("page", files, f" {QUESTION} ", adapters, own)
    news = finished(service, batch)
    assert (news["done"], news["total"], news["live"], news["ended"]) == (4, 4, False, "")
    assert news["question"] == QUESTION
    one, broken, dicom, black = news["rows"]
    assert [row["name"] for row in news["rows"]] == list(contents)
    assert not any(path.parent.exists() for path in files)
    assert "PNG file is cut off" in broken["error"]
    assert not broken["answers"]
    assert not broken["picture"]
    assert black["answers"].keys() == set(adapters)
    assert black["inside"] == {}
    assert "No regions: The image is blank" in black["note"]

    for row in (one, dicom):
        path = files[0].parent.parent / "again"
        path.write_bytes(contents[row["name"]])
        opened = service.sessions.open_file("other", path, remove=False)
        service.questions.reserve("other")
        *_, result = service.questions.ask("other", QUESTION, adapters, own)
        ranked = service.regions.find(opened.regions, QUESTION)
        measured = {view.adapter: view.numbers for view in ranked.numbers.views}
        assert row["answers"] == {view.adapter: view.answer for view in result.inspection.views}
        assert row["inside"] == {name: numbers["attention_mass"] for name, numbers in measured.items()}
        assert row["chance"] == {name: numbers["relative_mass"] for name, numbers in measured.items()}
        assert row["inside"]["base"] != row["inside"]["mine"]
        assert row["picture"].startswith("data:image/jpeg")
        assert "weak labels of ranks 1 to 4" in row["regions"]
        assert f"{100 * ranked.numbers.area:.1f} % of the image; found by boxes" in row["regions"]
    assert service.batches.news(batch.id, 3)["rows"] == [black]
    # Nobody's history is filled, and nothing of the images stays where regions are found.
    assert service.results.of("page") == ()
    assert service.regions._sessions.keys() == {opened.regions}

    table = list(csv.DictReader(io.StringIO(service.batches.csv(batch.id))))
    assert [line["image"] for line in table] == ["one.png", "broken.png", "'=ct.dcm", "black.png"]
    assert float(table[0]["attention inside mine"]) == pytest.approx(one["inside"]["mine"], abs=1e-6)
    assert table[1]["error"] == broken["error"]
    assert table[3]["attention inside base"] == ""
    assert table[3]["answer base"] == black["answers"]["base"]


def test_a_row_opens_as_a_result_of_the_page_or_is_asked_anew_where_that_made_room(service, files, monkeypatch):
    batch = service.batches.start("page", files[:2], QUESTION, ("base",), {})
    row = finished(service, batch)["rows"][0]
    name = service.batches.open("page", batch.id, 0)
    result = service.reopening.reopen("page", name)
    assert result.inspection.question == QUESTION
    assert result.inspection.view("base").answer == row["answers"]["base"]
    assert service.sessions.opened("page").regions == result.opened.regions
    assert service.batches.open("page", batch.id, 0) == name, "History has it once"
    assert len(service.results.of("page")) == 1
    for number in (1, 2, -1):
        with pytest.raises(RequestError):
            service.batches.open("page", batch.id, number)

    # The results of a large batch make room for each other.
    for number in range(MOST_RESULTS):
        service.results.add(f"batch {batch.id}", replace(result, id=f"later {number}"))
    opened = service.batches.open("page", batch.id, 0)
    assert service.sessions.opened("page") is opened
    service.questions.reserve("page")
    *_, again = service.questions.ask("page", batch.question, batch.adapters)
    assert again.inspection.view("base").answer == row["answers"]["base"]


def test_another_question_comes_in_between_and_a_cancelled_batch_keeps_its_rows(service, files, own, monkeypatch):
    """The work stops where it asks for the second picture until it is let on."""
    asked, go_on, ask = threading.Event(), threading.Event(), service.questions.inspect

    def inspect(model, opened, question, adapters, own, task):
        if question == QUESTION and service.batches.get(batch.id).rows:
            asked.set()
            assert go_on.wait(PATIENCE)
        return ask(model, opened, question, adapters, own, task)

    monkeypatch.setattr(service.batches, "_inspect", inspect)
    service.sessions.open_file("other", files[0], remove=False)
    service.questions.reserve("other")
    with service.slot.in_use:
        batch = service.batches.start("page", [files[0], files[2], files[3]], QUESTION, ("base",), {})
        first = service.questions.ask("other", "Is there a mass?")
        next(first)
    # The other visitor waits for one image, not for all of them.
    *_, result = first
    assert result.complete
    assert asked.wait(PATIENCE)
    assert len(service.batches.news(batch.id, 0)["rows"]) == 1
    # The page's head says so on every tab, to its own visit alone.
    (chip,) = map(chip_value, service.batches.at_work())
    assert (chip["batch"], chip["title"], chip["share"]) == (batch.id, f"3 images: {QUESTION}", 0.333)
    assert re.fullmatch(r"1 of 3, about \d+ s left", chip["left"])
    with monkeypatch.context() as theirs:
        theirs.setattr("app.inspect.batch.service.check_visit", lambda visit: False)
        assert service.batches.at_work() == []

    service.batches.cancel(batch.id)
    go_on.set()
    assert over(batch.task)
    news = service.batches.news(batch.id, 0)
    assert not news["live"]
    assert service.batches.at_work() == []
    assert news["ended"].startswith("Cancelled.")
    assert news["rows"][0]["answers"]
    assert "2 images were not asked about" in news["ended"]
    assert not any(path.exists() for path in (files[2], files[3]))


def test_limits_are_told_by_name_and_leave_the_files(slot, region_slot, files):
    size = sum(path.stat().st_size for path in files) / 1e6

    def start(given=files, question=QUESTION, adapters=("base",), page="page", **limits):
        service = InspectService(slot, region_slot, replace(LOCAL, **limits))
        return service.batches, service.batches.start(page, given, question, adapters, {})

    for limits, words in (
        ({"batch_images": 3}, "You gave 4.*at most 3.*A3TUNE_BATCH_IMAGES"),
        ({"batch_each_mb": size / 2}, "A3TUNE_BATCH_EACH_MB"),
        ({"batch_all_mb": size / 2}, "A3TUNE_BATCH_ALL_MB"),
        ({"question": "  "}, "question is empty"),
        ({"adapters": ()}, "Nothing was chosen"),
        ({"given": ()}, "No file was given"),
    ):
        with pytest.raises(RequestError, match=words):
            start(**limits)
    assert all(path.is_file() for path in files)
    # What other pages have counts, what this page's next table replaces does not.
    batches, first = start(given=files[:1], batch_all_mb=size)
    first.size = int(size * 1e6)
    with pytest.raises(RequestError, match="A3TUNE_BATCH_ALL_MB"):
        batches.start("another", files[1:], QUESTION, ("base",), {})
    second = batches.start("page", files[1:2], QUESTION, ("base",), {})
    assert over(first.task)
    assert over(second.task)
    with pytest.raises(RequestError, match="removed"):
        batches.get(first.id)


def test_a_batch_goes_with_the_last_page_that_shows_it_and_is_of_no_use_to_another_visit(service, files, monkeypatch):
    batch = service.batches.start("page", files[:1], QUESTION, ("base",), {})
    finished(service, batch)
    assert service.batches.adopt("reloaded", batch.id)
    service.sessions.end("page")
    assert service.batches.news(batch.id, 0)["done"] == 1
    monkeypatch.setattr("app.inspect.batch.service.check_visit", lambda visit: False)
    assert not service.batches.adopt("theirs", batch.id)
    for act in (service.batches.csv, service.batches.cancel, lambda name: service.batches.open("theirs", name, 0)):
        with pytest.raises(RequestError, match="removed"):
            act(batch.id)
    monkeypatch.undo()
    service.sessions.end("reloaded")
    assert not service.batches.adopt("late", batch.id)
    assert not any(key and key.startswith("batch ") for key in service.results._of_session)
    assert isinstance(service.results, ResultStore)


def test_a_model_that_is_replaced_ends_the_batch_in_words(service, files, monkeypatch):
    generation = service.slot.generation
    held, ask = threading.Event(), service.questions.inspect

    def inspect(model, opened, question, adapters, own, task):
        if service.batches.get(batch.id).rows:
            generation.end("another model")
            held.set()
        return ask(model, opened, question, adapters, own, task)

    monkeypatch.setattr(service.batches, "_inspect", inspect)
    try:
        batch = service.batches.start("page", [files[0], files[2]], QUESTION, ("base",), {})
        news = finished(service, batch)
    finally:
        generation.left.clear()
    assert held.is_set()
    assert news["done"] == 1
    assert "was replaced by another model" in news["ended"]
    assert "1 image was not asked about" in news["ended"]
