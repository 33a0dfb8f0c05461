"""The application as a process that can be ended and started again, with runs that outlive it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext

from app.jobs.worker import process_of

ROOT = Path(__file__).resolve().parents[2]
# Several processes load torch at once on two cores.
PATIENCE_MS = 300_000


def wide_window(browser: Browser) -> BrowserContext:
    """A browser window as wide as the tabs with tables and charts are meant for, patient and with downloads."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, accept_downloads=True)
    context.set_default_timeout(PATIENCE_MS)
    return context


class Server:
    """The application, which can be ended and started again at the same address with the same folders."""

    def __init__(self, folder: Path, scorer: Path) -> None:
        self.studio = folder / "studio"
        self._log = folder / "errors.txt"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._environment = os.environ | {
            "GRADIO_TEMP_DIR": str(folder / "uploads"),
            "A3TUNE_STUDIO": str(self.studio),
            "A3TUNE_CACHE": str(folder / "cache"),
            "A3TUNE_SCORER": str(scorer),
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONFAULTHANDLER": "1",
            "A3TUNE_PREPARED_EXAMPLES": "1",
        }
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        with self._log.open("a") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(ROOT / "app.py"), "--port", str(self._port)],
                cwd=ROOT, env=self._environment, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        for line in self._process.stdout:
            if self.url in line:
                return
        pytest.fail(f"The application ended before it served a page:\n{self._log.read_text()}")

    def kill(self) -> None:
        """End it without a word, as when the machine takes it away."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def runs(self) -> list[Path]:
        return sorted(self.studio.glob("*/runs/*"))

    def clean(self) -> None:
        """End it and every run that outlived it; a test fails whose server ended by itself, and tells its log."""
        ended = self._process.poll()
        self.kill()
        for path in self.studio.glob("*/runs/*/*.json"):
            record = json.loads(path.read_text())
            if path.name in ("process.json", "worker.json"):
                process = process_of(record)
                if process is not None:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
        if ended is not None:
            pytest.fail(f"The application ended by itself, with {ended}:\n{self._log.read_text()}")
