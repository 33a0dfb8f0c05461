"""The options among which an answer is chosen, and the text of the one that a letter means."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping

from a3tune.data.formats.column_names import OPTION_LETTERS
from a3tune.data.formats.faults import FaultLog
from a3tune.data.formats.rows import Row
from a3tune.wording import brief

_LETTER = re.compile(r"\W*([a-j])\W*", re.IGNORECASE)
_MARKED = re.compile(r"(?<![\w(])\(?([A-J])[.:)]\s*")
_LETTERED = re.compile(r"\s*\(?([A-J])\s*[.:)]\s*(.*)", re.DOTALL)


def _options(get: Callable[[str], object]) -> dict[str, str]:
    """Letter -> text of the options among which the answer is chosen; empty where there are none.

    Raises:
        ValueError: what stands there is no list of up to ten texts; holds it.
    """
    given = get("options") or get("choices")
    if isinstance(given, str) and given.strip():
        # A table holds the list as text, as JSON or as Python writes it.
        try:
            given = _options_in_text(given)[1] or ast.literal_eval(given.strip())
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise ValueError(given) from None
        if not isinstance(given, Mapping | list):
            raise ValueError(given)
    if isinstance(given, Mapping | list):
        listed = list(given.values()) if isinstance(given, Mapping) else given
        if len(listed) > len(OPTION_LETTERS) or any(isinstance(text, Mapping | list) for text in listed):
            raise ValueError(given)
    if isinstance(given, Mapping):
        found = {str(letter).strip().upper(): text for letter, text in given.items()}
    elif isinstance(given, list):
        found = dict(zip(OPTION_LETTERS.upper(), given, strict=False))
    else:
        keys = {letter: [f"{word}{sign}{letter}" for word in ("option", "choice") for sign in "_ "]
                for letter in OPTION_LETTERS}  # fmt: skip
        found = {letter.upper(): next((get(key) for key in names if get(key) not in (None, "")), None)
                 for letter, names in keys.items()}  # fmt: skip
    texts = {letter: str(text).strip() for letter, text in found.items() if text not in (None, "")}
    # PMC-VQA repeats the letter in the text, "A: Rectum".
    return {
        letter: match[2].strip() if (match := _LETTERED.fullmatch(text)) and match[1] == letter else text
        for letter, text in texts.items()
    }


def chosen(row: Row, log: FaultLog, key: str, question: object, answer: object) -> tuple[object, object, str | None]:
    """(question with its options, answer as the option's text, "closed" where there are options)."""
    try:
        options = _options(row.fields.get)
    except ValueError as error:
        what = f"expected up to ten options as a list of texts, not {brief(error.args[0])}"
        log.add("option", row.file, row.line, "options", what, 'Write them as ["lung", "liver"], or leave them out')
        return question, answer, None
    if not options and isinstance(question, str) and isinstance(answer, str):
        return _chosen_in_text(question, answer)
    if not options or not isinstance(question, str) or not question.strip():
        return question, answer, None
    question = question.strip() + "\n" + "\n".join(f"{letter}. {text}" for letter, text in options.items())
    if isinstance(answer, int):
        answer = str(answer)
    if isinstance(answer, str) and answer.strip():
        answer = answer.strip()
        lettered = _LETTERED.fullmatch(answer)
        if answer not in options.values() and lettered and options.get(lettered[1]) == lettered[2].strip():
            answer = lettered[2].strip()
        letter = _LETTER.fullmatch(answer)
        if answer not in options.values() and letter and letter[1].upper() in options:
            answer = options[letter[1].upper()]
        if answer not in options.values():
            what = f"{brief(answer)} is none of the options"
            log.add("option", row.file, row.line, key, what, "Correct the answer or the options", "warning")
    return question, answer, "closed"


def _chosen_in_text(question: str, answer: str) -> tuple[str, str, str | None]:
    """The same of a row without options of its own: a letter means the option that the question's text has for it."""
    letter = _LETTER.fullmatch(answer.strip())
    if letter is None:
        return question, answer, None
    text = _options_in_text(question)[1].get(letter[1].upper())
    return (question, text, "closed") if text else (question, answer, None)


def _options_in_text(text: str) -> tuple[str, dict[str, str]]:
    """What stands before the options in a text such as "A: Liver, B: Heart", and letter -> text of the options; none
    where the letters do not begin with A, B."""
    marks = list(_MARKED.finditer(text))
    if len(marks) < 2 or "".join(mark[1] for mark in marks) != OPTION_LETTERS.upper()[: len(marks)]:
        return text, {}
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    found = {mark[1]: text[mark.end() : end].strip(" \n\t,;|(") for mark, end in zip(marks, ends, strict=True)}
    return text[: marks[0].start()], found
