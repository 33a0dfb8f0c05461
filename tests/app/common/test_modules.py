"""The browser's modules as one script: each is what its file says, made once, whole before anybody gets it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.common.modules import modules_script, mount_script

APP = Path(__file__).resolve().parents[3] / "app"
# Names of what a module exports, as its file says.
EXPORTED = re.compile(r"^export (?:async )?(?:function\*?|class|const) ?(\w+)|^export (default) ", re.MULTILINE)


@pytest.fixture(scope="module")
def page(browser):
    """A page that has read the script and nothing else."""
    page = browser.new_page()
    page.set_content(f"<html><body><script>{modules_script()}</script></body></html>")
    yield page
    page.close()


def test_every_module_gives_what_its_file_exports(page):
    files = {path.relative_to(APP).as_posix(): path.read_text(encoding="utf-8") for path in APP.rglob("*.js")}
    bare = {"common/static/initial_theme.js"}  # a script of its own, which no module imports
    for name in files.keys() - bare:
        wanted = {one or other for one, other in EXPORTED.findall(files[name])}
        assert set(page.evaluate(f"Object.keys(studioModule({name!r}))")) == wanted, name
        assert wanted, name


def test_nothing_of_a_module_is_left_that_a_script_may_not_hold():
    script = modules_script()
    assert not re.search(r"^(?:import|export)\b", script, re.MULTILINE)
    assert "</script" not in script.lower()
    assert "<!--" not in script


def test_a_module_is_made_once_and_its_functions_work(page):
    assert page.evaluate("""studioModule("inspect/viewer/comparison.js").changeWords("1 %", "3 %")""") == "+2.0 points"
    assert page.evaluate("""studioModule("inspect/viewer/state.js") === studioModule("inspect/viewer/state.js")""")
    with pytest.raises(Exception, match="is not a function"):
        page.evaluate("""studioModule("inspect/viewer/absent.js")""")


def test_a_widget_is_mounted_by_one_call_that_names_its_events():
    script = mount_script("inspect/viewer/viewer.js", colours={"a": "b"})
    assert script.count("studioModule(") == 1
    assert '"reopen"' in script
    with pytest.raises(KeyError):
        mount_script("inspect/viewer/absent.js")
