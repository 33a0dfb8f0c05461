"""Attacks a really started server as strangers on the net would, and says what held: ``make attack``.

Each attack is a function that gets the server and raises when it succeeds; its first line says what must hold.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from a3tune.bundle import EXAMPLES  # noqa: E402
from tests.support.hostile_files import endless_jpeg, excel_bomb, packed  # noqa: E402

API = "/gradio_api"
ATTACKS: list[Callable[[Server], None]] = []


class Held(AssertionError):
    """An attack that succeeded: what should have held."""


def must(held: object, what: str) -> None:
    """Say what did not hold."""
    if not held:
        raise Held(what)


class Server:
    """A started application before strangers, with folders of its own.

    Args:
        folder: where all that it writes lies.
        scorer: what ranks regions.
    """

    def __init__(self, folder: Path, scorer: str = "demo") -> None:
        self.folder, self.uploads, self.studio = folder, folder / "uploads", folder / "studio"
        self.log = folder / "log.txt"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = os.environ | {
            "GRADIO_TEMP_DIR": str(self.uploads), "A3TUNE_STUDIO": str(self.studio), "TMPDIR": str(folder),
            "A3TUNE_CACHE": str(folder / "cache"), "A3TUNE_SCORER": scorer, "HF_HUB_OFFLINE": "1",
            "A3TUNE_PAGES": "40", "A3TUNE_UPLOAD_FILE_MB": "8", "A3TUNE_UPLOAD_EACH_MB": "12", "A3TUNE_REQUEST_MB": "2",
            "A3TUNE_PREPARED_EXAMPLES": "1",
        }  # fmt: skip
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Begin to serve; the model loads meanwhile."""
        command = [sys.executable, str(ROOT / "app.py"), "--deployment", "space", "--host", "127.0.0.1"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)], cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )
        with httpx.Client(base_url=self.url, trust_env=False) as client:
            while self.process.poll() is None:
                try:
                    if client.get("/readyz").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
        raise Held(f"The server did not start: {self.log.read_text()[-2000:]}")

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()

    @contextmanager
    def visitor(self) -> Iterator[Visitor]:
        """A browser that has just loaded the page."""
        with httpx.Client(base_url=self.url, timeout=120, trust_env=False) as client:
            yield Visitor(client)

    def files(self) -> list[Path]:
        """What visitors left on the disk."""
        places = [self.uploads, self.studio]
        found = [path for place in places if place.is_dir() for path in place.rglob("*") if path.is_file()]
        return [path for path in found if path.name not in ("in-use", "queue.lock") and path.stat().st_size]


class Visitor:
    """One browser with one page.

    Args:
        client: the browser.
        config: the page's description, where it is known.
    """

    def __init__(self, client: httpx.Client, config: dict[str, Any] | None = None) -> None:
        self.client, self.page, self.secret = client, secrets.token_hex(8), secrets.token_urlsafe(32)
        must(client.get("/").status_code == 200, "the page is there")
        self.config = client.get("/config").json() if config is None else config

    def part(self, name: str) -> int:
        """The id of a part of the page."""
        return next(part["id"] for part in self.config["components"] if part["props"].get("elem_id") == name)

    def event(self, name: str, kind: str) -> dict[str, Any]:
        """An event of the page that the server has a part in."""
        target = [self.part(name), kind]
        found = (event for event in self.config["dependencies"] if target in event["targets"])
        return next(event for event in found if event["backend_fn"])

    def upload(self, content: bytes, name: str = "DOE^JOHN.png") -> httpx.Response:
        """Give a file."""
        return self.client.post(f"{API}/upload", files={"files": (name, content)})

    def file(self, content: bytes, name: str = "DOE^JOHN.png") -> dict[str, Any]:
        """Give a file, as an event takes it."""
        (path,) = self.upload(content, name).raise_for_status().json()
        return {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": name}

    def call(self, name: str, kind: str, **given: Any) -> str:
        """Set an event off with values by the names of parts, the page's own for all others; all that is told."""
        event = self.event(name, kind)
        known = {self.part(part): value for part, value in given.items()}
        parts = {part["id"]: part for part in self.config["components"]}
        values = []
        for number in event["inputs"]:
            secret = parts[number]["type"] == "browserstate"
            values.append(self.secret if secret else known.get(number, parts[number]["props"].get("value")))
        body = {"data": values, "fn_index": event["id"], "session_hash": self.page, "trigger_id": self.part(name)}
        if not event["queue"]:
            return self.client.post(f"{API}/run/predict", json=body).text
        self.client.post(f"{API}/queue/join", json=body).raise_for_status()
        told = []
        with self.client.stream("GET", f"{API}/queue/data", params={"session_hash": self.page}) as lines:
            for line in lines.iter_lines():
                told.append(line)
                if '"process_completed"' in line:
                    break
        return "\n".join(told)

    def ask_widget(self, name: str, function: str, data: Any) -> httpx.Response:
        """Ask a function of one of the page's own widgets."""
        body = {"component_id": self.part(name), "fn_name": function, "session_hash": self.page, "data": data}
        return self.client.post(f"{API}/component_server", json=body)


def attack(function: Callable[[Server], None]) -> Callable[[Server], None]:
    """Puts a function into the list."""
    ATTACKS.append(function)
    return function


def picture() -> bytes:
    """A PNG that opens."""
    return (EXAMPLES / "chest_mass.png").read_bytes()


@attack
def adapter_patterns(server: Server) -> None:
    """An adapter whose settings hold a pattern with nested repeats is refused, and others are served meanwhile."""
    key = "base_model.model.x.q_proj.lora_A.weight"
    header = json.dumps({key: {"dtype": "F32", "shape": [8, 8], "data_offsets": [0, 256]}}).encode()
    pattern = "^(" + "(a+)+" * 20 + ")+$" + "a" * 20_000
    settings = {"peft_type": "LORA", "r": 20_000, "target_modules": pattern, "rank_pattern": {pattern: 20_000}}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("adapter_config.json", json.dumps(settings))
        archive.writestr("adapter_model.safetensors", struct.pack("<Q", len(header)) + header + bytes(256))
    with server.visitor() as eve:
        told = eve.call("tune-adapter", "upload", **{"tune-adapter": eve.file(packed.getvalue(), "a.zip")})
    must("error" in told and "Loaded as" not in told, "the adapter is refused in words")


@attack
def endless_picture(server: Server) -> None:
    """A picture that never ends is ended, and another visitor's opens meanwhile."""
    with server.visitor() as eve, server.visitor() as ann:
        event = eve.event("upload", "upload")
        file = eve.file(endless_jpeg(3000), "endless.jpg")
        data = [[file] if number == eve.part("upload") else 0 for number in event["inputs"]]
        body = {"data": data, "fn_index": event["id"], "session_hash": eve.page, "trigger_id": eve.part("upload")}
        eve.client.post(f"{API}/queue/join", json=body).raise_for_status()
        must("Opened." in ann.call("upload", "upload", upload=[ann.file(picture())]), "another visitor's picture opens")
        with eve.client.stream("GET", f"{API}/queue/data", params={"session_hash": eve.page}) as lines:
            told = next(line for line in lines.iter_lines() if '"process_completed"' in line)
    must("took too long" in told, "the endless one is refused in words")


@attack
def hostile_data(server: Server) -> None:
    """A workbook that unpacks to gigabytes of texts is ended, and another visitor's picture opens meanwhile."""
    with server.visitor() as eve, server.visitor() as ann:
        event = eve.event("tune-zip", "upload")
        archive = eve.file(packed({"a.xlsx": excel_bomb(60)}), "a.zip")
        values = [archive if number == eve.part("tune-zip") else eve.secret for number in event["inputs"]]
        body = {"data": values, "fn_index": event["id"], "session_hash": eve.page, "trigger_id": eve.part("tune-zip")}
        eve.client.post(f"{API}/queue/join", json=body).raise_for_status()
        must("Opened." in ann.call("upload", "upload", upload=[ann.file(picture())]), "another visitor's picture opens")
        with eve.client.stream("GET", f"{API}/queue/data", params={"session_hash": eve.page}) as lines:
            told = [line for line in lines.iter_lines() if "took too" in line or '"process_completed"' in line]
    must("took too" in "".join(told), "the workbook is refused in words")


@attack
def crowded_archive(server: Server) -> None:
    """An archive of 60,000 small files is refused by its directory, which says who can raise the limit."""
    names = [f"{number}.png" for number in range(60_000)]
    crowd = packed({"data.csv": b"image,question,answer\n0.png,a,b\n"} | dict.fromkeys(names, b"x"), zipfile.ZIP_STORED)
    with server.visitor() as eve:
        told = eve.call("tune-zip", "upload", **{"tune-zip": eve.file(crowd, "a.zip")})
    must("60,001 entries" in told and "A3TUNE_DATA_FILES" in told, "the archive is refused in words")


@attack
def shared_model(server: Server) -> None:
    """A stranger changes nothing that all share: nothing is loaded, fetched or cancelled."""
    with server.visitor() as eve:
        for action in ("load", "download", "cancel"):
            request = {"action": action, "kind": "model", "name": "demo"}
            must("role operator" in eve.ask_widget("models", "models_act", request).text, f"{action} is refused")
        named = eve.ask_widget("models", "models_named", {"kind": "model", "name": "/etc"})
        must("role operator" in named.text, "a folder is not looked up")
        must(eve.ask_widget("models", "models_state", {}).json()["work"] is None, "nothing is being done")


@attack
def unneeded_routes(server: Server) -> None:
    """What Gradio has and the page does not need is not there."""
    names = (
        f"{API}/deep_link?session_hash=abcd", f"{API}/process_recording", "/monitoring", "/monitoring/summary",
        f"{API}/proxy=http://127.0.0.1:1/", f"{API}/runs", f"{API}/run-history/records", f"{API}/vibe-edit",
        f"{API}/vibe-code", f"{API}/vibe-starter-queries", f"{API}/dev/reload", f"{API}/queue/status", f"{API}/reset",
        f"{API}/call/predict", f"{API}/file=/etc/passwd", f"{API}/file=http://127.0.0.1:1/x", f"{API}/stream/abcd",
        f"{API}/openapi.json", f"{API}/profiling/traces", f"{API}/mcp/sse", "/login", "/logout", "/docs",
        "/openapi.json", "/pwa_icon", "/manifest.json", "/svelte/x.js", "/.env",
        f"{API}/custom_component/x/client/component/y",
    )  # fmt: skip
    with server.visitor() as eve:
        for name in names:
            for method in ("GET", "POST", "PUT", "OPTIONS"):
                status = eve.client.request(method, name, content=b"x" * 1000).status_code
                must(status == 404, f"{method} {name} is not there ({status})")


@attack
def large_bodies(server: Server) -> None:
    """Files and requests have an end, which says who can raise it, and nothing of them stays."""
    with server.visitor() as eve:
        answers = [
            eve.client.post(f"{API}/process_recording", files={"file": ("a.wav", bytes(1 << 20))}),
            eve.upload(bytes(9_000_000)),
            eve.client.post(f"{API}/queue/join", json={"session_hash": eve.page, "data": ["x" * 3_000_000]}),
        ]
        must([answer.status_code for answer in answers] == [404, 413, 413], "each is refused")
        must("raise A3TUNE_UPLOAD_FILE_MB" in answers[1].text, "who can raise the limit is told")
        kept = [eve.upload(bytes(5_000_000), f"{number}.png") for number in range(4)]
        must([answer.status_code for answer in kept][-1] == 429, "a visit's uploads have an end")


@attack
def pages_of_others(server: Server) -> None:
    """The name of a page opens nothing to another browser, nor to one without a cookie."""
    stranger = httpx.Client(base_url=server.url, trust_env=False)
    with server.visitor() as ann, server.visitor() as eve, stranger:
        must("Opened." in ann.call("upload", "upload", upload=[ann.file(picture())]), "a picture is opened")
        eve.page = ann.page
        for client, status in ((eve.client, 403), (stranger, 401)):
            for path in (f"{API}/heartbeat/{ann.page}", f"{API}/queue/data?session_hash={ann.page}"):
                must(client.get(path).status_code == status, f"{path} is refused")
            for path in ("queue/join", "run/predict", "component_server", "cancel"):
                answer = client.post(f"{API}/{path}", json={"session_hash": ann.page, "data": [], "fn_index": 0})
                must(answer.status_code == status, f"{path} is refused")


@attack
def uploads_of_others(server: Server) -> None:
    """Nobody guesses, reads or removes another's upload, and no path of the server is a file to the page."""
    with server.visitor() as ann, server.visitor() as eve:
        mine, theirs = ann.file(picture()), eve.file(picture())
        must(Path(mine["path"]).parent != Path(theirs["path"]).parent, "the same file of two visitors lies apart")
        must(ann.client.get(f"{API}/file={mine['path']}").status_code == 404, "no upload is served")
        for path in (mine["path"], "/etc/passwd", str(ROOT / "app.py"), "http://127.0.0.1:1/x.png"):
            body = {"session_hash": eve.page, "data": [[{**theirs, "path": path}]], "fn_index": 0}
            must(eve.client.post(f"{API}/queue/join", json=body).status_code == 403, f"{path} is refused")
        must("Opened." in eve.call("upload", "upload", upload=[theirs]), "one's own opens")
        must(Path(mine["path"]).exists() and not Path(theirs["path"]).exists(), "only what was opened is removed")


@attack
def foreign_sites(server: Server) -> None:
    """A page of another site, or another name for this machine, gets nothing."""
    cross = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}
    headers: list[dict[str, str]] = [
        {"host": "evil.example"}, {"x-forwarded-host": "evil.example"}, {"origin": "https://evil.example"},
        {"origin": "null"}, {"origin": f"http://127.0.0.1:{server.port + 1}"}, cross,
    ]  # fmt: skip
    with server.visitor() as ann:
        for foreign in headers:
            answer = ann.client.post(f"{API}/queue/join", json={"session_hash": ann.page}, headers=foreign)
            must(answer.status_code == 403, f"{foreign} is refused")
            must("access-control-allow-origin" not in answer.headers, f"{foreign} may not read")
        policy = ann.client.get("/").headers["content-security-policy"]
        allowed = [part for part in policy.split("; ") if "//" in part and not part.startswith("frame-ancestors")]
        must(not allowed, "the page may ask no other host")


@attack
def broken_requests(server: Server) -> None:
    """What no page sends is refused as such: no answer says that the server failed."""
    with server.visitor() as eve:
        base = {"session_hash": eve.page}
        bodies: list[Any] = [
            {}, [], None, 5, {**base, "fn_index": 10**9}, {**base, "fn_index": "x"}, {**base, "data": {}},
            {**base, "component_id": 10**9, "fn_name": "x", "data": 1}, {**base, "event_id": {}},
            {**base, "component_id": [], "fn_name": [], "data": 1}, {**base, "trigger_id": "x" * 1000},
            {**base, "fn_index": 0, "data": [{"path": None}]},
        ]  # fmt: skip
        for path in ("queue/join", "run/predict", "component_server", "cancel", "upload"):
            for body in bodies:
                status = eve.client.post(f"{API}/{path}", json=body).status_code
                must(status < 500, f"{path} with {str(body)[:80]} says {status}")
        for path in ("queue/data", "queue/data?session_hash=", "queue/data?session_hash=nobody-knows"):
            answer = eve.client.get(f"{API}/{path}")
            must(answer.status_code in (400, 404) and answer.json()["detail"], f"{path} says why it is refused")
        widgets = [("viewer", "find_regions"), ("models", "models_act"), ("evaluate-results", "read_file")]
        for name, function in widgets:
            for data in (1, None, "x", [], {"session": {}, "kind": [], "name": 5}):
                status = eve.ask_widget(name, function, data).status_code
                must(status == 400, f"{function} with {data} says {status}")
        for event in eve.config["dependencies"]:
            if not event["queue"] and event["backend_fn"]:
                body = {**base, "fn_index": event["id"], "data": [[1]] * 40}
                answer = eve.client.post(f"{API}/run/predict", json=body)
                must("error" not in answer.json() or answer.json()["error"], "wrong values are refused in words")
        for path in ("queue/join", "run/predict", "component_server", "cancel", "upload"):
            for content in (b"", b"{", b"[" * 50_000, b"\xff\xfe\x00"):
                status = eve.client.post(f"{API}/{path}", content=content).status_code
                must(400 <= status < 500, f"{path} with broken bytes says {status}")


@attack
def too_many_pages(server: Server) -> None:
    """Pages have an end for one visitor, and pages that nobody holds open make room for others."""
    with server.visitor() as eve:
        statuses = [
            eve.client.post(f"{API}/cancel", json={"session_hash": f"page-{number:04}"}).status_code
            for number in range(12)
        ]
        must(statuses[-1] == 429, "one visitor's pages have an end")


@attack
def free_settings(server: Server) -> None:
    """A run names no file or hub id of its own, and makes no more steps than one may."""
    with server.visitor() as eve:
        data = eve.call("tune-sample", "click")
        must("Looked through" in data, "the sample is taken in")
        folders = [path.parent.name for path in server.studio.rglob("data.json")]
        name = next(name for name in folders if name in data)
        for setting, words in (
            ("max_steps=100000000", "A3TUNE_RUN_STEPS"),
            ("label_scorer=/etc/passwd", "offered here"),
            ("label_segmenter=hub:someone/sam/sam.pth", "offered here"),
        ):
            told = eve.call("tune-start", "click", **{"tune-data": name, "tune-others": setting})
            must(words in told, f"{setting} is refused")
        eve.call("forget-yes", "click")
        must(not [path for path in server.studio.rglob("data.json") if path.parent.name == name], "it is forgotten")


@attack
def evaluations_of_others(server: Server) -> None:
    """Nobody reads, takes or compares another's evaluation, and no file beside its results is given out."""
    with server.visitor() as ann, server.visitor() as eve:
        begun = ann.call("evaluate-start", "click", **{"evaluate-limit": 1, "evaluate-adapters": ["base"]})
        must("Handed over" in begun, "an evaluation is begun")
        (run,) = {path.parent.name for path in server.studio.rglob("job.json") if path.parent.name in begun}
        asked: list[tuple[str, dict[str, Any]]] = [
            ("read_evaluation", {}), ("read_file", {"name": "items.jsonl"}), ("compare_evaluations", {"other": run}),
            ("read_questions", {"filter": {"kind": "all", "before": "base", "after": "base"}}),
        ]  # fmt: skip
        for name, facts in asked:
            told = eve.ask_widget("evaluate-results", name, {"visitor": eve.secret, "run": run, **facts})
            must("There is no such run" in told.text, f"{name} is refused to others")
        for name in (f"../{run}", "..", "/etc", ""):
            told = eve.ask_widget("evaluate-results", "read_evaluation", {"visitor": eve.secret, "run": name})
            must("There is no such run" in told.text, f"the run {name!r} is refused")
        for name in ("../job.json", "evaluation.json", "/etc/passwd"):
            told = ann.ask_widget("evaluate-results", "read_file", {"visitor": ann.secret, "run": run, "name": name})
            must("error" in told.json() and "content" not in told.json(), f"the file {name} is refused")
        for visitor in (ann, eve):
            visitor.call("forget-yes", "click")
        must(not [path for path in server.studio.rglob("job.json") if path.parent.name == run], "it is forgotten")


@attack
def what_is_left(server: Server) -> None:
    """What a killed server had in hand is gone when the next one has started."""
    with server.visitor() as ann:
        must(ann.upload(np.random.default_rng(1).bytes(1 << 20)).status_code == 200, "a file is given")
    must(server.files(), "it waits on the disk")
    server.end(signal.SIGKILL)
    server.start()
    must(not server.files(), "nothing of it is left")


def main() -> int:
    """Attack a server, and print what held."""
    failed = 0
    with tempfile.TemporaryDirectory(prefix="a3tune-attack-") as folder:
        server = Server(Path(folder))
        server.start()
        try:
            for function in ATTACKS:
                begun, words = time.monotonic(), "held"
                try:
                    function(server)
                except Exception as error:
                    failed, words = failed + 1, f"FELL: {error}"
                name = function.__name__.replace("_", " ")
                print(f"{name:<20} {time.monotonic() - begun:6.1f} s  {words}", flush=True)
        finally:
            server.end()
    print(f"{len(ATTACKS) - failed} of {len(ATTACKS)} held")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
