"""Row by row: raw values to items, with a fault for everything that a run could not use."""

from __future__ import annotations

import ast
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from a3tune.data.dataset import AnswerType, Boxes, MarkedImage, Split, TrainingItem
from a3tune.data.formats.faults import FaultLog, place_of
from a3tune.data.formats.files import split_named
from a3tune.data.formats.image_files import PictureFinder
from a3tune.data.formats.layouts import Draft
from a3tune.data.formats.rows import Row
from a3tune.data.report_marks import first_mark
from a3tune.wording import brief

MAX_CHARACTERS = 20_000
"""Longest question or answer: more is a slipped quote or a whole document, not an answer."""

_MARKER = "<image>"
_SHORT = 5
"""Answers of so many words at most contradict each other where they differ; longer ones may both be right."""
"""What reports of hospitals carry besides words: blanks of de-identification, headings of the form."""
_ANSWER_TYPES: dict[str, AnswerType] = {"closed": "closed", "close": "closed", "open": "open"}


class RowChecker:
    """Turns drafts into items and remembers what was there before.

    Args:
        several: take questions about several images; else each is a fault.
    """

    def __init__(self, several: bool = False) -> None:
        self._several = several
        self._refused: set[tuple[str, int]] = set()
        self._seen: dict[tuple[object, ...], tuple[str, int]] = {}
        self._answers: dict[tuple[object, ...], tuple[str, str, int]] = {}

    def check(
        self, draft: Draft, finder: PictureFinder, default_split: Split | None, log: FaultLog
    ) -> TrainingItem | None:
        """The item of a draft, or None when something is wrong with it; all that is wrong goes to ``log``."""
        errors = log.totals["error"]
        names = _names(draft.image, finder)
        images = [self._file(draft, "image", name, finder, log) for name in names]
        if len(names) > 1:
            self._check_several(draft, len(names), log)
        question = self._text(draft, "question", draft.question, log)
        answer = self._text(draft, "answer", draft.answer, log)
        if answer is not None and _MARKER in answer:
            _add(log, "marker", draft, "answer", f"the answer holds the marker {_MARKER}", "Take it out")
        answer_type = self._answer_type(draft, answer or "", log)
        split = self._split(draft, default_split or draft.split_hint, log)
        context = self._context(draft, log)
        values = self._values(draft, log)
        masks = [
            self._file(draft, "mask", name, finder, log) if name not in (None, "") else None
            for name in _for_each(draft, "mask", draft.mask, len(names), log)
        ]
        boxes = [self._boxes(draft, raw, log) for raw in _for_each(draft, "boxes", draft.boxes, len(names), log)]
        if log.totals["error"] > errors or question is None or answer is None:
            return None
        first, *others = [MarkedImage(*one) for one in zip(images, masks, boxes, strict=True)]  # type: ignore[arg-type]
        row = draft.row
        self._compare((*images, context, question), answer, row, log)
        if mark := first_mark(answer):
            what = f"the answer holds marks of a report's form ({brief(mark)})"
            log.add("report-marks", row.file, row.line, draft.name("answer"), what, "Take them out", "warning")
        return TrainingItem(
            first.image, question, answer, answer_type, split, row.file, row.line,
            _label(draft.identifier), _label(draft.organ), _label(draft.modality), first.mask, first.boxes, context,
            values, _label(draft.segment), _label(draft.part), tuple(others),
        )  # fmt: skip

    def _check_several(self, draft: Draft, count: int, log: FaultLog) -> None:
        """Refuse several images where they are not taken, and where the words say another place for them."""
        row = draft.row
        if not self._several:
            # Once for a row: a conversation has many questions.
            if (row.file, row.line) not in self._refused:
                self._refused.add((row.file, row.line))
                remedy = "Keep one image a row here; tune and eval on the command line take several"
                _add(log, "several-images", draft, "image", f"expected one image, not {count}", remedy)
            return
        before = draft.context if isinstance(draft.context, list) else []
        said = [text for text in (*before, draft.question) if isinstance(text, str)]
        marks = [text.count(_MARKER) for text in said[::2]] if said else [0]
        inner = said[0].strip() if said else ""
        while inner.startswith(_MARKER) or inner.endswith(_MARKER):
            inner = inner.removeprefix(_MARKER).removesuffix(_MARKER).strip()
        if sum(marks) and (_MARKER in inner or any(marks[1:]) or marks[0] != count):
            what = f"{_MARKER} stands {sum(marks)} times, or within the words, and there are {count} images"
            remedy = f"Put {_MARKER} once for each image before the first question: there the model is shown them all"
            _add(log, "marker", draft, "question", what, remedy)

    def _compare(self, asked: tuple[object, ...], answer: str, row: Row, log: FaultLog) -> None:
        """Remarks on a row that says the same as an earlier one, or the contrary."""
        here = (row.file, row.line)
        first = self._seen.setdefault((*asked, answer), here)
        if first != here:
            what = f"the same image, question and answer as in {place_of(*first)}"
            log.add("duplicate", *here, "", what, "Remove one of them", "warning")
        plain = answer.casefold().strip(" .")
        *about, question = asked  # every image and the turns before
        alike = (*about, question_words(str(question)))
        other, file, line = self._answers.setdefault(alike, (plain, *here))
        if other != plain and max(len(other.split()), len(plain.split())) <= _SHORT:
            what = f"another answer to the same question about the same image than in {place_of(file, line)}"
            log.add("contradiction", *here, "answer", what, "Keep the right one", "warning")

    @staticmethod
    def _file(draft: Draft, value: str, name: object, finder: PictureFinder, log: FaultLog) -> Path | None:
        if not isinstance(name, str) or not name.strip():
            what = "is empty" if name in (None, "") or isinstance(name, str) else f"expected text, not {brief(name)}"
            _add(log, "no-image", draft, value, what, "Name the file of the image")
            return None
        found = finder.find(name)
        if isinstance(found, Path):
            return found
        kind, what, remedy = found
        _add(log, kind, draft, value, what, remedy)
        return None

    @staticmethod
    def _text(draft: Draft, value: str, raw: object, log: FaultLog) -> str | None:
        key = draft.name(value)
        if isinstance(raw, (int, float)) and not isinstance(raw, bool):
            raw = f"{raw}"
        if raw is not None and not isinstance(raw, str):
            _add(log, "not-text", draft, value, f"expected text, not {brief(raw)}", f"Write the {value} as text")
            return None
        text = (raw or "").replace(_MARKER, " ") if value == "question" else raw or ""
        text = text.strip()
        if not text:
            lacks = raw is None and key not in draft.row.fields
            what = f"the row has no {key}" if lacks else f"the {value} is empty"
            _add(log, f"empty-{value}", draft, value, what, f"Write the {value}, or remove the row")
            return None
        if len(text) > MAX_CHARACTERS:
            what = f"the {value} has {len(text):,} characters, more than {MAX_CHARACTERS:,}"
            _add(log, "too-long", draft, value, what, "Shorten it")
            return None
        try:
            text.encode()
        except UnicodeEncodeError:
            what = f"the {value} holds half a surrogate pair, which is no character"
            _add(log, "encoding", draft, value, what, "Export the data again as UTF-8")
            return None
        return text

    @staticmethod
    def _answer_type(draft: Draft, answer: str, log: FaultLog) -> AnswerType:
        given = draft.answer_type
        if given is None or (isinstance(given, str) and not given.strip()):
            return "closed" if answer.lower().rstrip(".") in ("yes", "no") else "open"
        kind = _ANSWER_TYPES.get(given.strip().lower()) if isinstance(given, str) else None
        if kind is None:
            what = f"expected closed or open, not {brief(given)}"
            _add(log, "answer-type", draft, "answer_type", what, "Correct it, or leave it out")
        return kind or "open"

    @staticmethod
    def _split(draft: Draft, default: Split | None, log: FaultLog) -> Split | None:
        given = draft.split
        if given is None or (isinstance(given, str) and not given.strip()):
            return default
        split = split_named(given) if isinstance(given, str) else None
        # The name of a JSON list that is no split ("data") says nothing, unlike a value in the row.
        if split is None and given != draft.row.group:
            what = f"expected train, validation or test, not {brief(given)}"
            _add(log, "split", draft, "split", what, "Correct it, or leave it out")
        return split or default

    @staticmethod
    def _context(draft: Draft, log: FaultLog) -> tuple[str, ...]:
        raw = draft.context
        if raw in (None, "", []):
            return ()
        raw = _parsed(raw)
        if isinstance(raw, list) and len(raw) % 2 == 0 and all(isinstance(text, str) for text in raw):
            return tuple(text.replace(_MARKER, " ").strip() for text in raw)
        what = f"expected the turns before, a list of questions and answers in turn, not {brief(draft.context)}"
        _add(log, "context", draft, "context", what, "Correct the turns")
        return ()

    @staticmethod
    def _values(draft: Draft, log: FaultLog) -> tuple[int, ...]:
        raw = draft.mask_values
        if raw in (None, "", []):
            return ()
        values = _parsed(raw)
        if isinstance(values, list) and all(type(value) is int and value > 0 for value in values):
            return tuple(values)
        what = f"expected the mask's values that count, as [1, 3], not {brief(raw)}"
        _add(log, "mask-values", draft, "mask_values", what, "Correct them, or leave them out")
        return ()

    @staticmethod
    def _boxes(draft: Draft, raw: Any, log: FaultLog) -> Boxes:
        if raw is None or raw == "":
            return ()
        try:
            raw = json.loads(raw) if isinstance(raw, str) else raw
            boxes = tuple((float(x), float(y), float(width), float(height)) for x, y, width, height in raw)
        except (TypeError, ValueError, RecursionError):
            boxes = ((-1.0, 0.0, 0.0, 0.0),)
        if all(all(0 <= edge < 1e9 for edge in box) and min(box[2:]) > 0 for box in boxes):
            return boxes
        what = f"expected [[x, y, width, height], ...] in pixels, not {brief(raw)}"
        _add(log, "boxes", draft, "boxes", what, "Correct the boxes, or leave them out")
        return ()


def _names(image: object, finder: PictureFinder) -> list[object]:
    """The names of a row's images: those of a list, of a text with such a list (JSON or Python), or between semicolons
    or bars; a text that is the name of a file as it stands is one name."""
    if isinstance(image, list):
        return list(image)
    if not isinstance(image, str) or isinstance(finder.find(image), Path):
        return [image]
    return _split(image) or [image]


def _split(text: str) -> list[Any] | None:
    """The entries of a text that is a list, or has semicolons or bars; None for any other."""
    if text.strip().startswith("["):
        found = _parsed(text)
        with suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            found = ast.literal_eval(text.strip()) if found is None else found
        return found if isinstance(found, list) and found else None
    for sign in ";|":
        parts = [part.strip() for part in text.split(sign)]
        if len(parts) > 1 and all(parts):
            return parts
    return None


def _for_each(draft: Draft, value: str, raw: object, count: int, log: FaultLog) -> list[Any]:
    """What a row says of each of its images in one value; of one image it is the value itself."""
    if count == 1:
        single = isinstance(raw, list) and len(raw) == 1 and value == "mask"
        return [raw[0] if single and isinstance(raw, list) else raw]
    if raw in (None, "", []):
        return [None] * count
    entries: object = raw
    if isinstance(raw, str):
        split = [part.strip() for sign in ";|" if sign in raw for part in raw.split(sign)]
        entries = _parsed(raw) if value == "boxes" else _split(raw) or split
    if isinstance(entries, list) and len(entries) == count:
        return entries
    form = "[[[x, y, width, height], ...], []]" if value == "boxes" else '["first.png", null]'
    what = f"expected {value} for each of the {count} images, as {form}, not {brief(raw)}"
    _add(log, value, draft, value, what, "Write a list with an entry for each image, in their order")
    return [None] * count


def question_words(question: str) -> str:
    """A question without what makes no difference: case, spaces, and the mark at its end."""
    return " ".join(question.casefold().split()).rstrip(" ?.")


def _parsed(value: object) -> object:
    """The value, or what its JSON text says; None for a text that is no JSON."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None


def _label(value: object) -> str:
    return "" if value is None else " ".join(str(value).split())[:200]


def _add(log: FaultLog, kind: str, draft: Draft, value: str, what: str, remedy: str) -> None:
    log.add(kind, draft.row.file, draft.row.line, draft.name(value), what, remedy)
