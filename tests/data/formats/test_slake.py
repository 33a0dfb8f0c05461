"""The masks and boxes that SLAKE keeps beside its images."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from a3tune.data.formats.slake import Marks, marks_for
from a3tune.data.read import read_dataset
from a3tune.data.repair import repair_dataset

LIVER, LEFT, RIGHT = (4, 4, 10, 8), (20, 2, 6, 6), (28, 2, 6, 6)
DETECTION = [{"Liver": LIVER}, {"Left Lung": LEFT}, {"Right Lung": RIGHT}]


@pytest.fixture
def study(folder):
    """(detection, mask or None) -> the image of a study that has them beside it."""
    made = []

    def build(detection=DETECTION, mask=None):
        # A folder of its own each time: what lies beside an image is read once.
        name = f"imgs/xmlab{len(made)}"
        made.append(folder.image(f"{name}/source.jpg", size=(40, 30)))
        if detection is not None:
            folder.text(f"{name}/detection.json", json.dumps(detection))
        if mask is not None:
            Image.fromarray(mask).save(folder.root / name / "mask.png")
        return made[-1]

    return build


def labels(*values, shape=(30, 40)):
    mask = np.zeros(shape, np.uint8)
    for value, (x, y, width, height) in zip(values, (LIVER, LEFT, RIGHT), strict=False):
        mask[y + 1 : y + height - 1, x + 1 : x + width - 1] = value
    return mask


def test_the_mask_counts_for_the_structure_that_a_question_asks_about(study):
    image = study(mask=labels(7, 3, 5))
    mask = image.with_name("mask.png")
    assert marks_for(image, "Where is the liver?") == Marks(mask, (7,))
    assert marks_for(image, "Is the left lung normal?") == Marks(mask, (3,))
    assert marks_for(image, "Are the lungs normal?") == Marks(mask, (3, 5))
    assert marks_for(image, "Which is larger, the liver or the right lung?") == Marks(mask, (5, 7))
    assert marks_for(image, "Which plane is this?") == Marks()
    assert marks_for(image, "Is the left kidney there?") == Marks()


def test_colours_are_values_too(study):
    mask = np.zeros((30, 40, 3), np.uint8)
    mask[labels(1) == 1] = (0, 2, 1)
    image = study(mask=mask)
    assert marks_for(image, "the liver") == Marks(image.with_name("mask.png"), (513,))


@pytest.mark.parametrize(
    "mask", [None, labels(7, 7, 7), labels(7, 3, 5, shape=(31, 40)), labels()], ids=["none", "shared", "size", "empty"]
)
def test_boxes_tell_where_the_mask_does_not(study, mask):
    image = study(mask=mask)
    assert marks_for(image, "Where is the liver?") == Marks(boxes=(LIVER,))
    assert marks_for(image, "Are both lungs there?") == Marks(boxes=(LEFT, RIGHT))


def test_a_value_that_is_not_plain_is_not_taken(study):
    mask = labels(7)
    mask[5:8, 5:13] = 9
    assert marks_for(study(mask=mask), "the liver?").values == ()


@pytest.mark.parametrize(
    "detection",
    [None, {}, [], [{"Liver": [1, 2, 3]}], [{"Liver": "here"}], ["Liver"]],
)
def test_what_cannot_be_boxes_of_the_image_is_none(study, detection):
    assert marks_for(study(detection), "Where is the liver?") == Marks()


# As sizes it would be (4, 4, 22, 20).
BOTH = [{"Liver": (4, 4, 26, 24)}]


def filled(x, y, width, height):
    mask = np.zeros((30, 40), np.uint8)
    mask[y : y + height, x : x + width] = 7
    return mask


@pytest.mark.parametrize(
    ("detection", "mask", "words"),
    [
        ([{"Liver": [4, 4, 39, 8]}], None, "reach beyond the image as x, y, width and height"),
        ([{"Liver": [4, 4, 0, 8]}], None, "reach beyond the image as x, y, width and height"),
        (BOTH, None, "may be corners as well as x, y, width and height, and no mask"),
        (BOTH, filled(4, 4, 22, 20), "may be corners as well as x, y, width and height, and the mask does not tell"),
    ],
)
def test_boxes_of_uncertain_meaning_are_not_used_and_told_once(study, folder, detection, mask, words):
    image = study(detection, mask)
    assert marks_for(image, "Where is the liver?") == Marks(doubt=marks_for(image, "Anything?").doubt)
    assert marks_for(image, "Where is the liver?").doubt.startswith(words)
    row = {"img_name": "xmlab0/source.jpg", "answer": "yes", "q_lang": "en"}
    rows = [{**row, "question": question} for question in ("Is the liver there?", "Is the liver large?")]
    dataset = read_dataset(folder.json("train.json", rows))
    assert [(item.mask, item.boxes) for item in dataset.items] == [(None, ())] * 2
    (fault,) = dataset.faults
    assert fault.severity == "warning"
    assert fault.what.startswith("the boxes beside xmlab0/source.jpg " + words)


def test_a_mask_that_agrees_with_sizes_settles_what_the_numbers_are(study):
    image = study(BOTH, filled(5, 5, 25, 22))
    assert marks_for(image, "Where is the liver?") == Marks(image.with_name("mask.png"), (7,))


def test_a_data_set_carries_the_marks_and_its_repair_too(study, folder):
    image = study(mask=labels(7, 3, 5))
    row = {"img_name": "xmlab0/source.jpg", "answer": "yes", "q_lang": "en"}
    rows = [{**row, "question": words} for words in ("Is the liver there?", "Is this a CT?")]
    dataset = read_dataset(folder.json("train.json", rows))
    assert dataset.counts.errors == 0
    assert [(item.mask, item.mask_values) for item in dataset.items] == [
        (image.with_name("mask.png"), (7,)),
        (None, ()),
    ]
    again = read_dataset(repair_dataset(dataset, [], folder.root / "repaired"), images=folder.root)
    assert [(item.mask, item.mask_values) for item in again.items] == [
        (item.mask, item.mask_values) for item in dataset.items
    ]
