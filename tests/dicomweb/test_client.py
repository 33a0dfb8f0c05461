"""Studies, series and images of a DICOMweb server, and what it may not do."""

from __future__ import annotations

import io
import logging

import pydicom
import pytest
from pydicom.data import get_testdata_file

from a3tune.cli.main import main
from a3tune.dicomweb.client import DicomWeb
from a3tune.dicomweb.settings import Server, WebLimits, read_server
from a3tune.errors import DicomWebError, RequestError
from a3tune.images import load_image
from tests.support.dicomweb_server import PASSWORD, USER, dicomweb_server

STUDY, SERIES, OTHER = "1.2.826.1.1", "1.2.826.1.1.1", "1.2.826.1.1.2"


@pytest.fixture(scope="module")
def server():
    with dicomweb_server() as running:
        yield running


@pytest.fixture(autouse=True)
def filled(server):
    """Two series of a study, of three slices and of one."""
    server.answer, server.objects, server.asked = None, [], []
    for number in range(4):
        one = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
        one.StudyInstanceUID, one.SeriesInstanceUID = STUDY, SERIES if number < 3 else OTHER
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"{STUDY}.9.{number}"
        one.ImagePositionPatient[2] = number
        one.PatientID, one.AccessionNumber, one.StudyDate = "P-7", "A 1", "20261129"
        one.PatientName, one.StudyDescription, one.SpecificCharacterSet = "Müller^Jürgen", "Thorax", "ISO_IR 192"
        one.SeriesNumber, one.SeriesDescription = 1 + number // 3, "axial"
        stream = io.BytesIO()
        one.save_as(stream)
        server.objects.append(stream.getvalue())


@pytest.fixture
def web(server):
    return DicomWeb(Server(server.url, USER, PASSWORD, store=True), WebLimits(seconds=20))


def bounded(web, **limits):
    return DicomWeb(web.server, WebLimits(**limits))


def test_a_study_is_found_by_what_is_given_and_its_series_are_opened(web, server, tmp_path):
    for given in ({"patient": " P-7 "}, {"accession": "A 1"}, {"date": "2026-11-29", "patient": "P-7"}):
        (study,) = web.studies(**given)
        assert study == (STUDY, "P-7", "Müller^Jürgen", "20261129", "Thorax", "CT", "A 1")
    assert web.studies(patient="P-8") == []
    web.studies(date="2026-11-01/20261129")
    assert "StudyDate=20261101-20261129" in server.asked[-1]
    series = web.series(STUDY)
    assert [(one.uid, one.modality, one.instances) for one in series] == [(SERIES, "CT", "3"), (OTHER, "CT", "1")]
    assert str(series[0]) == "1 · CT · axial · 3 images"
    paths = web.fetch(STUDY, SERIES, tmp_path)
    # As they are there, byte by byte.
    assert [path.read_bytes() for path in paths] == server.objects[:3]
    assert sorted(tmp_path.iterdir()) == paths
    assert load_image(tmp_path).frame_count == 3


def test_what_is_stored_is_confirmed(web, server):
    one = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    web.store([one])
    assert pydicom.dcmread(io.BytesIO(server.objects[-1])) == one
    large = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    large.Rows, large.PixelData = 128 * 40, large.PixelData * 40
    web.store([one, large])
    assert len(server.objects) == 7

    def takes_none(handler):
        handler.rfile.read(int(handler.headers["Content-Length"]))
        body = b"{}"
        handler.send_response(202)
        handler.send_header("Content-Type", "application/dicom+json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        return True

    server.answer = takes_none
    with pytest.raises(DicomWebError, match="did not confirm 1"):
        web.store([one])
    with pytest.raises(RequestError, match="may only be read"):
        DicomWeb(Server(server.url, USER, PASSWORD)).store([one])


def test_nobody_is_listed_by_a_pattern(web, server):
    for given in ({}, {"patient": " "}, {"patient": "*"}, {"patient": "P-?"}, {"accession": "A\\B"}, {"date": "2026"}):
        with pytest.raises(RequestError):
            web.studies(**given)
    for uid in ("", "../x", "1.2/instances", None):
        with pytest.raises(RequestError):
            web.series(uid)
    assert server.asked == []


def test_a_redirection_to_another_host_is_refused(web, server, tmp_path):
    with dicomweb_server() as other:

        def elsewhere(handler):
            handler.send_response(302)
            handler.send_header("Location", f"{other.url}{handler.path.removeprefix('/dicom-web')}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return True

        server.answer = elsewhere
        for ask in (
            lambda: web.studies(patient="P-7"),
            lambda: web.fetch(STUDY, SERIES, tmp_path),
            lambda: web.store([pydicom.dcmread(get_testdata_file("CT_small.dcm"))]),
        ):
            with pytest.raises(DicomWebError, match="sends on to another one"):
                ask()
        assert other.asked == []

    def once(handler):
        if "again" in handler.path:
            return False
        handler.send_response(307)
        handler.send_header("Location", f"{handler.path}&again=1")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    server.answer = once
    assert len(web.studies(patient="P-7")) == 1


def test_sizes_counts_and_times_are_bounded(web, server, tmp_path):
    with pytest.raises(DicomWebError, match="at most 0 MB"):
        bounded(web, size=50_000).fetch(STUDY, SERIES, tmp_path)
    with pytest.raises(DicomWebError, match="at most 2 images"):
        bounded(web, instances=2).fetch(STUDY, SERIES, tmp_path)
    with pytest.raises(DicomWebError, match="at most 1 series"):
        bounded(web, found=1).series(STUDY)
    assert not (tmp_path / "body").exists()

    def drips(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "application/dicom+json")
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b" ")
        except OSError:
            return True

    server.answer = drips
    with pytest.raises(DicomWebError, match=r"too slow|at most 17 MB"):
        bounded(web, seconds=0.2).studies(patient="P-7")


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("text/html", b"<html>a page for signing in</html>", "what the standard says"),
        ("application/dicom+json", b'"text"', "no list"),
        ("application/dicom+json", b'[{"0020000D": 5}]', "no StudyInstanceUID"),
        ("application/dicom+json", b"[[1]]", "no list"),
    ],
)
def test_an_answer_that_is_none_is_told_as_that(web, server, kind, body, words):
    server.answer = lambda handler: handler._send(kind, body) or True
    with pytest.raises(DicomWebError, match=words):
        web.studies(patient="P-7")


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("application/json", b"[]", "no DICOM files"),
        ("multipart/related; boundary=x", b"", "empty"),
        ("multipart/related; boundary=x", b"--x--", "no images"),
        ("multipart/related; boundary=x", b"--x\r\nContent-Type: application/dicom\r\n\r\nhalf of it", "cut off"),
    ],
)
def test_files_that_are_none_are_told_as_that(web, server, tmp_path, kind, body, words):
    server.answer = lambda handler: handler._send(kind, body) or True
    with pytest.raises(DicomWebError, match=words):
        web.fetch(STUDY, SERIES, tmp_path)
    assert not any(path.name == "body" for path in tmp_path.iterdir())


def test_trouble_is_told_without_what_was_asked(web, server, caplog):
    caplog.set_level(logging.DEBUG)
    stranger = DicomWeb(Server(server.url, USER, "wrong"))
    with pytest.raises(DicomWebError, match="does not let this program in"):
        stranger.studies(patient="P-7")
    with pytest.raises(DicomWebError, match="cannot be reached"):
        DicomWeb(Server("http://127.0.0.1:9/dicom-web")).studies(patient="P-7")
    server.answer = lambda handler: handler._send("text/plain", b"P-7", 500) or True
    with pytest.raises(DicomWebError, match="status 500") as caught:
        web.studies(patient="P-7")
    assert "P-7" not in str(caught.value) + caplog.text


def test_the_server_is_the_operators_word():
    assert read_server({}) is None
    named = read_server({"A3TUNE_DICOMWEB": "https://archive.example/dicom-web/", "A3TUNE_DICOMWEB_STORE": "yes"})
    assert (named.url, named.name, named.store) == ("https://archive.example/dicom-web", "archive.example", True)
    for url in ("archive.example", "file:///etc", "https://a:b@archive.example", "https://x/y?z=1", "https://"):
        with pytest.raises(RequestError, match="DICOMweb server"):
            read_server({"A3TUNE_DICOMWEB": url})


def test_the_command_finds_fetches_and_stores(server, tmp_path, monkeypatch, capsys):
    for name, value in (("", server.url), ("_USER", USER), ("_PASSWORD", PASSWORD), ("_STORE", "yes")):
        monkeypatch.setenv(f"A3TUNE_DICOMWEB{name}", value)
    assert main(["dicomweb", "find", "--patient", "P-7"]) == 0
    assert capsys.readouterr().out.startswith(f"{STUDY}  20261129 · CT · Thorax")
    assert main(["dicomweb", "series", "--study", STUDY]) == 0
    assert f"{SERIES}  1 · CT" in capsys.readouterr().out
    fetch = ["dicomweb", "fetch", "--study", STUDY, "--series", SERIES, "--out", str(tmp_path / "series")]
    assert main(fetch) == 0
    assert len(list((tmp_path / "series").iterdir())) == 3
    assert main(fetch) == 2
    assert "holds files" in capsys.readouterr().err
    assert main(["dicomweb", "store", get_testdata_file("CT_small.dcm")]) == 0
    assert len(server.objects) == 5
    (tmp_path / "text.txt").write_text("none")
    assert main(["dicomweb", "store", str(tmp_path / "text.txt")]) == 2
    # Names and passwords go to the server that they are for.
    assert main(["dicomweb", "find", "--patient", "P-7", "--server", server.url]) == 2
    assert "does not let this program in" in capsys.readouterr().err
