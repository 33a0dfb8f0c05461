"""The library's slow modules: not loaded with the page, and there when they are asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from app.engine import library

ROOT = Path(__file__).resolve().parents[3]
SLOW = {"torch", "torchvision", "transformers", "peft", "open_clip", "segment_anything", "matplotlib"}
# For those who log in, and for what is kept encrypted, alone.
SLOW |= {"authlib", "joserfc", "cryptography"}


def test_the_page_is_there_before_the_slow_libraries_are_loaded():
    code = "import sys, app.ui; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "app.ui" in loaded
    assert loaded & SLOW == set()


@pytest.mark.parametrize("name", sorted(library._MODULES))
def test_a_name_is_that_of_its_module(name):
    assert getattr(library, name) is getattr(importlib.import_module(library._MODULES[name]), name)


def test_any_other_name_is_told():
    with pytest.raises(AttributeError, match=r"app\.engine\.library has no load_modell"):
        _ = library.load_modell
