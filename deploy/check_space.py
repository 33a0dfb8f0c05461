"""Checks a checkout against the rules of Hugging Face Spaces, and starts it as a Space would.

python deploy/check_space.py                    the rules alone
python deploy/check_space.py --start cpu        and a start on CPU Basic: 2 cores, 16 GB
python deploy/check_space.py --start zero       and on ZeroGPU, with the real package `spaces`
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]

# https://huggingface.co/docs/hub/spaces-config-reference and spaces-zerogpu, as of August 2026.
_NEEDED = ("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "license")
_KNOWN = {
    *_NEEDED, "pinned", "short_description", "models", "datasets", "tags", "thumbnail", "suggested_hardware",
    "startup_duration_timeout", "preload_from_hub", "hf_oauth", "hf_oauth_scopes", "hf_oauth_expiration_minutes",
    "header", "fullWidth", "disable_embedding", "custom_headers", "base_path", "app_port",
}  # fmt: skip
_COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
_PYTHONS = {"3.10", "3.10.13", "3.12", "3.12.12"}
_TORCH = ("2.8.0", "2.9.0", "2.9.1", "2.10.0", "2.11.0")
_SHORT, _LARGEST = 60, 10_000_000
_CORES, _MEMORY = 2, 16 << 30
_PATIENCE = 600.0


def faults(root: Path) -> list[str]:
    """What in a checkout is against the rules, a sentence each."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    found = re.match(r"---\n(.*?)\n---\n", readme, re.DOTALL)
    if found is None:
        return ["README.md does not begin with the Space's settings between two lines of ---"]
    settings = yaml.safe_load(found[1])
    return [*_setting_faults(root, settings), *_requirement_faults(root, settings), *_file_faults(root)]


def _setting_faults(root: Path, settings: dict[str, Any]) -> Iterator[str]:
    for name in _NEEDED:
        if not settings.get(name):
            yield f"{name} is missing in README.md"
    for name in settings.keys() - _KNOWN:
        yield f"{name} in README.md is no setting of a Space"
    for name in ("colorFrom", "colorTo"):
        if settings.get(name) not in _COLOURS:
            yield f"{name} is {settings.get(name)}; a Space knows {', '.join(sorted(_COLOURS))}"
    if settings.get("sdk") != "gradio":
        yield f"sdk is {settings.get('sdk')}; ZeroGPU takes gradio alone"
    if str(settings.get("python_version")) not in _PYTHONS:
        yield f"python_version is {settings.get('python_version')}; ZeroGPU has {', '.join(sorted(_PYTHONS))}"
    if not (root / str(settings.get("app_file") or "app.py")).is_file():
        yield f"app_file is {settings.get('app_file')}, which is not there"
    if len(str(settings.get("short_description", ""))) > _SHORT:
        yield f"short_description has more than {_SHORT} characters"
    if not re.fullmatch(r"\d+(s|m|h|hr)?", str(settings.get("startup_duration_timeout", "30m"))):
        yield f"startup_duration_timeout is {settings['startup_duration_timeout']}, which is no time such as 30m"


def _requirements(path: Path) -> dict[str, list[Requirement]]:
    lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    found: dict[str, list[Requirement]] = {}
    for requirement in map(Requirement, filter(None, lines)):
        found.setdefault(requirement.name.lower().replace("_", "-"), []).append(requirement)
    return found


def _requirement_faults(root: Path, settings: dict[str, Any]) -> Iterator[str]:
    asked, pinned = _requirements(root / "requirements.txt"), _requirements(root / "constraints.txt")
    version = str(settings.get("sdk_version"))
    if "gradio" not in asked or not asked["gradio"][0].specifier.contains(version):
        yield f"sdk_version is {version}, which requirements.txt does not take"
    if not any(pin.specifier.contains(version) for pin in pinned.get("gradio", ())):
        yield f"sdk_version is {version}, which is not the gradio of constraints.txt"
    if "torch" not in asked or not any(map(asked["torch"][0].specifier.contains, _TORCH)):
        yield f"requirements.txt takes no torch that ZeroGPU has ({', '.join(_TORCH)})"
    for name, requirements in asked.items():
        if any(requirement.url for requirement in requirements):
            yield f"{name} in requirements.txt is an address, not a package"


def _file_faults(root: Path) -> Iterator[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False)
    inside = (root / name for name in listed.stdout.split("\0") if name)
    files = list(inside) if listed.returncode == 0 and listed.stdout else list(root.rglob("*"))
    for path in files:
        if path.is_file() and path.stat().st_size > _LARGEST:
            yield f"{path.relative_to(root)} is larger than 10 MB and would need Git LFS"


# ---- the start --------------------------------------------------------------------------------


class _Devices(BaseHTTPRequestHandler):
    """What ZeroGPU tells a Space at its start: that its report has come."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        return


@contextmanager
def space_variables(hardware: str) -> Iterator[dict[str, str]]:
    """The variables that a Space's process finds."""
    variables = {
        "SYSTEM": "spaces",
        "SPACE_ID": "someone/a3tune-studio",
        "SPACE_HOST": "someone-a3tune-studio.hf.space",
        "SPACE_AUTHOR_NAME": "someone",
        "SPACE_REPO_NAME": "a3tune-studio",
        "CPU_CORES": str(_CORES),
        "MEMORY": "16Gi",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
    }
    if hardware != "zero":
        yield variables
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), _Devices) as devices:
        threading.Thread(target=devices.serve_forever, daemon=True).start()
        yield {
            **variables,
            "SPACES_ZERO_GPU": "true",
            "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{devices.server_port}",
        }
        devices.shutdown()


def start(root: Path, hardware: str) -> dict[str, Any]:
    """Start the application as a Space does, on two cores, until its model is ready; end it again.

    Returns:
        the seconds until it answered and until it was ready, and the largest memory of all its processes together in
        GB.

    Raises:
        RuntimeError: it ended, was not ready in ten minutes, or took more memory than there is.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with space_variables(hardware) as variables, tempfile.TemporaryDirectory() as home, tempfile.TemporaryFile() as log:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("A3TUNE_", "GRADIO_"))}
        server = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port)],
            cwd=root,
            env={**kept, **variables, "HOME": home, "A3TUNE_LOG": "json"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        process, begun, told = psutil.Process(server.pid), time.monotonic(), {"hardware": hardware}
        with_affinity = getattr(os, "sched_setaffinity", None)
        if with_affinity is not None:
            with_affinity(server.pid, sorted(os.sched_getaffinity(0))[:_CORES])
        most = 0
        try:
            for path, name in (("/healthz", "answers_s"), ("/readyz", "ready_s")):
                while not _answers(f"http://127.0.0.1:{port}{path}"):
                    most = max(most, _memory(process))
                    if server.poll() is not None or time.monotonic() - begun > _PATIENCE:
                        log.seek(0)
                        last = log.read().decode(errors="replace").strip()[-2000:]
                        raise RuntimeError(f"The application did not get so far as to answer {path}:\n{last}")
                    time.sleep(0.1)
                told[name] = round(time.monotonic() - begun, 1)
            most = max(most, _memory(process))
            told["memory_gb"] = round(most / 1e9, 2)
            if most > _MEMORY:
                raise RuntimeError(f"It takes {most / 1e9:.1f} GB, and CPU Basic has 16 GB")
            server.terminate()
            told["status"] = server.wait(_PATIENCE)
        finally:
            server.kill()
            server.wait()
    return told


def _memory(process: psutil.Process) -> int:
    total = 0
    for each in (process, *_children(process)):
        try:
            total += each.memory_info().rss
        except psutil.Error:
            continue
    return total


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def main() -> int:
    """Say what is wrong; 1 where something is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT, help="the checkout (default: this one)")
    parser.add_argument("--start", choices=("cpu", "zero"), help="start it too, as on this hardware")
    options = parser.parse_args()
    found = faults(options.folder)
    print("\n".join(found) if found else "The checkout keeps the rules of Spaces.")
    if options.start and not found:
        try:
            print(json.dumps(start(options.folder, options.start)))
        except RuntimeError as error:
            print(error)
            return 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
