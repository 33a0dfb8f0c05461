"""The rules of Hugging Face Spaces, and a start as there."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "deploy" / "check_space.py"


@pytest.fixture(scope="module")
def check():
    specification = importlib.util.spec_from_file_location("check_space", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_checkout_keeps_the_rules(check):
    assert check.faults(ROOT) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "fault"),
    [
        ("README.md", "sdk_version: ", "sdk_version: 1", "sdk_version is 16"),
        ("README.md", 'python_version: "3.12"', 'python_version: "3.11"', "python_version is 3.11"),
        ("README.md", "colorFrom: blue", "colorFrom: azure", "colorFrom is azure"),
        ("README.md", "app_file: app.py", "app_file: main.py", "app_file is main.py"),
        ("README.md", "emoji: ", "emojis: ", "emoji is missing"),
        ("README.md", "emoji: ", "emojis: ", "emojis in README.md is no setting"),
        ("README.md", "sdk: gradio", "sdk: docker", "sdk is docker"),
        ("README.md", "startup_duration_timeout: 30m", "startup_duration_timeout: soon", "which is no time"),
        ("README.md", "short_description: ", f"short_description: {'very ' * 20}", "more than 60 characters"),
        ("README.md", "---\n", "", "does not begin"),
        ("requirements.txt", "torch>=2.8\n", "torch>=2.12\n", "no torch that ZeroGPU has"),
        ("requirements.txt", "gradio>=6.10,<7", "gradio<6", "which requirements.txt does not take"),
        ("constraints.txt", "\ngradio==", "\ngradio==1", "which is not the gradio of constraints.txt"),
    ],
)
def test_what_breaks_a_rule_is_told(check, tmp_path, name, old, new, fault):
    for kept in ("README.md", "requirements.txt", "constraints.txt", "app.py"):
        shutil.copy(ROOT / kept, tmp_path)
    text = (tmp_path / name).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new, 1), encoding="utf-8")
    assert [found for found in check.faults(tmp_path) if fault in found] != []


def test_a_large_file_is_told(check, tmp_path):
    for kept in ("README.md", "requirements.txt", "constraints.txt", "app.py"):
        shutil.copy(ROOT / kept, tmp_path)
    with (tmp_path / "weights.bin").open("wb") as stream:
        stream.truncate(10_000_001)
    assert check.faults(tmp_path) == ["weights.bin is larger than 10 MB and would need Git LFS"]


@pytest.mark.parametrize("hardware", ["cpu", "zero"])
def test_it_starts_as_on_a_space(check, hardware):
    told = check.start(ROOT, hardware)
    assert told["status"] == 0
    assert told["answers_s"] <= told["ready_s"]
