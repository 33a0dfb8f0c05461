"""The phantom benchmark: the same everywhere, every part there, masks that are those of the phantoms."""

import csv
import hashlib

import numpy as np
import pytest
from PIL import Image

from a3tune.demo.benchmark_data import PARTS, phantom_benchmark
from a3tune.evaluation.questions import read_evaluation_data
from a3tune.phantom.questions import ask
from a3tune.phantom.scene import make_phantom
from a3tune.phantom.structures import HELD_OUT_SEEDS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return phantom_benchmark(tmp_path_factory.mktemp("phantom") / "benchmark", phantoms=6)


def test_every_part_has_questions_that_can_be_asked(folder):
    data = read_evaluation_data(folder)
    assert (data.split, data.left_out) == ("test", 0)
    parts = {question.groups["part"] for question in data.questions}
    assert parts <= set(PARTS)
    assert {"plain", "shifted", "absent"} <= parts
    assert len({question.identifier for question in data.questions}) == len(data.questions)
    for question in data.questions:
        assert question.groups["organ"] in ("chest", "brain", "abdomen")
        if question.groups["part"] == "absent":
            assert question.item.answer == "no"
            assert question.item.mask is None


def test_the_masks_are_the_phantoms_own(folder):
    with (folder / "data.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["mask"]]
    row = rows[0]
    kind, seed, style, number = row["id"].rsplit("_", 3)
    phantom = make_phantom(int(seed), kind, style)
    item = ask(phantom)[int(number)]
    assert item.question == row["question"]
    assert np.array_equal(np.array(Image.open(folder / row["mask"])) > 0, phantom.mask_of(item.targets))


def test_it_is_drawn_once_and_alike(folder, tmp_path):
    again = phantom_benchmark(tmp_path / "again", phantoms=6)
    digests = [hashlib.sha256((place / "data.csv").read_bytes()).hexdigest() for place in (folder, again)]
    assert digests[0] == digests[1]
    (again / "data.csv").write_text("kept")
    assert phantom_benchmark(again) == again
    assert (again / "data.csv").read_text() == "kept"


def test_its_phantoms_are_held_out(folder):
    with (folder / "data.csv").open(newline="") as stream:
        seeds = {int(row["id"].rsplit("_", 3)[1]) for row in csv.DictReader(stream)}
    assert all(seed in HELD_OUT_SEEDS for seed in seeds)
    assert len(seeds) == 6
