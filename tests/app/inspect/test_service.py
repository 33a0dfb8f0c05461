"""What the pages ask of the library, on a tiny random model."""

from __future__ import annotations

import base64
import io
import json
import shutil
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file

from a3tune.errors import A3TuneError, Cancelled, ImageError, ModelError, RequestError
from a3tune.images import load_image
from a3tune.inspection import inspect as inspect_module
from a3tune.inspection import passes
from a3tune.types import Window
from app.engine.background import Step
from app.engine.model_slot import ModelChoice, ModelSlot
from app.inspect import faithfulness
from app.inspect.export_request import command_line
from app.inspect.service import InspectService
from app.inspect.sessions import opened_image, results, session_end
from app.inspect.sessions.results import Result
from app.inspect.sessions.sessions import Session
from app.inspect.values import answer_value, viewer_value, written_value


@pytest.fixture
def service(slot):
    return InspectService(slot)


@pytest.fixture
def dicom(tmp_path) -> Path:
    return Path(shutil.copy(get_testdata_file("CT_small.dcm"), tmp_path / "upload" / "ct.dcm"))


@pytest.fixture(autouse=True)
def upload_folder(tmp_path):
    (tmp_path / "upload").mkdir()


@pytest.fixture
def png(tmp_path) -> Path:
    path = tmp_path / "upload" / "picture.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (48, 80, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def slices(tmp_path) -> list[Path]:
    """Three slices of a series, each in an upload folder of its own, out of order."""
    paths = []
    for place in (5, 10, 0):
        data = dcmread(get_testdata_file("CT_small.dcm"))
        data.ImagePositionPatient = [0, 0, place]
        data.PixelData = (data.pixel_array + 200 * place).astype("<i2").tobytes()
        paths.append(tmp_path / "slices" / str(place) / "slice.dcm")
        paths[-1].parent.mkdir(parents=True)
        data.save_as(paths[-1])
    return paths


def finish(service: InspectService, visit: str, question: str = "Is there a mass?") -> Result:
    service.reserve(visit)
    *steps, last = service.ask(visit, question)
    assert any(isinstance(step, Step) for step in steps)
    assert all(step.writing if isinstance(step, Result) else 0 <= step.share <= 1 for step in steps)
    return last


def test_words_come_as_they_are_written_each_with_its_map_and_stay_when_the_question_is_cancelled(
    service, png, monkeypatch
):
    monkeypatch.setattr(inspect_module, "_SHOWN_EACH", 0.0)
    monkeypatch.setattr(inspect_module, "_SHARE_FOR_SHOWING", 1e9)
    service.sessions.open_file("one", png, remove=False)
    whole = finish(service, "one")
    (view,) = whole.inspection.views
    words = sum(token.role == "answer" for token in view.tokens)
    assert words > 2
    service.reserve("one")
    reports = service.ask("one", "Is there a mass?")
    partial = next(report for report in reports if isinstance(report, Result))
    service.cancel("one")
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


def test_a_further_word_sends_nothing_that_the_page_has(service, png):
    service.sessions.open_file("one", png, remove=False)
    done = finish(service, "one")
    views, numbers = done.inspection.views * 3, done.numbers * 3
    three = replace(done, inspection=replace(done.inspection, views=views), numbers=numbers, writing=True)
    *known, last = json.loads(written_value(three))["written"]["views"]
    assert known == [None, None]
    whole = json.loads(viewer_value(three.opened, three, more_to_come=True))["result"]["views"]
    assert last == whole[-1]
    assert all(means for view in whole[:2] for means in view["head_means"].values())
    page = (json.loads(answer_value(three, (), before)) for before in (None, replace(three, id="other"), three))
    assert ["written" in value for value in page] == [False, False, True]
    assert "written" not in json.loads(answer_value(replace(three, writing=False), (), three))
    assert len(written_value(three)) < len(json.dumps(last)) + 1000


def test_the_pair_that_is_compared_is_answered_first(service, png, monkeypatch):
    opened = service.sessions.open_file("one", png, remove=False)
    service.choose_pair(opened.regions, ["a3", "base"])
    asked = []

    def inspect(model, opened, question, adapters, *more):
        asked.append(adapters)
        raise Cancelled

    monkeypatch.setattr(service, "inspect", inspect)
    service.reserve("one")
    with pytest.raises(Cancelled):
        list(service.ask("one", "Is there a mass?", ["base", "lora", "a3"]))
    assert asked == [["base", "a3", "lora"]]
    with pytest.raises(RequestError, match="removed"):
        service.choose_pair("another", ["base"])


def test_the_slices_of_a_series_are_one_volume(service, slices, tmp_path):
    order = [load_image(slices[place], window=(1200, 4000)) for place in (2, 0, 1)]
    archive = tmp_path / "upload" / "series.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in slices:
            packed.write(path, str(path)[1:])
    for visit, opened in (
        ("several", service.sessions.open_files("several", slices, remove=True)),
        ("archive", service.sessions.open_file("archive", archive, remove=True)),
    ):
        assert (opened.image.frame, opened.image.frame_count) == (1, 3)
        for frame, expected in enumerate(order):
            shown = service.sessions.change_view(visit, frame=frame, window=Window(1200, 4000)).image
            assert np.array_equal(shown.pixels, expected.pixels)
    assert not any(path.parent.exists() for path in slices)


def test_one_of_several_series_is_chosen(service, slices, tmp_path):
    data = dcmread(slices[0])
    data.SeriesInstanceUID, data.SeriesNumber, data.Modality = "1.2.3.4", 99, "MR"
    data.save_as(tmp_path / "other.dcm")
    archive = tmp_path / "upload" / "study.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for number, path in enumerate([tmp_path / "other.dcm", *slices]):
            packed.write(path, f"IM{number}")
    visit = "one"
    opened = service.sessions.open_file(visit, archive, remove=True)
    assert [(series.modality, len(series.slices)) for series in opened.series] == [("CT", 3), ("MR", 1)]
    assert (opened.image.modality, opened.image.frame_count, opened.choices.hounsfield) == ("CT", 3, True)
    service.sessions.change_view(visit, frame=2)
    other = service.sessions.change_series(visit, 2)
    assert (other.image.modality, other.image.frame_count, other.choices.hounsfield) == ("MR", 1, False)
    assert np.array_equal(other.image.pixels, load_image(tmp_path / "other.dcm").pixels)
    assert "--series 2" in command_line(finish(service, visit), ["base"])
    windowed = service.sessions.change_view(visit, window=Window(1000, 500))
    assert (windowed.image.modality, windowed.series) == ("MR", opened.series)
    back = service.sessions.change_series(visit, 1)
    assert np.array_equal(back.image.pixels, opened.image.pixels)
    for number in (0, 3):
        with pytest.raises(RequestError, match="no series"):
            service.sessions.change_series(visit, number)


def test_an_upload_is_read_and_deleted_with_its_folder(service, png):
    visit = "one"
    opened = service.sessions.open_file(visit, png, remove=True)
    assert (opened.image.width, opened.image.height) == (80, 48)
    assert not png.parent.exists()


def test_a_broken_upload_is_deleted_too(service, tmp_path):
    path = tmp_path / "upload" / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    visit = "one"
    with pytest.raises(ImageError):
        service.sessions.open_file(visit, path, remove=True)
    assert not path.exists()
    assert service.sessions.opened(visit) is None


def test_an_example_stays_on_the_disk(service, png):
    service.sessions.open_file("one", png, remove=False)
    assert png.exists()


def test_another_window_is_read_after_the_upload_is_gone(service, dicom):
    visit = "one"
    first = service.sessions.open_file(visit, dicom, remove=True)
    second = service.sessions.change_view(visit, window=Window(40.0, 80.0))
    assert second.image.window == Window(40.0, 80.0)
    assert second.image.sha256 != first.image.sha256
    assert service.sessions.opened(visit) is second


def test_frames_ahead_are_those_that_are_shown_later_and_are_not_read_again(service, slices, monkeypatch):
    visit = "one"
    opened = service.sessions.open_files(visit, slices, remove=True)
    ahead = service.frames_ahead(opened.regions, [0, 2])
    assert [other.image.frame for other in ahead] == [0, 2]
    assert {other.stack for other in ahead} == {opened.stack}
    assert service.sessions.opened(visit) is opened
    bone = service.sessions.change_view(visit, frame=2, window="bone")
    assert bone.stack != opened.stack
    assert bone.place == opened.place
    assert not np.array_equal(bone.image.pixels, ahead[1].image.pixels)
    expected = service.sessions.change_view(visit, frame=2)
    assert np.array_equal(expected.image.pixels, ahead[1].image.pixels)
    assert [other.image.frame for other in service.frames_ahead(expected.regions, [0, 1])] == [0, 1]
    monkeypatch.setattr(opened_image, "load_image", None)
    assert service.sessions.change_view(visit, frame=1).image.frame == 1
    for frames in ([], list(range(9)), [3]):
        with pytest.raises(RequestError):
            service.frames_ahead(service.sessions.opened(visit).regions, frames)
    # A page that walks on asks by the name of the slice that it knows of; another visit's is of no use.
    assert service.frames_ahead(opened.regions, [0])[0].image.frame == 0
    service.sessions.end(visit)
    with pytest.raises(RequestError, match="removed"):
        service.frames_ahead(opened.regions, [0])


def test_values_are_those_of_the_frame_on_show_in_the_files_units(service, slices, png):
    visit = "one"
    service.sessions.open_files(visit, slices, remove=True)
    opened = service.sessions.change_view(visit, frame=2, window="bone")
    shown, values = service.pixel_values(opened.regions)
    assert shown is opened
    expected = dcmread(get_testdata_file("CT_small.dcm")).pixel_array.astype(int) + 2000 - 1024
    assert np.array_equal(values.stored * values.slope + values.intercept, expected)
    assert values.unit == "HU"
    picture = service.sessions.open_file(visit, png, remove=True)
    assert np.array_equal(service.pixel_values(picture.regions)[1].stored, picture.image.pixels)


def test_a_picture_of_8_bits_has_no_other_view(service, png):
    visit = "one"
    service.sessions.open_file(visit, png, remove=True)
    with pytest.raises(RequestError, match="one window"):
        service.sessions.change_view(visit, window="bone")


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


def test_the_last_results_of_a_visit_can_be_opened_again_until_it_ends(service, png, dicom, monkeypatch):
    visit = "one"
    first_image = service.sessions.open_file(visit, png, remove=True).image
    first = finish(service, visit)
    service.sessions.open_file(visit, dicom, remove=True)
    second = finish(service, visit, "Where is the liver?")
    assert [kept.id for kept in service.results.of(visit)] == [second.id, first.id]
    kept = service.reopen(visit, first.id)
    assert service.sessions.opened(visit).image is first_image
    assert kept.inspection is first.inspection
    with pytest.raises(RequestError, match="a result that is still open"):
        service.reopen("other", first.id)
    with pytest.raises(RequestError, match="one window"):
        service.sessions.change_view(visit, window="bone")
    service.reopen(visit, second.id)
    assert service.sessions.change_view(visit, window="bone").image.window == Window(400.0, 1800.0)

    monkeypatch.setattr(results, "MOST_RESULTS", 2)
    third = finish(service, visit)
    assert [kept.id for kept in service.results.of(visit)] == [third.id, second.id]
    monkeypatch.setattr(results, "MOST_BYTES", 1)
    fourth = finish(service, visit)
    assert [kept.id for kept in service.results.of(visit)] == [fourth.id]
    with pytest.raises(RequestError, match="removed"):
        service.results.head_map(first.id, "base", 0, 0)
    service.sessions.end(visit)
    with pytest.raises(RequestError, match="removed"):
        service.results.head_map(fourth.id, "base", 0, 0)
    assert service.sessions.opened(visit) is None
    assert service.results.of(visit) == ()


def test_an_older_view_that_comes_late_is_dropped(service, dicom, png, monkeypatch):
    visit = "one"
    service.sessions.open_file(visit, dicom, remove=False)
    load = opened_image.load_image

    def slow(path, **choice):
        if choice:  # meanwhile another file is opened
            monkeypatch.setattr(opened_image, "load_image", load)
            service.sessions.open_file(visit, png, remove=False)
        return load(path, **choice)

    monkeypatch.setattr(opened_image, "load_image", slow)
    with pytest.raises(Cancelled):
        service.sessions.change_view(visit, window="bone")
    assert service.sessions.opened(visit).image.format == "PNG"


def test_examples_are_answered_beforehand_and_no_other_image_is_looked_up(service, png, dicom):
    service.prepare([(png, "Is there a mass?", "first")])
    visit = "one"
    service.sessions.open_file(visit, png, remove=False)
    while not service.is_prepared(visit, "Is there a mass?"):
        pass
    service.reserve(visit)
    with service.slot.in_use:  # the model is not needed
        (finished,) = service.ask(visit, "Is there a mass?")
    assert finished.complete
    assert not service.is_prepared(visit, "Is there a stone?")
    service.sessions.open_file(visit, dicom, remove=False)
    assert not service.is_prepared(visit, "Is there a mass?")


def test_a_visit_that_is_left_alone_is_forgotten(service, png, monkeypatch):
    service.sessions.open_file("one", png, remove=True)
    session_end.end_idle(service.sessions)
    assert service.sessions.opened("one") is not None
    monkeypatch.setattr(session_end, "SESSION_LIFETIME", -1.0)
    session_end.end_idle(service.sessions)
    assert service.sessions.opened("one") is None


def test_the_memory_of_visits_that_end_is_given_back(service, png):
    trimmed = threading.Event()
    session_end.keep_ending_idle(service.sessions, trimmed.set, pause=0.0)
    service.sessions.end("never began")
    assert not trimmed.is_set()
    service.sessions.open_file("one", png, remove=False)
    service.sessions.end("one")
    assert trimmed.wait(60)
    assert not service.sessions.ended.is_set()


def test_a_new_page_finds_what_another_one_of_its_visit_has_and_keeps_it(service, png):
    assert service.restore("two", ["none", "", ""]) is None
    assert service.restore("two", "what no page asks for") is None
    shown = service.sessions.open_file("one", png, remove=False)
    opened, nothing = service.restore("two", ["", "", shown.regions])
    assert (opened.image.sha256, nothing) == (shown.image.sha256, None)
    assert opened.regions != shown.regions
    first, last = finish(service, "one", "Is there a mass?"), finish(service, "one", "Where is it?")
    opened, result = service.restore("two", [first.id, last.id, ""])
    assert result.id == first.id
    assert {known.id for known in service.results.of("two")} == {first.id, last.id}
    assert service.restore("two", ["gone", last.id, shown.regions])[1].id == last.id
    service.sessions.end("one")
    assert service.results.get(first.id).inspection is first.inspection
    assert service.sessions.opened("two") is not None
    assert service.restore("three", ["", "", shown.regions]) is None


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
    service._prefixes_of(visit, gone).put(b"", None, 1, [], None)
    assert (gone.prefixes.store, len(store)) == (store, 2)
    service.sessions.end("other")
    assert len(store) == 0


def test_visits_are_apart(service, png):
    one, other = "one", "other"
    service.sessions.open_file(one, png, remove=True)
    assert service.sessions.opened(other) is None
    service.reserve(other)
    with pytest.raises(RequestError, match="No image"):
        list(service.ask(other, "Is there a mass?"))


@pytest.mark.parametrize("question", ["", "  \n "])
def test_an_empty_question_is_refused(service, png, question):
    visit = "one"
    service.sessions.open_file(visit, png, remove=True)
    service.reserve(visit)
    with pytest.raises(RequestError, match="question is empty"):
        list(service.ask(visit, question))


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
    service.reserve("one")
    with pytest.raises(A3TuneError, match=words):
        list(service.ask("one", question))
    assert finish(service, "one").complete


def test_a_second_press_replaces_the_question_that_is_being_answered(service, png):
    service.sessions.open_file("one", png, remove=False)
    service.reserve("one")
    with service.slot.in_use:
        first = service.ask("one", "Is there a mass?")
        next(first)
        service.reserve("one")
        with pytest.raises(Cancelled):
            list(first)
        assert service.superseded("one"), "the end of the first is not worth a word"
    *_, second = service.ask("one", "Is there a stone?")
    assert second.complete
    assert [kept.inspection.question for kept in service.results.of("one")] == ["Is there a stone?"]


def test_a_cancel_stops_a_question_that_waits(service, png):
    visit = "one"
    service.sessions.open_file(visit, png, remove=True)
    service.reserve(visit)
    with service.slot.in_use:
        steps = service.ask(visit, "Is there a mass?")
        assert next(steps).what == "Waiting for another visitor's question"
        service.cancel(visit)
        with pytest.raises(Cancelled):
            list(steps)


def test_another_image_stops_the_question_about_the_last_one(service, png, dicom):
    visit = "one"
    service.sessions.open_file(visit, png, remove=False)
    service.reserve(visit)
    with service.slot.in_use:
        steps = service.ask(visit, "Is there a mass?")
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
        service.reserve(visit)
        with pytest.raises(A3TuneError):
            list(service.ask(visit, "Is there a mass?"))


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


def test_checks_asked_for_again_and_again_do_not_pile_up(service, png, monkeypatch):
    service.sessions.open_file("one", png, remove=False)
    finished = finish(service, "one")
    monkeypatch.setattr(faithfulness, "_MOST", 2)
    with service.slot.in_use:  # none of them can end
        names = [service.faithfulness.start(finished.id, "base", "curves", "mean", [0]) for _ in range(20)]
        service.faithfulness.start(finished.id, "base", "control", "mean", [0])
        with pytest.raises(RequestError, match="no such check"):
            service.faithfulness.follow(names[0])
        service.sessions.open_file("two", png, remove=False)
        other = replace(finished, id="another result")
        service.results.add("two", other)
        with pytest.raises(RequestError, match=r"at most 2 checks .* in a minute"):
            service.faithfulness.start(other.id, "base", "curves", "mean", [0])
        for name in (names[-1], *service.faithfulness._checks):
            service.faithfulness.stop(name)
