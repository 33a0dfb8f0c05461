"""Images to ask about, what asks, and one whole answer."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file

from app.engine.background import Step
from app.inspect.service import InspectService
from app.inspect.sessions.results import Result


@pytest.fixture
def service(slot):
    return InspectService(slot)


@pytest.fixture
def upload_folder(tmp_path) -> Path:
    folder = tmp_path / "upload"
    folder.mkdir()
    return folder


@pytest.fixture
def dicom(upload_folder) -> Path:
    return Path(shutil.copy(get_testdata_file("CT_small.dcm"), upload_folder / "ct.dcm"))


@pytest.fixture
def png(upload_folder) -> Path:
    path = upload_folder / "picture.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (48, 80, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def slices(tmp_path) -> list[Path]:
    """Three slices of a series, each in an upload folder of its own, out of order."""
    paths = []
    for place in (5, 10, 0):
        data = dcmread(get_testdata_file("CT_small.dcm"))
        data.ImagePositionPatient = [0, 0, place]
        data.PixelData = (data.pixel_array + 200 * place).astype("<i2").tobytes()
        paths.append(tmp_path / "slices" / str(place) / "slice.dcm")
        paths[-1].parent.mkdir(parents=True)
        data.save_as(paths[-1])
    return paths


def finish(service: InspectService, visit: str, question: str = "Is there a mass?") -> Result:
    service.questions.reserve(visit)
    *steps, last = service.questions.ask(visit, question)
    assert any(isinstance(step, Step) for step in steps)
    assert all(step.writing if isinstance(step, Result) else 0 <= step.share <= 1 for step in steps)
    return last
