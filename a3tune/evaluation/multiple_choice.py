"""Multiple choice: which of the given options an answer chooses."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence

from a3tune.data.formats.answer_options import options_in_text
from a3tune.evaluation.text_normalisation import affirms, contains, denials_in, strict_words, without_speaker

_OPTION_LINE = re.compile(r"\(?([A-J])[.:)]\s+(\S.*)")
_LETTER = re.compile(
    r"\W*(?:(?:the\s+)?(?:correct\s+)?(?:answer|option|choice)\s*(?:is|:)?\s*)?\(?([A-J])(?:\W*|[.:)]\s+(.*))",
    re.IGNORECASE | re.DOTALL,
)
_NAMED = re.compile(r"\b(?i:answer|option|choice)\s*(?i:is|:)?\s*\(?([B-J]\b|A\b(?!\s+[a-z]))")
_LEAST_OVERLAP = 0.5


def options_of(question: str, answer: str = "") -> tuple[str, ...]:
    """The options of a question, in order: those that stand at its end, a line each as "A. text"; or anywhere in its
    text, as in "A: liver, B: heart", where ``answer`` is one of them. None where there are not at least two that begin
    with A."""
    found: list[str] = []
    for line in reversed(question.strip().splitlines()):
        match = _OPTION_LINE.fullmatch(line.strip())
        if match is None:
            break
        found.append(match[1] + match[2].strip())
    found.reverse()
    letters = "".join(option[0] for option in found)
    if len(found) < 2 or letters != "ABCDEFGHIJ"[: len(letters)]:
        within = tuple(options_in_text(question).values())
        return within if answer in within else ()
    return tuple(option[1:] for option in found)


def closest_option(text: str, options: Sequence[str]) -> int | None:
    """The option whose difflib ratio to a text is highest, as the research code of A3Tune chooses; the first of equal
    ones, None where nothing is shared with any. Upper and lower case differ."""
    best, chosen = 0.0, None
    for index, option in enumerate(options):
        ratio = difflib.SequenceMatcher(None, option, text).ratio()
        if ratio > best:
            best, chosen = ratio, index
    return chosen


def reference_option_hit(prediction: str, label: str, options: Sequence[str]) -> bool:
    """Whether prediction and label are closest to the same option; also when both are to none (a fault of the research
    code, kept for parity)."""
    return closest_option(prediction, options) == closest_option(label, options)


def chosen_option(text: str, options: Sequence[str]) -> int | None:
    """The option that an answer chooses: the one it spells, the one whose letter it gives, the only one whose words it
    holds, the only one that holds its words, the one that shares most words (at least half, by F1), or the only one
    whose letter it names as its answer; None where that is not certain. Words that are denied ("not MRI") name nothing.

    A letter counts where it stands alone or before the option's text ("B", "(b)", "B. liver", "The answer is B").
    """
    words = [strict_words(option) for option in options]
    said = strict_words(text)
    if said and words.count(said) == 1:
        return words.index(said)
    match = _LETTER.fullmatch(without_speaker(text).strip())
    # "A mass" begins with an article, not with the letter of an option.
    if match is not None and "ABCDEFGHIJ".index(match[1].upper()) < len(options):
        index, rest = "ABCDEFGHIJ".index(match[1].upper()), strict_words(match[2] or "")
        if not rest or rest == words[index]:
            return index
    held = [index for index, option in enumerate(words) if option and affirms(said, option)]
    # "right lung" holds "lung": the longer one was meant.
    held = [
        index for index in held if not any(other != index and contains(words[other], words[index]) for other in held)
    ]
    # "MRI" names "Magnetic resonance imaging (MRI)" where no other option holds it.
    naming = [index for index, option in enumerate(words) if said and affirms(option, said)]
    for found in (held, naming):
        if len(found) == 1:
            return found[0]
    # "not MRI" shares a word with "MRI", and means another.
    shares = [_overlap(said, option) if denials_in(said) == denials_in(option) else 0.0 for option in words]
    best = max(shares, default=0.0)
    if not held and best >= _LEAST_OVERLAP and shares.count(best) == 1:
        return shares.index(best)
    named = {letter for letter in _NAMED.findall(text) if "ABCDEFGHIJ".index(letter) < len(options)}
    return "ABCDEFGHIJ".index(named.pop()) if not held and len(named) == 1 else None


def _overlap(first: Sequence[str], second: Sequence[str]) -> float:
    shared = sum((Counter(first) & Counter(second)).values())
    return 2 * shared / (len(first) + len(second)) if shared else 0.0
