"""The wheel, installed and used outside the checkout: what it holds, and its commands on the bundled demo."""

from __future__ import annotations

import json
import os
import site
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
# An environment in which the wheel was installed with everything that it needs: `make test-wheel` names one.
INSTALLED = os.environ.get("A3TUNE_WHEEL_ENVIRONMENT")
# Nothing of the checkout may be found by an installed command.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", ROOT, "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(tmp_path_factory, request) -> Path:
    """The bin folder of an environment with the wheel; what the wheel needs is seen in the tests' own environment."""
    if INSTALLED:
        return Path(INSTALLED).resolve() / "bin"
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "tests_environment.pth").write_text("\n".join(site.getsitepackages()) + "\n", encoding="utf-8")
    pip("--python", folder / "bin" / "python", "install", "--no-deps", "--no-index", request.getfixturevalue("wheel"))
    return folder / "bin"


def test_everything_lies_inside_one_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "a3tune",
        wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info",
    }
    held = {name.removeprefix("a3tune/") for name in names}
    needed = {
        "__init__.pyi", "py.typed", "training/presets/demo.yaml", "_studio/app.py", "_studio/app/ui.py",
        "_studio/assets/demo/model/model.safetensors", "_studio/assets/studio.css",
    }  # fmt: skip
    assert needed <= held
    pages = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "app").rglob("*")
        if path.suffix in {".js", ".css", ".html"}
    }
    assert {f"_studio/{page}" for page in pages} <= held
    assert not [name for name in names if "__pycache__" in name]


def test_it_needs_what_requirements_txt_says(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        facts = Parser().parsestr(archive.read(name).decode("utf-8"))
    lines = (line.strip() for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]

    def told(requirement: Requirement) -> tuple[str, str]:
        return requirement.name.lower().replace("_", "-"), str(requirement.specifier)

    assert sorted(map(told, map(Requirement, facts.get_all("Requires-Dist")))) == sorted(map(told, wanted))
    assert facts.get_payload().startswith("# A3Tune Studio\n")


def test_the_library_is_the_installed_one(environment, tmp_path):
    code = "import a3tune; print(a3tune.__file__); from a3tune.bundle import DEMO_MODEL as d; print(d.is_dir(), d)"
    done = subprocess.run(
        [environment / "python", "-c", code], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    home = str(environment.parent)
    assert first.startswith(home)
    assert second.startswith(f"True {home}")


def test_inspect_on_the_demo(environment, tmp_path):
    image = ROOT / "assets" / "examples" / "chest_mass.png"
    options = ["--question", "Is there a pleural effusion?", "--adapters", "base,a3", "--out", "result"]
    command = [environment / "a3tune", "inspect", "--image", image, *options]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "result" / "inspect.json").read_text(encoding="utf-8"))
    assert list(record["adapters"]) == ["base", "a3"]
    assert all(view["answer"] for view in record["adapters"].values())


@contextmanager
def served(environment: Path, folder: Path) -> Iterator[str]:
    """The address of the installed page, served from an empty folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [environment / "a3tune", "app", "--port", str(port)]
    options = ENVIRONMENT | {"PYTHONUNBUFFERED": "1", "A3TUNE_CACHE": str(folder / "cache")}
    with subprocess.Popen(
        command, cwd=folder, env=options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            for line in server.stdout:
                if f"127.0.0.1:{port}" in line:
                    break
            else:
                pytest.fail("the page was not served")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def test_the_page_on_the_demo(environment, tmp_path):
    with served(environment, tmp_path) as address:
        for _ in range(120):
            with urllib.request.urlopen(address, timeout=60) as answer:
                page = answer.read().decode("utf-8")
            # The page brings the first example with it, and its answers once the model has written them.
            if '"critical"' in page.replace("&quot;", '"').replace("&#34;", '"').replace('\\"', '"'):
                break
            time.sleep(1)
        else:
            pytest.fail("the demo did not answer")
        assert "A3Tune Studio" in page
