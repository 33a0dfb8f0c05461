"""Rows that name several images: how they are written, what is wrong with them; and no first one stands for all."""

from collections import Counter

import pytest

from a3tune.data.read import read_dataset, split_dataset
from a3tune.data.repair import repair_dataset
from a3tune.errors import DataError

ASKED = {"question": "What has changed?", "answer": "less fluid"}


@pytest.fixture
def pair(folder):
    for number, name in enumerate(("a.png", "b.png", "c.png", "a;b|c.png")):
        folder.image(name, number)
    return folder


def kinds(dataset):
    return dict(Counter(fault.kind for fault in dataset.faults))


def names(path, **options):
    dataset = read_dataset(path, several_images=True, **options)
    assert not dataset.faults
    return [[image.name for image in item.images] for item in dataset.items]


@pytest.mark.parametrize(
    "row",
    [
        {"image": ["a.png", "b.png"]},
        {"images": ["a.png", {"path": "b.png"}]},
        {"image_1": "a.png", "image_2": "b.png", "image_3": None},
        {"image": "a.png", "image2": "b.png"},
        {"image": "a.png", "image_1": "a.png", "image_2": "b.png"},
        {"image": "a.png; b.png"},
        {"image": "a.png|b.png"},
        {"image": '["a.png", "b.png"]'},
        {"image": "['a.png', 'b.png']"},
        {"image": "a.png", "image_3": "b.png"},
    ],
)
def test_the_ways_to_name_two_images(pair, row):
    path = pair.json("d.json", [{**row, **ASKED}])
    assert names(path) == [["a.png", "b.png"]]
    dataset = read_dataset(path)
    assert kinds(dataset) == {"several-images": 1}
    assert "expected one image, not 2" in dataset.faults[0].what


def test_tables_take_numbered_columns_and_separators_and_a_name_that_is_there_is_one_image(pair):
    assert names(pair.text("d.csv", "image_1,image_2,question,answer\na.png,b.png,What?,cyst\na.png,,Is it?,no\n")) == [
        ["a.png", "b.png"],
        ["a.png"],
    ]
    lines = "image,question,answer\na;b|c.png,What?,cyst\nb.png;c.png,Where?,liver\n"
    assert names(pair.text("e.csv", lines)) == [["a;b|c.png"], ["b.png", "c.png"]]


def test_a_conversation_shows_all_images_before_its_first_question(pair):
    def talk(*texts):
        turns = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]
        return {"image": ["a.png", "b.png"], "conversations": turns}

    good = talk("<image>\n<image>\nWhat has changed?", "less fluid", "Where?", "left")
    bare = talk("What is it?", "a cyst")
    dataset = read_dataset(pair.json("d.json", [good, bare]), several_images=True)
    assert [(item.question, len(item.images), item.context) for item in dataset.items] == [
        ("What has changed?", 2, ()),
        ("Where?", 2, ("What has changed?", "less fluid")),
        ("What is it?", 2, ()),
    ]
    assert not dataset.faults
    inside = talk("Is <image> worse than <image>?", "no")
    later, fewer = talk("<image><image>What?", "a cyst", "And <image>?", "no"), talk("<image>\nIs it?", "no")
    dataset = read_dataset(pair.json("d.json", [inside, later, fewer]), several_images=True)
    # Of a conversation the questions before are asked without the fault of a later one.
    assert [fault.kind for fault in dataset.faults if fault.severity == "error"] == ["marker"] * 3


def test_faults_name_the_image_and_the_marks_that_are_missing(pair):
    pair.image("m.png", 0)
    rows = [
        {"image": ["a.png", "gone.png"]},
        {"image": "a.png;gone.png"},
        {"image": ["a.png", 3]},
        {"image": ["a.png", "b.png"], "mask": "m.png"},
        {"image": ["a.png", "b.png"], "boxes": [[1, 1, 2, 2]]},
    ]
    rows = [{**row, "question": f"{number}?", "answer": "cyst"} for number, row in enumerate(rows)]
    dataset = read_dataset(pair.json("d.json", rows), several_images=True)
    assert not dataset.items
    assert kinds(dataset) == {"missing-image": 2, "no-image": 1, "mask": 1, "boxes": 1}
    assert sum("'gone.png' does not exist" in fault.what for fault in dataset.faults) == 2
    assert any("mask for each of the 2 images" in fault.what for fault in dataset.faults)


def test_each_image_has_its_own_mask_and_boxes(pair):
    pair.image("m.png", 7)
    box = [1.0, 1.0, 4.0, 3.0]
    rows = [
        {"image": "a.png;b.png", "mask": ";m.png"},
        {"image": ["a.png", "b.png"], "mask": [None, "m.png"], "boxes": [[box], []]},
        {"image_1": "a.png", "image_2": "b.png", "mask_2": "m.png"},
    ]
    rows = [{**row, "question": f"{number}?", "answer": "cyst"} for number, row in enumerate(rows)]
    dataset = read_dataset(pair.json("d.json", rows), several_images=True)
    for item in dataset.items:
        assert [part.image.name for part in item.parts] == ["a.png", "b.png"]
        assert [part.mask and part.mask.name for part in item.parts] == [None, "m.png"]
    assert len(dataset.items) == 3
    assert [part.boxes for part in dataset.items[1].parts] == [(tuple(box),), ()]
    assert (dataset.counts.several, dataset.counts.images) == (3, 2)


def test_images_of_one_question_stay_in_one_split(folder):
    for number in range(9):
        folder.image(f"{number}.png", number)
    rows = [{"image": [f"{n}.png", f"{n + 1}.png"], **ASKED} for n in (0, 1, 4, 6)]
    rows += [{"image": f"{n}.png", "question": "Is it?", "answer": "no"} for n in (2, 3, 5, 7, 8)]
    whole = read_dataset(folder.json("d.json", rows), several_images=True)
    for seed in range(4):
        dataset = split_dataset(whole, 0.4, seed)
        splits = {}
        for item in dataset.items:
            for image in item.images:
                assert splits.setdefault(image, item.split) == item.split
        assert set(splits.values()) == {"train", "validation"}
        assert len(dataset.items) == 9


def test_an_image_in_two_splits_is_found_wherever_it_stands(pair):
    rows = [{"image": ["a.png", "b.png"], "split": "train"}, {"image": ["c.png", "b.png"], "split": "test"}]
    dataset = read_dataset(pair.json("d.json", [{**row, **ASKED} for row in rows]), several_images=True)
    assert kinds(dataset) == {"shared-image": 1}
    assert "b.png is in test and in train" in dataset.faults[0].what


def test_repair_refuses_what_it_does_not_write(pair, tmp_path):
    dataset = read_dataset(pair.json("d.json", [{"image": ["a.png", "b.png"], **ASKED}]), several_images=True)
    with pytest.raises(DataError, match="is about 2 images"):
        repair_dataset(dataset, (), tmp_path / "out")
