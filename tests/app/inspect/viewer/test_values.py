"""What the viewer is sent of an answer."""

from __future__ import annotations

import json
from dataclasses import replace

from app.inspect.viewer.values import answer_value, viewer_value, written_value
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
    page = (json.loads(answer_value(three, (), before)) for before in (None, replace(three, id="other"), three))
    assert ["written" in value for value in page] == [False, False, True]
    assert "written" not in json.loads(answer_value(replace(three, writing=False), (), three))
    assert len(written_value(three)) < len(json.dumps(last)) + 1000
