"""What ``python app.py`` and ``python -m a3tune app`` take, and what a Space may not."""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from a3tune.cli import app as app_command
from a3tune.cli import eval as eval_command
from a3tune.cli import main as cli
from a3tune.evaluation import head_sets
from a3tune.evaluation.decoding.registry import DECODINGS
from a3tune.evaluation.export import EXPORTS
from a3tune.evaluation.systems import CONTROLS, GREEDY, MASKS
from app.access import deployment
from app.access.identity import ROLES
from app.evaluate import choice
from app.login import settings as login_settings

SCRIPT = Path(__file__).resolve().parents[1] / "app.py"


@pytest.fixture
def script(monkeypatch):
    """The script; the package of the same name hides it."""
    for name in ("SPACE_ID", "A3TUNE_MODELS", "A3TUNE_ANY_MODEL", "A3TUNE_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    specification = importlib.util.spec_from_file_location("app_script", SCRIPT)
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    return script


@pytest.fixture
def read_options(script):
    return script.read_options


def test_command_line_and_page_name_the_same():
    """The library does not know the page, which starts without the slow part of the library."""
    parser = argparse.ArgumentParser()
    app_command.add_arguments(parser)
    choices = {action.dest: action.choices for action in parser._actions}
    assert choices["deployment"] == deployment.NAMES
    assert choices["login"] == login_settings.KINDS
    assert choices["role"] == ROLES
    assert (choice.ALL_HEADS, choice.CRITICAL, choice.ALIGNED) == (head_sets.ALL, head_sets.CRITICAL, head_sets.ALIGNED)
    assert [name for _, name in choice.CONTROLS] == list(CONTROLS)
    assert {name for _, name in choice.MASKS} == {"", *MASKS}
    assert set(choice.DECODINGS) | {GREEDY} == set(DECODINGS)
    assert eval_command.EXPORTS == EXPORTS
    assert set(choice.EXPORTS.split(",")) < set(EXPORTS)


@pytest.mark.parametrize("options", [("--deployment", "space"), ("--deployment", "server"), ("--host", "0.0.0.0")])
def test_where_strangers_could_ask_an_archive_the_page_does_not_start(script, monkeypatch, options):
    monkeypatch.setattr(sys, "argv", ["app.py", *options])
    monkeypatch.setenv("A3TUNE_DICOMWEB", "https://archive.example/dicom-web")
    with pytest.raises(SystemExit, match="anybody who reaches the page"):
        script.main()


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
        ["--adapter", "a3=one", "--allow-other-base", "--prepared-examples", "2"],
        ["--host", "0.0.0.0", "--profile", "P", "--scorer", "S", "--adapter", "a3=one", "--adapter", "lora=two"],
        ["--login", "password", "--people", "people.txt", "--deployment", "server"],
        ["--people", "people.txt", "--add-person", "ann", "--role", "tuner"],
        ["--people", "people.txt", "--remove-person", "ann"],
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


def test_people_are_added_to_a_file_and_taken_out_of_it(tmp_path):
    people = tmp_path / "people"

    def change(*arguments, password=""):
        command = [sys.executable, str(SCRIPT), "--people", str(people), *arguments]
        return subprocess.run(command, input=f"{password}\n", capture_output=True, text=True, check=False)

    refused = change("--add-person", "ann", password="short")
    assert (refused.returncode, people.exists()) == (1, False)
    assert "12 to 1024 letters" in refused.stderr
    added = change("--add-person", "ann", "--role", "operator", password="correct horse battery")
    assert added.stdout == "ann may log in as operator.\n", added.stderr
    assert people.read_text().startswith("operator ann $argon2id$")
    assert change("--remove-person", "ann").returncode == 0
    assert people.read_text() == ""


def test_a_change_of_people_names_their_file(read_options, monkeypatch, capsys):
    monkeypatch.delenv("A3TUNE_PEOPLE", raising=False)
    with pytest.raises(SystemExit):
        read_options(["--add-person", "ann"])
    assert "name it with --people" in capsys.readouterr().err
