"""The public API: every name is there, typed, described, and loaded only when it is asked for."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import griffe
import pytest

import a3tune

ROOT = Path(__file__).resolve().parent.parent
STUB = griffe.load("a3tune", allow_inspection=False)


def make_api():
    spec = importlib.util.spec_from_file_location("make_api", ROOT / "docs" / "make_api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_names_that_checkers_see_are_those_that_there_are():
    promised = sorted(str(name) for name in STUB.exports)
    assert promised == sorted(a3tune.__all__)
    assert len(promised) > 40
    assert set(promised) <= set(dir(a3tune))


@pytest.mark.parametrize("name", a3tune.__all__)
def test_a_name_is_what_its_home_holds_and_says_what_it_is(name):
    item = getattr(a3tune, name)
    assert item.__module__.startswith("a3tune.")
    assert item is getattr(sys.modules[item.__module__], name)
    assert len(item.__doc__) > 20


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        a3tune.no_such_name  # noqa: B018


def test_the_typed_marker_is_there():
    assert (ROOT / "a3tune" / "py.typed").is_file()


def test_one_name_loads_no_more_than_it_needs():
    code = "import sys, a3tune; a3tune.load_image; assert 'numpy' in sys.modules; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_page_of_the_api_is_current():
    module = make_api()
    assert module.PAGE.read_text(encoding="utf-8") == module.render(), "run: make api"
