"""A small DICOMweb server over loopback, as the standard (PS3.18) says it: it searches, sends and stores."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import pydicom
from pydicom import Dataset

USER, PASSWORD = "studio", "a password"
_JSON = "application/dicom+json"
_STUDY = (
    *("StudyInstanceUID", "PatientID", "PatientName", "StudyDate", "StudyDescription", "AccessionNumber"),
    "ModalitiesInStudy",
)
_SERIES = ("SeriesInstanceUID", "SeriesNumber", "Modality", "SeriesDescription", "NumberOfSeriesRelatedInstances")


class DicomWebServer:
    """What the server holds, and what was asked of it.

    Attributes:
        objects: instances as files.
        asked: method and path with query of each request.
        answer: answers in the place of the server where it is set: given the handler, whether it did.
    """

    def __init__(self) -> None:
        self.objects: list[bytes] = []
        self.asked: list[str] = []
        self.answer: Callable[[BaseHTTPRequestHandler], bool] | None = None
        self.url = ""

    def datasets(self, **wanted: str) -> list[tuple[bytes, Dataset]]:
        """The instances whose attributes have these values."""
        read = [(content, pydicom.dcmread(io.BytesIO(content))) for content in self.objects]
        return [
            (content, one)
            for content, one in read
            if all(str(one.get(keyword, "")) == value for keyword, value in wanted.items())
        ]


def parts_of(kind: str, body: bytes) -> list[bytes]:
    """The parts of a message of the type multipart/related."""
    message = Message()
    message["Content-Type"] = kind
    mark = b"--" + message.get_boundary().encode()
    return [part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n") for part in body.split(mark)[1:-1]]


def _told(one: Dataset, keywords: tuple[str, ...]) -> dict:
    told = Dataset()
    for keyword in keywords:
        if keyword in one:
            told[keyword] = one[keyword]
    return told.to_json_dict()


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *args: object) -> None:
        pass

    def _begin(self) -> bool:
        held = self.server.held
        held.asked.append(f"{self.command} {self.path}")
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != expected:
            self.send_response(401)
            self.end_headers()
            return False
        return held.answer is None or not held.answer(self)

    def _send(self, kind: str, body: bytes, code: int = 200) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if not self._begin():
            return
        held, parts = self.server.held, urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        found = re.fullmatch(r"/dicom-web/studies(?:/([\d.]+)/series(?:/([\d.]+))?)?", parts.path)
        study, series = found.groups()
        if series is not None:
            boundary = "dicom-part"
            body = b"".join(
                f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + content + b"\r\n"
                for content, _ in held.datasets(StudyInstanceUID=study, SeriesInstanceUID=series)
            )
            kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
            self._send(kind, body + f"--{boundary}--\r\n".encode())
            return
        if study is not None:
            of, name = held.datasets(StudyInstanceUID=study), "SeriesInstanceUID"
        else:
            limits = {
                key: value for key, value in query.items() if key in ("PatientID", "AccessionNumber", "StudyDate")
            }
            of, name = held.datasets(**limits), "StudyInstanceUID"
        groups: dict[str, list[Dataset]] = {}
        for _, one in of:
            groups.setdefault(one[name].value, []).append(one)
        answer = []
        for members in list(groups.values())[: int(query["limit"])]:
            first = members[0]
            first.ModalitiesInStudy = sorted({one.Modality for one in members})
            first.NumberOfSeriesRelatedInstances = len(members)
            answer.append(_told(first, _SERIES if study else _STUDY))
        self._send(_JSON, json.dumps(answer).encode())

    def do_POST(self) -> None:
        if not self._begin():
            return
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        taken = parts_of(self.headers["Content-Type"], body)
        answer, items = Dataset(), []
        for content in taken:
            one, item = pydicom.dcmread(io.BytesIO(content)), Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
            items.append(item)
        answer.ReferencedSOPSequence = items
        self.server.held.objects += taken
        self._send(_JSON, json.dumps(answer.to_json_dict()).encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    held: DicomWebServer


@contextmanager
def dicomweb_server() -> Iterator[DicomWebServer]:
    """A server that runs for the length of a ``with`` block."""
    held = DicomWebServer()
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.held = held
        held.url = f"http://127.0.0.1:{server.server_port}/dicom-web"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield held
        finally:
            server.shutdown()
            thread.join()
