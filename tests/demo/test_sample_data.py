"""The sample of phantoms: the same every time, read without a fault, and its truth kept out of training."""

import csv

import numpy as np
import pytest
from PIL import Image

from a3tune.data.read import read_dataset, split_dataset
from a3tune.demo.sample_data import write_sample
from a3tune.errors import Cancelled, RequestError
from a3tune.phantom import HELD_OUT_SEEDS, TRAINING_SEEDS, VALIDATION_SEEDS, ask, make_phantom


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("sample") / "data", 9, masks=True)


def phantom_of(name, **more):
    kind, seed = name.removeprefix("images/").removesuffix(".png").split("_")
    return make_phantom(int(seed), kind, **more)


def test_it_is_read_without_a_fault(sample):
    dataset = read_dataset(sample.folder)
    assert dataset.layout == "table"
    assert dataset.faults == ()
    assert dataset.files == ("data.csv",)
    assert (dataset.counts.items, dataset.counts.images) == (sample.questions, sample.images) == (len(dataset.items), 9)
    images = {split: {item.image for item in dataset.of(split)} for split in ("train", "validation", "test")}
    assert {split: len(found) for split, found in images.items()} == {"train": 7, "validation": 1, "test": 1}
    assert set(dataset.counts.answer_types) == {"closed", "open"}
    assert split_dataset(dataset) is dataset
    # Nothing of the truth is in what is trained on.
    assert all(item.mask is None and not item.boxes for item in dataset.items)


def test_pictures_and_answers_are_those_of_the_phantoms(sample):
    with sample.table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for name in {row["image"] for row in rows}:
        phantom = phantom_of(name)
        assert np.array_equal(np.asarray(Image.open(sample.folder / name)), phantom.image.pixels[:, :, 0])
        written = [(row["question"], row["answer"], row["answer_type"]) for row in rows if row["image"] == name]
        assert written == [(item.question, item.answer, item.answer_type) for item in ask(phantom)]


def test_seeds_of_the_splits_never_meet(sample):
    homes = {"train": TRAINING_SEEDS, "validation": VALIDATION_SEEDS, "test": HELD_OUT_SEEDS}
    for item in read_dataset(sample.folder).items:
        assert int(item.image.stem.split("_")[1]) in homes[item.split]


def test_true_masks(sample):
    with sample.truth.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows
    for row in rows:
        phantom = phantom_of(row["image"])
        targets = next(item.targets for item in ask(phantom) if item.question == row["question"])
        mask = np.asarray(Image.open(sample.folder / row["mask"]))
        assert np.array_equal(mask, phantom.mask_of(targets) * np.uint8(255))


def test_the_same_again_and_other_seeds(tmp_path):
    def content(name, **more):
        folder = write_sample(tmp_path / name, 3, questions=1, **more).folder
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    first = content("a")
    assert content("b") == first
    assert len(first) == 4
    assert not set(content("c", seed=1)) & set(first) - {"data.csv"}
    shifted = content("d", test_style="shifted")
    changed = {name for name in first if first[name] != shifted[name]}
    assert changed - {"data.csv"} == {f"images/chest_{HELD_OUT_SEEDS[0]}.png"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 2}, "count is 2"),
        ({"count": 1001}, "count is 1001"),
        ({"seed": 100}, "seed is 100"),
        ({"questions": 0}, "questions is 0"),
        ({"style": "odd"}, "'odd'"),
    ],
)
def test_requests_out_of_range(tmp_path, settings, message):
    with pytest.raises(RequestError, match=message):
        write_sample(tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


def test_folders_in_use_are_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RequestError, match="not empty"):
        write_sample(tmp_path, 3)
    with pytest.raises(RequestError, match="not empty"):
        write_sample(tmp_path / "mine.txt", 3)
    with pytest.raises(RequestError, match="cannot be written"):
        write_sample(tmp_path / "mine.txt" / "below", 3)


def test_stopping_leaves_no_table(tmp_path):
    shares = []
    with pytest.raises(Cancelled):
        write_sample(
            tmp_path / "new",
            3,
            on_progress=lambda _, share: shares.append(share),
            should_stop=lambda: len(shares) == 2,
        )
    assert shares == [0.0, 1 / 3]
    assert not (tmp_path / "new" / "data.csv").exists()
