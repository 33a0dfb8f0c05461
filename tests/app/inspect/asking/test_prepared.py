"""Answers that are there before anybody asks."""

from __future__ import annotations

from tests.support.waiting import until


def test_examples_are_answered_beforehand_and_no_other_image_is_looked_up(service, png, dicom):
    service.prepared.prepare([(png, "Is there a mass?", "first")])
    visit = "one"
    service.sessions.open_file(visit, png, remove=False)
    until(lambda: service.questions.is_prepared(visit, "Is there a mass?"))
    service.questions.reserve(visit)
    with service.slot.in_use:  # the model is not needed
        (finished,) = service.questions.ask(visit, "Is there a mass?")
    assert finished.complete
    assert not service.questions.is_prepared(visit, "Is there a stone?")
    service.sessions.open_file(visit, dicom, remove=False)
    assert not service.questions.is_prepared(visit, "Is there a mass?")
