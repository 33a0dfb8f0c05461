"""Checks of maps, on a tiny random model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from a3tune.errors import RequestError
from app.inspect import faithfulness
from tests.app.inspect.conftest import finish


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
