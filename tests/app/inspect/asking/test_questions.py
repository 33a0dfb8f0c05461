"""Questions about what is on show, on a tiny random model."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from a3tune.errors import A3TuneError, Cancelled, ModelError, RequestError
from a3tune.images import load_image
from a3tune.inspection import passes
from a3tune.inspection import views as views_module
from app.engine.model_slot import ModelChoice, ModelSlot
from app.inspect.export_request import command_line
from app.inspect.service import InspectService
from app.inspect.sessions.results import Result
from app.inspect.sessions.session import Session
from app.inspect.viewer.values import viewer_value, written_value
from tests.app.inspect.conftest import finish


def test_words_come_as_they_are_written_each_with_its_map_and_stay_when_the_question_is_cancelled(
    service, png, monkeypatch
):
    monkeypatch.setattr(views_module, "_SHOWN_EACH", 0.0)
    monkeypatch.setattr(views_module, "_SHARE_FOR_SHOWING", 1e9)
    service.sessions.open_file("one", png, remove=False)
    whole = finish(service, "one")
    (view,) = whole.inspection.views
    words = sum(token.role == "answer" for token in view.tokens)
    assert words > 2
    service.questions.reserve("one")
    reports = service.questions.ask("one", "Is there a mass?")
    partial = next(report for report in reports if isinstance(report, Result))
    service.questions.cancel("one")
    with pytest.raises(Cancelled):
        list(reports)
    assert partial.writing
    assert not partial.complete
    (begun,) = partial.inspection.views
    assert view.answer.startswith(begun.answer)
    rows = begun.maps.weights.shape[2]
    assert rows == sum(token.role == "answer" for token in begun.tokens) + len(view.maps.rows) - words - 1
    np.testing.assert_array_equal(begun.maps.weights, view.maps.weights[:, :, :rows])
    assert service.results.of("one")[0].id == partial.id
    head = service.results.head_map(partial.id, "base", 1, 0)
    np.testing.assert_array_equal(head, begun.maps.weights[1, 0])
    value = json.loads(written_value(partial))
    assert value["session"] == partial.opened.regions
    assert value["written"]["writing"]
    (sent,) = value["written"]["views"]
    assert sent["entropy"] == [None] * (view.maps.layers * view.maps.heads)
    assert sent["head_means"] == {"answer": None, "question": None}
    first = json.loads(viewer_value(partial.opened, partial, more_to_come=True))["result"]
    assert first == value["written"]
    assert json.loads(viewer_value(partial.opened, partial))["result"]["views"][0]["head_means"]["question"]


def test_the_pair_that_is_compared_is_answered_first(service, png, monkeypatch):
    opened = service.sessions.open_file("one", png, remove=False)
    service.questions.choose_pair(opened.regions, ["a3", "base"])
    asked = []

    def inspect(model, opened, question, adapters, *more):
        asked.append(adapters)
        raise Cancelled

    monkeypatch.setattr(service.questions, "inspect", inspect)
    service.questions.reserve("one")
    with pytest.raises(Cancelled):
        list(service.questions.ask("one", "Is there a mass?", ["base", "lora", "a3"]))
    assert asked == [["a3", "base", "lora"]]
    with pytest.raises(RequestError, match="removed"):
        service.questions.choose_pair("another", ["base"])


def test_a_question_gives_an_inspection_whose_heads_can_be_fetched(service, png):
    visit = "one"
    service.sessions.open_file(visit, png, remove=True)
    finished = finish(service, visit)
    maps = finished.inspection.views[0].maps
    assert finished.inspection.question == "Is there a mass?"
    np.testing.assert_array_equal(service.results.head_map(finished.id, "base", 1, 0), maps.weights[1, 0])
    for layer, head in ((maps.layers, 0), (-1, 0), (0, "0"), (0, maps.heads)):
        with pytest.raises(RequestError, match="does not exist"):
            service.results.head_map(finished.id, "base", layer, head)


def test_a_second_question_goes_on_from_what_the_model_has_read_until_the_visit_ends(service, png, monkeypatch):
    visit, begun = "one", []
    reading = passes.PromptReading

    def watched(*args):
        begun.append(reading(*args))
        return begun[-1]

    monkeypatch.setattr(passes, "PromptReading", watched)
    service.sessions.open_file(visit, png, remove=False)
    first = finish(service, visit)
    service.sessions.open_file("other", png, remove=True)
    assert finish(service, "other").inspection.views[0].tokens == first.inspection.views[0].tokens
    assert finish(service, visit, "Where is it?").complete
    assert [part.read is not None for part in begun] == [False, False, True]
    store = service.sessions.get(visit).prefixes.store
    assert len(store) == 4  # the features and the prefix of each visit
    service.sessions.end(visit)
    assert len(store) == 2
    # What still runs for a visit that is over leaves nothing.
    gone = Session()
    service.questions._prefixes_of(visit, gone).put(b"", None, 1, [], None)
    assert (gone.prefixes.store, len(store)) == (store, 2)
    service.sessions.end("other")
    assert len(store) == 0


def test_visits_are_apart(service, png):
    one, other = "one", "other"
    service.sessions.open_file(one, png, remove=True)
    assert service.sessions.opened(other) is None
    service.questions.reserve(other)
    with pytest.raises(RequestError, match="none open for this page"):
        list(service.questions.ask(other, "Is there a mass?"))


@pytest.mark.parametrize("question", ["", "  \n "])
def test_an_empty_question_is_refused(service, png, question):
    visit = "one"
    service.sessions.open_file(visit, png, remove=True)
    service.questions.reserve(visit)
    with pytest.raises(RequestError, match="question is empty"):
        list(service.questions.ask(visit, question))


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_a_picture_of_one_pixel_or_one_line_is_answered_about(service, tmp_path, size):
    path = tmp_path / "thin.png"
    Image.fromarray(np.random.default_rng(4).integers(0, 255, size, dtype=np.uint8)).save(path)
    opened = service.sessions.open_file("one", path, remove=False)
    finished = finish(service, "one")
    assert np.isfinite(finished.inspection.views[0].maps.weights).all()
    value = json.loads(viewer_value(opened, finished))
    assert (value["image"]["height"], value["image"]["width"]) == size


@pytest.mark.parametrize("question", ["Where 😀🫁?", "أين الكتلة؟", "<script>alert(1)</script>", "a\x00b \u202e mass"])
def test_a_question_in_any_writing_is_answered(service, png, question):
    service.sessions.open_file("one", png, remove=False)
    finished = finish(service, "one", question)
    assert finished.inspection.question == question
    assert "<" not in viewer_value(service.sessions.opened("one"), finished)


@pytest.mark.parametrize(("question", "words"), [("Is <image> normal?", "<image>"), ("mass " * 1000, "Shorten")])
def test_a_question_that_the_model_cannot_read_is_told_and_the_next_one_answered(service, png, question, words):
    service.sessions.open_file("one", png, remove=False)
    service.questions.reserve("one")
    with pytest.raises(A3TuneError, match=words):
        list(service.questions.ask("one", question))
    assert finish(service, "one").complete


def test_a_second_press_replaces_the_question_that_is_being_answered(service, png):
    service.sessions.open_file("one", png, remove=False)
    service.questions.reserve("one")
    with service.slot.in_use:
        first = service.questions.ask("one", "Is there a mass?")
        next(first)
        service.questions.reserve("one")
        with pytest.raises(Cancelled):
            list(first)
        assert service.questions.superseded("one"), "the end of the first is not worth a word"
    *_, second = service.questions.ask("one", "Is there a stone?")
    assert second.complete
    assert [kept.inspection.question for kept in service.results.of("one")] == ["Is there a stone?"]


def test_a_cancel_stops_a_question_that_waits(service, png):
    visit = "one"
    service.sessions.open_file(visit, png, remove=True)
    service.questions.reserve(visit)
    with service.slot.in_use:
        steps = service.questions.ask(visit, "Is there a mass?")
        assert next(steps).what == "Waiting for another visitor's question"
        service.questions.cancel(visit)
        with pytest.raises(Cancelled):
            list(steps)


def test_another_image_stops_the_question_about_the_last_one(service, png, dicom):
    visit = "one"
    service.sessions.open_file(visit, png, remove=False)
    service.questions.reserve(visit)
    with service.slot.in_use:
        steps = service.questions.ask(visit, "Is there a mass?")
        next(steps)
        service.sessions.open_file(visit, dicom, remove=False)
        with pytest.raises(Cancelled):
            list(steps)


def test_a_model_that_cannot_be_loaded_is_told_at_every_question(tmp_path, png):
    slot = ModelSlot(str(tmp_path / "nothing here"), device="cpu")
    assert slot.status.state == "loading"
    slot.start()
    with pytest.raises(ModelError):
        slot.wait(None)
    assert slot.status.state == "failed"
    service = InspectService(slot)
    visit = "one"
    service.sessions.open_file(visit, png, remove=True)
    for _ in range(2):
        service.questions.reserve(visit)
        with pytest.raises(A3TuneError):
            list(service.questions.ask(visit, "Is there a mass?"))


def test_the_image_is_read_again_for_a_model_that_sees_in_its_own_way(slot, tiny_medgemma, dicom):
    """Opened under one model, asked about under another and back: each is given its own picture."""
    changing = ModelSlot(str(slot.profile), device="cpu")
    changing.start()
    changing.wait(None)
    service = InspectService(changing)
    service.sessions.open_file("one", dicom, remove=False)
    opened = service.sessions.change_view("one", window="bone")
    assert opened.image.model_pixels is None
    assert service.read_for_model("one") is None
    changing.switch(ModelChoice(str(tiny_medgemma)))
    expected = load_image(dicom, window="bone", convention="medgemma-ct")
    result = finish(service, "one")
    for image in (result.inspection.image, result.opened.image, service.sessions.opened("one").image):
        np.testing.assert_array_equal(image.model_pixels, expected.model_pixels)
        np.testing.assert_array_equal(image.pixels, opened.image.pixels)
    assert "--convention medgemma-ct" in command_line(result, ["base"])
    told = json.loads(viewer_value(result.opened, result))["image"]
    assert decoded(told["modelSrc"]).tolist() == expected.model_pixels.tolist()
    assert decoded(told["src"]).tolist() == expected.pixels.tolist()
    assert service.sessions.opened("one").regions == opened.regions
    other = service.sessions.change_view("one", window="lung")
    np.testing.assert_array_equal(other.image.model_pixels, expected.model_pixels)
    service.sessions.open_file("two", dicom, remove=False)
    changing.switch(ModelChoice(str(slot.profile)))
    assert service.sessions.opened("two").image.model_pixels is not None
    fitting = service.read_for_model("two")
    assert fitting is service.sessions.opened("two")
    assert fitting.image.model_pixels is fitting.convention is None
    assert json.loads(viewer_value(fitting))["image"]["modelSrc"] is None


def decoded(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))
