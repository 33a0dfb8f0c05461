"""The options among which an answer is chosen, and the text of the one that a letter means."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping

from a3tune.data.formats.column_names import LONG_NAMES, OPTION_LETTERS, OPTION_NUMBERS, SHORT_NAMES
from a3tune.data.formats.faults import FaultLog
from a3tune.data.formats.rows import Row
from a3tune.wording import brief

_LETTER = re.compile(r"\W*(?:(?:the )?(?:correct )?(?:answer|option|choice)\b(?: is)?\W*)?([a-j])\W*", re.IGNORECASE)
_MARKED = re.compile(r"(?<![\w(])\(?([A-J])[.:)]\s*")
_MARKED_SMALL = re.compile(r"(?<![\w(])\(?([a-j])[.:)]\s*")
_LETTERED = re.compile(r"\s*\(?([A-J])\s*[.:)]\s*(.*)", re.DOTALL)
# What asks for the letter alone, as in "Answer with the option's letter from the given choices directly."
_FOR_THE_LETTER = re.compile(
    r"\s*(?:please )?(?:answer|respond|reply) with (?:only )?(?:the |a )?(?:correct )?(?:option(?:['\u2019]s)? )?letter"
    r"[^.\n]*\.?",
    re.IGNORECASE,
)


def chosen(row: Row, log: FaultLog, key: str, question: object, answer: object) -> tuple[object, object, str | None]:
    """(question with its options, answer as the option's text, "closed" where there are options)."""
    try:
        options = _options(row.fields.get)
    except ValueError as error:
        what = f"expected up to ten options as a list of texts, not {brief(error.args[0])}"
        log.add("option", row.file, row.line, "options", what, 'Write them as ["lung", "liver"], or leave them out')
        return question, answer, None
    if not options:
        # Columns with names as short as these are options where they hold the answer.
        short = _columns(row.fields.get, SHORT_NAMES)
        options = short if _meant(answer, short) is not None else {}
    if not options:
        return chosen_in_text(question, answer)
    if not isinstance(question, str) or not question.strip():
        return question, answer, None
    lines = (f"{letter}. {text}" for letter, text in _lettered(options).items())
    question = "\n".join((_FOR_THE_LETTER.sub("", question).strip(), *lines))
    text = _meant(answer, options)
    if text is None and answer is not None and str(answer).strip():
        what = f"{brief(answer)} is none of the options"
        log.add("option", row.file, row.line, key, what, "Correct the answer or the options", "warning")
    return question, answer if text is None else text, "closed"


def chosen_in_text(question: object, answer: object) -> tuple[object, object, str | None]:
    """The same of a row without options of its own: a letter means the option that the question's text has for it."""
    if not isinstance(question, str) or not isinstance(answer, str):
        return question, answer, None
    letter, asked = _LETTER.fullmatch(answer.strip()), _FOR_THE_LETTER.sub("", question)
    options = options_in_text(asked)
    if letter is None:
        return question, answer, "closed" if answer.strip() in options.values() else None
    text = options.get(letter[1].upper())
    return (asked.strip(), text, "closed") if text else (question, answer, None)


def _options(get: Callable[[str], object]) -> dict[str, str]:
    """Letter, or number where they are counted, -> text of the options among which the answer is chosen; empty where
    there are none.

    Raises:
        ValueError: what stands there is no list of up to ten texts; holds it.
    """
    given = get("options") or get("choices")
    if isinstance(given, str) and given.strip():
        # A table holds the list as text, as JSON or as Python writes it.
        try:
            given = options_in_text(given) or ast.literal_eval(given.strip())
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise ValueError(given) from None
        if not isinstance(given, Mapping | list):
            raise ValueError(given)
    if isinstance(given, Mapping | list):
        listed = list(given.values()) if isinstance(given, Mapping) else given
        if len(listed) > len(OPTION_LETTERS) or any(isinstance(text, Mapping | list) for text in listed):
            raise ValueError(given)
    if isinstance(given, Mapping):
        return _texts({str(mark).strip().upper(): text for mark, text in given.items()})
    if isinstance(given, list):
        return _texts(dict(zip(OPTION_LETTERS.upper(), given, strict=False)))
    return _columns(get, LONG_NAMES)


def _columns(get: Callable[[str], object], names: tuple[str, ...]) -> dict[str, str]:
    """Mark -> text of the options that have a column each; of short names the first two have to be there."""
    least = 1 if names == LONG_NAMES else 2
    for name in names:
        counted = OPTION_NUMBERS if get(f"{name}0") not in (None, "") else OPTION_NUMBERS[1:]
        for marks in (OPTION_LETTERS, counted) if names == LONG_NAMES else (OPTION_LETTERS,):
            found = _texts({mark.upper(): get(f"{name}{mark}") for mark in marks})
            if len(found) >= least and all(mark.upper() in found for mark in marks[:least]):
                return found
    return {}


def _texts(found: Mapping[str, object]) -> dict[str, str]:
    texts = {mark: str(text).strip() for mark, text in found.items() if text not in (None, "")}
    # PMC-VQA repeats the letter in the text, "A: Rectum".
    return {
        mark: match[2].strip() if (match := _LETTERED.fullmatch(text)) and match[1] == mark else text
        for mark, text in texts.items()
    }


def _lettered(options: Mapping[str, str]) -> dict[str, str]:
    """The options by letters, those that are counted or named otherwise in their order."""
    if all(len(mark) == 1 and mark.lower() in OPTION_LETTERS for mark in options):
        return dict(options)
    return dict(zip(OPTION_LETTERS.upper(), options.values(), strict=False))


def _meant(answer: object, options: Mapping[str, str]) -> str | None:
    """The text of the option that an answer names by its text, its letter, its number in the file or both; None when
    it names none."""
    if answer is None:
        return None
    text, letters = str(answer).strip(), _lettered(options)
    if text in options.values():
        return text
    lettered, letter = _LETTERED.fullmatch(text), _LETTER.fullmatch(text)
    if lettered and letters.get(lettered[1]) == lettered[2].strip():
        return letters[lettered[1]]
    alike = [own for mark, own in letters.items() if text.casefold() in (own.casefold(), f"{mark} {own}".casefold())]
    if len(alike) == 1:
        return alike[0]
    if letter and letter[1].upper() in letters:
        return letters[letter[1].upper()]
    return options.get(text)


def options_in_text(text: str) -> dict[str, str]:
    """Letter -> text of the options in a text such as "A: Liver, B: Heart"; none where the letters do not begin with
    A, B. Options with a line each end with it."""
    for pattern in (_MARKED, _MARKED_SMALL):
        marks = list(pattern.finditer(text))
        letters = "".join(mark[1] for mark in marks).upper()
        if len(marks) < 2 or letters != OPTION_LETTERS.upper()[: len(marks)]:
            continue
        ends = [mark.start() for mark in marks[1:]] + [len(text)]
        parts = [text[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
        if all(part.endswith("\n") for part in parts[:-1]):
            parts = [part.partition("\n")[0] for part in parts]
        return dict(zip(letters, (part.strip(" \n\t,;|(") for part in parts), strict=True))
    return {}
