"""What the fields of a row mean, layout by layout: each turns a row into the same few raw values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from a3tune.data.formats.faults import FaultLog
from a3tune.data.formats.rows import Row
from a3tune.wording import brief

REPORT_QUESTION = "Describe the findings of this chest X-ray as a radiology report."
"""What is asked for where a data set holds reports and no questions."""

_TABLE_EXTRAS = (
    "answer_type", "split", "id", "organ", "location", "image_organ", "modality", "mask", "boxes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Draft:
    """The raw values of one question, not checked yet; None where the row has no such key.

    Attributes:
        row: where they come from.
        image: name of the image's file.
        question, answer: as they stand.
        answer_type: "CLOSED", "open", ...; None or empty to tell it from the answer.
        split: name of the split; None or empty where the row does not say.
        organ, modality: what the data set says about the image.
        mask: name of a mask's file.
        boxes: list of [x, y, width, height].
        identifier: the row's own id.
        names: for messages, value -> the key that it stands under in the file ("image" -> "img_name").
    """

    row: Row
    image: object
    question: object
    answer: object
    answer_type: object = None
    split: object = None
    organ: object = None
    modality: object = None
    mask: object = None
    boxes: object = None
    identifier: object = None
    names: Mapping[str, str] | None = None

    def name(self, value: str) -> str:
        """The key under which ``value`` stands in the file."""
        return (self.names or {}).get(value, value)


Convert = Callable[[Row, FaultLog], Iterator[Draft]]


@dataclass(frozen=True)
class Layout:
    """One way in which data sets are laid out.

    Attributes:
        name: the layout's name.
        title: what it is, for people.
        required: keys that every row has; they also tell the layout.
        convert: a row to its questions: several for conversations, none for a row of no use here.
        folders: where images lie besides the data folder and the folder of the file of rows.
        split_from_path: whether file names tell the split ("train.json").
        shares_images: the published split shows training images in the test too, so that is only a warning.
        known: columns that are understood; others are named once. None where rows carry anything.
        image_name: what the first row's image is called in this layout, where other layouts have the same keys.
    """

    name: str
    title: str
    required: tuple[str, ...]
    convert: Convert
    folders: tuple[str, ...] = ("images", "imgs", "image")
    split_from_path: bool = True
    shares_images: bool = False
    known: tuple[str, ...] | None = None
    image_name: re.Pattern[str] | None = None

    def fits(self, keys: Mapping[str, object] | tuple[str, ...]) -> bool:
        """Whether a row or a header with these keys can be of this layout."""
        return all(key in keys for key in self.required)


def _table(row: Row, log: FaultLog) -> Iterator[Draft]:
    get = row.fields.get
    yield Draft(
        row, get("image"), get("question"), get("answer"), get("answer_type"), get("split"),
        get("organ") or get("location") or get("image_organ"), get("modality"), get("mask"), get("boxes"), get("id"),
    )  # fmt: skip


def _llava(row: Row, log: FaultLog) -> Iterator[Draft]:
    get = row.fields.get
    turns = get("conversations")
    remedy = 'Give pairs of {"from": "human", "value": ...} and {"from": "gpt", "value": ...}'
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        log.add("conversations", row.file, row.line, "conversations", f"expected turns, not {brief(turns)}", remedy)
        return
    if turns[0].get("from") == "system":
        turns = turns[1:]
    speakers = [turn.get("from") for turn in turns]
    asked = all(speaker in ("human", "user") for speaker in speakers[::2])
    told = all(speaker in ("gpt", "assistant") for speaker in speakers[1::2])
    if not asked or not told or len(turns) % 2 or not turns:
        what = f"human and gpt do not take turns: {brief(speakers)}"
        log.add("conversations", row.file, row.line, "conversations", what, remedy)
        return
    image = get("image")
    if isinstance(image, list):
        if len(image) != 1:
            what = f"expected one image, not {len(image)}"
            log.add("several-images", row.file, row.line, "image", what, "Keep one image a row")
            return
        image = image[0]
    names = {"question": "conversations", "answer": "conversations"}
    for human, gpt in zip(turns[::2], turns[1::2], strict=True):
        yield Draft(
            row, image, human.get("value"), gpt.get("value"), get("answer_type"), get("split") or row.group,
            get("organ") or get("location") or get("image_organ"), get("modality"), get("mask"), get("boxes"),
            get("id"), names,
        )  # fmt: skip


def _vqa_rad(row: Row, log: FaultLog) -> Iterator[Draft]:
    get = row.fields.get
    # "freeform", "para", "test_freeform", "test_para".
    phrase = str(get("phrase_type") or "").strip().lower()
    split = get("split") or (("test" if phrase.startswith("test") else "train") if phrase else None)
    yield Draft(
        row, get("image_name"), get("question"), get("answer"), get("answer_type"), split, get("image_organ"),
        identifier=get("qid"), names={"image": "image_name", "organ": "image_organ"},
    )  # fmt: skip


def _slake(row: Row, log: FaultLog) -> Iterator[Draft]:
    get = row.fields.get
    if get("q_lang", "en") != "en":
        return
    yield Draft(
        row, get("img_name"), get("question"), get("answer"), get("answer_type"), get("split"), get("location"),
        get("modality"), identifier=get("qid"), names={"image": "img_name", "organ": "location"},
    )  # fmt: skip


def _omnimedvqa(row: Row, log: FaultLog) -> Iterator[Draft]:
    get = row.fields.get
    question, answer = get("question"), get("gt_answer")
    options = {letter: get(f"option_{letter}") for letter in "ABCDEF"}
    options = {letter: str(text).strip() for letter, text in options.items() if text not in (None, "")}
    if options and isinstance(question, str) and question.strip():
        question = question.strip() + "\n" + "\n".join(f"{letter}. {text}" for letter, text in options.items())
    if options and isinstance(answer, str) and answer.strip() and answer.strip() not in options.values():
        what = f"{brief(answer)} is none of the options"
        log.add("option", row.file, row.line, "gt_answer", what, "Correct the answer or the options", "warning")
    yield Draft(
        row, get("image_path"), question, answer, "closed" if options else None, get("split"),
        modality=get("modality_type") or get("modality"), identifier=get("question_id"),
        names={"image": "image_path", "answer": "gt_answer"},
    )  # fmt: skip


def _report(row: Row, log: FaultLog) -> Iterator[Draft]:
    get = row.fields.get
    image = get("image_path")
    if isinstance(image, list):
        # Models here read one image: of a study's views the first, which is the frontal one where there are two.
        image = image[0] if image else None
    split = get("split") or row.group
    names = {"image": "image_path", "answer": "report"}
    yield Draft(row, image, REPORT_QUESTION, get("report"), "open", split, "chest", identifier=get("id"), names=names)


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("llava", "LLaVA conversations", ("conversations",), _llava),
        Layout(
            "omnimedvqa", "OmniMedVQA", ("question", "gt_answer", "image_path"), _omnimedvqa,
            folders=("Images", "images"), split_from_path=False,
        ),
        Layout("slake", "SLAKE", ("img_name", "question", "answer"), _slake),
        Layout(
            "vqa-rad", "VQA-RAD", ("image_name", "question", "answer"), _vqa_rad,
            folders=("VQA_RAD Image Folder", "VQA_RAD_Image_Folder", "images"), shares_images=True,
        ),
        Layout("report", "reports (R2Gen)", ("report", "image_path"), _report),
        Layout(
            "pathvqa", "PathVQA", ("image", "question", "answer"), _table,
            folders=("images", *(f"images/{split}" for split in ("train", "val", "test"))),
            known=("image", "question", "answer", *_TABLE_EXTRAS), image_name=re.compile(r"(train|val|test)_\d+"),
        ),
        Layout(
            "table", "table of image, question and answer", ("image", "question", "answer"), _table,
            known=("image", "question", "answer", *_TABLE_EXTRAS),
        ),
    )
}  # fmt: skip
"""Every layout by its name, the most telling first.

The field names are those of the data sets' own releases: LLaVA (Liu et al. 2023), OmniMedVQA (Hu et al. 2024), SLAKE
(Liu et al. 2021), VQA-RAD (Lau et al. 2018), PathVQA (He et al. 2020) as a table, and the annotation files of R2Gen
(Chen et al. 2020) for IU-Xray and MIMIC-CXR.
"""


def recognise(keys: Mapping[str, object] | tuple[str, ...], sample: Mapping[str, object]) -> Layout | None:
    """The layout that a header or a first row is of, or None.

    Args:
        keys: the columns of a table, or the keys of the first row.
        sample: the first row.
    """
    image = str(sample.get("image"))
    fitting = (layout for layout in LAYOUTS.values() if layout.fits(keys))
    return next((layout for layout in fitting if not layout.image_name or layout.image_name.fullmatch(image)), None)
