"""Where uploads lie."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile

import pytest

from app.access.uploads import UploadFolder, private_folder


@pytest.fixture
def environment(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", tempfile.tempdir)
    return {"GRADIO_TEMP_DIR": str(tmp_path / "uploads")}


def test_what_an_earlier_process_left_is_gone_and_what_another_one_uses_stays(tmp_path, environment):
    parent = tmp_path / "uploads"
    left, used = parent / "a3tune-left", parent / "a3tune-used"
    for folder in (left, used):
        folder.mkdir(parents=True)
        (folder / "in-use").touch()
        (folder / "DOE^JOHN.dcm").write_bytes(b"picture")
    (parent / "of-another-program").mkdir()
    with (used / "in-use").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = private_folder(environment)
    assert not left.exists()
    assert (used / "DOE^JOHN.dcm").exists()
    assert (parent / "of-another-program").exists()
    assert environment["GRADIO_TEMP_DIR"] == str(folder / "uploads")
    assert tempfile.gettempdir() == str(folder / "work")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # The process that holds it still lives.
    private_folder({"GRADIO_TEMP_DIR": str(parent)})
    assert folder.exists()


def test_an_upload_is_known_by_its_folder_and_nothing_else_is(tmp_path):
    uploads = UploadFolder(tmp_path / "uploads")
    one, two = uploads.new(), uploads.new()
    (one / "scan.png").write_bytes(b"1")
    (tmp_path / "secret").write_bytes(b"2")
    (two / "link").symlink_to(tmp_path / "secret")
    assert len(one.name) == 32
    assert one != two
    assert uploads.folder_of(str(one / "scan.png")) == one
    assert uploads.folder_of(str(two / ".." / one.name / "scan.png")) == one
    for path in (uploads.root, one, tmp_path / "secret", two / "link", "/etc/passwd", "https://evil.example/x", "a\0b"):
        assert uploads.folder_of(str(path)) is None


def test_empty_files_that_gradio_leaves_are_removed(tmp_path):
    uploads = UploadFolder(tmp_path)
    folder = uploads.new()
    (folder / "scan.png").write_bytes(b"1")
    (tmp_path / "tmpabc").touch()
    uploads.sweep()
    assert os.listdir(tmp_path) == [folder.name]
    assert (folder / "scan.png").exists()
