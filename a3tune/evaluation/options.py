"""Which of the given options an answer chooses."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence

from a3tune.evaluation.text_normalisation import strict_words

_OPTION_LINE = re.compile(r"\(?([A-J])[.:)]\s+(\S.*)")
_LETTER = re.compile(
    r"\W*(?:(?:the\s+)?(?:correct\s+)?(?:answer|option|choice)\s*(?:is|:)?\s*)?\(?([A-J])(?:\W*|[.:)]\s+(.*))",
    re.IGNORECASE | re.DOTALL,
)
_LEAST_OVERLAP = 0.5


def options_of(question: str) -> tuple[str, ...]:
    """The options that stand below a question, a line each as "A. text", in order; none where there are not at least
    two that begin with A."""
    found: list[str] = []
    for line in reversed(question.strip().splitlines()):
        match = _OPTION_LINE.fullmatch(line.strip())
        if match is None:
            break
        found.append(match[1] + match[2].strip())
    found.reverse()
    letters = "".join(option[0] for option in found)
    if len(found) < 2 or letters != "ABCDEFGHIJ"[: len(letters)]:
        return ()
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
    holds, the only one that holds its words, or the one that shares most words (at least half, by F1); None where that
    is not certain.

    A letter counts where it stands alone or before the option's text ("B", "(b)", "B. liver", "The answer is B").
    """
    words = [strict_words(option) for option in options]
    said = strict_words(text)
    if said and words.count(said) == 1:
        return words.index(said)
    match = _LETTER.fullmatch(text.strip())
    # "A mass" begins with an article, not with the letter of an option.
    if match is not None and "ABCDEFGHIJ".index(match[1].upper()) < len(options):
        index, rest = "ABCDEFGHIJ".index(match[1].upper()), strict_words(match[2] or "")
        if not rest or rest == words[index]:
            return index
    held = [index for index, option in enumerate(words) if option and contains(said, option)]
    # "right lung" holds "lung": the longer one was meant.
    held = [
        index for index in held if not any(other != index and contains(words[other], words[index]) for other in held)
    ]
    # "MRI" names "Magnetic resonance imaging (MRI)" where no other option holds it.
    naming = [index for index, option in enumerate(words) if said and contains(option, said)]
    for found in (held, naming):
        if len(found) == 1:
            return found[0]
    shares = [_overlap(said, option) for option in words]
    best = max(shares, default=0.0)
    if held or best < _LEAST_OVERLAP or shares.count(best) > 1:
        return None
    return shares.index(best)


def contains(words: Sequence[str], part: Sequence[str]) -> bool:
    """Whether ``part`` stands in ``words`` as neighbours in this order."""
    return any(tuple(words[start : start + len(part)]) == tuple(part) for start in range(len(words) - len(part) + 1))


def _overlap(first: Sequence[str], second: Sequence[str]) -> float:
    shared = sum((Counter(first) & Counter(second)).values())
    return 2 * shared / (len(first) + len(second)) if shared else 0.0
