"""What the viewer asks of what is on show."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from a3tune.errors import RequestError
from app.inspect.sessions import opened_image


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
