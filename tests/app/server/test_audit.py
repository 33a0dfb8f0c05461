"""The file with what was done."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import pytest

from a3tune.errors import RequestError
from app.server.audit import ACTS, AuditLog, audit_path

WHO = {"issuer": "https://id.example", "subject": "person-1"}
ROOT = Path(__file__).resolve().parents[3]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{") and line.endswith("}")]


def test_each_act_is_a_line_that_says_who_and_when_and_the_file_only_grows(tmp_path):
    path = tmp_path / "kept" / "audit.jsonl"
    log = AuditLog(path)
    log.note(WHO, "tuner", "a" * 40, "run-start", {"run": "0123456789ab", "command": "tune"})
    before = path.read_bytes()
    AuditLog(path).note({}, "viewer", "", "sign-in-refused", {"why": "password"})
    assert path.read_bytes().startswith(before)
    first, second = lines(path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {
        "act": "run-start", "who": WHO, "role": "tuner", "visit": "a" * 12, "run": "0123456789ab", "command": "tune",
    }  # fmt: skip
    assert second["who"] == {}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_subject_cannot_write_a_line_of_its_own(tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl")
    log.note({"issuer": "i", "subject": 'a"}\n{"act": "forget"}\u2028'}, "viewer", "", "sign-in", {})
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 1


def test_what_cannot_be_noted_is_refused_and_what_was_left_half_spoils_no_other_line(tmp_path, monkeypatch):
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path)
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, content: write(file, content[:20]))
    with pytest.raises(RequestError, match="A3TUNE_AUDIT"):
        log.note(WHO, "tuner", "", "forget", {})

    def full(file, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(RequestError, match="No space left"):
        log.note(WHO, "tuner", "", "forget", {})
    monkeypatch.undo()
    log.note(WHO, "tuner", "", "sign-out", {})
    assert [line["act"] for line in lines(path)] == ["sign-out"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_noticed_before_the_act(tmp_path):
    with pytest.raises(RequestError, match="No space left"):
        AuditLog(Path("/dev/full")).note(WHO, "tuner", "", "forget", {})


def test_a_place_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file" / "audit.jsonl"):
        with pytest.raises(RequestError, match="an audit that can be written"):
            AuditLog(place)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "file")
    with pytest.raises(RequestError):
        AuditLog(link)


def test_a_server_has_one_unless_it_is_told_otherwise(tmp_path):
    assert audit_path("", "server", tmp_path) == tmp_path / "audit.jsonl"
    assert audit_path("", "local", tmp_path) is None
    assert audit_path("none", "server", tmp_path) is None
    assert audit_path("/var/log/a.jsonl", "local", tmp_path) == Path("/var/log/a.jsonl")


def test_every_act_that_the_page_notes_is_known_and_every_known_act_is_noted():
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "app").rglob("*.py")]
    noted = {
        act
        for text in texts
        for act in re.findall(r'\b_?audit\((?:identity, |Identity\("viewer"\), )?"([a-z-]+)"', text)
    }
    assert noted == set(ACTS)
