"""The store of labels: whole or not at all, joined between writers, and those of the last version read as they are."""

import json
import subprocess
import sys

import numpy as np
import pytest

from a3tune.bundle import DEMO_SAMPLE
from a3tune.images import load_image
from a3tune.labels.store import LabelStore
from a3tune.types import MedicalImage, ScoredRegion, WeakLabels


@pytest.fixture
def image():
    return MedicalImage(np.random.default_rng(5).integers(0, 255, (30, 36, 3), dtype=np.uint8))


@pytest.fixture
def labels(make_region):
    def build(prompt="liver", count=2, **facts):
        masks = np.zeros((3, 30, 36), bool)
        masks[0, 2:12, 2:14] = masks[1, 8:28, 20:34] = masks[2, :3, :3] = True
        regions = tuple(
            ScoredRegion(make_region(mask), 30.5 - rank, rank, 0.5 / rank, f"phrase {rank}")
            for rank, mask in enumerate(masks[:count], start=1)
        )
        return WeakLabels(regions, prompt, "finder", "ranker", ("a note",), **facts)

    return build


def same(one, other):
    assert (one.prompt, one.segmenter, one.scorer, one.notes) == (
        other.prompt, other.segmenter, other.scorer, other.notes,
    )  # fmt: skip
    assert (one.settings, one.checked) == (other.settings, other.checked)
    for left, right in zip(one.regions, other.regions, strict=True):
        assert (left.score, left.rank, left.weight, left.phrase) == (
            right.score,
            right.rank,
            right.weight,
            right.phrase,
        )
        assert left.region.box == right.region.box
        assert (left.region.mask == right.region.mask).all()


def test_labels_come_back_whole(tmp_path, image, labels):
    put = {"a": labels(settings="1234"), "b": labels("text; other", 3, checked=True), "none": labels(count=0)}
    LabelStore(tmp_path).put(image, put)
    back = LabelStore(tmp_path).get(image)
    assert list(back) == ["a", "b", "none"]
    for prompt, made in put.items():
        same(back[prompt], made)
    assert LabelStore(tmp_path).get(MedicalImage(image.pixels[::-1].copy())) == {}


def test_labels_of_several_writers_are_joined_and_a_persons_choice_stays(tmp_path, image, labels):
    LabelStore(tmp_path).put(image, {"a": labels(), "b": labels()})
    LabelStore(tmp_path).put(image, {"b": labels(count=1, checked=True), "c": labels()})
    LabelStore(tmp_path).put(image, {"b": labels(count=2), "a": labels(count=1)})
    back = LabelStore(tmp_path).get(image)
    assert {prompt: (len(made.regions), made.checked) for prompt, made in back.items()} == {
        "a": (1, False), "b": (1, True), "c": (2, False),
    }  # fmt: skip
    LabelStore(tmp_path).put(image, {"b": labels(count=0, checked=True)})
    assert LabelStore(tmp_path).get(image)["b"].regions == ()


WRITER = """
import sys
import numpy as np
from a3tune.labels.segmenters.segmentation import region_from_mask
from a3tune.labels.store import LabelStore
from a3tune.types import MedicalImage, ScoredRegion, WeakLabels

image = MedicalImage(np.zeros((64, 64, 3), dtype=np.uint8))
store, name = LabelStore(sys.argv[1]), sys.argv[2]
mask = np.zeros((64, 64), dtype=bool)
mask[3:40, 5:60] = True
regions = (ScoredRegion(region_from_mask(mask), 1.0, 1, 1.0, "x"),)
for number in range(25):
    store.put(image, {f"{name} {number}": WeakLabels(regions, "x", "s", "c")})
    assert len(store.get(image)) > number
"""


def test_what_two_processes_write_at_once_is_all_there(tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name], stderr=subprocess.PIPE)
        for name in ("one", "two")
    ]
    results = [(process.communicate()[1], process.returncode) for process in processes]
    assert [code for _, code in results] == [0, 0], results
    assert len(LabelStore(tmp_path).get(MedicalImage(np.zeros((64, 64, 3), dtype=np.uint8)))) == 50


@pytest.mark.parametrize(
    "damage",
    [
        lambda arrays: arrays["masks"].__setitem__(0, 0),
        lambda arrays: arrays.update(labels=np.array(json.dumps({"a": [[7, 1.0, 1.0]]}))),
        lambda arrays: arrays.update(labels=np.array(json.dumps({"a": [[-1, 1.0, 1.0]]}))),
        lambda arrays: arrays.update(labels=np.array(json.dumps({"a": [[0, float("nan"), 1.0]]}))),
        lambda arrays: arrays.update(labels=np.array(json.dumps({"a": [["x", 1.0, 1.0]]}))),
        lambda arrays: arrays.update(labels=np.array(json.dumps([1, 2]))),
        lambda arrays: arrays.update(details=np.array(json.dumps({"a": {"phrases": ["one"]}}))),
        lambda arrays: arrays.update(shape=np.array([36, 30])),
        lambda arrays: arrays.update(shape=np.array([[30, 36]], dtype=object)),
    ],
)
def test_an_entry_that_is_damaged_or_does_not_fit_counts_as_missing(tmp_path, image, labels, damage):
    store = LabelStore(tmp_path)
    store.put(image, {"a": labels()})
    [path] = tmp_path.glob("??/*.npz")
    with np.load(path) as entry:
        arrays = dict(entry)
    damage(arrays)
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
    assert store.get(image) == {}


def test_stores_of_the_last_version_are_read(tmp_path, image):
    """Without details, and with the prompts that a person chose in an array of their own."""
    mask = np.zeros((30, 36), bool)
    mask[2:12, 2:14] = True
    path = tmp_path / image.sha256[:2] / f"{image.sha256}.npz"
    path.parent.mkdir()
    np.savez_compressed(
        path,
        shape=np.array([30, 36]),
        masks=np.packbits(mask.ravel())[None],
        labels=np.array(json.dumps({"where?": [[0, 41.5, 0.25]], "none": []})),
        checked=np.array(json.dumps(["none"])),
    )
    settings = {"format": 1, "segmenter": "LiteMedSAM", "scorer": "demo", "kept": 8}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    store = LabelStore(tmp_path)
    assert store.settings["kept"] == 8
    found = store.get(image)
    (region,) = found["where?"].regions
    assert (region.score, region.weight, region.rank, region.phrase) == (41.5, 0.25, 1, "where?")
    assert (region.region.mask == mask).all()
    assert (found["where?"].segmenter, found["where?"].checked, found["none"].checked) == ("LiteMedSAM", False, True)
    bundled = [LabelStore(DEMO_SAMPLE / "labels").get(load_image(path)) for path in (DEMO_SAMPLE / "images").iterdir()]
    assert sum(bool(labels) for labels in bundled) > 100
