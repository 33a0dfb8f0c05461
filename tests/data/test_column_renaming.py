"""Tables whose columns have other names: what they likely hold, and copies that can be trained on."""

import pytest

from a3tune.data.column_renaming import naming_for, rename_columns
from a3tune.data.read import read_dataset
from a3tune.errors import DataError


@pytest.fixture
def study(folder):
    """Two tables with the same odd header, and the images that they name."""
    for number in range(3):
        folder.image(f"pictures/{number}.png", 60 * number)
    header = "\n\nCase No;Scan File;Radiologist asks;Reply\n"
    folder.text("train.csv", header + "1;pictures/0.png;Is there a mass?;no\n2;pictures/1.png;Where?;left\n")
    folder.text("test.csv", header + "3;pictures/2.png;Is there a mass?;yes\n")
    return folder.root


def test_what_the_columns_hold_is_guessed_and_the_likely_names_can_be_used(study, tmp_path):
    dataset = read_dataset(study)
    assert dataset.counts.kinds == {"columns": 2}
    assert "the columns image, question, answer are missing" in dataset.faults[0].what
    naming = naming_for(dataset)
    assert naming.columns == ("case no", "scan file", "radiologist asks", "reply")
    assert naming.guess["image"] == "scan file"
    assert naming.sample["reply"] == "yes"
    names = {"image": "scan file", "question": "radiologist asks", "answer": "reply"}
    renamed = read_dataset(rename_columns(dataset, names, tmp_path / "renamed"), images=study)
    assert (renamed.counts.errors, renamed.counts.items) == (0, 3)
    assert renamed.counts.splits == {"train": 2, "test": 1}
    assert {(item.file, item.line) for item in renamed.items} == {("train.csv", 4), ("train.csv", 5), ("test.csv", 4)}
    assert naming_for(renamed) is None


def test_a_table_deeper_down_that_lacks_a_column_too_does_not_take_its_place(study, folder):
    (study / "truth").mkdir()
    folder.text("truth/masks.csv", "image,question,mask\npictures/0.png,Is there a mass?,pictures/0.png\n")
    assert read_dataset(study).files == ("test.csv", "train.csv")


def test_a_column_that_had_the_name_of_another_gives_it_up(folder, tmp_path):
    folder.image("0.png")
    folder.text("data.csv", "image,picture,question,answer text\nseries 4,0.png,Is there a mass?,no\n")
    dataset = read_dataset(folder.root)
    assert naming_for(dataset).guess == {"image": "picture", "question": "question", "answer": "answer text"}
    table = rename_columns(dataset, naming_for(dataset).guess, tmp_path / "renamed") / "data.csv"
    assert table.read_text().splitlines()[0] == "former image,image,question,answer"
    assert read_dataset(table, images=folder.root).counts.items == 1


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"image": "scan file"}, "No column is named for question, answer"),
        ({"image": "scan file", "question": "reply", "answer": "reply"}, "The column reply is chosen more than once"),
        ({"image": "scan file", "question": "reply", "answer": "nothing"}, "There is no column nothing"),
        ({"image": "scan file", "question": "reply", "answer": "case no", "root": "reply"}, "There is no column root"),
    ],
)
def test_names_that_do_not_do_are_refused(study, tmp_path, names, words):
    with pytest.raises(DataError, match=words):
        rename_columns(read_dataset(study), names, tmp_path / "renamed")
    assert not (tmp_path / "renamed").exists()


def test_tables_without_room_or_with_different_columns_cannot_be_named(folder, tmp_path):
    folder.text("data.csv", "colour,size\nred,1\n")
    with pytest.raises(DataError, match="is a data set that is recognised"):
        read_dataset(folder.root)
    folder.text("data.csv", "colour,size,weight\nred,1,2\n")
    folder.text("more.csv", "colour,size,height\nred,1,2\n")
    dataset = read_dataset(folder.root)
    assert naming_for(dataset) is None
    with pytest.raises(DataError, match="cannot be named here"):
        rename_columns(dataset, {"image": "colour", "question": "size", "answer": "weight"}, tmp_path / "renamed")
