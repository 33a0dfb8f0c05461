"""How answers are made comparable: the research code's normalisation, and one without its faults.

Published scores differ by points with the normalisation alone, so each number in a report names the one it was made
with.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER_WORDS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS)}
_ARTICLES = {"a", "an", "the"}
# The contractions of VQA's evaluation (Antol et al., "VQA: Visual Question Answering", ICCV 2015), in full; the key of
# each is the word with one of its apostrophes left out.
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
he'd've he's how'd how'll how's isn't it'd it'd've it'll let's ma'am mightn't mightn't've might've mustn't
must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've she's should've shouldn't shouldn't've
somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've
something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't
we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll
who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've
you'll you're you've
"""

_DENIALS = frozenset(
    {"not", "without", "cannot", "can't", "no", "isn't", "wasn't", "aren't", "doesn't", "don't", "never", "neither"}
)

_HYPHENS = re.compile(r"[‐-―−]")
_APOSTROPHES = re.compile(r"[‘’ʼ`]")
_UNIT = re.compile(r"(?<=\d)(?=(?:mm|cm|ml|mg|hu|kg)\b)")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_SPEAKER = re.compile(r"\A\W*assistant\s*(?::|\n)\s*", re.IGNORECASE)
_WORD = re.compile(r"\d+(?:\.\d+)?(?:\s*%)?|[^\W_]+(?:'[^\W_]+)*")


def _contraction_keys() -> dict[str, str]:
    keys = {}
    for word in _CONTRACTIONS.split():
        for place, letter in enumerate(word):
            if letter == "'":
                keys[word[:place] + word[place + 1 :]] = word
    return keys


_CONTRACTED = _contraction_keys()


def normalise_reference(text: str) -> str:
    """A text as the research code of A3Tune normalises it, its faults included, for parity alone.

    In this order: each mark of ``; / [ ] " { } ( ) = + \\ _ - > < @ ` , ? !`` is deleted where it touches a space
    anywhere in the text or a number holds a comma, and becomes a space otherwise; up to 32 periods that stand before
    no digit are deleted; words are split, lower-cased, number words become digits ("none" becomes 0), articles go;
    contractions regain their apostrophe; commas that are left go.
    """
    comma = _COMMA_IN_NUMBER.search(text) is not None
    out = text
    for mark in _MARKS:
        delete = comma or f"{mark} " in text or f" {mark}" in text
        out = out.replace(mark, "" if delete else " ")
    out = _PERIOD.sub("", out, count=_MOST_PERIODS)
    words = [_NUMBER_WORDS.get(word, word) for word in out.lower().split()]
    words = [_CONTRACTED.get(word, word) for word in words if word not in _ARTICLES]
    return " ".join(words).replace(",", "")


def strict_words(text: str) -> tuple[str, ...]:
    """The words of a text in the strict normalisation.

    "1,000" and "1000", "T1-weighted" and "t1 weighted", "two" and "2", "1.5cm" and "1.5 cm" become the same; "1.5"
    stays one number, "none" stays a word, and no letter is lost at a mark. "Assistant:" before them is left out.
    """
    text = unicodedata.normalize("NFKC", without_speaker(text)).casefold()
    text = _APOSTROPHES.sub("'", _HYPHENS.sub("-", text))
    text = _UNIT.sub(" ", _THOUSANDS.sub("", text))
    numbers = {word: str(number) for number, word in enumerate(_NUMBERS)}
    words = (numbers.get(word, word) for word in _WORD.findall(text))
    return tuple(word.replace(" ", "") for word in words if word not in _ARTICLES)


def without_speaker(text: str) -> str:
    """A text without the name of who speaks before it, which some templates leave there ("###Assistant: yes")."""
    return _SPEAKER.sub("", text, count=1)


def normalise_strict(text: str) -> str:
    """`strict_words` with spaces between them."""
    return " ".join(strict_words(text))


def denials_in(words: Iterable[str]) -> frozenset[str]:
    """The words that deny what follows them."""
    return _DENIALS.intersection(words)


def contains(words: Sequence[str], part: Sequence[str]) -> bool:
    """Whether ``part`` stands in ``words`` as neighbours in this order."""
    return next(_places(words, part), None) is not None


def affirms(words: Sequence[str], part: Sequence[str]) -> bool:
    """Whether ``part`` stands in ``words`` so at least once with no word that denies it among the two before; words of
    ``part`` itself deny nothing."""
    own = denials_in(part)
    return any(not denials_in(words[max(0, start - 2) : start]) - own for start in _places(words, part))


def _places(words: Sequence[str], part: Sequence[str]) -> Iterator[int]:
    starts = range(len(words) - len(part) + 1)
    return (start for start in starts if tuple(words[start : start + len(part)]) == tuple(part))
