"""A visitor without a browser: gives files to a served page and takes what it says."""

from __future__ import annotations

import json
import secrets
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import httpx


class PageClient:
    """One visit to the page at ``url``."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=httpx.Timeout(120, pool=None), trust_env=False)
        self._session = secrets.token_hex(8)
        self._config = self._http.get("/config").json()
        self._prefix = self._config.get("api_prefix", "")
        self._unfinished: Iterator[dict[str, Any]] = iter(())

    def __enter__(self) -> PageClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, path: Path) -> str:
        """Give a file to the Inspect tab and say what the page's status line says last, as text with its markup."""
        *_, last = self._open(path)
        place = self._event(self._component("upload"), "upload")["outputs"].index(self._component("status"))
        return str(last["data"][place])

    def begin_to_open(self, path: Path) -> None:
        """Give a file to the Inspect tab, and wait until it is being read."""
        self._unfinished = self._open(path)
        next(self._unfinished)

    def ask(self, question: str) -> Iterator[None]:
        """Ask about the image on show: an item for each thing that is told meanwhile."""
        button, words = self._component("ask"), self._component("question")
        reserve = self._event(button, "click")
        given = {words: question, self._component("adapters"): ["base"]}
        list(self._follow(reserve["id"], button, [given.get(part) for part in reserve["inputs"]]))
        answer = next(event for event in self._config["dependencies"] if event.get("trigger_after") == reserve["id"])
        for _ in self._follow(answer["id"], button, []):
            yield

    def close(self) -> None:
        """Leave; what was begun is left alone."""
        if isinstance(self._unfinished, Generator):
            self._unfinished.close()
        self._http.close()

    def _open(self, path: Path) -> Iterator[dict[str, Any]]:
        target = self._component("upload")
        event = self._event(target, "upload")
        # Beside the files their number among those that the page has sent.
        data = [self._upload(path) if part == target else 0 for part in event["inputs"]]
        return self._follow(event["id"], target, data)

    def _upload(self, path: Path) -> list[dict[str, Any]]:
        (file,) = self._http.post(
            f"{self._prefix}/upload", files={"files": (path.name, path.read_bytes())}, params={"upload_id": "u"}
        ).json()
        return [{"path": file, "meta": {"_type": "gradio.FileData"}, "orig_name": path.name}]

    def _component(self, name: str) -> int:
        return next(part["id"] for part in self._config["components"] if part["props"].get("elem_id") == name)

    def _event(self, target: int, kind: str) -> dict[str, Any]:
        """What the server does at it; the browser may do something before."""
        found = (event for event in self._config["dependencies"] if [target, kind] in event["targets"])
        return next(event for event in found if event["backend_fn"])

    def _follow(self, event: int, target: int, data: list[Any]) -> Iterator[dict[str, Any]]:
        asked = {"data": data, "fn_index": event, "session_hash": self._session, "trigger_id": target}
        self._http.post(f"{self._prefix}/queue/join", json=asked).raise_for_status()
        with self._http.stream("GET", f"{self._prefix}/queue/data", params={"session_hash": self._session}) as lines:
            for line in lines.iter_lines():
                told = json.loads(line[5:]) if line.startswith("data:") else {}
                if told.get("msg") in ("process_generating", "process_completed"):
                    yield told["output"]
                if told.get("msg") == "process_completed":
                    return
