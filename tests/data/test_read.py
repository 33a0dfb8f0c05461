"""Faults of data sets: all found at once, with file and line, in bounded time and space; and splits by image."""

import os
from collections import Counter

import pytest

from a3tune.data.formats import image_files as pictures
from a3tune.data.formats.faults import FAULT_LIMIT
from a3tune.data.formats.json_text import JsonWalk
from a3tune.data.read import read_dataset, split_dataset
from a3tune.errors import Cancelled, DataError

HEADER = "image,question,answer,answer_type,split\n"


def found(dataset):
    """(kind, line) of every fault kept, in the order of lines."""
    return sorted(((fault.kind, fault.line) for fault in dataset.faults), key=lambda pair: pair[1])


def test_all_faults_of_a_table_are_told_at_once(folder):
    folder.image("a.png", 1)
    folder.image("b.png", 2)
    folder.text("empty.png", "")
    folder.text("text.png", "this is no picture at all")
    lines = [
        "gone.png,What?,cyst,open,train",
        "../../secret.png,What?,cyst,open,train",
        "/etc/hostname,What?,cyst,open,train",
        "C:\\\\scans\\\\a.png,What?,cyst,open,train",
        ",What?,cyst,open,train",
        "a.png, ,cyst,open,train",
        "a.png,What?,,open,train",
        "a.png,What?,cyst,maybe,train",
        "a.png,What?,cyst,open,somewhere",
        "a.png,What?,cyst,open",
        "a.png,What?,cyst,open,train,more",
        'a.png,"What"?,cyst,open,train',
        "empty.png,What?,cyst,open,train",
        "text.png,What?,cyst,open,train",
        "a.png,What?,cyst,open,train",
        "a.png,What?,cyst,open,train",
        "b.png,What?,cyst,open,train",
        "b.png,Where?,liver,open,test",
    ]
    dataset = read_dataset(folder.text("data.csv", HEADER + "\n".join(lines) + "\n"))
    assert found(dataset) == [
        ("missing-image", 2),
        ("outside", 3),
        ("outside", 4),
        ("outside", 5),
        ("no-image", 6),
        ("empty-question", 7),
        ("empty-answer", 8),
        ("answer-type", 9),
        ("split", 10),
        ("fields", 11),
        ("fields", 12),
        ("quotes", 13),
        ("unreadable-image", 14),
        ("unreadable-image", 15),
        ("duplicate", 17),
        ("shared-image", 19),
    ]
    assert [item.line for item in dataset.items] == [16, 17, 18, 19]
    assert (dataset.counts.rows, dataset.counts.errors, dataset.counts.warnings) == (15, 15, 1)
    assert str(dataset.faults[0]) == "data.csv, line 2, image: 'gone.png' does not exist"
    assert str(dataset.faults[8]) == "data.csv, line 10, split: expected train, validation or test, not 'somewhere'"
    assert str(dataset.faults[9]) == "data.csv, line 11: has 4 fields, the header has 5"
    with pytest.raises(DataError) as caught:
        dataset.raise_for_faults()
    assert "15 faults" in str(caught.value)
    assert "and 10 more" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_row_with_several_faults_tells_each(folder):
    dataset = read_dataset(folder.text("data.csv", HEADER + "gone.png,,,maybe,somewhere\n"))
    kinds = [fault.kind for fault in dataset.faults]
    assert kinds == ["missing-image", "empty-question", "empty-answer", "answer-type", "split"]


def test_one_fault_gives_its_own_remedy(folder):
    dataset = read_dataset(folder.text("data.csv", HEADER + "gone.png,What?,cyst,open,train\n"))
    with pytest.raises(DataError) as caught:
        dataset.raise_for_faults()
    assert caught.value.got == "The data has 1 fault: data.csv, line 2, image: 'gone.png' does not exist"
    assert caught.value.remedy == "Copy the image into the data folder, or correct the name"


def test_links_out_of_the_folder_are_refused(folder, tmp_path):
    folder.image("../secret.png")
    (folder.root / "a.png").symlink_to(tmp_path / "secret.png")
    (folder.root / "inside").symlink_to(tmp_path)
    text = HEADER + "a.png,What?,cyst,,\ninside/secret.png,What?,cyst,,\n"
    dataset = read_dataset(folder.text("data.csv", text))
    assert found(dataset) == [("outside", 2), ("outside", 3)]


def test_what_lies_outside_is_not_even_looked_at(folder, monkeypatch):
    looked = []
    real = os.stat
    monkeypatch.setattr(pictures.os, "stat", lambda path, **more: looked.append(str(path)) or real(path, **more))
    finder = pictures.PictureFinder([folder.root], [folder.root])
    looked.clear()
    for name in ("../x.png", "/etc/passwd", "a/../../x.png", "..\\x.png", "D:x.png", "x\0.png"):
        assert finder.find(name)[0] in ("outside", "image-name")
    assert looked == []


def test_names_with_steps_back_that_stay_inside(folder):
    folder.image("images/a.png")
    folder.text("tables/data.csv", "image,question,answer\n../images/a.png,What?,cyst\nx\\..\\..\\images\\a.png,W?,c\n")
    dataset = read_dataset(folder.root)
    assert [item.image.name for item in dataset.items] == ["a.png", "a.png"]
    assert read_dataset(folder.root / "tables" / "data.csv").counts.kinds["outside"] == 2


def test_images_that_lie_loose_where_their_folder_should_are_taken_and_told(folder):
    folder.image("a.png", 1)
    folder.image("b.png", 2)
    rows = "images/a.png,What?,cyst,,\nimages/a,Where?,liver,,\nimages\\b.png,What?,cyst,,\nimages/c.png,What?,cyst,,\n"
    dataset = read_dataset(folder.text("data.csv", HEADER + rows))
    assert [item.image.name for item in dataset.items] == ["a.png", "a.png", "b.png"]
    assert found(dataset) == [("loose-images", 0), ("missing-image", 5)]
    (told,) = [fault for fault in dataset.faults if fault.kind == "loose-images"]
    assert told.severity == "warning"
    assert "3 files are named in a folder images, which is not there" in told.what


def test_a_loose_image_that_two_folders_name_is_refused_by_name(folder):
    folder.image("a.png", 1)
    for other in ("test/a.png", "a.png"):
        table = folder.text("data.csv", HEADER + f"train/a.png,What?,cyst,,\n{other},What?,cyst,,\n")
        dataset = read_dataset(table)
        assert ("ambiguous-image", 3) in found(dataset)
        what = next(fault.what for fault in dataset.faults if fault.kind == "ambiguous-image")
        assert "train/a.png" in what
        assert other in what


def test_a_folder_that_is_there_is_not_left_for_a_loose_image(folder):
    folder.image("images/b.png", 2)
    folder.image("a.png", 1)
    dataset = read_dataset(folder.text("data.csv", HEADER + "images/a.png,What?,cyst,,\nimages/b.png,What?,cyst,,\n"))
    assert found(dataset) == [("missing-image", 2)]


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ('[\n ROW,\n {"image" "b"}\n]', 3, 11),
        ("[\n ROW\n ROW\n]", 3, 2),
        ("[\n ROW,\n", 3, 1),
        ("[\n ROW\n]\n]", 4, 1),
        ('{"train": [\n ROW\n], 7}', 3, 4),
        ('{"image": "a"', 1, 14),
    ],
)
def test_broken_json_is_told_with_line_and_column(folder, text, line, column):
    text = text.replace("ROW", '{"image": "a", "question": "b", "answer": "c"}')
    dataset = read_dataset(folder.text("data.json", text))
    fault = next(fault for fault in dataset.faults if fault.kind == "syntax")
    assert (fault.line, fault.what.rsplit(" ", 1)[1]) == (line, str(column))


@pytest.mark.parametrize(("text", "reason"), [("[" * 100_000, "nested too deeply"), ('[{"answer": NaN}]', "NaN")])
def test_json_beyond_the_rules(folder, text, reason):
    (fault,) = read_dataset(folder.text("data.json", text)).faults
    assert reason in fault.what


def test_broken_json_lines_do_not_hide_the_others(folder):
    folder.image("a.png")
    good = '{"image": "a.png", "question": "What\u2028?", "answer": "cyst"}\n'
    dataset = read_dataset(folder.text("data.jsonl", good + "{oops\n\n[1]\n" + good.replace("?", "!")))
    assert found(dataset) == [("syntax", 2), ("row-type", 4)]
    assert [item.line for item in dataset.items] == [1, 5]


def test_json_values_of_the_wrong_kind(folder):
    folder.image("a.png")
    broken = [
        {"image": 7, "question": "What?", "answer": "cyst"},
        {"image": "a.png", "question": ["What?"], "answer": "cyst"},
        {"image": "a.png", "question": "What?", "answer": True},
        {"image": "a.png", "question": "What?", "answer": "\ud800"},
        {"image": "a.png", "question": "What?" * 10_000, "answer": "cyst"},
        {"image": "a.png", "question": "What?", "answer": "cyst", "split": 3, "answer_type": 3},
        {"image": "a.png", "question": "What?", "answer": "cyst", "boxes": [[0, 0, 5]]},
        {"image": "a.png", "question": "What?"},
    ]
    dataset = read_dataset(folder.jsonl("data.jsonl", broken))
    assert found(dataset) == [
        ("no-image", 1),
        ("not-text", 2),
        ("not-text", 3),
        ("encoding", 4),
        ("too-long", 5),
        ("answer-type", 6),
        ("split", 6),
        ("boxes", 7),
        ("empty-answer", 8),
    ]
    assert dataset.faults[-1].what == "the row has no answer"
    assert max(len(str(fault)) for fault in dataset.faults) < 200


def test_text_that_is_not_utf_8(folder):
    folder.image("a.png")
    text = "image,question,answer\na.png,What?,cyst\na.png,Où?,là\n"
    dataset = read_dataset(folder.text("data.csv", text, "latin-1"))
    assert str(dataset.faults[0]) == "data.csv, line 3: byte 0xf9 at byte 8 of the line is not UTF-8"
    assert "UTF-16" in read_dataset(folder.text("wide.csv", text, "utf-16")).faults[0].what


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("image,question\na.png,What?\n", "columns", "the column answer is missing"),
        ("image,image,question,answer\na.png,a.png,What?,cyst\n", "header", "names image more than once"),
        ("image,question,answer\n", "no-rows", "has a header and no rows"),
        ("", "empty-file", "the file is empty"),
        ('image,question,answer\na.png,"What?,cyst\n', "quotes", "the quotes are broken"),
    ],
)
def test_broken_tables(folder, text, kind, words):
    folder.image("a.png")
    fault = next(fault for fault in read_dataset(folder.text("data.csv", text)).faults if fault.kind == kind)
    assert words in fault.what


def test_columns_that_are_not_used_are_named_once(folder):
    folder.image("a.png")
    dataset = read_dataset(folder.text("data.csv", "image,question,answer,doctor,\na.png,What?,cyst,x,y\n"))
    assert [(fault.kind, fault.severity, fault.what) for fault in dataset.faults] == [
        ("stray-columns", "warning", "columns that are not used: doctor, (no name)")
    ]
    dataset.raise_for_faults()


def test_masks_and_boxes_must_lie_on_their_image(folder):
    folder.image("a.png", size=(12, 10))
    folder.image("good.png", shade=200, size=(12, 10))
    folder.image("turned.png", size=(10, 12))
    names = [("good.png", ""), ("turned.png", ""), ("gone.png", ""), ("", "[[2, 2, 10, 8]]"), ("", "[[2, 2, 11, 8]]")]
    lines = [
        {"image": "a.png", "question": f"What {number}?", "answer": "cyst", "mask": mask, "boxes": boxes}
        for number, (mask, boxes) in enumerate(names)
    ]
    dataset = read_dataset(folder.csv("data.csv", lines))
    assert found(dataset) == [("mask-size", 3), ("missing-image", 4), ("boxes", 6)]
    assert [item.line for item in dataset.items] == [2, 5]
    assert dataset.items[0].mask.name == "good.png"
    assert dataset.items[1].boxes == ((2, 2, 10, 8),)
    assert "10 x 12 pixels, its image has 12 x 10" in dataset.faults[0].what


def test_copies_of_an_image_under_another_name_are_found(folder):
    for name, shade in (("a.png", 1), ("copy.png", 1), ("c.png", 2)):
        folder.image(name, shade)
    text = "image,question,answer,split\na.png,What?,cyst,train\ncopy.png,What?,cyst,val\nc.png,What?,cyst,test\n"
    path = folder.text("data.csv", text)
    dataset = read_dataset(path)
    assert found(dataset) == [("shared-image", 3)]
    assert dataset.faults[0].what == "copy.png is in validation and in train (data.csv, line 2, there as a.png)"
    assert read_dataset(path, check_images=False).faults == ()
    allowed = read_dataset(path, allow_shared_images=True)
    assert [(fault.severity, fault.line) for fault in allowed.faults] == [("warning", 0)] * 2


def test_validation_and_test_may_share_images_with_a_warning(folder):
    folder.image("a.png")
    text = "image,question,answer,split\na.png,What?,cyst,val\na.png,Where?,liver,test\n"
    dataset = read_dataset(folder.text("data.csv", text))
    assert [(fault.kind, fault.severity) for fault in dataset.faults] == [("shared-image", "warning")]


def test_damaged_image_of_many_rows_is_one_fault(folder):
    folder.text("a.png", b"\x89PNG\r\n\x1a\n cut off")
    text = "image,question,answer\n" + "".join(f"a.png,What {number}?,cyst\n" for number in range(5))
    path = folder.text("data.csv", text)
    dataset = read_dataset(path)
    assert [fault.line for fault in dataset.faults] == [2]
    assert "4 more rows use it" in dataset.faults[0].what
    assert dataset.items == ()
    assert len(read_dataset(path, check_images=False).items) == 5


def test_looking_at_images_shows_progress_and_can_be_stopped(folder):
    folder.image("a.png")
    path = folder.text("data.csv", "image,question,answer\na.png,What?,cyst\n")
    shares = []
    read_dataset(path, on_progress=lambda _, share: shares.append(share))
    assert shares == [0.0, 1.0]
    with pytest.raises(Cancelled):
        read_dataset(path, should_stop=lambda: True)


def test_a_hundred_thousand_faults_cost_a_bounded_amount(folder, monkeypatch):
    count = 100_000
    looks = Counter()
    real = os.stat

    def counted(path, **more):
        looks["stat"] += 1
        return real(path, **more)

    monkeypatch.setattr(pictures.os, "stat", counted)
    lines = "".join(f"gone{number % 1000}.png,What?,,maybe,somewhere\n" for number in range(count // 4))
    dataset = read_dataset(folder.text("data.csv", HEADER + lines))
    assert dataset.counts.errors == count
    assert dataset.counts.kinds == dict.fromkeys(("missing-image", "empty-answer", "answer-type", "split"), count // 4)
    assert len(dataset.faults) == FAULT_LIMIT
    # Once for each of the thousand names, however many rows hold it.
    assert looks["stat"] <= 1100
    with pytest.raises(DataError) as caught:
        dataset.raise_for_faults()
    assert "100,000 faults" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_lines_of_json_are_counted_in_one_pass(monkeypatch):
    counted = []

    class Text(str):
        __slots__ = ()

        def count(self, sign, start, stop):
            counted.append(stop - start)
            return super().count(sign, start, stop)

    text = Text("[\n" + ",\n".join(f'{{"n": {number}}}' for number in range(2000)) + "\n]")
    walked = list(JsonWalk(text).elements())
    assert [line for _, line, _ in walked] == list(range(2, 2002))
    assert sum(counted) <= len(text)


def table(folder, count, images, splits=None):
    for number in range(images):
        folder.image(f"{number}.png", number, size=(8, 8 + number // 200))
    splits = splits or {}
    return folder.csv(
        "data.csv",
        [
            {"image": f"{number % images}.png", "question": f"Q{number}?", "answer": "yes",
             "split": splits.get(number, "")}
            for number in range(count)
        ],
    )  # fmt: skip


def test_split_by_image(folder):
    dataset = read_dataset(table(folder, 60, 20))
    split = split_dataset(dataset, 0.25, seed=3)
    train = {item.image for item in split.of("train")}
    validation = {item.image for item in split.of("validation")}
    assert len(validation) == 5
    assert not train & validation
    assert split.counts.splits == {"train": 45, "validation": 15}
    assert split_dataset(dataset, 0.25, seed=3) == split
    assert {item.image for item in split_dataset(dataset, 0.25, seed=4).of("validation")} != validation


def test_split_depends_on_content_and_not_on_names_or_order(folder, tmp_path):
    dataset = read_dataset(table(folder, 20, 20))
    held = {item.image.read_bytes() for item in split_dataset(dataset, 0.2).of("validation")}
    for image in sorted(folder.root.glob("*.png")):
        image.rename(image.with_name(f"z{int(image.stem) * 7 % 20}.png"))
    text = "image,question,answer\n" + "".join(f"z{number}.png,Q?,yes\n" for number in range(20))
    renamed = split_dataset(read_dataset(folder.text("data.csv", text)), 0.2)
    assert {item.image.read_bytes() for item in renamed.of("validation")} == held


def test_copies_stay_in_one_split(folder):
    for number in range(10):
        folder.image(f"{number}.png", number)
        folder.image(f"copy{number}.png", number)
    names = [f"{prefix}{number}.png" for prefix in ("", "copy") for number in range(10)]
    text = "image,question,answer\n" + "".join(f"{name},Q?,yes\n" for name in names)
    split = split_dataset(read_dataset(folder.text("data.csv", text)), 0.3)
    contents = [{item.image.read_bytes() for item in split.of(name)} for name in ("train", "validation")]
    assert not contents[0] & contents[1]
    assert split.counts.splits == {"train": 14, "validation": 6}


def test_given_splits_stay(folder):
    dataset = read_dataset(table(folder, 12, 6, {0: "test", 1: "train"}))
    split = split_dataset(dataset, 0.2)
    by_image = {}
    for item in split.items:
        by_image.setdefault(item.image.name, set()).add(item.split)
    assert by_image["0.png"] == {"test"}
    assert all(len(splits) == 1 for splits in by_image.values())
    assert len({item.image for item in split.of("validation")}) == 1
    complete = read_dataset(table(folder, 6, 3, {0: "validation", 1: "train", 2: "train", 3: "validation"}))
    assert {item.line: item.split for item in split_dataset(complete).items} == {
        2: "validation", 3: "train", 4: "train", 5: "validation", 6: "train", 7: "train",
    }  # fmt: skip


@pytest.mark.parametrize(("share", "images", "validation"), [(0.0, 4, 0), (0.01, 4, 1), (0.99, 4, 3), (0.5, 1, 0)])
def test_shares_at_the_ends(folder, share, images, validation):
    split = split_dataset(read_dataset(table(folder, images, images)), share)
    assert len(split.of("validation")) == validation
    assert len(split.of("train")) == images - validation


def test_split_refuses_bad_shares_and_lost_images(folder):
    dataset = read_dataset(table(folder, 4, 4))
    with pytest.raises(DataError, match=r"validation_share is 1\.5"):
        split_dataset(dataset, 1.5)
    (folder.root / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png cannot be read any more"):
        split_dataset(dataset)


def test_what_a_split_read_of_the_images_is_not_read_again(folder):
    split = split_dataset(read_dataset(table(folder, 4, 4)))
    for number in range(4):
        (folder.root / f"{number}.png").unlink()
    assert len({split.digests[item.image] for item in split.items}) == 4


def test_items_that_are_too_long_for_a_model(folder):
    dataset = read_dataset(table(folder, 4, 4))
    shares = []
    checked = dataset.check_lengths(lambda item: 10 * item.line, 30, on_progress=lambda _, share: shares.append(share))
    assert [item.line for item in checked.items] == [2, 3]
    assert found(checked) == [("too-long", 4), ("too-long", 5)]
    assert checked.counts.errors == 2
    assert checked.counts.items == 2
    assert shares == [0.0]
    assert dataset.check_lengths(lambda item: 1, 30) is dataset
