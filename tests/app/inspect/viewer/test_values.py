"""What the viewer is sent of an answer."""

from __future__ import annotations

import json
from dataclasses import replace

import app.inspect.viewer.values as values_module
from app.inspect.viewer.values import AnswerValues, viewer_value, written_value
from tests.app.inspect.conftest import finish


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
    values, end = AnswerValues(), replace(three, writing=False)
    page = [json.loads(values.value(result, ())) for result in (replace(three, id="other"), three, three, end)]
    assert ["written" in value for value in page] == [False, False, True, False]
    assert len(written_value(three)) < len(json.dumps(last)) + 1000


def test_a_view_that_is_whole_is_packed_once_and_sent_as_if_anew(service, png, monkeypatch):
    service.sessions.open_file("one", png, remove=False)
    done = finish(service, "one")
    ((view,), (numbers,)), packed = (done.inspection.views, done.numbers), []
    names = [replace(view, adapter=name) for name in ("base", "lora", "a3")]

    def so_far(count, *, writing=False):
        inspection = replace(done.inspection, views=tuple(names[:count]))
        return replace(done, inspection=inspection, numbers=(numbers,) * count, writing=writing)

    results = [so_far(count, writing=writing) for count in (1, 2, 3) for writing in (True, False)]
    anew = [viewer_value(result.opened, result, goes_on=True) for result in results]
    pack = values_module._view
    monkeypatch.setattr(values_module, "_view", lambda *more, **means: packed.append(more[0]) or pack(*more, **means))
    values = AnswerValues()
    sent = [values.value(result, ()) for result in results]
    assert sent[1::2] == anew[1::2]
    assert [one.adapter for one in packed] == ["base", "base", "lora", "lora", "a3", "a3"]
