"""What is handed over: requirements, constraints, README, make targets and the size and content of files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
# Files over this size need the hub's large-file storage.
LARGEST_ASSET = 10_000_000
PROJECT_FOLDERS = (".ci", "a3tune", "app", "assets", "benchmarks", "deploy", "docs", "tests")
TEXT_KINDS = {".py", ".md", ".txt", ".toml", ".yaml", ".yml", ".json", ".jsonl", ".csv", ".html", ".css", ".js", ".sh"}


def requirements_in(name: str) -> list[Requirement]:
    lines = (line.strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


RUN_REQUIREMENTS = requirements_in("requirements.txt")
ALL_REQUIREMENTS = RUN_REQUIREMENTS + requirements_in("requirements-test.txt")
CONSTRAINTS = requirements_in("constraints.txt")


def pinned_version(name: str, python: str) -> Version:
    """The one version that constraints.txt gives ``name`` on this Python."""
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    found = [
        constraint
        for constraint in CONSTRAINTS
        if canonicalize_name(constraint.name) == canonicalize_name(name)
        and (constraint.marker is None or constraint.marker.evaluate(environment))
    ]
    assert len(found) == 1, f"{name} on Python {python}: {len(found)} pins in constraints.txt, not one"
    (pin,) = found[0].specifier
    assert pin.operator == "==", f"{found[0]} is not an exact pin"
    return Version(pin.version)


def project_files() -> list[Path]:
    """The project's own files: those at the top and in its folders, without caches."""
    inside = [path for folder in PROJECT_FOLDERS for path in (ROOT / folder).rglob("*")]
    top = [path for path in ROOT.iterdir() if path.name not in {".git", ".coverage"}]
    return sorted(path for path in [*inside, *top] if path.is_file() and "__pycache__" not in path.parts)


@pytest.mark.parametrize("python", SUPPORTED)
def test_every_requirement_is_pinned_inside_its_range(python):
    outside = [str(item) for item in ALL_REQUIREMENTS if pinned_version(item.name, python) not in item.specifier]
    assert outside == []


@pytest.mark.parametrize("python", SUPPORTED)
def test_constraints_are_exact_and_give_each_package_one_version(python):
    versions = {constraint.name: pinned_version(constraint.name, python) for constraint in CONSTRAINTS}
    assert len(versions) > len(ALL_REQUIREMENTS)


def test_ranges_resolve_where_a_space_brings_its_own_torch():
    ranges = {requirement.name: requirement.specifier for requirement in RUN_REQUIREMENTS}
    assert [version for version in ("2.8.0", "2.9.1", "2.10.0", "2.11.0") if version not in ranges["torch"]] == []
    assert [requirement.name for requirement in RUN_REQUIREMENTS if requirement.url] == []


def test_the_environment_satisfies_the_requirements():
    installed = {str(item): metadata.version(item.name) for item in ALL_REQUIREMENTS}
    outside = {
        item: version for item, version in installed.items() if Version(version) not in Requirement(item).specifier
    }
    assert outside == {}


def imported_packages(folder: str) -> set[str]:
    """Top-level names of what the Python files under ``folder`` (or the file itself) import."""
    start = ROOT / folder
    names = set()
    for path in [start] if start.is_file() else start.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"a3tune", "app"}


def modules_of(distribution: str) -> set[str]:
    """Top-level module names that an installed distribution brings, read from its list of files."""
    files = metadata.files(distribution) or []
    return {file.parts[0].split(".")[0] for file in files if file.suffix in {".py", ".so", ".pyd"}}


def test_what_the_program_imports_is_required_by_name():
    imported = imported_packages("a3tune") | imported_packages("app") | imported_packages("app.py")
    provided = set().union(*(modules_of(item.name) for item in RUN_REQUIREMENTS))
    # `spaces` exists on Hugging Face Spaces only, which install it themselves.
    assert imported - provided - {"spaces"} == set(), "name these in requirements.txt"


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_space_header_agrees_with_the_project(readme):
    header = yaml.safe_load(readme.split("---\n")[1])
    colors = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert header["sdk"] == "gradio"
    assert Version(header["sdk_version"]) == pinned_version("gradio", header["python_version"])
    assert (ROOT / header["app_file"]).is_file()
    assert {header["colorFrom"], header["colorTo"]} <= colors
    assert header["license"] == "apache-2.0"
    assert len(header["short_description"]) <= 60


def test_readme_names_only_make_targets_that_exist(readme):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", " ".join(re.findall(r"`[^`]+`|^make .*$", readme, flags=re.MULTILINE))))
    assert {"app", "test"} <= named
    assert named <= targets


def test_a_commit_is_checked_with_what_lint_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)[1]
    recipe = recipe.replace("$(IN_VENV)", ".venv/bin/python").replace("$(VENV)", ".venv")
    commands = [part.strip(" @") for line in recipe.splitlines() for part in line.strip("\t").split("&&")]
    assert [hook["entry"] for hook in hooks] == commands


def test_readme_names_exactly_the_commands_that_exist(readme):
    table = set(re.findall(r"^\| `([a-z]+)[a-z ]*` \|", readme, flags=re.MULTILINE))
    shown = set(re.findall(r"-m a3tune ([a-z]+)", readme))
    helped = subprocess.run(
        [sys.executable, "-m", "a3tune", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    commands = set(re.findall(r"^    ([a-z]+) ", helped, flags=re.MULTILINE))
    assert table == commands
    assert shown <= commands


def test_local_links_lead_somewhere(readme):
    third_party = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    links = re.findall(r"(?<!!)\[[^\]]+\]\(([^)#:]+)\)", readme + third_party)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_third_party_lists_every_requirement():
    listed = {
        canonicalize_name(name)
        for name in re.findall(r"^\| \[([^\]]+)\]", (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {canonicalize_name(requirement.name) for requirement in ALL_REQUIREMENTS} <= listed


def test_assets_stay_small_enough_for_plain_git():
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in project_files()}
    assert {path: size for path, size in sizes.items() if size >= LARGEST_ASSET} == {}


def test_no_text_file_names_a_path_of_one_machine():
    # Written in parts, or this file would find itself.
    machine_path = re.compile(r"(?<![\w.:/$}])/(?:ro" + r"ot|wo" + r"rk|ho" + r"me|Us" + r"ers)/\w")
    texts = [path for path in project_files() if path.suffix in TEXT_KINDS or path.name in {"Makefile", "run"}]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in texts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if machine_path.search(line)
    ]
    assert texts
    assert found == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-python"], "no-such-python is not a Python 3.10 to 3.13. Name another one with PYTHON=.\n"),
        ([], "No Python 3.10 to 3.13 found. Install one, or name it: make app PYTHON=/path/to/python3.12\n"),
    ],
)
def test_a_missing_python_is_told_in_one_line(arguments, message, tmp_path):
    done = subprocess.run(
        ["/bin/sh", str(ROOT / ".ci" / "python"), *arguments],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


def test_the_python_that_is_named_is_used(tmp_path):
    done = subprocess.run(
        ["/bin/sh", str(ROOT / ".ci" / "python"), sys.executable],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).resolve() == Path(sys.executable).resolve()
