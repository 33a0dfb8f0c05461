"""Inspections that come back on show."""

from __future__ import annotations

import pytest

from a3tune.errors import RequestError
from a3tune.types import Window
from app.inspect.sessions import results
from tests.app.inspect.conftest import finish


def test_the_last_results_of_a_visit_can_be_opened_again_until_it_ends(service, png, dicom, monkeypatch):
    visit = "one"
    first_image = service.sessions.open_file(visit, png, remove=True).image
    first = finish(service, visit)
    service.sessions.open_file(visit, dicom, remove=True)
    second = finish(service, visit, "Where is the liver?")
    assert [kept.id for kept in service.results.of(visit)] == [second.id, first.id]
    kept = service.reopening.reopen(visit, first.id)
    assert service.sessions.opened(visit).image is first_image
    assert kept.inspection is first.inspection
    with pytest.raises(RequestError, match="a result that is still open"):
        service.reopening.reopen("other", first.id)
    with pytest.raises(RequestError, match="one window"):
        service.sessions.change_view(visit, window="bone")
    service.reopening.reopen(visit, second.id)
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


def test_a_new_page_finds_what_another_one_of_its_visit_has_and_keeps_it(service, png):
    assert service.reopening.restore("two", ["none", "", ""]) is None
    assert service.reopening.restore("two", "what no page asks for") is None
    shown = service.sessions.open_file("one", png, remove=False)
    opened, nothing = service.reopening.restore("two", ["", "", shown.regions])
    assert (opened.image.sha256, nothing) == (shown.image.sha256, None)
    assert opened.regions != shown.regions
    first, last = finish(service, "one", "Is there a mass?"), finish(service, "one", "Where is it?")
    opened, result = service.reopening.restore("two", [first.id, last.id, ""])
    assert result.id == first.id
    assert {known.id for known in service.results.of("two")} == {first.id, last.id}
    assert service.reopening.restore("two", ["gone", last.id, shown.regions])[1].id == last.id
    service.sessions.end("one")
    assert service.results.get(first.id).inspection is first.inspection
    assert service.sessions.opened("two") is not None
    assert service.reopening.restore("three", ["", "", shown.regions]) is None
