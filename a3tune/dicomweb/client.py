"""Studies, series and images of a DICOMweb server: looked for (QIDO-RS), fetched (WADO-RS) and stored (STOW-RS).

Which server is asked is the word of whoever runs the program. What it answers is bounded in size, number and time, a
redirection to anywhere else is not followed, and files that it sends are written as they are: reading them is left to
who opens them.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
from dicomweb_client.api import DICOMwebClient
from pydicom.uid import RE_VALID_UID

from a3tune.dicomweb.session import PIECE, TIMEOUTS, bounded_session, unexpected
from a3tune.dicomweb.settings import Server, WebLimits
from a3tune.errors import DicomWebError, RequestError
from a3tune.wording import brief

_DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")
_STUDY_FIELDS = ("PatientID", "PatientName", "StudyDate", "StudyDescription", "ModalitiesInStudy", "AccessionNumber")
_SERIES_FIELDS = ("SeriesDescription", "NumberOfSeriesRelatedInstances")
_ANY_SYNTAX = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_ANSWER = 16 << 20  # bytes of an answer that is no file
_SHOWN = 64  # letters of a value


class FoundStudy(NamedTuple):
    """A study of the archive: its UID, and what it is called there."""

    uid: str
    patient: str
    name: str
    date: str
    description: str
    modalities: str
    accession: str

    def __str__(self) -> str:
        parts = (self.date, self.modalities, self.description, self.name, self.patient, self.accession)
        return " · ".join(part for part in parts if part) or self.uid


class FoundSeries(NamedTuple):
    """A series of a study: its UID, and what it is called there."""

    uid: str
    number: str
    modality: str
    description: str
    instances: str

    def __str__(self) -> str:
        count = f"{self.instances} images" if self.instances else ""
        return " · ".join(part for part in (self.number, self.modality, self.description, count) if part) or self.uid


class DicomWeb:
    """What can be asked of a server.

    Args:
        server: whom to ask.
        limits: what an answer may bring.
    """

    def __init__(self, server: Server, limits: WebLimits | None = None) -> None:
        self.server, self.limits = server, limits or WebLimits()

    def studies(self, *, patient: str = "", accession: str = "", date: str = "") -> list[FoundStudy]:
        """Studies that fit all that is given.

        Args:
            patient: the patient's number there, whole.
            accession: the accession number, whole.
            date: a day, or the first and last of several separated by "/", each as 2026-11-29 or 20261129.

        Raises:
            RequestError: nothing is given, or what is given is none of that.
            DicomWebError: the server does not answer as it should, or with more than it may.
        """
        given = {"PatientID": _exact(patient), "AccessionNumber": _exact(accession), "StudyDate": _days(date)}
        filters = {keyword: value for keyword, value in given.items() if value}
        if not filters:
            raise RequestError(
                expected="a patient's number, an accession number or a date",
                got="Nothing to look for was given",
                remedy="Give one of them",
            )
        with self._client() as client:
            fields = [keyword for keyword in _STUDY_FIELDS if keyword not in filters]
            answer = client.search_for_studies(limit=self.limits.found + 1, fields=fields, search_filters=filters)
        return [
            FoundStudy(_uid(one, "StudyInstanceUID"), *(_value(one, keyword) for keyword in _STUDY_FIELDS))
            for one in self._counted(answer, "studies")
        ]

    def series(self, study: str) -> list[FoundSeries]:
        """The series of a study.

        Raises:
            RequestError: this is no UID.
            DicomWebError: as :meth:`studies`.
        """
        with self._client() as client:
            answer = client.search_for_series(_checked(study), limit=self.limits.found + 1, fields=_SERIES_FIELDS)
        return [
            FoundSeries(
                _uid(one, "SeriesInstanceUID"),
                *(_value(one, keyword) for keyword in ("SeriesNumber", "Modality", *_SERIES_FIELDS)),
            )
            for one in self._counted(answer, "series")
        ]

    def fetch(self, study: str, series: str, folder: Path) -> list[Path]:
        """Write the images of a series as the server has them, unread.

        Args:
            study, series: their UIDs.
            folder: an existing folder, for files named by numbers.

        Raises:
            RequestError: this is no UID.
            DicomWebError: as :meth:`studies`, or there are no images.
            OSError: the folder cannot be written.
        """
        url = f"{self.server.url}/studies/{_checked(study)}/series/{_checked(series)}"
        body = folder / "body"
        try:
            with (
                bounded_session(self.server, self.limits.size, self.limits.seconds) as session,
                session.get(url, headers={"Accept": _ANY_SYNTAX}, stream=True) as response,
                body.open("wb") as stream,
            ):
                response.raise_for_status()
                boundary = _boundary(response.headers.get("Content-Type", ""))
                for piece in response.iter_content(PIECE):
                    stream.write(piece)
            return self._parts(body, boundary, folder)
        finally:
            body.unlink(missing_ok=True)

    def store(self, objects: Sequence[pydicom.Dataset]) -> None:
        """Store DICOM objects.

        Raises:
            RequestError: that is not allowed here.
            DicomWebError: the server did not take all of them.
        """
        if not self.server.store:
            raise RequestError(
                expected="a server that may be written to",
                got=f"{self.server.name} may only be read here",
                remedy="Ask whoever runs this to set A3TUNE_DICOMWEB_STORE=yes",
            )
        with self._client() as client:
            answer = client.store_instances(objects)
        taken = {str(item.get("ReferencedSOPInstanceUID")) for item in answer.get("ReferencedSOPSequence") or ()}
        missing = [one for one in objects if str(one.SOPInstanceUID) not in taken]
        if missing:
            raise DicomWebError(
                expected=f"{self.server.name} to take all {len(objects)} objects",
                got=f"It did not confirm {len(missing)} of them",
                remedy="Look at that server's log; it may not take objects of this kind",
            )

    # ---- how it is asked ---------------------------------------------------------------------

    @contextmanager
    def _client(self) -> Iterator[DICOMwebClient]:
        with bounded_session(self.server, _ANSWER, self.limits.seconds) as session:
            client = DICOMwebClient(self.server.url, session=session, timeout=TIMEOUTS)
            client.set_http_retry_params(retry=False)
            yield client

    def _counted(self, answer: Any, what: str) -> list[dict[str, Any]]:
        if not isinstance(answer, list) or not all(isinstance(one, dict) for one in answer):
            raise unexpected("It is no list")
        if len(answer) > self.limits.found:
            raise DicomWebError(
                expected=f"at most {self.limits.found} {what}",
                got="The server has more that fit",
                remedy="Look for something narrower",
            )
        return answer

    def _parts(self, body: Path, boundary: bytes, folder: Path) -> list[Path]:
        """The files in an answer of several parts (RFC 2046)."""
        written: list[Path] = []
        if body.stat().st_size == 0:
            raise unexpected("It is empty")
        with body.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            mark = b"--" + boundary
            at = data.find(mark)
            while at >= 0 and data[at + len(mark) : at + len(mark) + 2] != b"--":
                head = data.find(b"\r\n\r\n", at)
                end = data.find(b"\r\n" + mark, head + 2)
                if head < 0 or end < 0:
                    raise unexpected("It is cut off")
                if len(written) == self.limits.instances:
                    raise DicomWebError(
                        expected=f"a series of at most {self.limits.instances:,} images",
                        got="This one has more",
                        remedy="Choose another series",
                    )
                written.append(folder / str(len(written)))
                written[-1].write_bytes(data[head + 4 : end])
                at = end + 2
        if not written:
            raise unexpected("There are no images in it")
        return written


def _boundary(kind: str) -> bytes:
    message = Message()
    message["Content-Type"] = kind
    found = message.get_boundary()
    if message.get_content_type() != "multipart/related" or not found:
        raise unexpected("It sends no DICOM files")
    return found.encode("ascii", "replace")


def _exact(value: str) -> str:
    """A value that is looked for as it is: a pattern could list everybody."""
    value = value.strip()
    if any(letter in value for letter in "*?\\") or not value.isprintable() or len(value) > _SHOWN:
        raise RequestError(
            expected="a whole number, without * and ?",
            got=f"It is {brief(value)}",
            remedy="Write it as the archive has it",
        )
    return value


def _days(value: str) -> str:
    value = value.strip()
    if not value:
        return ""
    days = [_DATE.fullmatch(day.strip()) for day in value.split("/")]
    if len(days) > 2 or None in days:
        raise RequestError(
            expected="a day such as 2026-11-29, or two separated by /", got=f"It is {brief(value)}", remedy="Correct it"
        )
    return "-".join("".join(day.groups()) for day in days if day is not None)


def _checked(uid: str) -> str:
    if not isinstance(uid, str) or not _is_uid(uid):
        raise RequestError(expected="a DICOM UID", got=f"It is {brief(uid)}", remedy="Choose one that is listed")
    return uid


def _is_uid(text: str) -> bool:
    return len(text) <= _SHOWN and re.fullmatch(RE_VALID_UID, text) is not None


def _uid(one: dict[str, Any], keyword: str) -> str:
    value = _value(one, keyword)
    if not _is_uid(value):
        raise unexpected(f"There is no {keyword} in it")
    return value


def _value(one: dict[str, Any], keyword: str) -> str:
    """An attribute of the DICOM JSON model (PS3.18 F) as text, of several all; "" where it is missing."""
    found = one.get(f"{pydicom.datadict.tag_for_keyword(keyword):08X}")
    values = found.get("Value") if isinstance(found, dict) else None
    told = []
    for value in values if isinstance(values, list) else ():
        name = value.get("Alphabetic") if isinstance(value, dict) else value
        told.append("".join(letter for letter in str(name or "") if letter.isprintable()))
    return ", ".join(told)[:_SHOWN]
