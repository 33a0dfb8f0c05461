"""What is taken away: the command in the archive makes the same inspection again."""

from __future__ import annotations

import io
import json
import re
import shlex
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image
from pydicom.data import get_testdata_file

from a3tune import __version__
from a3tune.attention.metrics import measure_head_set
from a3tune.bundle import EXAMPLES
from a3tune.cli.main import main
from a3tune.dicomweb.client import DicomWeb
from a3tune.dicomweb.settings import Server
from a3tune.errors import RequestError
from a3tune.geometry.patch_grid import to_patches
from a3tune.inspection.report import MapStyle, Side, shown_figure
from a3tune.inspection.views import answer_rows
from a3tune.models.fingerprint import weights_fingerprint
from a3tune.types import Window
from app.access.deployment import DEPLOYMENTS
from app.inspect.export_request import export, store
from app.inspect.service import InspectService
from app.inspect.sessions.results import Result
from app.inspect.viewer.values import viewer_value
from tests.support.dicomweb_server import PASSWORD, USER, dicomweb_server

LOOK = {"opacity": 0.85, "colours": "inferno", "smooth": True, "dim": 0.4, "each": False}

# In source pixels.
DRAWN = [
    {"kind": "ruler", "from": [3, 4.25], "to": [11.123456, 9]},
    {"kind": "ellipse", "from": [20, 18], "to": [6, 5]},
]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (48, 80, 3), dtype=np.uint8)).save(path)
    return path


def finished(service: InspectService, visit: str, question: str) -> Result:
    """Ask, and wait for all of the answer."""
    service.questions.reserve(visit)
    *_, result = service.questions.ask(visit, question)
    return result


def asked_for(service: InspectService, visit: str, result: Result, **wanted) -> dict[str, Any]:
    """What a page asks that shows the mean of the answer."""
    view = result.inspection.views[0]
    rows = [int(row) for row in answer_rows(view.tokens, view.maps)]
    side = {"result": result.id, "adapter": "base", "rows": rows}
    request = {"sides": [side], "heads": "critical", "words": "answer", "regions": [], "look": LOOK, "measures": []}
    return {**request, "session": service.sessions.opened(visit).regions, **wanted}


def take(service: InspectService, visit: str, result: Result, **wanted) -> tuple[str, str, bytes]:
    return export(service, asked_for(service, visit, result, **wanted))


def archive(service: InspectService, visit: str, question: str) -> zipfile.ZipFile:
    result = finished(service, visit, question)
    name, _, content = take(service, visit, result, form="zip", measures=DRAWN)
    assert name.endswith("-base.zip")
    return zipfile.ZipFile(io.BytesIO(content))


@pytest.mark.parametrize(
    ("view", "question"),
    [
        (None, "Is there a mass?"),
        ("computed tomography", "Is there a mass?"),
        ("lung", "Is there a mass?"),
        ({}, "Is it 'normal' & \"small\"?"),
        ({"axis": 0, "volume": 1, "frame": 9, "window": Window(-20.123456789, 700.5)}, "-is this a $HOME?"),
    ],
)
def test_the_command_in_the_archive_makes_the_same_inspection_again(
    slot, picture, tmp_path, monkeypatch, view, question
):
    service = InspectService(slot)
    path = picture if view is None else EXAMPLES / "real_mr.nii.gz"
    if isinstance(view, str):
        path = Path(get_testdata_file("CT_small.dcm"))
        view = {"window": view} if view == "lung" else None
    service.sessions.open_file("one", path, remove=False)
    if view:
        service.sessions.change_view("one", **view)
    with archive(service, "one", question) as taken:
        record = json.loads(taken.read("inspect.json"))
        maps = np.load(io.BytesIO(taken.read("attention_base.npz")))["maps"]
        command = taken.read("command.txt").decode()
    assert str(path) not in command
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "a3tune", "inspect"]
    words[words.index("IMAGE_FILE")] = str(path)
    monkeypatch.chdir(tmp_path)
    assert main([*words[3:], "--device", "cpu"]) == 0
    again = json.loads((tmp_path / "result" / "inspect.json").read_text())
    assert again["image"] == record["image"]
    assert again["measures"] == record["measures"]
    assert [told["kind"] for told in again["measures"]] == ["ruler", "ellipse"]
    assert again["measures"][1]["pixels"] > 0
    assert again["question"] == record["question"] == question
    before, after = record["adapters"]["base"], again["adapters"]["base"]
    assert after["answer"] == before["answer"]
    assert after["metrics"] == pytest.approx(before["metrics"], abs=1e-5)
    with np.load(tmp_path / "result" / "attention_base.npz") as written:
        np.testing.assert_allclose(written["maps"], maps, atol=1e-5)


def test_a_figure_of_two_maps_names_each_adapter_once(slot, picture):
    service = InspectService(slot)
    service.sessions.open_file("one", picture, remove=False)
    asked = [finished(service, "one", question).inspection for question in ("Is there a mass?", "Where?")]
    sides = [
        Side(inspection, inspection.views[0], inspection.views[0].critical_heads, (0,), "critical heads", "one word")
        for inspection in asked
    ]
    measures = [{"kind": "ruler", "from": [3, 4], "to": [11, 9], "unit": "px", "length": 9.434}]
    figure = shown_figure(sides, [], MapStyle(), measures)
    # On every picture, whose pixels begin half a unit before their number.
    rulers = [line for line in figure.findobj(Line2D) if line.get_marker() == "|"]
    assert [line.get_xydata().tolist() for line in rulers] == [[[2.5, 3.5], [10.5, 8.5]]] * 3
    words = [text.get_text() for text in figure.findobj(Text)]
    assert any(" · adapter: base · critical heads · one word" in text for text in words)
    assert {"A: base", "B: base"} <= set(words)


@pytest.fixture
def scan(tmp_path):
    """A colour picture as DICOM: nothing else is asked of its file than whose it is."""
    header = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PlanarConfiguration = 3, "RGB", 0
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 8, 8, 7, 0
    header.PixelData = np.random.default_rng(2).integers(0, 255, 128 * 128 * 3, dtype=np.uint8).tobytes()
    header.save_as(tmp_path / "scan.dcm")
    return tmp_path / "scan.dcm"


def test_patient_and_study_go_into_dicom_files_only_where_that_is_asked_for(slot, scan):
    service = InspectService(slot)
    service.sessions.open_file("one", scan, remove=False)
    header, result = pydicom.dcmread(scan), finished(service, "one", "Is there a mass?")
    for identity in (False, True):
        wanted = {"form": "dicom", "identity": identity}
        name, kind, content = take(service, "one", result, objects="pictures", **wanted)
        assert (name.rpartition("-")[2], kind) == ("pictures.zip", "application/zip")
        with zipfile.ZipFile(io.BytesIO(content)) as files:
            assert files.namelist() == ["view_image.dcm", "view_base.dcm"]
            objects = [pydicom.dcmread(io.BytesIO(files.read(member))) for member in files.namelist()]
        for form in ("maps", "regions"):
            name, kind, content = take(service, "one", result, objects=form, **wanted)
            assert (name.rpartition("-")[2], kind) == (
                {"maps": "map_base.dcm", "regions": "regions.dcm"}[form],
                "application/dicom",
            )
            objects.append(pydicom.dcmread(io.BytesIO(content)))
        for made in objects:
            assert (made.PatientID == header.PatientID) == identity
            assert (made.StudyInstanceUID == header.StudyInstanceUID) == identity
            assert ("SourceImageSequence" in made) == identity


def test_before_strangers_nobody_goes_into_a_file_or_is_kept_for_it(slot, scan, picture):
    service = InspectService(slot, deployment=DEPLOYMENTS["space"])
    assert service.sessions.open_file("one", scan, remove=False).content is None
    result = finished(service, "one", "Is there a mass?")
    with pytest.raises(RequestError, match="public Space"):
        take(service, "one", result, form="dicom", objects="pictures", identity=True)
    service = InspectService(slot)
    opened = service.sessions.open_file("one", picture, remove=False)
    assert not opened.has_source
    result = finished(service, "one", "Is there a mass?")
    with pytest.raises(RequestError, match="The image on show is none"):
        take(service, "one", result, form="dicom", objects="pictures", identity=True)
    with pytest.raises(RequestError, match="DICOM objects"):
        take(service, "one", result, form="dicom", objects="reports")


def test_objects_go_back_to_the_study_that_they_are_of(slot, scan):
    service = InspectService(slot)
    service.sessions.open_file("one", scan, remove=False)
    request = asked_for(service, "one", finished(service, "one", "Is there a mass?"), objects="pictures", identity=True)
    with pytest.raises(RequestError, match="There is none"):
        store(service, request)
    with dicomweb_server() as server:
        service.archive = DicomWeb(Server(server.url, USER, PASSWORD, store=True))
        with pytest.raises(RequestError, match="of nobody"):
            store(service, {**request, "identity": False})
        assert server.asked == []
        assert store(service, request) == f"2 objects stored in {service.archive.server.name}."
        header = pydicom.dcmread(scan)
        for content in server.objects:
            made = pydicom.dcmread(io.BytesIO(content))
            assert (made.PatientID, made.StudyInstanceUID) == (header.PatientID, header.StudyInstanceUID)
            assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == header.SOPInstanceUID


def test_the_reference_mask_is_told_and_drawn_where_it_is_on_show_and_nowhere_else(slot, monkeypatch):
    service = InspectService(slot)
    opened = service.sessions.open_file("one", EXAMPLES / "chest_nodule.png", remove=False, key="chest_nodule")
    mask, question = opened.reference.mask, opened.reference.question
    result = finished(service, "one", question)
    (view,), (numbers,) = result.inspection.views, result.numbers
    rows = answer_rows(view.tokens, view.maps)
    target = to_patches(mask, result.inspection.grid)
    inside = measure_head_set(view.maps, view.critical_heads, target, rows)["attention_mass"]
    assert numbers.inside == pytest.approx(inside)
    words = f"{100 * inside:.1f} %"
    told = json.loads(viewer_value(opened, result))["result"]
    assert told["referenceMask"]
    assert ["reference_mass", words] in [row[::2] for row in told["views"][0]["rows"]]
    _, _, content = take(service, "one", result, form="zip", look=LOOK | {"reference": True})
    with zipfile.ZipFile(io.BytesIO(content)) as taken:
        settings = json.loads(taken.read("settings.json"))
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(taken.read("reference_mask.png")))), mask)
        record = json.loads(taken.read("inspect.json"))
    assert settings["reference_mask"] == {"area": int(mask.sum())}
    assert record["reference_mask"]["attention_mass"] == {view.adapter: pytest.approx(inside)}
    assert settings["sides"][0]["numbers"]["reference_mass"] == words
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    for drawn in (True, False):
        take(service, "one", result, form="pdf", look=LOOK | {"reference": drawn})
        texts = [text.get_text() for text in figures[-1].findobj(Text)]
        assert ("Dashed line: the reference mask" in texts) == drawn
        assert {"Attention inside the reference mask", words} <= set(texts)
        assert f"Reference answer: {opened.reference.answer}" in texts
        digest = weights_fingerprint(result.generation.source)[:16]
        made = rf"Made on \d{{4}}-\d\d-\d\d .*A3Tune {re.escape(__version__)} .*model {digest}"
        assert re.search(made, " ".join(texts))
        assert len(figures[-1].findobj(ContourSet)) == 2 * drawn, "on the image and on the map"
    captures = []
    for drawn in (True, False):
        dicom = {"form": "dicom", "objects": "pictures", "look": LOOK | {"reference": drawn}}
        _, _, content = take(service, "one", result, **dicom)
        with zipfile.ZipFile(io.BytesIO(content)) as taken:
            captures.append(pydicom.dcmread(io.BytesIO(taken.read("view_image.dcm"))).pixel_array)
    assert (captures[0] != captures[1]).any()

    # The mask is of that question and that picture.
    other = finished(service, "one", "Is there a mass?")
    assert (other.reference_mask, other.numbers[0].inside) == (None, None)
    assert json.loads(viewer_value(opened, other))["result"]["referenceMask"] is None
    assert opened._replace(image=replace(opened.image, frame=1)).reference_mask(question) is None
