"""A disk that is full, really: what cannot be kept is told in a sentence, nothing half-written is read, and what needs
no disk goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from a3tune.bundle import DEMO_SAMPLE, EXAMPLES
from a3tune.data.archive import unpack_archive
from a3tune.data.intake import IntakeLimits
from a3tune.errors import A3TuneError
from a3tune.labels.export import write_labels
from a3tune.labels.segmenters.segmentation import region_from_mask
from a3tune.storage import write_bytes, write_json
from a3tune.types import ScoredRegion, WeakLabels
from app.access.deployment import DEPLOYMENTS
from app.access.gate import Gate, Settings
from app.access.origins import Hosts
from app.access.uploads import UploadFolder
from app.access.visits import Visits, new_secret
from app.common.identity import owner_of
from app.common.status import explain
from app.tune.service import TuneService
from tests.support.hostile_files import packed

FULL = "disk of the server is full|No space left|free disk|room"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KB, nearly all of which is taken."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("only root can mount a disk of its own")
    try:
        (folder / "filler").write_bytes(bytes(192 << 10))
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def words_of(work) -> str:
    with pytest.raises((OSError, A3TuneError)) as told:
        work()
    return explain(told.value)


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(disk):
    write_json(disk / "record.json", {"state": "before"})
    for work in (
        lambda: write_json(disk / "record.json", {"state": "x" * (128 << 10)}),
        lambda: write_bytes(disk / "record.json", bytes(128 << 10)),
    ):
        assert "disk of the server is full" in words_of(work)
        assert '"before"' in (disk / "record.json").read_text()
    assert sorted(path.name for path in disk.iterdir()) == ["filler", "record.json"]


def test_an_archive_that_does_not_fit_is_told_and_leaves_nothing(disk, tmp_path):
    picture = (EXAMPLES / "chest_mass.png").read_bytes()
    table = b"image,question,answer\n" + b"a.png,What is it?,A chest\n" * 20_000
    (tmp_path / "data.zip").write_bytes(packed({"a.png": picture, "data.csv": table}))
    limits = IntakeLimits(reserve=0)
    assert "MiB of free disk" in words_of(lambda: unpack_archive(tmp_path / "data.zip", disk / "data", limits))
    # Others may fill the disk after it was looked at.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("a3tune.data.archive.check_room", lambda *_: None)
        words = words_of(lambda: unpack_archive(tmp_path / "data.zip", disk / "data", limits))
    assert "No space left" in words
    assert [path.name for path in disk.iterdir()] == ["filler"]


def test_an_upload_is_told_and_leaves_nothing(disk):
    visits = Visits(DEPLOYMENTS["space"], UploadFolder(disk / "uploads"))
    client = TestClient(Gate(Starlette(routes=[Route("/", lambda request: Response())]), Settings(Hosts([])), visits))
    client.base_url = "http://localhost"
    assert client.get("/").status_code == 200
    answer = client.post("/gradio_api/upload", files={"files": ("a.png", bytes(128 << 10))})
    assert answer.status_code == 507
    assert "disk of the server is full" in answer.json()["detail"]
    assert not [path for path in (disk / "uploads").rglob("*") if path.is_file()]
    assert client.post("/gradio_api/upload", files={"files": ("a.png", bytes(16 << 10))}).status_code == 200


def test_regions_and_results_are_told_of(disk, monkeypatch, random_image):
    image = random_image()
    mask = np.zeros((image.height, image.width), bool)
    mask[4:20, 4:20] = True
    region = region_from_mask(mask)
    labels = WeakLabels((ScoredRegion(region, 1.0, 1, 1.0, "a"),), "a", "segmenter", "scorer")
    (disk / "rest").write_bytes(bytes(60 << 10))
    assert "disk of the server is full" in words_of(lambda: write_labels(labels, image, disk / "labels", ["a"], {}))


def test_data_runs_and_adapters_are_told_of_and_nothing_half_taken_in_is_in_the_lists(disk, tmp_path):
    service = TuneService(SimpleNamespace(profile="demo", adapters=("base",)), SimpleNamespace(), disk / "studio")
    owner = owner_of(new_secret())
    assert "full" in words_of(lambda: list(service.data.add_sample(owner)))
    shutil.copy(EXAMPLES / "chest_mass.png", tmp_path / "a.png")
    rows = [{"image": "a.png", "question": "x" * (96 << 10), "answer": "b"}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("a3tune.data.intake.check_room", lambda *_: None)
        assert "No space left" in words_of(lambda: list(service.data.add_files(owner, [tmp_path / "a.png"], rows)))
    assert service.data.sets.all(owner) == ()
    assert not [path for path in disk.rglob("*") if path.is_file() and path.name != "filler"]
    assert os.listdir(DEMO_SAMPLE), "what is copied is left alone"
