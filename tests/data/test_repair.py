"""Repairs on a click: what is offered, and that what they write is clean."""

import pytest

from a3tune.data.read import read_dataset
from a3tune.data.repair import repair_dataset, repairs_for
from a3tune.errors import DataError


@pytest.fixture
def messy(folder):
    """A data set with every fault that can be repaired."""
    for number in range(6):
        folder.image(f"images/{number}.png", shade=40 * number)
    rows = [
        {"image": f"images/{number}.png", "question": "Is there a mass?", "answer": "yes", "split": "", "mood": "good"}
        for number in range(6)
    ]
    rows[0]["split"] = "train"
    rows += [{**rows[0], "split": "test", "question": "Where?"}, dict(rows[2])]
    rows += [{**rows[1], "image": "images/none.png"}, {**rows[1], "split": "Sunday", "question": "When?"}]
    folder.csv("data.csv", rows)
    return folder.root


def test_all_that_is_wrong_is_offered(messy):
    offers = {offer.repair: offer.count for offer in repairs_for(read_dataset(messy))}
    assert offers == {"rows": 2, "shared": 1, "allow": 1, "duplicates": 1, "columns": 1, "split": 6}


def test_the_repaired_table_has_no_fault(messy, tmp_path):
    dataset = read_dataset(messy)
    before = (messy / "data.csv").read_text()
    table = repair_dataset(dataset, [offer.repair for offer in repairs_for(dataset)], tmp_path / "repaired")
    clean = read_dataset(table, images=messy)
    assert (clean.counts.errors, clean.counts.warnings) == (0, 0)
    assert clean.counts.items == 7
    assert clean.counts.splits == {"train": 4, "validation": 1, "test": 2}
    assert len({item.split for item in clean.items if item.image.name == "0.png"}) == 1
    assert repairs_for(clean) == ()
    assert (messy / "data.csv").read_text() == before


def test_faulty_rows_may_not_stay(messy, tmp_path):
    with pytest.raises(DataError, match="3 faults would stay"):
        repair_dataset(read_dataset(messy), ["split"], tmp_path / "repaired")


def test_nothing_is_offered_where_nothing_is_wrong(folder):
    folder.image("a.png")
    folder.csv("data.csv", [{"image": "a.png", "question": "Is it?", "answer": "yes", "split": "train"}])
    assert repairs_for(read_dataset(folder.root)) == ()


def test_masks_and_boxes_survive(folder, tmp_path):
    folder.image("a.png")
    folder.image("m.png", shade=255)
    row = {"image": "a.png", "question": 'Is "it"?', "answer": "a\nb", "mask": "m.png", "boxes": "[[1, 2, 3, 4]]"}
    folder.csv("data.csv", [{**row, "stray": "1"}])
    dataset = read_dataset(folder.root)
    clean = read_dataset(repair_dataset(dataset, ["columns"], tmp_path / "repaired"), images=folder.root)
    (item,), (was,) = clean.items, dataset.items
    assert (item.mask, item.boxes, item.question, item.answer) == (was.mask, was.boxes, was.question, was.answer)


def test_images_in_two_splits_may_be_allowed_where_they_are_an_error(folder):
    folder.image("a.png")
    row = {"image": "a.png", "question": "Is it?", "answer": "no"}
    rows = [{**row, "split": split} for split in ("train", "test")]
    path = folder.csv("d.csv", rows)
    offers = [offer.repair for offer in repairs_for(read_dataset(path))]
    assert ("shared" in offers, "allow" in offers) == (True, True)
    assert "allow" not in [offer.repair for offer in repairs_for(read_dataset(path, allow_shared_images=True))]
