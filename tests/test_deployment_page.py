"""docs/deployment.md says what the code does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "deployment.md"


def test_the_tables_are_those_of_the_code():
    specification = importlib.util.spec_from_file_location("make_deployment", ROOT / "docs" / "make_deployment.py")
    made = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(made)
    text = PAGE.read_text(encoding="utf-8")
    assert made.written(text) == text, "make deployment"


def test_every_variable_that_the_page_reads_is_named():
    sources = [path.read_text(encoding="utf-8") for path in [*(ROOT / "app").rglob("*.py"), ROOT / "a3tune/cli/app.py"]]
    pattern = re.compile(r'environ(?:ment)?(?:\.get\(|\[)"(A3TUNE_\w+|GRADIO_\w+)"')
    read = {name for text in sources for name in pattern.findall(text)} - {"GRADIO_ANALYTICS_ENABLED"}
    told = PAGE.read_text(encoding="utf-8")
    assert read
    assert {name for name in read if f"`{name}`" not in told} == set()
