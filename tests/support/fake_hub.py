"""A small hub on this machine: enough of the real one's answers for its client to fetch a repository."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Serves folders as repositories.

    Attributes:
        repositories: hub id -> folder; those of data sets are called datasets/owner/name.
        revision: the commit that repositories are at.
        gated: hub ids whose files are withheld.
        cut_after: bytes of a file's body after which the connection breaks, once per file; None for never.
        served: bytes of file bodies sent, by file name.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.revision = COMMIT
        self.cut_after: int | None = None
        self.served: dict[str, int] = {}
        self._cut: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(hub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments) -> None:
                return

            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def _answer(self, body: bool) -> None:
                path = urlsplit(self.path).path.strip("/")
                kind = "datasets/" if path.removeprefix("api/").startswith("datasets/") else ""
                asked = path.removeprefix("api/").removeprefix("models/").removeprefix("datasets/")
                name = kind + "/".join(asked.split("/")[:2])
                folder = hub.repositories.get(name)
                if folder is None:
                    return self._send(404, {"X-Error-Code": "RepoNotFound"}, b"{}", body)
                if path.startswith("api/"):
                    entries = sorted(
                        (file.relative_to(folder).as_posix(), file.stat().st_size)
                        for file in folder.rglob("*")
                        if file.is_file()
                    )
                    files = [
                        {"type": "file", "rfilename": entry, "path": entry, "size": size, "oid": COMMIT}
                        for entry, size in entries
                    ]
                    if "/tree/" in path:
                        return self._send(200, {}, json.dumps(files).encode(), body)
                    listing = {"id": name, "sha": hub.revision, "siblings": files}
                    return self._send(200, {}, json.dumps(listing).encode(), body)
                if name in hub.gated:
                    return self._send(403, {"X-Error-Code": "GatedRepo"}, b"{}", body)
                file = folder / "/".join(asked.split("/")[4:])
                if not file.is_file():
                    return self._send(
                        404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": hub.revision}, b"{}", body
                    )
                return self._send_file(file, body)

            def _send_file(self, file: Path, body: bool) -> None:
                content = file.read_bytes()
                headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": hub.revision}
                start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
                status = 206 if start else 200
                if start:
                    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                rest = content[start:]
                if not body:
                    return self._send(status, headers, rest, body)
                if hub.cut_after is not None and len(rest) > hub.cut_after and file.name not in hub._cut:
                    hub._cut.add(file.name)
                    self._send(status, headers, rest, body=False)
                    self.wfile.write(rest[: hub.cut_after])
                    self.wfile.flush()
                    hub.served[file.name] = hub.served.get(file.name, 0) + hub.cut_after
                    self.close_connection = True
                    self.connection.close()
                    return None
                hub.served[file.name] = hub.served.get(file.name, 0) + len(rest)
                return self._send(status, headers, rest, body)

            def _send(self, status: int, headers: dict[str, str], content: bytes, body: bool) -> None:
                self.send_response(status)
                for key, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(key, value)
                self.end_headers()
                if body:
                    self.wfile.write(content)

        return Handler
