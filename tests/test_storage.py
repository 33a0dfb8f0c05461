"""Files and folders that appear whole, and places that people name, also those that no file system takes."""

from __future__ import annotations

import errno
import io
import lzma
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

from a3tune.bundle import DEMO_MODEL, is_demo
from a3tune.errors import DataError, LabelError, ModelError
from a3tune.labels.segmenters_and_scorers import load_segmenter
from a3tune.models.download import locate
from a3tune.storage import (
    files_together,
    find_stand_in,
    first_stand_in,
    is_folder,
    is_hub_id,
    named_path,
    place_folder,
    read_json,
    read_json_or_empty,
    whole_file,
    whole_lines,
    write_bytes,
    write_json,
    write_text,
    zip_faults,
)

ODD = ("~nobody-of-that-name/model", "\0", "x" * 300, "a\0b/c")


def test_a_home_is_put_in_full_and_a_stranger_stays_as_typed(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert named_path("~/model") == tmp_path / "model"
    assert named_path("~nobody-of-that-name/model") == Path("~nobody-of-that-name/model")
    assert is_folder("~")
    assert not is_folder(tmp_path / "absent")


@pytest.mark.parametrize("name", ODD)
def test_names_that_cannot_be_paths_are_answered_in_words(name):
    assert not is_folder(name)
    assert not is_demo(name)
    with pytest.raises(ModelError):
        locate(name)
    with pytest.raises(LabelError):
        load_segmenter(name)


def test_hub_ids_are_told_from_paths():
    assert is_hub_id("owner/name")
    assert not any(map(is_hub_id, ("name", "a/b/c", "./name", "~/name", "/name", "../name", "")))


def test_the_demo_model_by_its_folder():
    assert is_demo("demo")
    assert is_demo(str(DEMO_MODEL))
    assert not is_demo(str(DEMO_MODEL.parent))


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "facts.json"
    write_json(path, {"name": "Łódź", "list": [1, 2]})
    assert read_json(path) == {"name": "Łódź", "list": [1, 2]}
    with pytest.raises(KeyboardInterrupt), whole_file(path) as stream:
        stream.writelines(_cut_short())
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"share": float("nan")})
    assert read_json(path)["list"] == [1, 2]
    assert list(tmp_path.iterdir()) == [path]


def _cut_short():
    yield b"half"
    raise KeyboardInterrupt


def test_a_written_file_has_the_rights_that_any_new_file_has(tmp_path):
    """A temporary file's rights, the owner's alone, would keep a shared folder from those it is shared with."""
    (tmp_path / "plain").touch()
    write_bytes(tmp_path / "whole", b"")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_text_is_written_with_its_own_line_ends(tmp_path):
    write_text(tmp_path / "rows.csv", "a,b\r\né,2\n")
    assert (tmp_path / "rows.csv").read_bytes() == "a,b\r\né,2\n".encode()


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "facts"
    with whole_file(path) as first:
        first.write(b"first")
        write_bytes(path, b"second")
    assert path.read_bytes() == b"first"


@pytest.mark.parametrize(
    ("text", "fault"),
    [("[1]", "list"), ('{"a": ', "Expecting"), ("[" * 100_000, "deeply"), ("\N{REPLACEMENT CHARACTER}", "Expecting")],
)
def test_what_is_no_json_object_is_refused(tmp_path, text, fault):
    path = tmp_path / "facts.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=fault):
        read_json(path)
    assert read_json_or_empty(path) == {}
    assert read_json_or_empty(tmp_path / "absent.json") == {}


def test_a_folder_takes_the_place_of_the_former_one(tmp_path):
    place = tmp_path / "adapter"
    for number in (1, 2):
        part = tmp_path / ".adapter.part"
        part.mkdir()
        (part / f"{number}.txt").touch()
        place_folder(part, place)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["adapter", "adapter/2.txt"]


STAND_INS = {
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 391\n": "a pointer of Git LFS",
    "/annex/objects/SHA256E-s391--4d7a.bin\n": "a pointer of git-annex",
    "<!DOCTYPE html>\n<html><head></head></html>": "a saved web page",
    "\n<!-- saved from url=(0030)https://example.org -->\n<HTML>": "a saved web page",
    '<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0//EN">': "a saved web page",
    "../../.git/annex/objects/4d/7a/MD5E-s20--4d7a.dcm/MD5E-s20--4d7a.dcm": "a pointer of git-annex",
    "From: <Saved by Blink>\nMIME-Version: 1.0\nContent-Type: multipart/related;\n\ttype=text/html": "a saved web page",
    "[InternetShortcut]\r\nURL=https://example.org/weights.bin\r\n": "a link to a web page",
    "version https://hawser.github.com/spec/v1\noid sha256:4d7a\nsize 391\n": "a pointer of Git LFS",
    '<meta http-equiv="refresh" content="0; url=/login">': "a saved web page",
    "<body><p>Moved</p></body>": "a saved web page",
    "Entry not found": "what a server answered",
    "Invalid credentials in Authorization header": "what a server answered",
    "Access to model owner/name is restricted. You must be authenticated.\n": "what a server answered",
    "<Error><Code>AccessDenied</Code></Error>": "an XML text",
    '<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>': "an XML text",
}


@pytest.mark.parametrize("text", STAND_INS)
def test_what_lies_in_a_files_place_is_named(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    assert find_stand_in(path).what.startswith(STAND_INS[text])
    assert first_stand_in(tmp_path, (".json",)) == (path, find_stand_in(path))
    assert first_stand_in(tmp_path, (".txt",)) is None
    with pytest.raises(ValueError, match=f"it is {STAND_INS[text]}"):
        read_json(path)


def test_an_error_in_json_is_named_and_a_row_is_not(tmp_path):
    (tmp_path / "w.json").write_text('{"error": "Repository not found"}\n')
    assert find_stand_in(tmp_path / "w.json").what.startswith("what a server answered")
    (tmp_path / "w.json").write_text('{"error": "none", "question": "Where?"}\n')
    assert find_stand_in(tmp_path / "w.json") is None


def test_a_web_page_in_utf_16_is_named(tmp_path):
    (tmp_path / "w.pth").write_text("<!DOCTYPE html><html></html>", encoding="utf-16")
    assert find_stand_in(tmp_path / "w.pth").what.startswith("a saved web page")


@pytest.mark.parametrize("content", [b"", b"{}", b"<s>", b"[PAD]\n[UNK]", b"\x80\x02}q\x00", b"PK\x03\x04"])
def test_other_files_are_no_stand_ins(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert find_stand_in(tmp_path / "file") is None
    assert find_stand_in(tmp_path / "absent") is None


@pytest.mark.parametrize(
    "error",
    [
        lzma.LZMAError("Corrupt input data"), zlib.error("invalid block"), struct.error("unpack requires"), EOFError(),
        NotImplementedError("compression type 99"), RuntimeError("Bad password"), OSError("Invalid data stream"),
        OSError(errno.EINVAL, "Invalid argument"), UnicodeDecodeError("utf-8", b"x", 0, 1, "why"),
    ],
)  # fmt: skip
def test_what_a_damaged_archive_makes_zipfile_raise_is_one_error(error):
    with pytest.raises(zipfile.BadZipFile), zip_faults():
        raise error


def test_what_the_system_has_against_a_file_stays_as_it_is():
    with pytest.raises(PermissionError), zip_faults():
        raise PermissionError(errno.EACCES, "no")
    with pytest.raises(DataError), zip_faults():
        raise DataError(expected="a", got="b", remedy="c")


def fill(folder, words, *more):
    with files_together(folder, "record") as scratch:
        for name in ("a", "record", "z", *more):
            (scratch / name).write_text(words)


@pytest.mark.parametrize("moment", range(3))
def test_of_files_that_belong_together_the_record_vouches_for_the_others_at_any_moment(tmp_path, monkeypatch, moment):
    fill(tmp_path, "old")
    put, moved = os.replace, []

    def until(source, place):
        if len(moved) == moment:
            raise KeyboardInterrupt  # stands for a kill: nothing of ours runs after it
        moved.append(put(source, place))

    monkeypatch.setattr(os, "replace", until)
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, "new")
    monkeypatch.undo()
    assert not (tmp_path / "record").exists()
    fill(tmp_path, "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(("a", "record", "z"), "new")


def test_of_files_that_belong_together_the_former_stay_when_writing_fails(tmp_path):
    fill(tmp_path, "old")
    with pytest.raises(FileNotFoundError):
        fill(tmp_path, "new", "there is none/a")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(("a", "record", "z"), "old")
    with pytest.raises(OSError, match="full"), files_together(tmp_path / "b" / "c", "record"):
        raise OSError("full")
    assert not (tmp_path / "b").exists()


WRITER = """
import sys
from pathlib import Path
from a3tune.storage import files_together, whole_file

folder, waits = Path(sys.argv[1]), sys.argv[2] == "waits"
with files_together(folder, "record") as scratch, whole_file(folder / "facts") as stream:
    stream.write(b"facts")
    (scratch / "record").write_text("record")
    if waits:
        print("under way", flush=True)
        sys.stdin.read()
"""


def write(folder, how):
    command = [sys.executable, "-c", WRITER, str(folder), how]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_what_a_killed_writer_left_goes_with_the_next_one_and_what_a_living_one_writes_stays(tmp_path):
    (tmp_path / ".of another program.part").touch()
    with write(tmp_path, "waits") as killed, write(tmp_path, "waits") as living:
        for process in (killed, living):
            assert process.stdout.readline() == "under way\n"
        killed.kill()
        killed.wait()
        assert len(hidden(tmp_path)) == 5
        with write(tmp_path, "ends") as next_one:
            next_one.communicate()
        assert next_one.returncode == 0
        assert len(hidden(tmp_path)) == 3
        living.communicate()
    assert living.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {".of another program.part", "facts", "record"}
    assert (tmp_path / "record").read_text() == "record"


@pytest.mark.parametrize("most", [4, 5, 100])
def test_lines_are_given_once_they_are_whole_and_none_is_held_that_is_too_long(most):
    text = b"ab\n\n" + b"x" * 50 + b"\ncd\nhalf"
    long = b"x" * 50 if most > 50 else b""
    assert [*whole_lines(io.BytesIO(text), most)] == [(3, b"ab"), (1, b""), (51, long), (3, b"cd")]
