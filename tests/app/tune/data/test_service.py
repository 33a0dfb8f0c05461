"""Data taken in, checked, repaired, named, stopped and removed, without a page."""

from __future__ import annotations

import threading
import zipfile
from dataclasses import replace

import pytest

from a3tune.errors import Cancelled, DataError, RequestError
from app.access.deployment import LOCAL
from app.access.visits import new_secret
from app.common.identity import owner_of
from app.tune.data.report import data_report, repair_choices
from app.tune.data.service import MOST_AT_ONCE, CheckedData
from app.tune.data.sets import DataSetStore
from app.tune.plans import Plan


def last(reports):
    return list(reports)[-1]


def test_an_upload_is_looked_through_and_leaves_nothing_where_it_came(service, owner, upload):
    archive = upload()
    checked = last(service.data.add_archive(owner, archive, "mine"))
    assert isinstance(checked, CheckedData)
    assert (checked.dataset.counts.items, checked.dataset.counts.errors) == (4, 0)
    assert len(checked.gallery) == 4
    assert not archive.parent.exists()
    assert [data.title for data in service.data.sets.all(owner)] == ["mine"]
    report = data_report(checked)
    assert "Ready to train on" in report
    assert "3 train, 1 validation" in report or "1 validation, 3 train" in report


def test_the_same_upload_again_is_the_same_data_set(service, owner, upload):
    first = last(service.data.add_archive(owner, upload(), "mine"))
    again = last(service.data.add_archive(owner, upload(), "other"))
    assert (again.data.id, again.same) == (first.data.id, True)
    assert "uploaded the very same data before" in data_report(again)
    other = owner_of(new_secret())
    assert last(service.data.add_archive(other, upload(), "mine")).data.id != first.data.id


def test_what_is_refused_or_is_no_data_set_leaves_nothing(service, owner, tmp_path):
    (tmp_path / "bad").mkdir()
    for content in ({"../evil.csv": "x"}, {"data.csv": "colour,size\nred,1\n", "a.png": "x"}):
        path = tmp_path / "bad" / "bad.zip"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in content.items():
                archive.writestr(name, text)
        with pytest.raises(DataError):
            last(service.data.add_archive(owner, path, "bad"))
        assert not path.exists()
    assert service.data.sets.all(owner) == ()
    assert list(service.jobs.studio.data(owner).iterdir()) == []


def test_faults_are_repaired_and_the_repaired_data_is_what_runs(service, owner, upload):
    rows = [
        ("0.png", "Is <b>it</b>?", "yes", "train"),
        ("none.png", "Is it?", "yes", "train"),
        ("1.png", "Is it?", "no", ""),
    ]
    checked = last(service.data.add_archive(owner, upload(rows), "mine"))
    report = data_report(checked)
    assert "1 fault keeps it" in report
    assert "data.csv:3 image" in report
    assert "<b>it</b>" not in report
    with pytest.raises(RequestError, match="has 1 fault"):
        service.start(owner, checked.data.id, Plan())
    names = [name for _, name in repair_choices(checked)]
    assert names == ["rows", "split"]
    repaired = last(service.data.repair(owner, checked.data.id, names))
    assert (repaired.dataset.counts.errors, repaired.dataset.counts.items) == (0, 2)
    assert set(repaired.dataset.counts.splits) == {"train", "validation"}
    arguments = repaired.data.arguments
    assert arguments[arguments.index("--images") + 1] == str(repaired.data.files)
    assert "Delete “mine”?" in service.data.describe(owner, checked.data.id)
    name = service.data.delete(owner, checked.data.id)
    assert service.data.sets.all(owner) == ()
    service.data.sets.restore(owner, name)
    assert last(service.data.check(owner, name)).dataset.counts.items == 2
    service.data.delete(owner, name)
    service.jobs.studio.purge(seconds=0)
    assert list(service.jobs.studio.data(owner).iterdir()) == []


def test_images_in_two_splits_are_used_as_they_are_when_their_owner_says_so(service, owner, upload):
    rows = [("0.png", "Is it?", "yes", "train"), ("0.png", "Where?", "left", "test"), ("1.png", "Is it?", "no", "")]
    checked = last(service.data.add_archive(owner, upload(rows), "mine"))
    assert {"shared", "allow"} <= {name for _, name in repair_choices(checked)}
    allowed = last(service.data.repair(owner, checked.data.id, ["allow", "shared"]))
    assert allowed.dataset.counts.errors == 0
    assert sorted(item.split or "none" for item in allowed.dataset.items) == ["none", "test", "train"]
    # The run reads the data the same way, also after a restart of the server.
    (kept,) = service.data.sets.all(owner)
    assert kept.arguments[-2:] == ["--set", "allow_shared_images=true"]


def test_columns_are_named_and_the_copy_is_what_runs(service, owner, upload):
    archive = upload()
    with zipfile.ZipFile(archive) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    files["data.csv"] = files["data.csv"].replace(b"image,question,answer", b"scan,asked,told")
    with zipfile.ZipFile(archive, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    checked = last(service.data.add_archive(owner, archive, "mine"))
    assert checked.naming.columns == ("scan", "asked", "told", "split")
    assert repair_choices(checked) == []
    with pytest.raises(RequestError, match="has 1 fault"):
        service.start(owner, checked.data.id, Plan())
    named = last(
        service.data.name_columns(owner, checked.data.id, {"image": "scan", "question": "asked", "answer": "told"})
    )
    assert (named.dataset.counts.errors, named.dataset.counts.items, named.naming) == (0, 4, None)
    assert named.data.arguments[-1] == str(named.data.files)
    other = owner_of(new_secret())
    with pytest.raises(RequestError, match="no such data set"):
        service.data.name_columns(other, checked.data.id, {})


def test_nobody_reaches_the_data_of_others(service, owner, upload):
    checked = last(service.data.add_archive(owner, upload(), "mine"))
    other = owner_of(new_secret())
    for name in (checked.data.id, f"../../{owner}/data/{checked.data.id}", ".."):
        for act in (service.data.sets.get, service.data.check, service.data.delete):
            with pytest.raises(RequestError, match="no such data set"):
                act(other, name)
            with pytest.raises(RequestError, match="No data set is chosen"):
                act(owner, None)
    with pytest.raises(RequestError, match="no such data set"):
        service.start(other, checked.data.id, Plan())


def test_a_visitor_may_not_fill_the_disk_with_data_sets(service, owner, upload):
    studio = service.jobs.studio
    limits = replace(LOCAL, data_sets=1, stored_each_mb=100)
    store = DataSetStore(replace(studio, deployment=limits))
    service.data.sets = store
    last(service.data.add_archive(owner, upload(), "mine"))
    with pytest.raises(RequestError, match="A3TUNE_DATA_SETS"):
        last(service.data.add_archive(owner, upload([("1.png", "Is it?", "no", "train")]), "second"))
    for limit in ("stored_each_mb", "stored_all_mb"):
        service.data.sets = DataSetStore(replace(studio, deployment=replace(LOCAL, **{limit: 0.0001})))
        with pytest.raises(RequestError, match=f"A3TUNE_{limit.upper()}"):
            last(service.data.add_archive(owner, upload([("2.png", "Is it?", "no", "train")]), "third"))
    assert len(store.all(owner)) == 1


def test_what_is_taken_in_and_is_too_large_is_not_kept(service, owner, upload):
    service.data.sets = DataSetStore(replace(service.jobs.studio, deployment=replace(LOCAL, stored_each_mb=0.0001)))
    with pytest.raises(DataError, match="A3TUNE_STORED_EACH_MB"):
        last(service.data.add_archive(owner, upload(), "mine"))
    assert list(service.jobs.studio.data(owner).iterdir()) == []


def test_a_repair_that_fails_leaves_the_data_as_it_was(service, owner, upload):
    checked = last(service.data.add_archive(owner, upload(), "mine"))
    for _ in range(2):
        with pytest.raises(DataError):
            last(service.data.name_columns(owner, checked.data.id, {"image": "nothing"}))
    (kept,) = service.data.sets.all(owner)
    assert kept.path == checked.data.files
    assert not list((kept.folder / "repaired").glob("*"))
    assert last(service.data.check(owner, kept.id)).dataset.counts.items == 4


def test_what_is_stopped_is_not_kept_and_what_was_there_stays(service, owner, upload, monkeypatch):
    first = last(service.data.add_archive(owner, upload(), "mine")).data
    reading, never = threading.Event(), threading.Event()

    def read_dataset(*_, should_stop, **__):
        reading.set()
        while not should_stop():
            never.wait(0.01)
        raise Cancelled

    monkeypatch.setattr("app.tune.data.service.read_dataset", read_dataset)
    service.data._checked.remove(lambda checked: True)
    for begin in (
        lambda: service.data.add_archive(owner, upload([("1.png", "Is it?", "no", "train")]), "other"),
        lambda: service.data.check(owner, first.id),
    ):
        reading.clear()
        stopper = threading.Thread(target=lambda: reading.wait(30) and service.data.stop(owner))
        stopper.start()
        with pytest.raises(Cancelled):
            last(begin())
        stopper.join(30)
    # The work itself may end a moment after it was told.
    for work in threading.enumerate():
        if work.name == "background":
            work.join(30)
    assert [data.id for data in service.data.sets.all(owner)] == [first.id]
    assert [folder.name for folder in service.jobs.studio.data(owner).iterdir()] == [first.id]


def test_sixty_checks_of_one_visitor_take_three_threads(service, owner):
    going, running = threading.Event(), []

    def work(task):
        running.append(threading.get_ident())
        task.progress("Checking", 0.5)
        going.wait()
        raise DataError(expected="a", got="b", remedy="c")

    begun = [service.data._run(owner, work) for _ in range(60)]
    assert [next(reports).what for reports in begun[:MOST_AT_ONCE]] == ["Checking"] * MOST_AT_ONCE
    for reports in begun[MOST_AT_ONCE:]:
        with pytest.raises(RequestError, match="3 of yours are"):
            next(reports)
    assert len(running) == MOST_AT_ONCE
    other = service.data._run(owner_of(new_secret()), work)
    assert next(other).what == "Checking"
    going.set()
    for reports in (*begun[:MOST_AT_ONCE], other):
        with pytest.raises(DataError):
            list(reports)
    assert next(service.data._run(owner, work)).what == "Checking"
