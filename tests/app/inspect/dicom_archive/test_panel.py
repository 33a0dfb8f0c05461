"""The archive on the page: what is looked for, chosen and opened there."""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import gradio as gr
import pydicom
import pytest
from pydicom.data import get_testdata_file

from a3tune.dicomweb.client import DicomWeb
from a3tune.dicomweb.settings import Server
from a3tune.errors import A3TuneError
from app.inspect.dicom_archive.panel import ArchivePanel
from tests.support.dicomweb_server import PASSWORD, USER, dicomweb_server


def on_a_page(build):
    """What ``build`` gives inside a page: Gradio looks for a running loop, and the browser's may run in this thread."""

    async def built():
        with gr.Blocks():
            return build()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, built()).result()


@pytest.fixture
def server():
    with dicomweb_server() as running:
        yield running


@pytest.fixture
def archive(server):
    """Two patients, the first with two slices in one series and one in another."""
    for number, (patient, series) in enumerate([("P-1", "1"), ("P-1", "1"), ("P-1", "2"), ("P-2", "3")]):
        one = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
        one.PatientID, one.StudyDate, one.StudyInstanceUID = patient, "20261129", f"1.2.3.{patient[-1]}"
        one.SeriesInstanceUID, one.SOPInstanceUID = f"{one.StudyInstanceUID}.{series}", f"1.2.3.9.{number}"
        one.file_meta.MediaStorageSOPInstanceUID, one.ImagePositionPatient[2] = one.SOPInstanceUID, number
        stream = io.BytesIO()
        one.save_as(stream)
        server.objects.append(stream.getvalue())
    return DicomWeb(Server(server.url, USER, PASSWORD))


@pytest.fixture
def opened():
    """What the panel had opened: paths, with what was in them."""
    return []


@pytest.fixture
def panel(archive, opened):
    def opening(what, fetch, request):
        opened.append([path.read_bytes() for path in fetch()])
        yield {}

    def build():
        words = gr.HTML()
        built = ArchivePanel(archive)
        assert len(built.wire(words, opening, [words])) == 1
        built.words = words
        return built

    return on_a_page(build)


def test_a_study_is_looked_for_a_series_chosen_and_opened(panel, server, opened):
    found = panel._find_studies("", "", "2026-11-29")
    assert [uid for _, uid in found[panel._study]["choices"]] == ["1.2.3.1", "1.2.3.2"]
    assert "2 studies found" in found[panel.words]
    assert not found[panel._series]["visible"]
    listed = panel._list("1.2.3.1")
    assert [uid for _, uid in listed[panel._series]["choices"]] == ["1.2.3.1.1", "1.2.3.1.2"]
    list(panel._fetch("1.2.3.1", "1.2.3.1.1", SimpleNamespace()))
    assert opened == [server.objects[:2]]


def test_the_only_study_is_chosen_at_once(panel):
    found = panel._find_studies(" P-2", "", "")
    assert found[panel._study]["value"] == "1.2.3.2"
    assert found[panel._series]["value"] == "1.2.3.2.3"
    assert found[panel._open]["visible"]


def test_what_does_not_work_is_told_and_changes_nothing(panel, server, opened):
    for asked in ({"patient": "", "accession": "", "date": ""}, {"patient": "*", "accession": "", "date": ""}):
        found = panel._find_studies(**asked)
        assert 'role="alert"' in found[panel.words]
    assert 'role="alert"' in panel._list("none")[panel.words]
    with pytest.raises(A3TuneError):
        list(panel._fetch("1.2.3.1", None, SimpleNamespace()))
    assert "0 studies found" in panel._find_studies("P-9", "", "")[panel.words]
    assert opened == []


def test_there_is_no_panel_without_an_archive():
    assert on_a_page(lambda: ArchivePanel(None).wire(gr.HTML(), lambda what, fetch, request: iter(()), [])) == []
