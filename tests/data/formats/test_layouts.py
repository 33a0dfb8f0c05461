"""Every layout that is read, good and broken."""

import pyarrow
import pyarrow.parquet
import pytest

from a3tune.data.formats.layouts import REPORT_QUESTION
from a3tune.data.read import read_dataset
from a3tune.errors import DataError

ASKED = {"question": "", "answer": "a cyst"}
BROKEN = {
    "llava": ({"image": "a.png", "conversations": "none"}, "conversations: expected turns"),
    "omnimedvqa": ({"image_path": "a.png", "question": "", "gt_answer": "A"}, "the question is empty"),
    "pmc-vqa": ({"figure_path": "a.png", **ASKED}, "the question is empty"),
    "medxpertqa": (
        {"images": ["a.png"], "question": "What?", "options": "none", "label": "Z"}, "options: expected up to ten"
    ),
    "mimic-cxr-vqa": ({"image_path": "a.png", **ASKED, "answer": ["no"], "template": "t"}, "the question is empty"),
    "medheval": ({"img_name": "a.png", **ASKED, "choices": "A: a cyst, B: none"}, "the question is empty"),
    "slake": ({"img_name": "a.png", **ASKED}, "the question is empty"),
    "vqa-rad": ({"image_name": "a.png", **ASKED}, "the question is empty"),
    "report": ({"image_path": ["a.png"], "report": ""}, "report: the answer is empty"),
    "pathvqa": ({"image": "train_0001", **ASKED}, "'train_0001' does not exist"),
    "table": ({"image": "a.png", **ASKED}, "the question is empty"),
}  # fmt: skip
"""Of each layout a row that is wrong, and what is said of it."""


@pytest.mark.parametrize(("layout", "row", "words"), [(name, *told) for name, told in BROKEN.items()], ids=BROKEN)
def test_what_is_wrong_with_a_row_is_told_with_its_line(folder, layout, row, words):
    folder.image("a.png")
    rows = {"train": [row]} if layout == "report" else [row]
    dataset = read_dataset(folder.json("data.json", rows), layout=layout)
    assert (dataset.layout, dataset.items) == (layout, ())
    assert str(dataset.faults[0]).startswith(f"data.json, line {3 if layout == 'report' else 2}, ")
    assert words in str(dataset.faults[0])


def kinds(dataset):
    return dataset.counts.kinds


def talk(image, *texts, **more):
    speakers = ("human", "gpt")
    turns = [{"from": speakers[number % 2], "value": text} for number, text in enumerate(texts)]
    return {"id": "7", "image": image, "conversations": turns, **more}


def test_table_in_csv(folder):
    folder.image("a.png", 1)
    folder.image("images/b.png", 2)
    rows = [
        {"image": "a.png", "question": "Is it, a CT?", "answer": "yes", "answer_type": "CLOSED ", "split": "train"},
        {"image": "b.png", "question": 'A "mass"\nwhere?', "answer": "liver", "answer_type": "", "split": "val"},
    ]
    dataset = read_dataset(folder.csv("data.csv", rows))
    assert dataset.layout == "table"
    first, second = dataset.items
    assert (first.question, first.answer, first.answer_type, first.split) == ("Is it, a CT?", "yes", "closed", "train")
    assert (second.answer_type, second.split, second.line, second.file) == ("open", "validation", 3, "data.csv")
    assert second.image == (folder.root / "images/b.png").resolve()
    assert dataset.faults == ()
    assert dataset.counts.splits == {"train": 1, "validation": 1}
    assert dataset.counts.sizes == ((10, 12), (10, 12))
    assert dataset.counts.formats == {"PNG": 2}
    dataset.raise_for_faults()


@pytest.mark.parametrize("separator", [";", "\t"])
def test_csv_as_spreadsheets_write_it(folder, separator):
    folder.image("a.png")
    lines = [("Image", " Question ", "ANSWER"), ("a.png", "Where?", "left")]
    text = "\ufeff" + "\r\n".join(separator.join(line) for line in lines) + "\r\n"
    dataset = read_dataset(folder.text("data.csv", text))
    assert [(item.question, item.answer, item.line) for item in dataset.items] == [("Where?", "left", 2)]
    assert dataset.faults == ()


def test_table_in_json_lines_and_in_json(folder):
    folder.image("a.png")
    row = {"image": "a.png", "question": "<image>\nHow many?", "answer": 2, "boxes": [[1, 2, 3, 4]], "organ": "Lung"}
    for path in (folder.jsonl("x/rows.jsonl", [row]), folder.json("z/rows.json", [row])):
        dataset = read_dataset(path, images=folder.root)
        assert [(item.question, item.answer) for item in dataset.items] == [("How many?", "2")]
        assert dataset.items[0].boxes == ((1.0, 2.0, 3.0, 4.0),)
        assert dataset.items[0].organ == "Lung"
        assert dataset.faults == ()


def test_two_json_lines_under_the_name_json(folder):
    folder.image("a.png")
    rows = [{"image": "a.png", "question": f"Question {number}", "answer": "yes"} for number in range(2)]
    dataset = read_dataset(folder.jsonl("rows.json", rows))
    assert [item.line for item in dataset.items] == [1, 2]


def test_llava(folder):
    folder.image("a.png")
    rows = [talk("a.png", "<image>\nWhat?", "a cyst", "Where?\n<image>", "liver"), talk("a.png", "Is it big?", "No.")]
    dataset = read_dataset(folder.json("train.json", rows))
    assert dataset.layout == "llava"
    assert [(item.question, item.answer, item.answer_type, item.split) for item in dataset.items] == [
        ("What?", "a cyst", "open", "train"),
        ("Where?", "liver", "open", "train"),
        ("Is it big?", "No.", "closed", "train"),
    ]
    assert dataset.items[0].identifier == "7"
    assert dataset.items[2].line > dataset.items[0].line > 1


def test_broken_llava(folder):
    folder.image("a.png")
    rows = [
        talk("a.png", "only a question"),
        talk(["a.png", "a.png"], "What?", "a cyst"),
        {"image": "a.png", "conversations": "none"},
        talk("a.png", "What?", "see <image>"),
        {"conversations": talk("a.png", "What?", "cyst")["conversations"]},
    ]
    dataset = read_dataset(folder.json("data.json", rows))
    assert dataset.items == ()
    assert kinds(dataset) == {"conversations": 2, "several-images": 1, "marker": 1, "text-only": 1}


def test_vqa_rad(folder):
    folder.image("VQA_RAD Image Folder/synpic1.jpg")
    rows = [
        {"qid": 1, "image_name": "synpic1.jpg", "image_organ": "HEAD", "question": "Is it?", "answer": "Yes",
         "answer_type": "CLOSED ", "phrase_type": "freeform", "question_rephrase": "NULL"},
        {"qid": 2, "image_name": "synpic1.jpg", "image_organ": "HEAD", "question": "How many?", "answer": 3,
         "answer_type": "OPEN", "phrase_type": "test_para"},
    ]  # fmt: skip
    folder.json("VQA_RAD Dataset Public.json", rows)
    dataset = read_dataset(folder.root)
    assert dataset.layout == "vqa-rad"
    assert [(item.split, item.answer, item.organ, item.answer_type) for item in dataset.items] == [
        ("train", "Yes", "HEAD", "closed"),
        ("test", "3", "HEAD", "open"),
    ]
    # Its published split tests on training images: told, but no reason to refuse.
    assert kinds(dataset) == {"shared-image": 1}
    dataset.raise_for_faults()


def test_slake(folder):
    row = {"img_name": "xmlab1/source.jpg", "answer_type": "OPEN", "modality": "MRI", "qid": 9, "location": "Lung"}
    for number, name in enumerate(("train", "validate", "test")):
        folder.image(f"imgs/xmlab{number}/source.jpg", number)
        folder.json(f"imgs/xmlab{number}/question.json", [{**row, "question": "stray", "answer": "stray"}])
        image = f"xmlab{number}/source.jpg"
        folder.json(
            f"{name}.json",
            [
                {**row, "img_name": image, "question": f"What {number}?", "answer": "MRI", "q_lang": "en"},
                {**row, "img_name": image, "question": "什么?", "answer": "磁共振", "q_lang": "zh"},
            ],
        )
    dataset = read_dataset(folder.root)
    assert dataset.layout == "slake"
    assert [(item.question, item.split) for item in dataset.items] == [
        ("What 2?", "test"),
        ("What 0?", "train"),
        ("What 1?", "validation"),
    ]
    assert (dataset.counts.rows, dataset.counts.skipped) == (6, 3)
    assert {(item.organ, item.modality, item.identifier) for item in dataset.items} == {("Lung", "MRI", "9")}
    assert dataset.faults == ()


def test_slake_without_english(folder):
    folder.image("imgs/x.jpg")
    row = {"img_name": "x.jpg", "question": "什么?", "answer": "磁共振", "q_lang": "zh"}
    dataset = read_dataset(folder.json("train.json", [row]))
    with pytest.raises(DataError, match="1 were left out: not in English"):
        dataset.raise_for_faults()


def test_pathvqa_conversion(folder):
    folder.image("images/train/train_0001.jpg")
    folder.image("images/val/val_0001.jpg", 1)
    folder.json("qas/train/train_qa.json", [{"image": "train_0001", "question": "what?", "answer": "necrosis"}])
    folder.json("qas/val/val_qa.json", [{"image": "val_0001", "question": "is it?", "answer": "no"}])
    folder.text("qas/val/val_qa.pkl", "never opened")
    dataset = read_dataset(folder.root)
    assert dataset.layout == "pathvqa"
    assert [(item.split, item.answer_type) for item in dataset.items] == [("train", "open"), ("validation", "closed")]
    assert kinds(dataset) == {"pickle": 1}
    dataset.raise_for_faults()


def test_pickles_are_never_opened(folder):
    path = folder.text("train_qa.pkl", b"cos\nsystem\n(S'echo opened'\ntR.")
    for target in (path, folder.root):
        with pytest.raises(DataError, match="is a pickle, which can run any code"):
            read_dataset(target)


def test_omnimedvqa(folder):
    folder.image("Images/ACRIMA/one.png")
    row = {
        "dataset": "ACRIMA", "question_id": "ACRIMA_0000", "question_type": "Modality Recognition",
        "question": "Which modality?", "gt_answer": "Fundus", "image_path": "Images/ACRIMA/one.png",
        "option_A": "CT", "option_B": "Fundus", "option_C": "MR", "option_D": "", "modality_type": "Fundus Photography",
    }  # fmt: skip
    folder.json("QA_information/Open-access/ACRIMA.json", [row, {**row, "gt_answer": "X-ray"}])
    dataset = read_dataset(folder.root)
    assert dataset.layout == "omnimedvqa"
    item = dataset.items[0]
    assert item.question == "Which modality?\nA. CT\nB. Fundus\nC. MR"
    assert (item.answer, item.answer_type, item.split) == ("Fundus", "closed", None)
    assert (item.identifier, item.modality) == ("ACRIMA_0000", "Fundus Photography")
    assert kinds(dataset) == {"option": 1, "contradiction": 1}


def test_medheval(folder):
    for name in ("imgs/xmlab102/source.jpg", "files/p10/s1/a.jpg"):
        folder.image(name, len(name))
    row = {
        "img_name": "xmlab102/source.jpg", "question": "Is the liver visible?", "answer": "No", "choices": "",
        "hallucination_type": "type_1", "question_type": "binary", "img_id": 102, "qid": 0, "location": "Lung",
        "modality": "CT", "source": "SLAKE",
    }  # fmt: skip
    asked = {
        **row,
        "question": "Which organ?",
        "question_type": "multi-choice",
        "choices": "A: Liver, B: Heart, C: Lung",
    }
    rows = [
        row,
        {**asked, "answer": "C", "qid": 1},
        {**asked, "question": "Which is ill?", "answer": "B: Heart", "qid": 2},
        {**asked, "question": "Where?", "answer": "Center", "choices": "A. Top, B. Center, C. Bottom", "qid": 3},
    ]
    knowledge = {
        "img_name": "p10/s1/a.jpg", "question": "Has it resolved?", "answer": "no", "choices": "", "qid": 4,
        "question_type": "type4_Diagnosis", "ground_truth_type": "binary", "img_id": "p10/s1/a.jpg",
    }  # fmt: skip
    dataset = read_dataset(folder.json("Mixed-H.json", [*rows, knowledge]))
    assert dataset.layout == "medheval"
    assert dataset.faults == ()
    assert [(item.answer, item.answer_type) for item in dataset.items] == [
        (said, "closed") for said in ("No", "Lung", "Heart", "Center", "no")
    ]
    assert dataset.items[1].question == "Which organ?\nA. Liver\nB. Heart\nC. Lung"
    assert dataset.items[3].question == "Where?\nA. Top\nB. Center\nC. Bottom"
    assert [item.part for item in dataset.items] == ["type_1"] * 4 + ["type4_Diagnosis"]


def test_choices_that_are_no_list_are_told(folder):
    folder.image("a.png")
    row = {"img_name": "a.png", "question": "Which?", "answer": "Liver", "choices": "Liver or heart"}
    dataset = read_dataset(folder.json("list.json", [row]))
    assert kinds(dataset) == {"option": 1}
    assert not dataset.items


def test_reports(folder):
    for number in range(3):
        folder.image(f"images/CXR{number}/0.png", number)
    splits = {
        split: [{"id": f"CXR{number}", "report": f"Clear {number}.", "split": split,
                 "image_path": [f"CXR{number}/0.png", f"CXR{number}/1.png"]}]
        for number, split in enumerate(("train", "val", "test"))
    }  # fmt: skip
    dataset = read_dataset(folder.json("annotation.json", splits))
    assert dataset.layout == "report"
    assert [item.split for item in dataset.items] == ["train", "validation", "test"]
    assert {(item.question, item.answer_type) for item in dataset.items} == {(REPORT_QUESTION, "open")}
    assert dataset.items[1].answer == "Clear 1."
    assert kinds(dataset) == {"first-image": 1}
    (remark,) = dataset.faults
    assert (remark.severity, remark.field) == ("warning", "image_path")
    assert remark.what == "3 rows name several images: the first of each is used, 3 others are not"


def test_a_report_about_one_image_needs_no_remark(folder):
    folder.image("a.png", 1)
    rows = [{"id": 1, "report": "Clear.", "image_path": image} for image in ("a.png", ["a.png"])]
    assert "first-image" not in kinds(read_dataset(folder.json("annotation.json", rows)))


def test_broken_reports(folder):
    rows = [{"id": 1, "report": " ", "image_path": []}, {"id": 2, "report": "Clear.", "image_path": ["gone.png"]}]
    dataset = read_dataset(folder.json("annotation.json", {"train": rows}))
    assert kinds(dataset) == {"no-image": 1, "empty-answer": 1, "missing-image": 1}
    assert [fault.field for fault in dataset.faults] == ["image_path", "report", "image_path"]


def test_parquet_with_pictures_inside(folder, tmp_path):
    pictures = [folder.image(f"{shade}.png", shade).read_bytes() for shade in (1, 2)]
    rows = [
        {"image": {"bytes": content, "path": "x.png"}, "question": "Is it?", "answer": "yes"}
        for content in (*pictures, pictures[0])
    ]
    path = folder.root / "train-00000-of-00001.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    refused = read_dataset(path)
    assert kinds(refused)["packed-images"] == 1
    dataset = read_dataset(path, unpack_to=tmp_path / "unpacked")
    assert [item.split for item in dataset.items] == ["train"] * 3
    assert [item.image.read_bytes() for item in dataset.items] == [*pictures, pictures[0]]
    assert len(list((tmp_path / "unpacked").iterdir())) == 2
    assert kinds(dataset) == {"duplicate": 1}
    folder.text("in the way", "a file")
    blocked = read_dataset(path, unpack_to=folder.root / "in the way" / "below")
    assert kinds(blocked) == {"unpack": 3, "no-image": 3}


def test_parquet_that_names_files_and_one_that_is_none(folder):
    folder.image("a.png")
    path = folder.root / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"image": ["a.png"], "question": ["What?"], "answer": ["cyst"]}), path)
    assert len(read_dataset(path).items) == 1
    assert kinds(read_dataset(folder.text("broken.parquet", b"PAR1 nothing")))["syntax"] == 1


def test_a_folder_with_a_folder_and_things_beside(folder):
    folder.image("top/images/a.png")
    folder.text("top/data.csv", "image,question,answer\na.png,What?,cyst\n")
    folder.text("top/labels.csv", "name,number\nx,1\n")
    folder.text("__MACOSX/top/._data.csv", b"\x00\x05\x16")
    dataset = read_dataset(folder.root)
    assert dataset.files == ("top/data.csv",)
    assert len(dataset.items) == 1
    assert kinds(dataset) == {"left-out": 1}


def test_several_layouts_are_not_mixed(folder):
    folder.image("a.png")
    folder.text("a.csv", "image,question,answer\na.png,What?,cyst\n")
    folder.json("b.json", [talk("a.png", "What?", "cyst")])
    with pytest.raises(DataError, match=r"several layouts: a.csv \(table\), b.json \(llava\)"):
        read_dataset(folder.root)
    assert read_dataset(folder.root, "llava").files == ("b.json",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.zip", "PK", "is an archive"),
        ("data.ods", "PK", "has the ending '.ods'"),
        ("data.json", '{"a": 1}', "Nothing in"),
        ("data.csv", "name,label\nx,1\n", "Nothing in"),
    ],
)
def test_files_that_are_no_data_set(folder, name, content, message):
    with pytest.raises(DataError, match=message):
        read_dataset(folder.text(name, content))


def test_nothing_there(folder):
    with pytest.raises(DataError, match="does not exist"):
        read_dataset(folder.root / "gone")
    with pytest.raises(DataError, match="Nothing in"):
        read_dataset(folder.root)
    with pytest.raises(DataError, match="'excel' is unknown"):
        read_dataset(folder.root, "excel")
    with pytest.raises(DataError, match="is not a folder"):
        read_dataset(folder.csv("a.csv", [{"image": "a", "question": "b", "answer": "c"}]), images=folder.root / "no")


@pytest.mark.parametrize("answer", ["B", "b", "(B)", "B.", "B: Rectum", "Rectum", "rectum", "B rectum"])
def test_a_letter_stands_for_its_option(folder, answer):
    folder.image("images/a.png")
    row = {"Figure_path": "a.png", "Question": "Which?", "Answer": answer}
    row |= {
        f"Choice {letter}": f" {letter}: {text}"
        for letter, text in zip("ABCD", ("Liver", "Rectum", "Colon", "A"), strict=True)
    }
    dataset = read_dataset(folder.csv("train.csv", [row]))
    (item,) = dataset.items
    assert (item.answer, item.answer_type) == ("Rectum", "closed")
    assert dataset.layout == "pmc-vqa"
    assert item.question == "Which?\nA. Liver\nB. Rectum\nC. Colon\nD. A"


@pytest.mark.parametrize("answer", ["B", "option b", "The answer is (B).", "B. Heart", "Heart"])
@pytest.mark.parametrize(
    "fields",
    [
        {"A": "Liver", "B": "Heart"},
        {"opa": "Liver", "opb": "Heart"},
        {"option1": "Liver", "option2": "Heart"},
        {"choice_0": "Liver", "choice_1": "Heart"},
        {"options": {"1": "Liver", "2": "Heart"}},
    ],
)
def test_options_in_columns_of_many_names(folder, fields, answer):
    folder.image("a.png")
    row = {"image": "a.png", "question": "Which?", "answer": answer, **fields}
    dataset = read_dataset(folder.json("d.json", [row]))
    assert [(item.question, item.answer) for item in dataset.items] == [("Which?\nA. Liver\nB. Heart", "Heart")]
    assert not dataset.faults


def test_a_number_means_the_option_that_the_file_counts_so(folder):
    folder.image("a.png")
    row = {"image": "a.png", "question": "Which?"}
    rows = [
        {**row, "choice_0": "Liver", "choice_1": "Heart", "answer": 1},
        {**row, "question": "Is it?", "options": {"1": "Yes"}, "answer": "1"},
    ]
    rows.append(
        {**row, "question": "What?", "options": ["Liver", "Heart"], "answer": 1}
    )  # from 0 or from 1: nobody knows
    dataset = read_dataset(folder.json("d.json", rows))
    assert [item.answer for item in dataset.items] == ["Heart", "Yes", "1"]
    assert kinds(dataset) == {"option": 1}


def test_short_columns_without_the_answer_are_no_options(folder):
    folder.image("a.png")
    row = {"image": "a.png", "question": "Which?", "answer": "Heart", "a": "1.5", "b": "2.5"}
    assert read_dataset(folder.csv("d.csv", [row])).items[0].question == "Which?"


@pytest.mark.parametrize("options", ["(A) Liver (B) Heart", "\nA. Liver\nB. Heart\n", "\na) Liver\nb) Heart"])
def test_letters_in_conversations_stand_for_the_options_that_were_shown(folder, options):
    folder.image("a.png")
    letter = "Answer with the option's letter from the given choices directly."
    turns = [f"<image>\nWhich? {options}\n{letter}", "B", "Is it large?", "yes"]
    speakers = ["human", "gpt"] * 2
    talk = [{"from": speaker, "value": value} for speaker, value in zip(speakers, turns, strict=True)]
    first, second = read_dataset(folder.json("d.json", [{"image": "a.png", "conversations": talk}])).items
    assert (first.answer, first.answer_type) == ("Heart", "closed")
    assert "letter" not in first.question
    assert second.context == (first.question, "Heart")


def test_letters_that_stand_for_nothing_are_a_remark(folder):
    folder.image("a.png")
    rows = [{"image": "a.png", "question": f"Which organ {number}?", "answer": "ABC"[number]} for number in range(3)]
    dataset = read_dataset(folder.json("d.json", [*rows, {**rows[0], "question": "Is it?", "answer": "no"}]))
    (fault,) = dataset.faults
    assert (fault.kind, fault.severity) == ("option", "warning")
    assert "3 of 4 answers are letters" in fault.what


def test_medxpertqa(folder):
    folder.image("images/MM-1-a.jpeg")
    row = {
        "id": "MM-1", "question": "Which one?\nAnswer Choices: (A) Cyst (B) Mass", "label": "B",
        "options": {"A": "Cyst", "B": "Mass"}, "images": ["MM-1-a.jpeg"],
    }  # fmt: skip
    dataset = read_dataset(folder.jsonl("test.jsonl", [row, {**row, "images": []}]))
    (item,) = dataset.items
    assert (item.question, item.answer) == ("Which one?\nA. Cyst\nB. Mass", "Mass")
    assert dataset.layout == "medxpertqa"
    assert kinds(dataset) == {"text-only": 1}


def test_mimic_cxr_vqa(folder):
    folder.image("files/p10/a.jpg")
    row = {"idx": 4, "image_path": "p10/a.jpg", "question": "What is there?", "template": "t", "split": "valid"}
    rows = [{**row, "answer": ["edema", "mass"]}, {**row, "question": "Anything else?", "answer": []}]
    dataset = read_dataset(folder.json("valid.json", rows))
    assert dataset.layout == "mimic-cxr-vqa"
    assert [(item.answer, item.split) for item in dataset.items] == [
        ("edema, mass", "validation"),
        ("none", "validation"),
    ]


@pytest.mark.parametrize(
    "keys", [("image", "question", "answer"), ("img_name", "question", "answer"), ("image_name", "question", "answer")]
)
def test_lists_named_by_their_split_put_their_rows_into_it(folder, keys):
    folder.image("a.png", 1)
    folder.image("b.png", 2)
    told = {"phrase_type": "freeform"} if keys[0] == "image_name" else {}
    value = {split: [dict(zip(keys, (image, "Q", "A"), strict=True), **told)]
             for split, image in (("train", "a.png"), ("test", "b.png"))}  # fmt: skip
    dataset = read_dataset(folder.json("data.json", value))
    assert [(item.image.name, item.split) for item in dataset.items] == [("a.png", "train"), ("b.png", "test")]


@pytest.mark.parametrize(
    ("name", "split"),
    [("VQA_RAD_testData", "test"), ("RADTestSet", "test"), ("validset", "validation"), ("devset", "validation"),
     ("TestQuestions", "test"), ("trainingdata", "train"), ("testosterone", None), ("dataset", None)],
)  # fmt: skip
def test_the_split_stands_in_file_names_of_many_spellings(folder, name, split):
    folder.image("a.png")
    row = {"image": "a.png", "question": "Q", "answer": "A"}
    assert [item.split for item in read_dataset(folder.json(f"{name}.json", [row])).items] == [split]


@pytest.mark.parametrize("text", ["['lung', 'liver']", '["lung", "liver"]', "{'A': 'lung', 'B': 'liver'}"])
def test_options_as_text_of_a_table(folder, text):
    folder.image("a.png")
    rows = [{"image": "a.png", "question": "Which?", "options": text, "answer": "B"}]
    (item,) = read_dataset(folder.csv("data.csv", rows)).items
    assert (item.question, item.answer, item.answer_type) == ("Which?\nA. lung\nB. liver", "liver", "closed")


@pytest.mark.parametrize("options", ["lung or liver", "3", [{"key": "A"}], list("abcdefghijk")])
def test_options_that_are_no_list_of_texts_are_refused(folder, options):
    folder.image("a.png")
    row = {"image": "a.png", "question": "Which?", "options": options, "answer": "B"}
    dataset = read_dataset(folder.json("data.json", [row]))
    assert dataset.items == ()
    assert [(fault.kind, fault.field, fault.severity) for fault in dataset.faults] == [("option", "options", "error")]


def test_ten_options_and_an_answer_by_number(folder):
    folder.image("a.png")
    row = {"image": "a.png", "question": "Which?", "options": list("klmnopqrst")}
    dataset = read_dataset(folder.json("data.json", [{**row, "answer": "J"}, {**row, "answer": 1}]))
    assert dataset.items[0].question.endswith("\nJ. t")
    assert [item.answer for item in dataset.items] == ["t", "1"]
    assert [(fault.kind, fault.line) for fault in dataset.faults if fault.kind == "option"] == [("option", 19)]


def test_turns_by_role_and_content_and_keys_in_any_case(folder):
    folder.image("a.png")
    roles = [("system", "Be brief"), ("user", "<image>\nWhat?"), ("assistant", "A cyst")]
    rows = [
        {"image": "a.png", "messages": [{"role": who, "content": text} for who, text in roles]},
        {"image": "a.png", "messages": [{"From": "Human", "Value": "Where?"}, {"From": "GPT", "Value": "Left"}]},
    ]
    dataset = read_dataset(folder.json("data.json", rows))
    assert [(item.question, item.answer) for item in dataset.items] == [("What?", "A cyst"), ("Where?", "Left")]
    assert dataset.faults == ()


@pytest.mark.parametrize("box", ["[[0, NaN, 5, 5]]", "[[NaN, 0, 5, 5]]", "[[0, 0, 5, NaN]]"])
def test_boxes_that_hold_no_numbers_are_refused(folder, box):
    folder.image("a.png")
    dataset = read_dataset(folder.csv("data.csv", [{"image": "a.png", "question": "Q", "answer": "A", "boxes": box}]))
    assert (dataset.items, kinds(dataset)) == ((), {"boxes": 1})


@pytest.mark.parametrize("column", ["IMG_NAME", "image_name", "Image", "mask"])
def test_pictures_in_any_column_of_a_parquet_file(folder, column):
    image = folder.image("a.png", 3)
    inside = {"bytes": image.read_bytes(), "path": None}
    table = {column: [inside], "question": ["Q"], "answer": ["A"]} | ({"image": ["a.png"]} if column == "mask" else {})
    pyarrow.parquet.write_table(pyarrow.table(table), folder.root / "d.parquet")
    (item,) = read_dataset(folder.root / "d.parquet", unpack_to=folder.root / "pictures").items
    found = item.mask if column == "mask" else item.image
    assert found.parent.name == "pictures"
    assert found.read_bytes() == image.read_bytes()


def test_parquet_columns_that_differ_in_case_alone_are_refused(folder):
    folder.image("a.png")
    table = {"Image": ["a.png"], "image": ["b.png"], "question": ["Q"], "answer": ["A"]}
    pyarrow.parquet.write_table(pyarrow.table(table), folder.root / "d.parquet")
    assert kinds(read_dataset(folder.root / "d.parquet")) == {"header": 1}


@pytest.mark.parametrize(
    ("question", "answer", "target"),
    [
        ("What grade? A. one B. two", "B", "two"),
        ("Which side? (A) left (B) right", "(A)", "left"),
        ("Which side?\nA: left\nB: right\n", "b", "right"),
        ("Which side? A) left, B) right, C) both", "C.", "both"),
        ("Which side? (A) left (C) right", "A", "A"),
        ("Which hepatitis is it?", "B", "B"),
        ("Which side? (A) left (B) right", "left", "left"),
    ],
)
def test_a_letter_means_the_option_that_the_questions_text_has_for_it(folder, question, answer, target):
    folder.image("a.png")
    folder.json("rows.json", [{"image": "a.png", "question": question, "answer": answer}])
    (item,) = read_dataset(folder.root).items
    assert (item.question, item.answer) == (question.strip(), target)
