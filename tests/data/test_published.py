"""Data sets as people really have them: published files with their oddities, and what office programs save."""

from __future__ import annotations

import json
import re
import unicodedata
import zipfile

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from a3tune.data.read import read_dataset
from a3tune.data.repair import repair_dataset, repairs_for
from a3tune.errors import DataError

TURNS = [("human", "<image>\nIs the right lung clear?"), ("gpt", "yes"), ("human", "And the left one?"), ("gpt", "no")]


def kinds(dataset):
    return dataset.counts.kinds


def told(dataset):
    return [(fault.severity, fault.kind, str(fault)) for fault in dataset.faults]


def talk(*turns, key="conversations", **fields):
    return {key: [{"from": speaker, "value": words} for speaker, words in turns], **fields}


def vqa_rad_row(number, image, phrase, question="Is there a mass?", answer="yes"):
    return {"qid": number, "image_name": image, "question": question, "answer": answer, "phrase_type": phrase}


@pytest.mark.parametrize("phrases", [("freeform", "para"), ("test_freeform", "test_para")])
def test_the_name_of_the_file_says_the_split_whatever_phrase_type_says(folder, phrases):
    folder.image("images/a.png")
    folder.image("images/b.png", 1)
    folder.json("trainset.json", [vqa_rad_row(1, "a.png", "test_freeform")])
    folder.json("testset.json", [vqa_rad_row(2 + number, "b.png", phrase) for number, phrase in enumerate(phrases)])
    dataset = read_dataset(folder.root)
    assert sorted((item.identifier, item.split) for item in dataset.items) == [
        ("1", "train"),
        ("2", "test"),
        ("3", "test"),
    ]
    assert dataset.counts.errors == 0


def test_phrase_type_tells_the_split_of_the_one_file_that_was_published(folder):
    folder.image("a.png")
    rows = [vqa_rad_row(1, "a.png", "freeform"), vqa_rad_row(2, "a.png", "test_para", "Is it?")]
    dataset = read_dataset(folder.json("VQA_RAD Dataset Public.json", rows))
    assert [item.split for item in dataset.items] == ["train", "test"]


def test_a_name_with_two_splits_in_it_tells_none(folder):
    folder.image("a.png")
    row = {"image": "a.png", "question": "Is it?", "answer": "no"}
    assert read_dataset(folder.json("train_and_test.json", [row])).items[0].split is None


def test_shared_images_and_shared_questions_are_counted(folder):
    for name, shade in (("a.png", 0), ("b.png", 1)):
        folder.image(f"images/{name}", shade)
    folder.json("trainset.json", [vqa_rad_row(1, "a.png", "freeform"), vqa_rad_row(2, "b.png", "para")])
    again = [vqa_rad_row(3, "a.png", "para", "is there a mass"), vqa_rad_row(4, "b.png", "para", "Where?")]
    dataset = read_dataset(folder.json("testset.json", again).parent)
    assert [severity for severity, *_ in told(dataset)] == ["warning", "warning"]
    words = " ".join(text for *_, text in told(dataset))
    assert "2 images are in train and in another split" in words
    assert "1 held-out question is asked about the same image in train too" in words


def test_a_row_of_slake_without_an_answer_is_left_out_by_its_number(folder):
    folder.image("imgs/a.png")
    row = {"img_name": "a.png", "question": "Which organ?", "answer": "Liver", "q_lang": "en", "qid": 1}
    rows = [row, {**row, "answer": " ", "qid": 1622}]
    dataset = read_dataset(folder.text("train.json", json.dumps(rows)))
    assert (len(dataset.items), dataset.counts.skipped, dataset.counts.errors) == (1, 1, 0)
    ((_, kind, text),) = told(dataset)
    assert kind == "no-answer"
    assert "train.json, row 2 (id 1622)" in text


@pytest.mark.parametrize("key", ["conversations", "conversatons", "Conversation"])
def test_conversations_in_every_published_spelling(folder, key):
    folder.image("a.png")
    dataset = read_dataset(folder.json("d.json", [talk(*TURNS[:2], key=key, image="a.png", id="x")]))
    assert [item.answer for item in dataset.items] == ["yes"]
    assert dataset.layout == "llava"


def test_turns_keep_what_was_said_before(folder):
    folder.image("a.png")
    dataset = read_dataset(folder.json("train.json", [talk(*TURNS, image="a.png")]))
    first, second = dataset.items
    assert first.context == ()
    assert (second.question, second.context) == ("And the left one?", ("Is the right lung clear?", "yes"))
    table = repair_dataset(dataset, [], folder.root / "repaired")
    again = read_dataset(table, images=folder.root).items[1]
    assert (again.question, again.context) == (second.question, second.context)


@pytest.mark.parametrize("context", ['["only a question"]', "[1, 2]", "{", '{"a": 1}'])
def test_a_context_that_is_no_list_of_turns_is_a_fault(folder, context):
    folder.image("a.png")
    row = {"image": "a.png", "question": "And now?", "answer": "no", "context": context}
    assert kinds(read_dataset(folder.json("d.json", [row]))) == {"context": 1}


def test_rows_without_an_image_are_left_out_and_counted(folder):
    folder.image("a.png")
    text = [("human", "Name three organs."), ("gpt", "Liver, spleen, heart.")]
    rows = [talk(*TURNS[:2], image="a.png"), talk(*text), talk(*text, image=None), talk(*TURNS[:2])]
    dataset = read_dataset(folder.json("mix.json", rows))
    assert (len(dataset.items), dataset.counts.skipped) == (1, 2)
    # A question that shows an image and names none is a fault.
    assert kinds(dataset) == {"text-only": 2, "no-image": 1}


def test_a_list_of_one_image_is_that_image_and_of_two_a_fault(folder):
    folder.image("a.png")
    row = {"question": "Is it?", "answer": "no"}
    rows = [{**row, "images": ["a.png"]}, {**row, "question": "Which?", "images": ["a.png", "a.png"]}]
    dataset = read_dataset(folder.json("d.json", rows))
    assert [item.image.name for item in dataset.items] == ["a.png"]
    assert kinds(dataset) == {"several-images": 1}


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet", "csv"])
def test_keys_are_taken_in_any_case(folder, ending):
    folder.image("a.png")
    row = {"Image": "a.png", " QUESTION": "Is it?", "Answer ": "no"}
    path = folder.root / f"d.{ending}"
    if ending == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    elif ending == "csv":
        folder.csv(path.name, [row])
    else:
        path.write_text(json.dumps([row] if ending == "json" else row))
    assert [item.answer for item in read_dataset(path).items] == ["no"]


def test_one_key_in_two_spellings_is_a_fault(folder):
    folder.image("a.png")
    row = {"image": "a.png", "Image": "b.png", "question": "Is it?", "answer": "no"}
    dataset = read_dataset(folder.json("d.json", [row, {"image": "a.png", "question": "Is it?", "answer": "no"}]))
    assert (kinds(dataset), len(dataset.items)) == ({"header": 1}, 1)


def test_a_file_with_one_object_is_one_row(folder):
    folder.image("a.png")
    row = {"image": "a.png", "question": "Is it?", "answer": "no", "id": 3}
    assert len(read_dataset(folder.text("d.json", json.dumps(row))).items) == 1
    assert len(read_dataset(folder.json("d.json", talk(*TURNS, image="a.png"))).items) == 2
    # An object whose lists hold the rows stays what it is.
    assert read_dataset(folder.json("d.json", {"train": [row], "info": {"a": 1}})).layout == "table"


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999"])
@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_a_value_that_is_no_number_names_its_row_and_the_others_are_checked(folder, value, ending):
    folder.image("a.png")
    row = '{"id": 7, "image": "a.png", "question": "Is it?", "answer": VALUE}'
    rows = [row.replace("VALUE", answer) for answer in ('"no"', value)]
    text = (
        "[" + ", ".join([*rows, rows[0].replace("Is", "Was")]) + "]"
        if ending == "json"
        else "\n".join([*rows, rows[0].replace("Is", "Was")])
    )
    dataset = read_dataset(folder.text(f"d.{ending}", text))
    assert len(dataset.items) == 2
    ((severity, kind, words),) = told(dataset)
    assert (severity, kind) == ("error", "not-a-number")
    assert ("row 2 (id 7), answer" if ending == "json" else "line 2, answer") in words


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-32-le", "utf-32-be"])
def test_wide_encodings_are_told_as_such(folder, encoding):
    text = "image,question,answer\na.png,Is it?,no\n"
    with pytest.raises(DataError, match=f"is UTF-{encoding[4:6]}, not UTF-8"):
        read_dataset(folder.text("d.csv", text.encode(encoding))).raise_for_faults()


@pytest.mark.parametrize("separator", [";", "|", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_excels_own_first_line_names_the_separator(folder, separator, ending):
    folder.image("a.png")
    rows = [("image", "question", "answer"), ("a.png", "Is it, or not?", "no"), ("b.png", "Is it?", "no")]
    text = ending.join([f"sep={separator}", *(separator.join(row) for row in rows)])
    dataset = read_dataset(folder.text("d.csv", text))
    assert [(item.question, item.line) for item in dataset.items] == [("Is it, or not?", 3)]
    assert [(fault.kind, fault.line) for fault in dataset.faults] == [("missing-image", 4)]


def workbook(path, *sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(f"Sheet {number}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_excel_workbooks_are_read(folder):
    folder.image("a.png")
    rows = [["Image", "Question", "Answer", None], ["a.png", "How many?", 3, None], [], ["gone.png", "Is it?", "no"]]
    dataset = read_dataset(workbook(folder.root / "d.xlsx", rows, [["notes"], ["none"]]))
    assert [(item.answer, item.place) for item in dataset.items] == [("3", "d.xlsx, row 2")]
    assert kinds(dataset) == {"left-out": 1, "missing-image": 1}
    assert any("d.xlsx, row 4, image" in text for *_, text in told(dataset))


def test_excel_rows_beyond_the_noted_size_errors_and_rows_above_the_header(folder):
    folder.image("a.png")
    path = workbook(
        folder.root / "d.xlsx",
        [[], [], ["image", "question", "answer"], ["a.png", "Where?", "left"], ["a.png", "What?", "#N/A"]],
    )
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    parts[sheet] = re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="A1"', parts[sheet])
    with zipfile.ZipFile(path, "w") as book:
        for name, content in parts.items():
            book.writestr(name, content)
    dataset = read_dataset(path)
    assert [(item.answer, item.place) for item in dataset.items] == [("left", "d.xlsx, row 4")]
    assert [(fault.kind, fault.field, fault.line) for fault in dataset.faults] == [("excel-error", "answer", 5)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is an Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "old Excel workbook"),
        (b"PAR1" + bytes(20), "is a Parquet file"),
        (b"\x1f\x8b\x08\x00" + bytes(20), "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS"),
        (b"/annex/objects/MD5E-s20--4d7a.csv\n", "pointer of git-annex"),
        (b"<!-- saved from url=(0019)https://example.org -->\n<HTML><head></head>", "saved web page"),
        (b"image,question,answer\n" + bytes(40), "zero bytes"),
    ],
)
@pytest.mark.parametrize("name", ["d.csv", "d.json"])
def test_what_bears_a_wrong_ending_is_named_as_what_it_is(folder, content, words, name):
    if content is None:
        content = workbook(folder.root / "book.xlsx", [["image", "question", "answer"]]).read_bytes()
    with pytest.raises(DataError, match=words):
        read_dataset(folder.text(name, content)).raise_for_faults()


@pytest.mark.parametrize("name", ["d.parquet", "d.xlsx", "d.jsonl", "d.tsv"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "d.*: is a pointer of Git LFS.*git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "d.*: is a saved web page.*download link"),
    ],
)
def test_a_table_whose_content_never_came_is_named_as_that(folder, content, words, name):
    with pytest.raises(DataError, match=words):
        read_dataset(folder.text(name, content)).raise_for_faults()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK", "is not an Excel workbook that can be read"),
        (b"", "is not an Excel workbook that can be read"),
        (b"image,question,answer\n", "is text, not an Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "is an old Excel workbook"),
    ],
)
@pytest.mark.parametrize("name", ["d.xlsx", "d.xls"])
def test_a_broken_workbook_is_a_fault(folder, content, words, name):
    with pytest.raises(DataError, match=words):
        read_dataset(folder.text(name, content)).raise_for_faults()


def test_a_workbook_is_read_whatever_its_ending_says(folder):
    folder.image("a.png")
    book = workbook(folder.root / "book.xlsx", [["image", "question", "answer"], ["a.png", "Is it?", "no"]])
    book.rename(folder.root / "book.xls")
    assert len(read_dataset(folder.root).items) == 1


def test_formulas_that_were_never_computed_are_named_by_their_rows(folder):
    folder.image("a.png")
    rows = [
        ["image", "question", "answer"],
        ["a.png", "Is it?", '="y"&"es"'],
        ["a.png", "And that?", "no"],
        ["=A2"] * 3,
    ]
    dataset = read_dataset(workbook(folder.root / "book.xlsx", rows))
    assert [item.question for item in dataset.items] == ["And that?"]
    assert [(fault.kind, fault.line, fault.field) for fault in dataset.faults] == [
        ("excel-formula", 2, "answer"),
        ("excel-formula", 4, "image"),
    ]


def test_formulas_that_are_empty_on_purpose_are_empty(folder):
    folder.image("a.png")
    rows = [["image", "question", "answer"], ["a.png", "Is it?", '="no"'], ["=A9"] * 3]
    book = workbook(folder.root / "book.xlsx", rows)
    # As Excel saves them: with what each came to, which is nothing for those of the last row.
    with zipfile.ZipFile(book) as packed:
        parts = {name: packed.read(name) for name in packed.namelist()}
    sheet = parts["xl/worksheets/sheet1.xml"].decode()
    sheet = re.sub(r'(<c r="C2")[^>]*>(<f>[^<]*</f>)<v ?/?>(</v>)?', r'\1 t="str">\2<v>no</v>', sheet)
    parts["xl/worksheets/sheet1.xml"] = sheet.encode()
    with zipfile.ZipFile(book, "w") as packed:
        for name, content in parts.items():
            packed.writestr(name, content)
    dataset = read_dataset(book)
    assert dataset.faults == ()
    assert [item.answer for item in dataset.items] == ["no"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"image": "a.png", "question": "q", "answer": "y", "answer": "n"}\n' * 2, "d.jsonl, line 1"),
        ('[{"image": "a.png", "question": "q", "answer": "y"},\n'
         '{"id": 7, "image": "a.png", "question": "q", "question": "p", "answer": "y"}]', "d.json, line 2"),
        ('[{"id": 7, "image": "a.png", "conversations": [{"from": "human", "value": "a", "value": "b"}, '
         '{"from": "gpt", "value": "c"}]}]', "d.json, row 1 (id 7)"),
    ],
)  # fmt: skip
def test_a_key_that_stands_twice_in_a_row_is_named(folder, text, place):
    folder.image("a.png")
    dataset = read_dataset(folder.text(place.split(",")[0], text))
    assert str(dataset.faults[0]).startswith(place)
    assert "more than once, each time with a value of its own" in dataset.faults[0].what


@pytest.mark.parametrize(
    "whole",
    [
        {
            "1": {"image": "a.png", "question": "q", "answer": "y"},
            "2": {"image": "a.png", "question": "p", "answer": "n"},
        },
        {"image": ["a.png", "a.png"], "question": ["q", "p"], "answer": ["y", "n"]},
        {"Image": {"0": "a.png", "1": "a.png"}, "question": {"0": "q", "1": "p"}, "answer": {"0": "y", "1": "n"}},
    ],
)
def test_rows_by_their_ids_and_by_columns_are_rows(folder, whole):
    folder.image("a.png")
    dataset = read_dataset(folder.json("d.json", whole))
    assert [(item.question, item.answer, str(item.line)) for item in dataset.items] == [
        ("q", "y", "1"),
        ("p", "n", "2"),
    ]
    assert dataset.faults == ()


@pytest.mark.parametrize("name", ["d.csv", "d.jsonl"])
def test_lines_that_end_as_on_old_macs_are_lines(folder, name):
    folder.image("a.png")
    rows = [{"image": image, "question": "Is it?", "answer": "no"} for image in ("a.png", "gone.png")]
    lines = [json.dumps(row) for row in rows] if name == "d.jsonl" else ["image,question,answer"]
    lines += [",".join(row.values()) for row in rows if name == "d.csv"]
    dataset = read_dataset(folder.text(name, "\r".join(lines) + "\r"))
    assert len(dataset.items) == 1
    assert dataset.faults[0].line == len(lines)


def test_rows_that_share_a_line_are_told_by_their_numbers(folder):
    row = {"image": "gone.png", "question": "q", "answer": "y"}
    lines = ",".join(json.dumps({"id": f"r{number}", **row}) for number in (1, 2))
    dataset = read_dataset(folder.text("d.json", f"[\n{lines}\n]\n"))
    assert [str(fault)[:22] for fault in dataset.faults] == ["d.json, row 1 (id r1),", "d.json, row 2 (id r2),"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("trainval", "train"), ("train_val", "train"), ("train-validation", "train"), ("TrainVal_set", "train")),
        *(
            ("holdout", "test"),
            ("held-out", "test"),
            ("hold_out", "test"),
            ("dev", "validation"),
            ("dev_set", "validation"),
        ),
        *(("development", "validation"), ("test_questions", "test"), ("validate", "validation")),
    ],
)
def test_split_names_in_files_and_rows(folder, name, split):
    folder.image("a.png")
    row = {"image": "a.png", "question": "Is it?", "answer": "no"}
    path = folder.json(f"{name}.json", [row])
    assert [item.split for item in read_dataset(path).items] == [split]
    path.unlink()
    assert [item.split for item in read_dataset(folder.json("d.json", [{**row, "split": name}])).items] == [split]


def test_files_of_rows_further_down_are_told(folder):
    folder.image("a.png")
    folder.image("images/b.png")
    row = [{"image": "a.png", "question": "Is it?", "answer": "no"}]
    folder.json("train.json", row)
    folder.json("test/test.json", row)
    folder.json("images/detection.json", [{"liver": [1, 2, 3, 4]}])
    (fault,) = read_dataset(folder.root).faults
    assert (fault.kind, fault.severity) == ("left-out", "warning")
    assert fault.what.endswith("left out: test/test.json")


def test_images_in_a_folder_that_is_named_after_them(folder):
    folder.image("train/Train_images/a.jpg")
    folder.image("train/other images/b.jpg", 1)
    folder.image("train/Train_images/b.jpg", 2)
    dataset = read_dataset(folder.text("train/All_QA_Pairs_train.txt", "a|Is it?|no\nb|Is it?|no\n").parent.parent)
    assert [item.image.name for item in dataset.items] == ["a.jpg"]
    assert [fault.kind for fault in dataset.faults] == ["ambiguous-image"]
    assert "lies in several folders (Train_images, other images)" in dataset.faults[0].what


def test_a_contradiction_is_seen_whatever_the_spelling(folder):
    folder.image("a.png")
    rows = [{"image": "a.png", "question": q, "answer": a} for q, a in (("Is it?", "yes"), ("is  it", "no"))]
    assert [fault.kind for fault in read_dataset(folder.json("d.json", rows)).faults] == ["contradiction"]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_are_found_in_either_normal_form(folder, forms):
    in_table, on_disk = forms
    folder.image(unicodedata.normalize(on_disk, "Röntgen/Thorax é.png"))
    name = unicodedata.normalize(in_table, "Röntgen/Thorax é.png")
    dataset = read_dataset(folder.csv("d.csv", [{"image": name, "question": "Is it?", "answer": "no"}]))
    assert dataset.counts.errors == 0
    assert dataset.items[0].image.is_file()


def test_answers_that_contradict_are_a_remark(folder):
    folder.image("a.png")
    row = {"image": "a.png", "question": "Is it?", "answer": "no"}
    rows = [row, {**row, "answer": "No."}, {**row, "answer": "yes"}]
    dataset = read_dataset(folder.csv("d.csv", rows))
    assert [(fault.kind, fault.severity, fault.line) for fault in dataset.faults] == [("contradiction", "warning", 4)]
    assert "d.csv, line 2" in dataset.faults[0].what


def test_an_answer_that_is_an_option_stays_though_it_is_a_letter(folder):
    folder.image("a.png")
    row = {"image": "a.png", "question": "Which vitamin?", "answer": "A", "options": ["B", "A"]}
    assert read_dataset(folder.json("d.json", [row])).items[0].answer == "A"


def test_the_lists_of_vqa_med(folder):
    folder.image("images/synpic1.jpg")
    lines = "synpic1|what modality?|cta\nsynpic1|modality|is this a ct?|yes\nbroken\nsynpic1|alarming?|fracture|break\n"
    lines += "synpic1|binary|is this an mri?|no\n"
    dataset = read_dataset(folder.text("All_QA_Pairs_train.txt", lines))
    assert [(item.answer, item.split) for item in dataset.items] == [
        ("cta", "train"),
        ("yes", "train"),
        ("fracture", "train"),
        ("no", "train"),
    ]
    assert kinds(dataset) == {"fields": 1, "answers": 1}


@pytest.mark.parametrize("name", ["C2_Plane_val.txt", "VQA-Med-2021-VQAnswering-Task1-New-ValidationSet.txt"])
def test_lists_of_vqa_med_under_their_other_names(folder, name):
    folder.image("images/synpic1.jpg")
    [item] = read_dataset(folder.text(name, "synpic1|which plane is this?|axial\n")).items
    assert (item.question, item.answer, item.split) == ("which plane is this?", "axial", "validation")


def test_the_lists_of_vqa_med_2018(folder):
    folder.image("VQAMed2018Train-images/rjv03401.jpg")
    lines = '1\trjv03401\twhat does "mri show?\tliver, left\r\n\n3\trjv03401\twhere is it?\n'
    dataset = read_dataset(folder.text("VQAMed2018Train-QA.csv", lines))
    [item] = dataset.items
    assert (item.question, item.answer, item.split) == ('what does "mri show?', "liver, left", "train")
    assert [(fault.kind, fault.line) for fault in dataset.faults] == [("fields", 3)]


def test_another_table_under_the_name_of_a_list_of_vqa_med_2018(folder):
    folder.image("a.png")
    [item] = read_dataset(folder.text("VQAMed2018Test-QA.csv", "image,question,answer\na.png,is it?,no\n")).items
    assert (item.answer, item.split) == ("no", "test")


def test_mimic_cxr_vqa_before_its_answers_are_put_in_is_named(folder):
    row = {"split": "train", "idx": 0, "image_id": "0b1a", "question": "Is there edema?", "template": "Is there ${x}?",
           "template_program": "program_1", "template_arguments": {}}  # fmt: skip
    dataset = read_dataset(folder.json("_train.json", [row, row]))
    assert (dataset.layout, len(dataset.items)) == ("mimic-cxr-vqa", 0)
    [fault] = dataset.faults
    assert fault.what.startswith("is MIMIC-CXR-VQA without image_path, answer")


def test_marks_of_a_reports_form_are_a_remark_with_a_repair(folder):
    folder.image("images/a.png")
    report = "FINAL REPORT\nCompared with ___, the heart is normal."
    dataset = read_dataset(folder.json("r.json", [{"id": 1, "report": report, "image_path": ["a.png"]}]))
    assert kinds(dataset) == {"report-marks": 1}
    assert "marks" in [offer.repair for offer in repairs_for(dataset)]
    table = repair_dataset(dataset, ["marks"], folder.root / "repaired")
    assert read_dataset(table, images=folder.root).items[0].answer == "Compared with , the heart is normal."
