"""Which pages and uploads belong to a visit, and when it ends."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from a3tune.errors import RequestError
from app.access.deployment import DEPLOYMENTS
from app.access.uploads import UploadFolder
from app.access.visits import Denied, Visits


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def minutes(self, count):
        self.now += 60 * count


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def ended():
    return []


@pytest.fixture
def make(tmp_path, ended):
    """(deployment, at_work, **limits) -> visits that tell ``ended`` of what is over."""

    def build(name="space", at_work=lambda owner: False, **limits):
        deployment = replace(DEPLOYMENTS[name], **limits)
        return Visits(deployment, UploadFolder(tmp_path / "uploads"), ended.append, ended.append, at_work)

    return build


def upload(visits, name, content=b"12345", file_name="DOE^JOHN.png"):
    folder = visits.begin_upload(name)
    visits.grow_upload(name, folder, len(content))
    (folder / "part").write_bytes(content)
    return visits.end_upload(name, folder, [(folder / "part", file_name)])[0]


def test_a_page_belongs_to_the_visit_that_used_it_first(make):
    visits = make()
    visits.enter("ann", "page-1")
    visits.enter("ann", "page-1")
    with pytest.raises(Denied):
        visits.enter("bob", "page-1")
    with pytest.raises(RequestError, match="page's name"):
        visits.enter("bob", "../x")


def test_an_upload_belongs_to_its_visit_wherever_its_path_is_known(make):
    visits = make()
    ann, bob = visits.enter("ann", "page-1"), visits.enter("bob", "page-2")
    one, two = upload(visits, "ann"), upload(visits, "bob")
    assert one.name == two.name
    assert one.read_bytes() == two.read_bytes()
    assert one.parent != two.parent, "the same file of two visitors lies twice"
    visits.check_files(ann, [str(one)])
    for path in (str(two), "/etc/passwd", "https://evil.example/x.png", str(one.parent)):
        with pytest.raises(Denied):
            visits.check_files(ann, [path])
    one.unlink()
    assert two.exists()
    visits.check_files(bob, [str(two)])


def test_what_was_uploaded_without_a_page_ends_too(make, clock):
    visits = make()
    path = upload(visits, "ann")
    visits.sweep()
    assert path.exists()
    clock.minutes(11)
    visits.sweep()
    assert not path.exists()


@pytest.mark.parametrize("limit", ["upload_each_mb", "upload_all_mb"])
def test_uploads_have_an_end_that_says_who_can_raise_it(make, limit):
    visits = make(**{limit: 0.001})
    visits.enter("ann", "page-1")
    first = upload(visits, "ann", b"x" * 800)
    with pytest.raises(RequestError, match=f"ask whoever runs this Space to raise A3TUNE_{limit.upper()}"):
        upload(visits, "ann", b"x" * 800)
    first.unlink()
    first.parent.rmdir()
    visits.sweep()
    upload(visits, "ann", b"x" * 100)


def test_pages_have_an_end_and_closed_ones_make_room(make, clock, ended):
    visits = make(pages=3, pages_each=2)
    for page in ("one-1", "one-2"):
        visits.enter("ann", page)
        visits.opened(page)
    with pytest.raises(RequestError, match="PAGES_EACH"):
        visits.enter("ann", "one-3")
    visits.enter("bob", "two-1")
    with pytest.raises(RequestError, match="A3TUNE_PAGES"):
        visits.enter("eve", "three")
    visits.closed("one-1")
    visits.enter("eve", "three")
    assert ended == ["one-1"]


def test_on_a_space_all_that_a_visit_brought_ends_ten_minutes_after_its_last_page(make, clock, ended):
    visits = make()
    visits.enter("ann", "page-1")
    visits.opened("page-1")
    visits.keeps_under("ann", "owner")
    path = upload(visits, "ann")
    clock.minutes(300)
    visits.sweep()
    assert ended == [], "its page is open"
    assert path.exists()
    visits.closed("page-1")
    clock.minutes(9)
    visits.sweep()
    assert ended == ["page-1"]
    assert path.exists()
    clock.minutes(1.1)
    visits.sweep()
    assert ended == ["page-1", "owner"]
    assert not path.exists()
    assert not path.parent.exists()
    visits.enter("eve", "page-1")  # the name is free again


def test_a_visit_is_not_idle_while_its_run_is_at_work(make, clock, ended):
    working = ["owner"]
    visits = make(at_work=lambda owner: owner in working)
    visits.enter("ann", "page-1")
    visits.opened("page-1")
    visits.keeps_under("ann", "owner")
    visits.closed("page-1")
    clock.minutes(60)
    visits.sweep()
    assert ended == ["page-1"]
    working.clear()
    visits.sweep()
    assert ended == ["page-1", "owner"]


def test_at_home_nothing_ends_by_itself_but_all_is_forgotten_on_request(make, clock, ended):
    visits = make("local")
    visits.enter("ann", "page-1")
    visits.opened("page-1")
    visits.keeps_under("ann", "owner")
    visits.closed("page-1")
    clock.minutes(10_000)
    visits.sweep()
    assert ended == ["page-1"], "what it kept on the disk stays"
    visits.enter("ann", "page-2")
    visits.keeps_under("ann", "owner")
    path = upload(visits, "ann")
    visits.forget("ann")
    assert ended == ["page-1", "page-2", "owner"]
    assert not path.exists()


def test_a_page_that_never_says_that_it_is_open_ends_too(make, clock, ended):
    visits = make("local")
    visits.enter("", "program")
    clock.minutes(11)
    visits.sweep()
    assert ended == ["program"]


def test_who_keeps_things_is_told_before_they_are_asked_for_and_what_is_forgotten_before_it_ends(tmp_path, clock):
    told = []

    def tell(what):
        return lambda owner: told.append((what, owner))

    uploads = UploadFolder(tmp_path / "uploads")
    visits = Visits(
        DEPLOYMENTS["server"],
        uploads,
        visit_ended=tell("ended"),
        forgotten=tell("forgotten"),
        comes=lambda owner: told.append(("comes", owner, visits.is_here(owner))),
    )
    visits.keeps_under("nobody", "x")
    for name in ("ann", "bob"):
        visits.enter(name, f"page-{name}")
        visits.keeps_under(name, name)
    assert told == [("comes", "ann", True), ("comes", "bob", True)]
    visits.forget("ann")
    assert told[2:] == [("forgotten", "ann"), ("ended", "ann")]
    clock.minutes(61)
    visits.sweep()
    assert told[4:] == [("ended", "bob")]
    assert not visits.is_here("bob")
