"""Answers that somebody else's program wrote, brought to the questions of a data set.

Read are: this project's ``items.jsonl``; a JSON list of texts, or of objects; a JSON object id -> text; JSON lines with
the usual keys, LLaVA-Med's answer files among them; sample files of lmms-eval; and tables (CSV, TSV, XLSX), as
VLMEvalKit writes them. Nothing is guessed: answers that cannot be brought to the questions for certain are refused.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import openpyxl

from a3tune.errors import DataError
from a3tune.evaluation.items import EvaluatedItem
from a3tune.evaluation.questions import EvaluationData
from a3tune.evaluation.systems import GREEDY
from a3tune.evaluation.text_normalisation import normalise_strict
from a3tune.evaluation.vqa import scores_of
from a3tune.storage import DAMAGED_ARRAYS
from a3tune.wording import brief, counted, listed

_ANSWERS = (
    "prediction", "pred", "predicted_answer", "model_prediction", "model_answer", "model_output", "output", "response",
    "generated_text", "generated_answer", "generation", "text", "pred_answer", "answer_pred", "answer",
)  # fmt: skip
_IDS = ("id", "question_id", "qid", "sample_id", "index", "idx", "doc_id", "number")
_QUESTIONS = ("question", "prompt", "query")
_ORDER_IDS = {"index", "idx", "doc_id", "number"}
_FROM_ZERO = {"doc_id"}
"""Of these, those that count from 0 by their definition; others may count from 1."""
_LARGEST = 512 * 1024 * 1024


@dataclass(frozen=True)
class Prediction:
    """One answer as the file has it.

    Attributes:
        text: the answer; None where the file says that there is none.
        identifier: what the file calls the question; None where it says nothing.
        counts: whether the identifier may be the question's place in the data: if no question is called so, or for
            sure, from 0 (lmms-eval's doc_id).
        question: its words; None where the file does not repeat them.
        place: where it stands, for messages.
        system: of this project's own files, who answered; "" in others.
        parts: adapter, way of decoding and control of that system.
    """

    text: str | None
    identifier: str | None
    counts: Literal["", "perhaps", "from 0"]
    question: str | None
    place: str
    system: str = ""
    parts: tuple[str, str, str] = ("", GREEDY, "")


def read_predictions(path: str | Path) -> tuple[Prediction, ...]:
    """The answers in a file, in its order; of this project's own files those of every system.

    Raises:
        DataError: it cannot be read, or holds something else than answers.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST:
            raise DataError(
                expected="a file of answers of at most 512 MB", got=f"{path.name} is larger", remedy="Split it"
            )
        if path.suffix.lower() in (".xlsx", ".xlsm"):
            rows = _excel_rows(path)
        else:
            text = path.read_bytes().decode("utf-8-sig")
            rows = _table_rows(text, path) if path.suffix.lower() in (".csv", ".tsv") else _json_rows(text, path)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise _unreadable(path, "it is not UTF-8") from error
    own = bool(rows) and isinstance(rows[0], dict) and {"system", "scores", "prediction"} <= rows[0].keys()
    if not rows:
        raise DataError(expected="a file with answers", got=f"{path.name} has none", remedy="Check the file")
    return tuple(_prediction(row, f"{path.name}, answer {number}", own=own) for number, row in enumerate(rows, 1))


def bring_to_questions(
    predictions: Sequence[Prediction], data: EvaluationData, system: str
) -> tuple[tuple[EvaluatedItem, ...], tuple[str, ...]]:
    """One item for each question, and what is to be told, in words.

    Answers that name questions of the data by their ids, or number them from 0 or from 1, go there, and questions
    without an answer become gaps. Others must be as many as the questions and in their order; where they repeat the
    questions' words, these must be the same.

    Raises:
        DataError: answers are twice there, name questions that the data does not have, or do not fit in number or
            order.
    """
    by_id = {question.identifier: question.number for question in data.questions}
    names = [item.identifier for item in predictions]
    known = [item.identifier in by_id and item.counts != "from 0" for item in predictions]
    twice = [name for name, count in Counter(names).items() if name is not None and count > 1]
    numbered = all(item.counts for item in predictions)
    if any(known):
        if not all(known):
            stranger = predictions[known.index(False)]
            raise DataError(
                expected="answers to questions of this split alone",
                got=f"{stranger.place} names the question {stranger.identifier!r}, which the data does not have",
                remedy="Choose the split that was answered, or take these answers out",
            )
        places = [by_id[str(name)] for name in names]
    elif numbered:
        places = _numbered_places(predictions, data)
    else:
        if len(predictions) != len(data.questions):
            raise _other_length(len(predictions), len(data.questions), "")
        places = list(range(len(predictions)))
    if twice and (any(known) or numbered):
        raise DataError(
            expected="one answer to each question",
            got=f"The question {twice[0]!r} is answered more than once",
            remedy="Keep one of the answers",
        )
    answers = dict(zip(places, predictions, strict=True))
    for number, item in answers.items():
        asked = data.questions[number].item.question
        if item.question is not None and not _same_question(item.question, asked):
            raise DataError(
                expected=f"the answer to {brief(asked)}",
                got=f"{item.place} answers {brief(item.question)}",
                remedy="Bring the answers into the data's order, or give them the questions' ids",
            )
    notes = []
    missing = len(data.questions) - sum(item.text is not None for item in answers.values())
    if missing:
        notes.append(f"{missing:,} of {len(data.questions):,} questions have no answer in the file.")
    empty = sum(item.text is not None and not item.text.strip() for item in answers.values())
    if empty:
        notes.append(f"{counted(empty, 'answer')} in the file without a word: counted as wrong.")
    if not any(known) and all(item.question is None for item in predictions):
        notes.append("The answers name no questions: they were taken in the order of the data.")
    return tuple(_items(answers, data, system)), tuple(notes)


def _numbered_places(predictions: Sequence[Prediction], data: EvaluationData) -> list[int]:
    """The questions' places by the answers' numbers, which begin at 0 or at 1: where the highest says so, or what the
    answers repeat of the questions.

    Raises:
        DataError: a number is too high, or nothing says where they begin.
    """
    numbers, count = [int(str(item.identifier)) for item in predictions], len(data.questions)
    begins = [0] if 0 in numbers or any(item.counts == "from 0" for item in predictions) else [0, 1]
    fitting = [first for first in begins if max(numbers) - first < count]
    if not fitting:
        stranger = predictions[numbers.index(max(numbers))]
        raise _other_length(len(predictions), count, f"; {stranger.place} is number {stranger.identifier}")
    if len(fitting) > 1:
        told = [(item.question, number) for item, number in zip(predictions, numbers, strict=True) if item.question]
        asked = [question.item.question for question in data.questions]
        fitting = [first for first in fitting if all(_same_question(text, asked[at - first]) for text, at in told)]
        if len(fitting) > 1:
            raise DataError(
                expected="answers to all questions, numbered from 0 or from 1, or with the questions' ids or words",
                got=f"The file has {counted(len(predictions), 'answer')} of {count:,}, numbered from "
                f"{min(numbers)} to {max(numbers)}: they may count from 0 or from 1",
                remedy="Give the answers the questions' ids, or repeat their words under question",
            )
    return [number - (fitting or begins)[0] for number in numbers]


def _items(answers: Mapping[int, Prediction], data: EvaluationData, system: str) -> list[EvaluatedItem]:
    items = []
    adapter, decoding, control = next(iter(answers.values())).parts
    for question in data.questions:
        item, found = question.item, answers.get(question.number)
        said = None if found is None else found.text
        told = "The file has no answer to this question" if found is None else "The file has an empty answer"
        scores = {} if said is None else scores_of(item.answer_type, item.answer, said, question.options, item.question)
        items.append(
            EvaluatedItem(
                question.identifier,
                question.number,
                system,
                item.image_name,
                question.image_digest,
                item.question,
                item.answer,
                item.answer_type,
                said,
                question.options,
                dict(question.groups),
                scores,
                adapter=adapter,
                decoding=decoding,
                control=control,
                gap="" if said is not None else told,
            )
        )
    return items


def _same_question(told: str, asked: str) -> bool:
    # A prompt may stand around the question, and options below it.
    words, wanted = normalise_strict(told), normalise_strict(asked.splitlines()[0])
    return wanted in words or words in normalise_strict(asked)


def _prediction(row: object, place: str, *, own: bool) -> Prediction:
    if isinstance(row, str):
        return Prediction(row, None, "", None, place)
    if not isinstance(row, dict):
        raise DataError(expected="an answer in words", got=f"{place} is {brief(row)}", remedy="Check the file")
    fields = {str(key).strip().lower(): value for key, value in row.items()}
    named = next((name for name in _IDS if fields.get(name) not in (None, "")), None)
    identifier = None if named is None else str(fields[named])
    if identifier is not None and identifier.endswith(".0") and identifier[:-2].isdecimal():
        identifier = identifier[:-2]  # a table's number
    number = named in _ORDER_IDS and identifier is not None and identifier.isdecimal()
    counts: Literal["", "perhaps", "from 0"] = "" if not number else "from 0" if named in _FROM_ZERO else "perhaps"
    doc = fields.get("doc") if isinstance(fields.get("doc"), dict) else {}
    asked = next((fields[name] for name in _QUESTIONS if isinstance(fields.get(name), str)), None)
    asked = asked if asked is not None else (doc or {}).get("question")
    system, adapter, decoding, control = (
        str(fields.get(name) or "") if own else "" for name in ("system", "adapter", "decoding", "control")
    )
    question = asked if isinstance(asked, str) else None
    parts = (adapter, decoding or GREEDY, control)
    return Prediction(_text(fields, place), identifier, counts, question, place, system, parts)


def _text(fields: Mapping[str, Any], place: str) -> str | None:
    for name in ("filtered_resps", "resps"):
        found = fields.get(name)
        while isinstance(found, list) and len(found) == 1:
            found = found[0]
        if isinstance(found, str):
            return found
    for name in _ANSWERS:
        if name in fields:
            found = fields[name]
            # An empty field of a table, null and NaN are no answer, not a wrong one.
            if found is None or found != found:
                return None
            if isinstance(found, str | int | float):
                return str(found)
            raise DataError(
                expected="an answer in words", got=f"{place} has {brief(found)} under {name}", remedy="Check the file"
            )
    raise DataError(
        expected=f"an answer under one of the keys {listed(_ANSWERS)}",
        got=f"{place} has {listed(sorted(fields)) or 'no key'}",
        remedy="Call the answer prediction",
    )


def _json_rows(text: str, path: Path) -> list[Any]:
    if path.suffix.lower() == ".jsonl":
        return _json_lines(text, path)
    try:
        whole = json.loads(text)
    except RecursionError as error:
        raise _unreadable(path, "it is nested too deeply") from error
    except ValueError:
        return _json_lines(text, path)
    if isinstance(whole, dict):
        # Older lmms-eval keeps the samples in "logs"; one line of JSON lines is an object too.
        for name in ("logs", "predictions", "answers", "results", "data"):
            if isinstance(whole.get(name), list):
                return whole[name]
        keys = {str(key).lower() for key in whole}
        if keys & {*_ANSWERS, "resps", "filtered_resps"}:
            return [whole]
        return [{"id": key, "prediction": value} for key, value in whole.items()]
    if not isinstance(whole, list):
        raise _unreadable(path, f"it holds {brief(whole)}")
    return whole


def _json_lines(text: str, path: Path) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise _unreadable(path, f"line {number} is no JSON") from error
    return rows


def _table_rows(text: str, path: Path) -> list[Any]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        return [{name: value or None for name, value in row.items()} for row in rows]
    except csv.Error as error:
        raise _unreadable(path, f"it is no table: {error}") from error


def _excel_rows(path: Path) -> list[Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST:
                raise _unreadable(path, "it unpacks to more than 512 MB")
        book = openpyxl.load_workbook(io.BytesIO(path.read_bytes()), read_only=True, data_only=True)
        if not book.worksheets:
            raise _unreadable(path, "it has no sheet")
        sheet = book.worksheets[0]
        sheet.reset_dimensions()
        rows = sheet.iter_rows(values_only=True)
        header = [str(cell or "").strip() for cell in next(rows, ())]
        return [dict(zip(header, row, strict=False)) for row in rows if any(cell is not None for cell in row)]
    except DAMAGED_ARRAYS as error:
        raise _unreadable(path, "it is no Excel workbook") from error


def _unreadable(path: Path, why: str) -> DataError:
    return DataError(
        expected="answers as JSON, JSON lines, CSV, TSV or XLSX",
        got=f"{path.name} cannot be read: {why}",
        remedy="Check it",
    )


def _other_length(there: int, wanted: int, more: str) -> DataError:
    return DataError(
        expected=f"one answer to each of the {wanted:,} questions of the split, or answers with the questions' ids",
        got=f"The file has {there:,} answers{more}",
        remedy="Choose the split that was answered, or give the answers ids",
    )
