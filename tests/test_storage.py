"""Places that people name, also those that no file system takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from a3tune.bundle import DEMO_MODEL, is_demo
from a3tune.errors import LabelError, ModelError
from a3tune.labels.maker import load_segmenter
from a3tune.models.download import locate
from a3tune.storage import is_folder, is_hub_id, named_path

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
