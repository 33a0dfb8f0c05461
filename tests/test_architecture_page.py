"""docs/architecture.md: the picture is that of the imports, and what the walks name is there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
TEXT = PAGE.read_text(encoding="utf-8")
ROWS = [row.split("|") for row in re.findall(r"^\|(.*)\|$", TEXT, re.M) if row.count("|") == 2]
STEPS = [[re.findall(r"`([^`]+)`", cell) for cell in cells[1:]] for cells in ROWS if "`" in cells[1]]


def maker():
    specification = importlib.util.spec_from_file_location("make_architecture", ROOT / "docs" / "make_architecture.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_picture_is_current():
    made = maker()
    found = TEXT.partition(made.BEGIN)[2].partition(made.END)[0]
    assert found == made.render(), "run make architecture"


def test_arrows_that_follow_from_others_are_left_out():
    graph = {"a": {"b", "c", "d"}, "b": {"c"}, "c": set(), "d": set()}
    assert maker().reduced(graph) == {"a": {"b", "d"}, "b": {"c"}, "c": set(), "d": set()}


def test_every_file_that_is_named_exists():
    paths = set(re.findall(r"`((?:a3tune|app|tests)/[^`]*)`", TEXT))
    assert len(paths) > 50
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


@pytest.mark.parametrize(("files", "names"), STEPS)
def test_each_step_finds_its_names_in_its_files(files, names):
    content = "\n".join((ROOT / file).read_text(encoding="utf-8") for file in files)
    defined = r"(?:def|class|function) {0}\b|^{0}\b.* = "
    assert [name for name in names if not re.search(defined.format(re.escape(name)), content, re.M)] == []
