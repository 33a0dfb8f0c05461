"""A few spoilt inputs of each target (``make fuzz`` reads thousands), and that the harness sees what must not come."""

import os

import pytest

from a3tune.errors import DataError
from tests.fuzz.harness import Target, keep, make_input, read_input, run
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_spoilt_inputs_are_read_or_refused_in_words(name):
    found = [read_input(TARGETS[name], 0, number)[1] for number in range(24)]
    assert [finding for finding in found if finding is not None] == []


@pytest.mark.parametrize("name", ["images", "adapters", "runs"])
def test_a_number_names_one_input(name, tmp_path):
    contents = []
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        make_input(TARGETS[name], 3, 5, tmp_path / place)
        contents.append({path.name: path.read_bytes() for path in sorted((tmp_path / place).rglob("*.*"))})
    assert contents[0] == contents[1]


def write(random, folder):
    (folder / "x").write_bytes(random.randbytes(8))
    return folder / "x"


def fail(path):
    return [][len(path.name)]


def show_path(path):
    raise DataError(expected="a", got=f"{path} is none", remedy="b")


def end(path):
    os._exit(3)


@pytest.mark.parametrize(
    ("read", "kind"), [(fail, "IndexError"), (show_path, "path shown"), (end, "process ended"), (os.stat, None)]
)
def test_the_harness_tells_what_must_not_come(tmp_path, read, kind):
    target = Target("one", write, read)
    tally = run(target, 0, range(3))
    assert [finding.kind for finding in tally.findings] == ([kind] * 3 if kind else [])
    assert tally.read == (0 if kind else 3)
    keep(tally.findings, {"one": target}, 0, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == (["one-0"] if kind else [])
    assert not kind or kind in (tmp_path / "one-0" / "finding.txt").read_text()


def test_an_input_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr("tests.fuzz.harness.SECONDS", 0.0)
    monkeypatch.setattr("tests.fuzz.harness._PATIENCE", 0.2)

    def work(path):
        while True:
            pass

    tally = run(Target("one", write, work), 0, range(2))
    assert [finding.kind for finding in tally.findings] == ["too slow", "too slow"]
