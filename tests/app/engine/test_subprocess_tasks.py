"""Programs that a visitor waits for: what they find, why they cannot, and a newer one in the place of an older one."""

from __future__ import annotations

import threading

import pytest

from a3tune.errors import Cancelled, RequestError
from app.engine.subprocess_tasks import SubprocessTasks


@pytest.fixture
def program(tmp_path):
    """(source) -> the environment in which ``python -m errand`` runs it."""

    def write(source):
        (tmp_path / "errand.py").write_text("import json, os, signal, sys, time\n" + source)
        return {"PYTHONPATH": str(tmp_path)}

    return write


def test_progress_is_passed_on_and_the_last_line_is_the_result(program):
    environment = program(
        'print("hello")\nprint(json.dumps({"what": "half", "share": 0.5}))\nprint(json.dumps({"found": sys.argv[1]}))\n'
    )
    told = []
    found = SubprocessTasks().run("me", "errand", ["7"], environment, lambda what, share: told.append((what, share)))
    assert found == {"found": "7"}
    assert told == [("half", 0.5)]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('print(json.dumps({"error": "The data has faults."}))\nsys.exit(1)\n', "The data has faults"),
        ('sys.exit("nothing to measure")\n', "status 1: nothing to measure"),
        ("os.kill(os.getpid(), signal.SIGKILL)\n", "want of memory or time"),
        ('sys.exit("torch.OutOfMemoryError: CUDA out of memory")\n', "want of memory or time"),
    ],
)
def test_why_it_cannot_be_done_is_told_in_words(program, source, words):
    with pytest.raises(RequestError, match=words):
        SubprocessTasks().run("me", "errand", [], program(source))


def test_one_that_takes_too_long_is_ended(program):
    with pytest.raises(RequestError, match="a quarter of an hour"):
        SubprocessTasks(seconds=0.1).run("me", "errand", [], program("time.sleep(600)\n"))


def test_a_newer_one_ends_an_older_one_of_the_same_visitor(program):
    environment = program(
        'print(json.dumps({"what": "began", "share": 0}), flush=True)\n'
        'time.sleep(600 if sys.argv[1] == "old" else 0)\nprint(json.dumps({"found": sys.argv[1]}))\n'
    )
    subprocess_tasks, began, ended = SubprocessTasks(), threading.Event(), []

    def old():
        try:
            subprocess_tasks.run("me", "errand", ["old"], environment, lambda what, share: began.set())
        except Cancelled as error:
            ended.append(error)

    thread = threading.Thread(target=old)
    thread.start()
    assert began.wait(60)
    assert subprocess_tasks.run("other", "errand", ["new"], environment) == {"found": "new"}
    assert not ended
    assert subprocess_tasks.run("me", "errand", ["new"], environment) == {"found": "new"}
    thread.join(60)
    assert len(ended) == 1
