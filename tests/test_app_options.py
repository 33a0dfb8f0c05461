"""What ``python app.py`` and ``python -m a3tune app`` take, and what a Space may not."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from a3tune.cli import main as cli

SCRIPT = Path(__file__).resolve().parents[1] / "app.py"


@pytest.fixture
def read_options(monkeypatch):
    """The script's own function; the package of the same name hides the script."""
    for name in ("SPACE_ID", "A3TUNE_MODELS", "A3TUNE_ANY_MODEL", "A3TUNE_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    specification = importlib.util.spec_from_file_location("app_script", SCRIPT)
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    return script.read_options


def test_at_home_all_that_is_known_is_offered_and_more_on_request(read_options):
    options = read_options([])
    assert (options.host, options.models, options.any_model) == ("127.0.0.1", None, False)
    options = read_options(["--models", "demo, medsam,owner/name", "--any-model"])
    assert (options.models, options.any_model) == (["demo", "medsam", "owner/name"], True)


def test_a_space_offers_what_it_starts_with_unless_its_operator_names_more(read_options, monkeypatch, capsys):
    monkeypatch.setenv("SPACE_ID", "someone/space")
    options = read_options([])
    assert (options.host, options.models) == ("0.0.0.0", ["demo"])
    monkeypatch.setenv("A3TUNE_MODELS", "demo,medgemma-4b")
    assert read_options([]).models == ["demo", "medgemma-4b"]
    with pytest.raises(SystemExit):
        read_options(["--any-model"])
    monkeypatch.setenv("A3TUNE_ANY_MODEL", "1")
    with pytest.raises(SystemExit):
        read_options([])
    assert "--models instead of --any-model" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given",
    [
        ["--port", "8001", "--models", "demo,medsam", "--segmenter", "sam.pth", "--any-model"],
        ["--adapter", "a3=one", "--allow-other-base"],
        ["--host", "0.0.0.0", "--profile", "P", "--scorer", "S", "--adapter", "a3=one", "--adapter", "lora=two"],
        [],
    ],
)
def test_the_command_hands_the_options_on(monkeypatch, read_options, given):
    started = []
    monkeypatch.setattr(os, "execv", lambda python, arguments: started.append(arguments))
    cli.main(["app", *given])
    (arguments,) = started
    assert Path(arguments[1]) == SCRIPT
    assert read_options(arguments[2:]) == read_options(given)
