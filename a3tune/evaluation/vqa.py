"""How right one answer is, in two modes: as the research code of A3Tune counts, and without its faults.

Each function looks at one question. "reference" exists to compare with published numbers: it credits "normal" for "no"
and repeated words for recall. "strict" does not.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from a3tune.evaluation.multiple_choice import chosen_option, reference_option_hit
from a3tune.evaluation.text_normalisation import (
    affirms,
    contains,
    denials_in,
    normalise_reference,
    strict_words,
    without_speaker,
)

Mode = Literal["reference", "strict"]
MODES: tuple[Mode, ...] = ("strict", "reference")
"""How answers are made comparable; `a3tune.evaluation.report.NORMALISATIONS` has it in words."""

OPEN_METRICS = ("recall", "precision", "f1", "exact_match", "bleu", "bleu_1", "bleu_2", "bleu_3")

_PLAIN, _SIDE = {"no", "nope"}, {"side", "sided"}
_YES, _NO = {"yes", "yeah", "yep", "true", "correct"}, {"no", "nope", "false", "incorrect"}
_PRESENT, _ABSENT = {"present", "positive"}, {"absent", "negative"}
_COPULAS = {
    "is", "are", "was", "were", "be", "been", "appears", "appear", "seems", "seem", "remains", "remain",
    "it's", "that's",
}  # fmt: skip
# Where these stand, a finding is not said to be there or not.
_OPEN = {
    "if", "whether", "or", "may", "might", "could", "can", "can't", "cannot", "unclear", "uncertain", "unknown",
    "unlikely", "nothing",
}  # fmt: skip
_BY_ITSELF = re.compile(r"\W*\w+(\W*$|\s*[.,;:!]|\s+(for|in|on|at|within)\b)")
_PAIRS = (
    ("left", "right"), ("benign", "malignant"), ("normal", "abnormal"), ("present", "absent"), ("positive", "negative"),
)  # fmt: skip
_OPPOSITE = {word: other for pair in _PAIRS for word, other in (pair, pair[::-1])}
_ORDERS = {"bleu": (0.25,) * 4, "bleu_1": (1.0,), "bleu_2": (0.0, 1.0), "bleu_3": (0.0, 0.0, 1.0)}


def score_closed(
    mode: Mode, answer: str, prediction: str, options: Sequence[str] = (), question: str = ""
) -> dict[str, float]:
    """Whether a closed question is answered right.

    Args:
        mode: how.
        answer, prediction: as they stand.
        options: those among which the answer was to be chosen; none for a question of yes and no.
        question: what was asked; see `polarity`.

    Returns:
        "accuracy", 0 or 1.
    """
    if mode == "reference":
        right = reference_option_hit(prediction, answer, options) if options else _reference_hit(answer, prediction)
    elif options:
        chosen = chosen_option(prediction, options)
        right = chosen is not None and chosen == chosen_option(answer, options)
    else:
        right = _strict_hit(answer, prediction, question)
    return {"accuracy": float(right)}


def score_open(mode: Mode, answer: str, prediction: str) -> dict[str, float]:
    """How much of an open question's answer is right: `OPEN_METRICS`, each 0 to 1.

    With c and g the counts of a word in prediction and answer: in "strict" precision, recall and F1 are over
    ``min(c, g)``; "exact_match" is equality of the normalised texts; BLEU is smoothed (Chen and Cherry 2014, method 1)
    and of no higher order than the shorter text has words. In "reference" a word that is shared counts as often as it
    is predicted, "exact_match" is the share of predicted words that the answer's distinct words make up, and BLEU is
    nltk's without smoothing, each order by itself.
    """
    if mode == "reference":
        return _reference_open(answer, prediction)
    said, wanted = strict_words(prediction), strict_words(answer)
    shared = sum((Counter(said) & Counter(wanted)).values())
    scores = _ratios(shared, len(said) - shared, len(wanted) - shared)
    scores["exact_match"] = float(bool(wanted) and said == wanted)
    most = min(len(said), len(wanted))
    orders = {"bleu": 4, "bleu_1": 1, "bleu_2": 2, "bleu_3": 3}
    for name, order in orders.items():
        weights = (1 / max(1, min(order, most)),) * max(1, min(order, most))
        smooth = SmoothingFunction().method1
        scores[name] = float(sentence_bleu([wanted], said, weights, smoothing_function=smooth)) if shared else 0.0
    return scores


def polarity(text: str, question: str = "") -> Literal["yes", "no"] | None:
    """Whether a text says yes or no: by its first word, unless the other one is offered beside it ("yes or no"), else
    by the only one of the two words in it; None where that is not certain.

    "normal", "nodule" and "know" hold no "no". A text without either word says yes where it calls what was asked after
    present or positive, and no where it calls it absent or negative ("Absent.", "A mass is not present", "negative for
    effusion"); the other way round where the question asks whether it is absent or negative.

    Args:
        text: an answer.
        question: what was asked.
    """
    text = without_speaker(text)
    words = strict_words(text.replace("/", " or "))  # "yes/no" offers both
    said = ["yes" if word in _YES else "no" if word in _NO else "" for word in words]
    for place, word in enumerate(words):
        if place and word not in _PLAIN and said[place] and denials_in(words[place - 1 : place]):
            said[place] = "no" if said[place] == "yes" else "unclear"  # "not true" says no, "not incorrect" neither
    kinds = {kind for kind in said if kind}
    if not kinds:
        return _presence(text, words, strict_words(question))
    if "unclear" in kinds:
        return None
    if said[0] and not (len(words) > 2 and words[1] in ("or", "and") and said[2] and said[2] != said[0]):
        return "yes" if said[0] == "yes" else "no"
    return None if len(kinds) > 1 else "yes" if kinds == {"yes"} else "no"


def _presence(text: str, words: Sequence[str], question: Sequence[str]) -> Literal["yes", "no"] | None:
    """What a text with these words says that calls something present or absent; None where it is not certain, or only
    names a kind ("gram positive cocci are seen", "the present image", "at present")."""
    asked = {there for kind, there in ((_PRESENT, True), (_ABSENT, False)) if kind.intersection(question)}
    if len(asked) > 1 or _OPEN.intersection(words):
        return None
    found = set()
    denials = len([word for word in words if denials_in((word,))])
    for place, word in enumerate(words):
        if word not in _PRESENT | _ABSENT:
            continue
        denied = bool(denials_in(words[max(0, place - 1) : place]))
        before = words[place - denied - 1] if place > denied else ""
        last = place + 1 == len(words) and before != "at"
        if denied or before in _COPULAS or last or (not place and _BY_ITSELF.match(text)):
            found.add((word in _PRESENT) != denied)
            denials -= denied
    if len(found) != 1 or denials:
        return None  # "cannot be said to be present" denies, but not that
    return "yes" if found.pop() is (asked != {False}) else "no"


def yes_or_no(answer: str) -> Literal["yes", "no"] | None:
    """What a data set's answer means where it is a plain yes or no ("Yes", "No.", "True", "False"); None for others."""
    words = strict_words(answer)
    return polarity(answer) if len(words) == 1 and words[0] in {"yes", "no", "true", "false"} else None


def _strict_hit(answer: str, prediction: str, question: str) -> bool:
    plain = yes_or_no(answer)
    if plain is not None:
        return polarity(prediction, question) == plain
    wanted, said = (
        tuple(word for word in strict_words(text.replace("/", " or ")) if word not in _SIDE)
        for text in (answer, prediction)
    )
    if not wanted or not said:
        return False
    # "left and right" says neither alone, "CT or MRI" chooses neither; "the right side, not the left" says right.
    others = {_OPPOSITE[word] for word in wanted if word in _OPPOSITE} - set(wanted)
    if any(affirms(said, (other,)) for other in others):
        return False
    if contains(said, ("or", *wanted)) or contains(said, (*wanted, "or")):
        return False
    return affirms(said, wanted)


def _reference_hit(answer: str, prediction: str) -> bool:
    said, wanted = (normalise_reference(text.lower()) for text in (prediction, answer))
    return ("yes" in said or "no" in said) and wanted in said


def _reference_open(answer: str, prediction: str) -> dict[str, float]:
    # The research code normalises once for the table and once more inside each metric.
    once = [normalise_reference(text.lower()) for text in (prediction, answer)]
    said, wanted = (Counter(normalise_reference(text).split()) for text in once)
    shared = sum(count for word, count in said.items() if word in wanted)
    wrong = sum(count for word, count in said.items() if word not in wanted)
    missed = sum(count for word, count in wanted.items() if word not in said)
    scores = _ratios(shared, wrong, missed)
    total = sum(said.values())
    scores["exact_match"] = len(said.keys() & wanted.keys()) / total if total else 0.0
    hypothesis, reference = once[0].split(), once[1].split()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nltk tells of each order without a match; that is what is reproduced here
        for name, weights in _ORDERS.items():
            scores[name] = float(sentence_bleu([reference], hypothesis, weights)) if hypothesis else 0.0
    return scores


def _ratios(shared: float, wrong: float, missed: float) -> dict[str, float]:
    if not shared:
        return {"recall": 0.0, "precision": 0.0, "f1": 0.0}
    precision, recall = shared / (shared + wrong), shared / (shared + missed)
    return {"recall": recall, "precision": precision, "f1": 2 * precision * recall / (precision + recall)}


def scores_of(
    answer_type: str, answer: str, prediction: str, options: Sequence[str], question: str = ""
) -> dict[str, dict[str, float]]:
    """Both modes' scores of one answer; and of the strict mode "verbatim": 1 where the answer is the data's letter by
    letter, as the validation of a tuning run counts."""
    scores: dict[str, dict[str, float]] = {
        mode: score_closed(mode, answer, prediction, options, question)
        if answer_type == "closed"
        else score_open(mode, answer, prediction)
        for mode in MODES
    }
    scores["strict"]["verbatim"] = float(prediction.strip() == answer.strip())
    return scores
