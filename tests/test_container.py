"""The container's recipe, step by step in a clean folder: no Docker is asked."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import yaml

from tests.support.waiting import until

ROOT = Path(__file__).resolve().parent.parent


class Step(NamedTuple):
    """An instruction with what follows it."""

    name: str
    text: str


def steps() -> list[Step]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [Step(*line.split(None, 1)) for line in lines if line.strip()]


def stages() -> list[list[Step]]:
    found: list[list[Step]] = [[]]
    for step in steps():
        if step.name == "FROM":
            found.append([])
        found[-1].append(step)
    return found[1:]


def copies(stage: list[Step]) -> list[tuple[list[str], str]]:
    """(sources in the project, destination) of each COPY."""
    found = [shlex.split(step.text) for step in stage if step.name == "COPY"]
    return [(words[:-1], words[-1]) for words in found if not words[0].startswith("--from")]


FINAL = stages()[-1]


def value(name: str) -> str:
    (text,) = [step.text for step in FINAL if step.name == name]
    return text


def variables() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(value("ENV")))


def test_what_is_copied_is_there_and_not_ignored():
    rules = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    sources = {source for stage in stages() for words, _ in copies(stage) for source in words}
    assert sources == allowed
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert not any(step.name == "ADD" for step in steps())


def test_it_runs_as_nobody_special_and_writes_to_one_volume():
    assert value("USER") == "10001:10001"
    assert value("VOLUME") == "/data"
    assert [name for name in (step.name for step in FINAL) if name == "HEALTHCHECK"] == ["HEALTHCHECK"]
    places = [text for name, text in variables().items() if name != "PATH" and text.startswith("/")]
    assert places
    assert [place for place in places if not place.startswith(("/data", "/tmp"))] == []


@pytest.mark.parametrize("step", [step for step in steps() if step.name == "RUN"], ids=lambda step: step.text[:30])
def test_each_command_is_sound_shell(step):
    subprocess.run(["sh", "-n", "-c", step.text], check=True)


@pytest.mark.skipif(
    f"torch=={version('torch').partition('+')[0]}\n" not in (ROOT / "constraints.txt").read_text(),
    reason="another torch is installed than the image has",
)
def test_the_installation_can_be_resolved():
    """With what is installed here, so that nothing is asked for over the network."""
    (install,) = [step.text for step in steps() if "pip install" in step.text]
    words = shlex.split(install.rsplit("&&", 1)[1].replace("$index", ""))
    assert words[:4] == ["/venv/bin/python", "-m", "pip", "install"]
    arguments = [sys.executable, *words[1:], "--no-index", "--dry-run", "--quiet"]
    subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize(("torch", "code"), [("cpu", 0), ("cuda", 0), ("rocm", 1)])
def test_the_build_argument_chooses_the_wheels(torch, code):
    (install,) = [step.text for step in steps() if "pip install" in step.text]
    choice = install.split("&&", 1)[0] + ' && echo "$index"'
    done = subprocess.run(["sh", "-c", choice], env={"TORCH": torch}, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert ("whl/cpu" in done.stdout) == (torch == "cpu")


def healthy(check: list[str], environment: dict[str, str]) -> bool:
    return subprocess.run(check, env=environment, capture_output=True, check=False).returncode == 0


def ready(port: int) -> bool:
    return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False, timeout=60).status_code == 200


def test_what_is_copied_serves_the_page_writes_only_where_it_may_and_ends_when_told(tmp_path):
    """The last stage's files alone, with its variables, start and health check."""
    studio, places = tmp_path / "studio", {"/data": tmp_path / "data", "/tmp": tmp_path / "tmp"}
    for sources, destination in copies(FINAL):
        for source in sources:
            place = studio / destination / ("" if (ROOT / source).is_dir() else source)
            if (ROOT / source).is_dir():
                # With what is compiled already, as the recipe compiles it; other tests may just be writing more.
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("*.pyc.*"))
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, place)
    for place in places.values():
        place.mkdir()
    before = {path: path.stat().st_mtime_ns for path in studio.rglob("*")}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: text for name, text in variables().items() if name != "PATH"}
    for name, text in environment.items():
        for shown, real in places.items():
            environment[name] = text = re.sub(rf"^{shown}\b", str(real), text)
    environment |= {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(places["/tmp"]),
        "GRADIO_SERVER_PORT": str(port),
        "HF_HUB_OFFLINE": "1",
    }
    entry = [sys.executable, *json.loads(value("ENTRYPOINT"))[1:]]
    check = [sys.executable, *json.loads(value("HEALTHCHECK").split("CMD", 1)[1])[1:]]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(entry, cwd=studio, env=environment, stdout=log, stderr=log)
        try:
            until(lambda: server.poll() is not None or healthy(check, environment), pause=0.5)
            page = httpx.get(f"http://127.0.0.1:{port}/", trust_env=False, timeout=60)
            assert "A3Tune Studio" in page.text
            until(lambda: server.poll() is not None or ready(port), pause=0.2)
            assert server.poll() is None
            server.send_signal(signal.SIGTERM)
            assert server.wait() == 0, (tmp_path / "log").read_text()
        finally:
            server.kill()
            server.wait()
    assert {path: path.stat().st_mtime_ns for path in studio.rglob("*")} == before


def test_the_services_stand_as_the_page_about_them_says():
    folder = ROOT / "deploy"
    services = yaml.safe_load((folder / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert set(services) == {"studio", "nginx", "orthanc"}
    studio = services["studio"]
    assert studio["read_only"]
    assert studio["cap_drop"] == ["ALL"]
    assert studio["networks"] == ["inside"]
    assert [volume.split(":")[1] for volume in studio["volumes"]] == [value("VOLUME")]
    assert (folder / studio["build"]["context"]).resolve() == ROOT
    assert set(studio["build"]["args"]) <= {step.text.split("=")[0] for step in steps() if step.name == "ARG"}
    mounted = [volume.split(":")[0] for volume in services["nginx"]["volumes"]]
    assert (folder / mounted[0]).is_file()
    nginx = (folder / "nginx.conf").read_text(encoding="utf-8")
    assert re.findall(r"proxy_pass http://(\w+):(\d+)/", nginx) == [("studio", value("EXPOSE")), ("orthanc", "8042")]
    assert nginx.count("{") == nginx.count("}")
    assert f"location {studio['environment']['GRADIO_ROOT_PATH']}/ {{" in nginx
