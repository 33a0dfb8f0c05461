"""Who asks, what they may do, and what is noted of it."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from gradio.context import LocalContext

from a3tune.errors import RequestError
from app.access.identity import ASKER, Asker, Identity, audit, known_person, require
from app.jobs.jobs import JobQueue
from app.tune.adapters.service import AdapterService
from app.tune.data.sets import DataSetStore
from app.tune.service import TuneService


@pytest.fixture
def ask():
    """(identity, note) -> requests are theirs from now on, as for a handler of Gradio's."""

    def begin(identity, note=lambda act, facts: None):
        asker = Asker(identity, audit=note)
        LocalContext.request.set(SimpleNamespace(request=SimpleNamespace(scope={ASKER: asker})))

    token = LocalContext.request.set(None)
    yield begin
    LocalContext.request.reset(token)


def test_the_program_itself_may_do_all_and_is_not_noted(ask):
    require("operator", "change what all share")
    audit("forget")


def test_a_role_may_what_lower_ones_may(ask):
    ask(Identity("tuner"))
    require("viewer", "ask")
    require("tuner", "tune")
    with pytest.raises(RequestError, match="the role operator to load a model"):
        require("operator", "load a model")


@pytest.mark.parametrize(
    "act",
    [
        lambda me: JobQueue.submit(me, "o", None, []),
        lambda me: JobQueue.resume(me, "o", "n"),
        lambda me: DataSetStore.create(me, "o", "title", lambda folder: None),
        lambda me: TuneService.measure(me, "o", None, MagicMock()),
        lambda me: TuneService.add_run(me, "o", MagicMock(), "title"),
        lambda me: AdapterService.load(me, "o", "title", hub_id="a/b"),
        lambda me: AdapterService.push(me, "o", "n", "a/b", "token"),
    ],
)
def test_a_viewer_tunes_nothing(ask, act):
    noted = []
    ask(Identity("viewer"), lambda act, facts: noted.append(act))
    with pytest.raises(RequestError, match="the role tuner"):
        act(MagicMock())
    assert noted == []


def test_what_cannot_be_noted_is_not_done(ask, tmp_path):
    def refuse(act, facts):
        raise RequestError(expected="an audit that can be written", got="It cannot be", remedy="Make room")

    ask(Identity("tuner"), refuse)
    store = MagicMock()
    store._studio.data.return_value = tmp_path / "data"
    with pytest.raises(RequestError, match="an audit"):
        DataSetStore.create(store, "o", "title", lambda folder: folder.mkdir())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_of_issuer_and_subject_alone():
    known = known_person("viewer", "https://id.example", "1", "Ann")
    assert known.owner == known_person("operator", "https://id.example", "1", "Bob").owner
    others = [("https://id.example", "2"), ("https://other.example", "1"), ("https://id.exampl", "e1"), ("", "1")]
    assert len({known_person("viewer", *other).owner for other in others} | {known.owner}) == 5
