"""Which questions are asked, what is left out, and what is shared with training."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from a3tune.data.read import read_dataset, split_dataset
from a3tune.errors import DataError
from a3tune.evaluation.questions import read_evaluation_data, subject_of, topic_of
from tests.support.tuning_data import write_data


def write_table(folder, rows, columns=("image", "question", "answer", "split")):
    folder.mkdir(exist_ok=True)
    with (folder / "data.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)
    return folder


def picture(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 24), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        ("Is there a nodule?", "presence"),
        ("Where is the right lung?", "location"),
        ("Which side is the effusion on?", "side"),
        ("Is the mass on the left side?", "side"),
        ("How many nodules are there?", "count"),
        ("Which modality is this?", "modality"),
        ("Is this a CT scan?", "modality"),
        ("Is the heart enlarged?", "size"),
        ("Which organ is abnormal?", "organ"),
        ("Describe the image.", "report"),
        ("Quo vadis", "other"),
    ],
)
def test_topics_are_told_from_the_words(question, topic):
    assert topic_of(question) == topic


@pytest.mark.parametrize(
    ("question", "subject"),
    [
        ("Is there a nodule?", "nodule"),
        ("Is there evidence of a pneumothorax in the left lung?", "pneumothorax"),
        ("Where is the right lung?", "right lung"),
        ("What is the location of the pneumonia?", "pneumonia"),
        ("Which side is the effusion on?", "effusion"),
        ("How many nodules are there?", "nodules"),
        ("Describe the image.", ""),
        ("Can you see any abnormality?", "abnormality"),
        ("Is there atelectasis in the left lung?", "atelectasis"),
        ("Where is the aorta?", "aorta"),
        ("Are there some stones?", "stones"),
    ],
)
def test_what_a_question_is_about_is_told_from_its_words(question, subject):
    assert subject_of(question) == subject


def test_the_split_is_chosen_and_named(tmp_path):
    path = write_data(tmp_path / "data")
    assert read_evaluation_data(path).split == "validation"
    assert len(read_evaluation_data(path, "train").questions) == 8
    assert len(read_evaluation_data(path, "all").questions) == 12
    with pytest.raises(DataError, match="no questions of the split 'test'"):
        read_evaluation_data(path, "test")
    few = read_evaluation_data(path, "all", most=3)
    assert [question.number for question in few.questions] == [0, 1, 2]
    assert few.digest != read_evaluation_data(path, "all").digest
    assert few.record()["splits"] == {"train": 8, "validation": 4}


def test_a_limit_does_not_follow_the_order_of_the_rows(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    picture(folder / "a.png", 1)
    kinds = (
        ("Is there a nodule?", "yes"),
        ("Where is it?", "right lung"),
        ("How many?", "two"),
        ("Which side?", "left"),
    )
    write_table(folder, [("a.png", f"{kind} ({row})", answer, "test") for row in range(25) for kind, answer in kinds])
    drawn = [read_evaluation_data(folder, most=40) for _ in range(2)]
    assert drawn[0].digest == drawn[1].digest
    closed = sum(question.item.answer == "yes" for question in drawn[0].questions)
    assert len(drawn[0].questions) == 40
    assert 5 <= closed <= 15
    assert [question.item.line for question in drawn[0].questions] == sorted(q.item.line for q in drawn[0].questions)


def test_what_is_shared_with_training_is_counted(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name, seed in (("a.png", 1), ("b.png", 2), ("copy.png", 1)):
        picture(folder / name, seed)
    write_table(
        folder,
        [
            ("a.png", "Is there a mass?", "yes", "train"),
            ("a.png", "Where is it?", "left", "train"),
            ("copy.png", "is there the mass", "Yes.", "test"),
            ("copy.png", "Where is it?", "right", "test"),
            ("b.png", "Where is it?", "left", "test"),
            ("b.png", "Is it big?", "no", "test"),
        ],
    )
    data = read_evaluation_data(folder)
    overlap = data.record()["overlap_with_training"]
    # "a" and "the" are no words of their own in the strict normalisation.
    assert overlap == {"images": 2, "questions": 3, "pairs": 2, "exact": 1}
    assert data.notes()[-1] == (
        "Shared with training, of 4 questions: the image 2, the wording 3, both together 2, "
        "with the very same answer 1."
    )


def test_rows_that_cannot_be_used_are_gaps(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    picture(folder / "a.png", 1)
    write_table(folder, [("a.png", "q?", "yes", "test"), ("gone.png", "q?", "no", "test"), ("a.png", "r?", "", "test")])
    data = read_evaluation_data(folder)
    assert (len(data.questions), data.left_out) == (1, 2)
    assert any("gone.png" in gap for gap in data.gaps)


def test_ids_are_the_datas_own_where_they_are_unique(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    picture(folder / "a.png", 1)
    columns = ("image", "question", "answer", "split", "id")
    rows = [("a.png", f"q{number}?", "yes", "test", name) for number, name in enumerate(("x", "y", "y"))]
    data = read_evaluation_data(write_table(folder, rows, columns))
    assert [question.identifier for question in data.questions] == ["x", "data.csv:3", "data.csv:4"]


@pytest.mark.parametrize("around", ["", "one/folder"])
def test_groups_come_from_a_table_beside(tmp_path, around):
    folder = tmp_path / "data" / around
    (folder / "groups").mkdir(parents=True)
    picture(folder / "a.png", 1)
    write_table(folder, [("a.png", "Is there a mass?", "yes", "test")])
    (folder / "groups" / "groups.csv").write_text("image,question,topic,part\na.png,Is there a mass?,own,hard\n")
    groups = read_evaluation_data(tmp_path / "data").questions[0].groups
    assert groups == {"answer_type": "closed", "topic": "own", "structure": "mass", "part": "hard"}


def test_options_within_a_question_are_what_its_answer_is_chosen_among(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    picture(folder / "a.png", 1)
    asked = ("Which organ?\nA. lung\nB. liver", "Which organ? A: lung, B: liver", "Which organ?")
    rows = [("a.png", question, answer, "test") for question in asked for answer in ("liver", "B")]
    questions = read_evaluation_data(write_table(folder, rows)).questions
    assert [q.options for q in questions] == [("lung", "liver")] * 4 + [()] * 2
    assert [(q.item.answer, q.item.answer_type) for q in questions] == [("liver", "closed")] * 4 + [
        ("liver", "open"), ("B", "open"),
    ]  # fmt: skip


def test_a_list_of_hallucinations_is_broken_down_by_its_own_kinds(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    row = {
        "img_name": "a.png",
        "choices": "",
        "question": "Is there a mass?",
        "answer": "no",
        "question_type": "binary",
    }
    (tmp_path / "Mixed-H.json").write_text(json.dumps([{**row, "hallucination_type": "type_3"}]))
    (question,) = read_evaluation_data(tmp_path / "Mixed-H.json").questions
    assert question.groups["part"] == "type_3"
    assert question.item.answer_type == "closed"


def test_rows_are_divided_as_a_run_divided_them(tmp_path):
    rows = [(f"{n}.png", "Is there a mass?", "yes", "") for n in range(6)]
    folder = write_table(tmp_path / "data", rows)
    for number in range(6):
        picture(folder / f"{number}.png", number)
    held = split_dataset(read_dataset(folder), 0.34, 3).of("validation")
    data = read_evaluation_data(folder, held_out=(0.34, 3))
    assert data.split == "validation"
    assert [question.item.image for question in data.questions] == [item.image for item in held]
    assert len(held) == 2
    assert read_evaluation_data(folder).split == "all"
