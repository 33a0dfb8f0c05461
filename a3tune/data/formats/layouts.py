"""What the fields of a row mean, layout by layout: each turns a row into the same few raw values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from a3tune.data.formats.answer_options import chosen, chosen_in_text
from a3tune.data.formats.column_names import CONVERSATIONS, MOST_NUMBERED, TABLE_EXTRAS
from a3tune.data.formats.faults import FaultLog
from a3tune.data.formats.files import Split
from a3tune.data.formats.rows import Row
from a3tune.data.formats.slake import Marks, marks_for
from a3tune.wording import brief

REPORT_QUESTION = "Describe the findings of this chest X-ray as a radiology report."
"""What is asked for where a data set holds reports and no questions."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The raw values of one question, not checked yet; None where the row has no such key.

    Attributes:
        row: where they come from.
        image: name of the image's file; a list of such names where the question is about several images.
        question, answer: as they stand.
        answer_type: "CLOSED", "open", ...; None or empty to tell it from the answer.
        split: name of the split; None or empty where the row does not say.
        split_hint: what something else in the row says about the split; counts where neither row nor file names it.
        organ, modality: what the data set says about the image.
        mask: name of a mask's file; of several images a list with one, or None, for each.
        segment: number or name of the segment or structure of the mask that counts.
        part: what part of the data set the question belongs to, such as a kind of hallucination.
        boxes: list of [x, y, width, height].
        mask_values: the values of the mask that count, a list of numbers or JSON text with one; all above 0 when None.
        identifier: the row's own id.
        context: the turns before: question, answer, question, ...; or JSON text with such a list.
        names: for messages, value -> the key that it stands under in the file ("image" -> "img_name").
        unused_images: how many images the row names beside those that the question is about.
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
    context: object = None
    split_hint: Split | None = None
    mask_values: object = None
    segment: object = None
    part: object = None
    names: Mapping[str, str] | None = None
    unused_images: int = 0

    def name(self, value: str) -> str:
        """The key under which ``value`` stands in the file."""
        return (self.names or {}).get(value, value)


_EMPTY: tuple[object, ...] = (None, "", [])
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
        signs: keys that this layout alone has, which name it where required ones are missing.
        marks: what lies beside an image about what a question asks: (image, question) to masks and boxes.
        spellings: other spelling of a key in published files -> the key.
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
    signs: frozenset[str] = frozenset()
    marks: Callable[[Path, str], Marks] | None = None
    spellings: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False)

    def fits(self, keys: Mapping[str, object] | tuple[str, ...]) -> bool:
        """Whether a row or a header with these keys can be of this layout."""
        return not self.missing(keys)

    def drafts(self, row: Row, log: FaultLog) -> list[Draft]:
        """The questions of a row; what is wrong with it goes to ``log``."""
        errors = log.totals["error"]
        # A row that says nothing of its split has the name of its list, as in {"train": [...], "test": [...]}.
        drafts = [replace(draft, split=draft.split or row.group) for draft in self.convert(row, log)]
        return drafts if log.totals["error"] == errors else []

    def missing(self, keys: Mapping[str, object] | tuple[str, ...]) -> tuple[str, ...]:
        """The required keys that are not among these."""
        there = {self.spellings.get(key, key) for key in keys}
        return tuple(key for key in self.required if key not in there)


def _image(row: Row, *keys: str) -> object:
    """The image that a row names, or a list of those that it names; None where it names none."""
    found = next((row.fields[key] for key in keys if row.fields.get(key) not in _EMPTY), None)
    names = found if isinstance(found, list) else [] if found is None else [found]
    names = [name.get("path") if isinstance(name, dict) else name for name in names]
    return names if len(names) > 1 else names[0] if names else None


def _marked_images(row: Row) -> tuple[object, object]:
    """What `_image` gives of a row, and its mask; of several images lists, of the mask one with one for each.

    Beside a list further images stand in columns with numbers: ``image_1`` or ``image1``, ``image_2``, ... The first
    may be ``image`` instead. Masks have the numbers of their images.
    """
    image, mask = _image(row, "image", "images"), row.fields.get("mask")
    columns = {number: _numbered(row, "image", number) for number in range(1, MOST_NUMBERED + 1)}
    numbers = [number for number, name in columns.items() if name not in _EMPTY]
    if image is not None and 1 in numbers and columns[1] == image:
        numbers.remove(1)
    if not numbers or isinstance(image, list):
        # A list is whole; columns beside it would be left out without a word.
        return ([*image, *(columns[number] for number in numbers)] if isinstance(image, list) else image), mask
    names = [columns[number] for number in numbers]
    masks = [_numbered(row, "mask", number) for number in numbers]
    if image is not None:
        names, masks = [image, *names], [mask or _numbered(row, "mask", 1), *masks]
    if len(names) == 1:
        return names[0], masks[0] or mask
    return names, masks if any(masks[image is not None :]) else mask


def _numbered(row: Row, name: str, number: int) -> object:
    found = row.fields.get(f"{name}_{number}")
    return row.fields.get(f"{name}{number}") if found in _EMPTY else found


def _table(row: Row, log: FaultLog) -> Iterator[Draft]:
    get = row.fields.get
    question, answer, kind = chosen(row, log, "answer", get("question"), get("answer"))
    image, mask = _marked_images(row)
    yield Draft(
        row, image, question, answer, get("answer_type") or kind, get("split"),
        get("organ") or get("location") or get("image_organ"), get("modality"), mask, get("boxes"), get("id"),
        get("context"), mask_values=get("mask_values"), segment=get("segment"),
    )  # fmt: skip


def _llava(row: Row, log: FaultLog) -> Iterator[Draft]:
    get = row.fields.get
    turns = next((get(key) for key in ("conversations", *CONVERSATIONS) if get(key) is not None), None)
    remedy = 'Give pairs of {"from": "human", "value": ...} and {"from": "gpt", "value": ...}'
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        log.add("conversations", row.file, row.line, "conversations", f"expected turns, not {brief(turns)}", remedy)
        return
    turns = [{str(key).strip().lower(): value for key, value in turn.items()} for turn in turns]
    speakers = [str(turn.get("from") or turn.get("role")).strip().lower() for turn in turns]
    if speakers[0] == "system":
        turns, speakers = turns[1:], speakers[1:]
    asked = all(speaker in ("human", "user") for speaker in speakers[::2])
    told = all(speaker in ("gpt", "assistant") for speaker in speakers[1::2])
    if not asked or not told or len(turns) % 2 or not turns:
        what = f"human and gpt do not take turns: {brief(speakers)}"
        log.add("conversations", row.file, row.line, "conversations", what, remedy)
        return
    image, mask = _marked_images(row)
    texts = [_turn_text(turn.get("value", turn.get("content"))) for turn in turns]
    if image is None and not any("<image>" in str(text) for text in texts):
        what = "has no image and was left out"
        log.add("text-only", row.file, row.line, "image", what, "Nothing: only rows with an image count", "warning")
        return
    names = {"question": "conversations", "answer": "conversations"}
    said: list[object] = []
    for start in range(0, len(texts), 2):
        pair = texts[start : start + 2]
        # A row's own options are those of its one question.
        choice = chosen(row, log, "conversations", *pair) if len(texts) == 2 else chosen_in_text(*pair)
        question, answer, kind = choice
        yield Draft(
            row, image, question, answer, get("answer_type") or kind, get("split"),
            get("organ") or get("location") or get("image_organ"), get("modality"), mask, get("boxes"),
            get("id"), list(said), mask_values=get("mask_values"), segment=get("segment"), names=names,
        )  # fmt: skip
        said += [question, answer]


def _turn_text(content: object) -> object:
    """A turn's text, also where it stands in parts of type text and image."""
    if not isinstance(content, list) or not all(isinstance(part, dict) and "type" in part for part in content):
        return content
    marked = [part.get("text") if part["type"] == "text" else f"<{part['type']}>" for part in content]
    return " ".join(map(str, marked)) if all(isinstance(text, str) for text in marked) else content


def _vqa_rad(row: Row, log: FaultLog) -> Iterator[Draft]:
    get = row.fields.get
    # "test_freeform" and "test_para" in the one file that was published. In the two files that most people have,
    # trainset.json and testset.json, both hold "freeform" and "para": the file's name alone tells.
    phrase = str(get("phrase_type") or "").strip().lower()
    hint: Split | None = ("test" if phrase.startswith("test") else "train") if phrase else None
    yield Draft(
        row, _image(row, "image_name"), get("question"), get("answer"), get("answer_type"), get("split"),
        get("image_organ"), identifier=get("qid"), split_hint=hint,
        names={"image": "image_name", "organ": "image_organ"},
    )  # fmt: skip


def _slake(row: Row, log: FaultLog) -> Iterator[Draft]:
    get = row.fields.get
    if get("q_lang", "en") != "en":
        return
    if get("answer") is None or (isinstance(get("answer"), str) and not str(get("answer")).strip()):
        told = f" (qid {get('qid')})" if get("qid") is not None else ""
        what = f"the answer is empty{told}: the row was left out"
        log.add("no-answer", row.file, row.line, "answer", what, "Nothing: SLAKE has such a row", "warning")
        return
    yield Draft(
        row, _image(row, "img_name"), get("question"), get("answer"), get("answer_type"), get("split"),
        get("location"), get("modality"), identifier=get("qid"), names={"image": "img_name", "organ": "location"},
    )  # fmt: skip


def _medheval(row: Row, log: FaultLog) -> Iterator[Draft]:
    get = row.fields.get
    question, answer, kind = chosen(row, log, "answer", get("question"), get("answer"))
    yield Draft(
        row, _image(row, "img_name"), question, answer, kind or get("answer_type"), get("split"), get("location"),
        get("modality"), identifier=get("qid"), part=get("hallucination_type") or get("question_type"),
        names={"image": "img_name", "organ": "location"},
    )  # fmt: skip


def _omnimedvqa(row: Row, log: FaultLog) -> Iterator[Draft]:
    get = row.fields.get
    question, answer, kind = chosen(row, log, "gt_answer", get("question"), get("gt_answer"))
    yield Draft(
        row, _image(row, "image_path"), question, answer, kind, get("split"),
        modality=get("modality_type") or get("modality"), identifier=get("question_id"),
        names={"image": "image_path", "answer": "gt_answer"},
    )  # fmt: skip


def _pmc_vqa(row: Row, log: FaultLog) -> Iterator[Draft]:
    get = row.fields.get
    question, answer, kind = chosen(row, log, "answer", get("question"), get("answer_label") or get("answer"))
    yield Draft(
        row, _image(row, "figure_path"), question, answer, kind, get("split"), identifier=get("index"),
        names={"image": "figure_path"},
    )  # fmt: skip


def _medxpertqa(row: Row, log: FaultLog) -> Iterator[Draft]:
    get = row.fields.get
    image = _image(row, "images", "image")
    if image is None:
        what = "has no image and was left out"
        log.add("text-only", row.file, row.line, "images", what, "Nothing: only rows with an image count", "warning")
        return
    question = get("question")
    # The published question ends with the options in one line; they follow below, a line each.
    question = question.partition("Answer Choices:")[0] if isinstance(question, str) else question
    question, answer, kind = chosen(row, log, "label", question, get("label"))
    names = {"image": "images", "answer": "label"}
    yield Draft(row, image, question, answer, kind, get("split"), identifier=get("id"), names=names)


def _mimic_cxr_vqa(row: Row, log: FaultLog) -> Iterator[Draft]:
    get = row.fields.get
    answer = get("answer")
    if isinstance(answer, list) and all(isinstance(part, str) for part in answer):
        # Questions that list things have a list, an empty one where there is nothing to list.
        answer = ", ".join(answer) or "none"
    names = {"image": "image_path"}
    yield Draft(
        row, _image(row, "image_path"), get("question"), answer, None, get("split"), "chest", identifier=get("idx"),
        names=names,
    )  # fmt: skip


def _report(row: Row, log: FaultLog) -> Iterator[Draft]:
    get = row.fields.get
    image, unused = get("image_path"), 0
    if isinstance(image, list):
        # A question is asked about one image: of a study's views the first, which is the frontal one where there are
        # two.
        image, unused = (image[0], len(image) - 1) if image else (None, 0)
    names = {"image": "image_path", "answer": "report"}
    yield Draft(
        row, image, REPORT_QUESTION, get("report"), "open", get("split"), "chest", identifier=get("id"), names=names,
        unused_images=unused,
    )  # fmt: skip


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            "llava", "LLaVA conversations", ("conversations",), _llava,
            spellings=dict.fromkeys(CONVERSATIONS, "conversations"),
        ),
        Layout(
            "omnimedvqa", "OmniMedVQA", ("question", "gt_answer", "image_path"), _omnimedvqa,
            folders=("Images", "images"), split_from_path=False,
        ),
        Layout(
            "pmc-vqa", "PMC-VQA", ("figure_path", "question", "answer"), _pmc_vqa,
            folders=("images", "images_2", "figures"),
        ),
        Layout("medxpertqa", "MedXpertQA", ("question", "options", "label", "images"), _medxpertqa),
        Layout(
            "mimic-cxr-vqa", "MIMIC-CXR-VQA", ("image_path", "question", "answer", "template"), _mimic_cxr_vqa,
            folders=("images", "files"), signs=frozenset(("template_program", "template_arguments")),
        ),
        Layout(
            "medheval", "MedHEval", ("img_name", "question", "answer", "choices"), _medheval,
            folders=("imgs", "images", "files", "VQA_RAD Image Folder"),
        ),
        Layout("slake", "SLAKE", ("img_name", "question", "answer"), _slake, marks=marks_for),
        Layout(
            "vqa-rad", "VQA-RAD", ("image_name", "question", "answer"), _vqa_rad,
            folders=("VQA_RAD Image Folder", "VQA_RAD_Image_Folder", "images"), shares_images=True,
        ),
        Layout("report", "reports (R2Gen)", ("report", "image_path"), _report),
        Layout(
            "pathvqa", "PathVQA", ("image", "question", "answer"), _table,
            folders=("images", *(f"images/{split}" for split in ("train", "val", "test"))),
            known=("image", "question", "answer", *TABLE_EXTRAS), image_name=re.compile(r"(train|val|test)_\d+"),
        ),
        Layout(
            "table", "table of image, question and answer", ("image", "question", "answer"), _table,
            known=("image", "images", "question", "answer", *TABLE_EXTRAS),
            spellings=dict.fromkeys(("images", "image_1", "image1"), "image"),
        ),
    )
}  # fmt: skip
"""Every layout by its name, the most telling first.

The field names are those of the data sets' own releases: LLaVA (Liu et al. 2023), OmniMedVQA (Hu et al. 2024), SLAKE
(Liu et al. 2021), VQA-RAD (Lau et al. 2018), PathVQA (He et al. 2020) as a table, PMC-VQA (Zhang et al. 2023),
MedXpertQA (Zuo et al. 2025), MIMIC-CXR-VQA (Bae et al. 2023), MedHEval (Chang et al. 2025), and the annotation files of
R2Gen (Chen et al. 2020) for IU-Xray and MIMIC-CXR.
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
