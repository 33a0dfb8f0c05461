"""What a session has open, and when that goes."""

from __future__ import annotations

import threading
import zipfile

import numpy as np
import pytest
from pydicom import dcmread

from a3tune.errors import Cancelled, ImageError, RequestError
from a3tune.images import load_image
from a3tune.types import Window
from app.inspect.export_request import command_line
from app.inspect.sessions import opened_image, session_end
from app.inspect.sessions.session import Asked, Session
from tests.app.inspect.conftest import finish


def test_the_slices_of_a_series_are_one_volume(service, slices, upload_folder):
    order = [load_image(slices[place], window=(1200, 4000)) for place in (2, 0, 1)]
    archive = upload_folder / "series.zip"
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


def test_one_of_several_series_is_chosen(service, slices, upload_folder, tmp_path):
    data = dcmread(slices[0])
    data.SeriesInstanceUID, data.SeriesNumber, data.Modality = "1.2.3.4", 99, "MR"
    data.save_as(tmp_path / "other.dcm")
    archive = upload_folder / "study.zip"
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


def test_a_broken_upload_is_deleted_too(service, upload_folder):
    path = upload_folder / "broken.png"
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


def test_a_picture_of_8_bits_has_no_other_view(service, png):
    visit = "one"
    service.sessions.open_file(visit, png, remove=True)
    with pytest.raises(RequestError, match="one window"):
        service.sessions.change_view(visit, window="bone")


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


def test_a_question_that_is_asked_while_an_image_is_on_its_way_waits_for_it(service, png, dicom):
    session = service.sessions.get("one")
    service.sessions.open_file("one", png, remove=False)
    with session.coming("images"):
        assert service.questions.reserve("one", Asked("Is there a mass?"))
        assert session.begin() is None, "nobody asks it about the image before"
        # Another view of the image before takes nobody's place.
        with session.coming("views"):
            pass
        opened = service.sessions.open_file("one", dicom, remove=False)
        assert session.take() is None, "another image is still on its way"
    assert session.take().question == "Is there a mass?"
    assert service.sessions.opened("one") is opened
    assert not session.cancel.is_set()
    assert session.take() is None
    # It is given up where no image comes, or when it is cancelled.
    for end in (session.drop, lambda: service.questions.cancel("one")):
        with session.coming("images"):
            service.questions.reserve("one", Asked("Is there a mass?"))
            assert not session.drop()
        assert end()
        assert session.cancel.is_set()
        assert not session.waits
        assert not end()


def test_a_question_about_the_image_before_is_left_and_one_that_came_after_a_view_is_not(service, dicom):
    session = service.sessions.get("one")
    service.sessions.open_file("one", dicom, remove=False)
    service.questions.reserve("one", Asked("Is there a mass?"))
    assert session.begin()
    service.sessions.change_view("one", window="bone")
    assert session.left == "Is there a mass?"
    assert session.cancel.is_set()
    with session.coming("views") as request:
        service.questions.reserve("one", Asked("Where is it?"))
        session.leave_question(request)
        assert not session.cancel.is_set()
    assert session.begin().question == "Where is it?"
    # A view does not keep an image from being opened that was asked for before it.
    with session.coming("images") as image, session.coming("views"):
        assert service.sessions._show("one", image, service.sessions.opened("one"))


def test_a_question_waits_for_files_that_are_being_sent_unless_they_do_not_come():
    session = Session()
    session.send(1)
    assert session.reserve(Asked("Is there a mass?"))
    assert session.take() is None
    session.arrive(1)
    assert session.take().question == "Is there a mass?"
    # News of files comes in any order.
    session.arrive(2)
    session.send(2)
    assert not session.reserve(Asked("Is there a mass?"))
    session.send(4)
    session.arrive(3)
    assert session.reserve(Asked("Is there a mass?"))
    assert not session.drop()
    session.arrive(4)
    assert session.drop()
    assert session.asked is None


def test_files_on_their_way_give_way_to_what_was_chosen_after_them():
    session = Session()
    session.give_up_files(0)  # nothing was sent
    assert not session.gave_way
    session.send(1)
    session.give_up_files(1)
    assert (session.gave_way, session.gave_up(1), session.image_comes) == (True, True, False)
    # Files that no page counts were not chosen before anything.
    assert not session.gave_up(0)
    assert not session.gave_up(2)
    session.gave_way = False
    session.send(2)
    assert session.image_comes
    session.arrive(2)
    session.give_up_files(2)  # they are being opened already: whichever was asked for last is shown
    assert not session.gave_way
