"""What is kept encrypted beyond a visit: sealed, opened again, and refused where it was changed."""

from __future__ import annotations

import fcntl
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from a3tune.errors import RequestError
from app.engine.ids import OwnerId
from app.kept import kept_folders
from app.kept.kept_folders import KeptFolders
from app.kept.sealed_files import open_sealed, seal_folder

KEY, OTHER = bytes(32), bytes([1]) * 32
ANN = OwnerId("a" * 40)
ONE, TWO = "0123456789ab", "ba9876543210"
SECRET = b"Is there a mass?"


@pytest.fixture
def start(tmp_path, monkeypatch):
    """The folders as a new process finds them: with () -> KeptFolders. A process that ended holds nothing."""
    held = []
    flock = fcntl.flock
    monkeypatch.setattr(kept_folders.fcntl, "flock", lambda lock, how: held.append(lock) or flock(lock, how))

    def build(key=KEY):
        for lock in held:
            with suppress(OSError):  # closed where it was refused
                flock(lock, fcntl.LOCK_UN)
        held.clear()
        return KeptFolders(tmp_path, key)

    return build


def put(kept, item, content=SECRET, kind="data"):
    folder = kept.open_root / ANN / kind / item
    folder.mkdir(parents=True)
    (folder / "data.json").write_bytes(content)
    return folder


def everything(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


def test_what_is_kept_is_found_again_after_a_restart_and_lies_nowhere_in_the_clear(start, tmp_path):
    kept = start()
    kept.open(ANN)
    put(kept, ONE)
    (put(kept, TWO, b"x" * (3 << 20), "runs") / "link").symlink_to("/etc/passwd")
    kept.close_all(lambda owner: False)
    assert SECRET not in everything(tmp_path)
    assert list(kept.open_root.iterdir()) == []
    kept = start()
    kept.open(ANN)
    assert (kept.open_root / ANN / "data" / ONE / "data.json").read_bytes() == SECRET
    assert (kept.open_root / ANN / "runs" / TWO / "data.json").read_bytes() == b"x" * (3 << 20)
    assert not (kept.open_root / ANN / "runs" / TWO / "link").exists()


def test_what_a_killed_server_had_open_is_sealed_by_the_next_one(start, tmp_path):
    kept = start()
    kept.open(ANN)
    put(kept, ONE)
    # Killed while somebody else's things were being opened: these are still sealed.
    (tmp_path / "moving" / "bob.1234" / "data").mkdir(parents=True)
    (tmp_path / "kept" / ANN / "data").mkdir(parents=True)
    (tmp_path / "kept" / ANN / "data" / f".{ONE}.sealed.1234.part").write_bytes(b"half")
    kept = start()
    assert [path.name for path in (tmp_path / "kept" / ANN / "data").iterdir()] == [f"{ONE}.sealed"]
    assert SECRET not in everything(tmp_path)
    kept.open(ANN)
    assert (kept.open_root / ANN / "data" / ONE / "data.json").read_bytes() == SECRET
    assert list((tmp_path / "moving").iterdir()) == []


def test_what_is_wanted_or_at_work_stays_open_and_what_was_deleted_or_forgotten_is_gone(start, tmp_path):
    kept = start()
    kept.open(ANN)
    put(kept, ONE)
    put(kept, TWO)
    kept.wanted = lambda owner: True
    kept.close(ANN)
    kept.close_all(lambda owner: owner == ANN)
    assert (kept.open_root / ANN).is_dir()
    kept.wanted = lambda owner: False
    kept.close(ANN)
    kept.open(ANN)
    shutil.rmtree(kept.open_root / ANN / "data" / TWO)
    kept.close(ANN)
    kept.open(ANN)
    assert [path.name for path in (kept.open_root / ANN / "data").iterdir()] == [ONE]
    kept.remove(ANN)
    shutil.rmtree(kept.open_root / ANN)
    kept.close(ANN)
    kept.open(ANN)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["key.sealed"]


def test_another_key_or_a_second_server_is_refused(start, tmp_path):
    start()
    with pytest.raises(RequestError, match="in use"):
        KeptFolders(tmp_path, KEY)
    with pytest.raises(RequestError, match="the key is another one"):
        start(OTHER)


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 3 << 20])
def test_what_was_changed_cut_off_or_renamed_is_refused(tmp_path, size):
    folder, file = tmp_path / "in", tmp_path / "in.sealed"
    folder.mkdir()
    (folder / "a").write_bytes(b"7" * size)
    seal_folder(folder, file, "ann/data/1", KEY)
    open_sealed(file, tmp_path / "out", "ann/data/1", KEY)
    assert (tmp_path / "out" / "a").read_bytes() == b"7" * size
    whole = file.read_bytes()
    piece = (1 << 20) + 16
    spoilt = [whole[:-1], whole[:40], b"", whole + b"0", whole[:-20] + b"\0" + whole[-19:], whole[: 48 + piece]]
    for number, content in enumerate(spoilt):
        if content != whole:
            file.write_bytes(content)
            with pytest.raises(RequestError, match="It was changed"):
                open_sealed(file, tmp_path / f"spoilt{number}", "ann/data/1", KEY)
    file.write_bytes(whole)
    for name, key in (("bob/data/1", KEY), ("ann/data/1", OTHER)):
        with pytest.raises(RequestError, match="It was changed"):
            open_sealed(file, tmp_path / f"{name[0]}{key[0]}", name, key)


def test_a_disk_that_fails_keeps_what_was_sealed_before(start, tmp_path, monkeypatch):
    kept = start()
    kept.open(ANN)
    put(kept, ONE)
    kept.close(ANN)
    before = everything(tmp_path / "kept")
    kept.open(ANN)
    put(kept, TWO)
    monkeypatch.setattr("os.fsync", lambda stream: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    kept.close_all(lambda owner: False)
    monkeypatch.undo()
    assert everything(tmp_path / "kept") == before
    assert (kept.open_root / ANN / "data" / TWO).is_dir()
