"""Programs that a visitor waits for: what they find, why they cannot, and how they are ended."""

from __future__ import annotations

import threading

import psutil
import pytest

from a3tune.errors import Cancelled, RequestError
from app.engine.background import Step, run
from app.engine.subprocess_tasks import run_module


@pytest.fixture
def program(tmp_path):
    """(source) -> what ``python -m program`` reports and finds when it runs that."""

    def write(source, *arguments, cancel=None, **options):
        (tmp_path / "program.py").write_text("import json, os, signal, sys, time\n" + source)
        environment = {"PYTHONPATH": str(tmp_path)}
        return run(lambda task: run_module("program", arguments, environment, task, **options), cancel)

    return write


def test_progress_is_passed_on_and_the_last_line_is_the_result(program):
    source = (
        'print("hello")\nprint(json.dumps({"what": "half", "share": 0.5}))\nprint(json.dumps({"found": sys.argv[1]}))\n'
    )
    assert list(program(source, "7")) == [Step("half", 0.5), {"found": "7"}]


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
        list(program(source))


def test_one_that_takes_too_long_is_ended(program):
    with pytest.raises(RequestError, match="a quarter of an hour"):
        list(program("time.sleep(600)\n", seconds=0.1))


@pytest.mark.parametrize("ending", ["event", "closed"])
def test_one_that_is_not_wanted_any_more_is_ended(program, ending):
    cancel = threading.Event()
    source = 'print(json.dumps({"what": str(os.getpid()), "share": 0}), flush=True)\ntime.sleep(600)\n'
    reports = program(source, cancel=cancel)
    process = psutil.Process(int(next(reports).what))
    if ending == "event":
        cancel.set()
        with pytest.raises(Cancelled):
            next(reports)
    else:
        reports.close()
    process.wait(30)
