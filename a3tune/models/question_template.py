"""Which token ids stand around a question in a model's chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jinja2 import TemplateError

from a3tune.errors import ModelError
from a3tune.models import token_roles as roles
from a3tune.models.encoded_prompt import EncodedPrompt
from a3tune.models.prompt import PromptEncoder
from a3tune.types import MedicalImage

# Beginnings and ends of different kinds, with which a template's own letters may melt into one token.
_QUESTIONS = (
    "Is the heart enlarged?",
    "zqxjkv zqxjkv",
    "(A) left, or (B) right",
    "1 of 9",
    "Describe the image.",
    "what does \"CT\" mean:",
    "X",
    "Où est l'opacité ?",
)  # fmt: skip
_ANSWERS = ("Yes", "no", "(A)", "1.", "zqxjkv")

Ids = tuple[int, ...]


@dataclass(frozen=True)
class QuestionTemplate:
    """The token ids around a question, several runs where the template's letters can be cut in several ways.

    Attributes:
        before: what may stand right before a question: the last image token and what follows it, or what opens a
            turn without an image.
        after: what may stand right after it, the same whether an answer follows or not.
        examples: prompts, with and without answers, whose questions these ids were taken from.
    """

    before: tuple[Ids, ...]
    after: tuple[Ids, ...]
    examples: tuple[EncodedPrompt, ...]


def question_template(encoder: PromptEncoder, image_token: int) -> QuestionTemplate | None:
    """The ids around a question as the encoder's processor writes it; None when some stand nowhere for certain."""
    image = MedicalImage(np.full((64, 64, 3), 96, dtype=np.uint8))
    before: set[Ids] = set()
    after: set[Ids] = set()
    examples = []
    for index, question in enumerate(_QUESTIONS):
        prompt = encoder.encode([image], question)
        first, last = prompt.question[0], prompt.question[-1]
        images = [place for place in range(first) if prompt.ids[place] == image_token]
        start = _turn_start(encoder, question)
        before.add(prompt.ids[images[-1] : first] if images else start)
        if start:
            before.add(start)
        after.add(_stable(prompt.ids[last + 1 :], _around(encoder, question, 1), image_token))
        examples += [prompt, encoder.append(prompt, _ANSWERS[index % len(_ANSWERS)], close=True)]
    if not all(before) or not all(after):
        return None
    return QuestionTemplate(tuple(sorted(before)), tuple(sorted(after)), tuple(examples))


def _turn_start(encoder: PromptEncoder, question: str) -> Ids:
    """What a first turn without an image and a second turn both open with; () when the template has no such turn."""
    try:
        first = encoder.render(0, question)
        second = encoder.render(0, _QUESTIONS[1], _ANSWERS[0], question)
        heads = [_split(encoder, text, question)[0] for text in (first, second)]
    except (TemplateError, ModelError):
        return ()
    shared = 0
    while shared < min(map(len, heads)) and heads[0][-1 - shared] == heads[1][-1 - shared]:
        shared += 1
    return heads[0][len(heads[0]) - shared :]


def _around(encoder: PromptEncoder, question: str, images: int) -> list[Ids]:
    """What stands after a question when the whole conversation is one text: alone, and before several answers."""
    texts = [encoder.render(images, question), *(encoder.render(images, question, answer) for answer in _ANSWERS)]
    try:
        return [_split(encoder, text, question)[1] for text in texts]
    except ModelError:
        return []


def _stable(tail: Ids, rendered: Sequence[Ids], image_token: int) -> Ids:
    """The beginning of ``tail`` that no answer changes, up to the first image token."""
    # A processor that puts tokens of its own around the text is not to be read from its tokenizer.
    tails = [tail, *rendered] if rendered and rendered[0] == tail else [tail]
    shared = 0
    while shared < min(map(len, tails)) and len({other[shared] for other in tails}) == 1:
        shared += 1
        if tail[shared - 1] == image_token:
            break
    return tail[:shared]


def _split(encoder: PromptEncoder, text: str, question: str) -> tuple[Ids, Ids]:
    """The token ids before and after the last place of a question in a rendered conversation."""
    prefix, _, suffix = text.rpartition(question)
    special = encoder.adds_special_tokens(text)

    def tokenize(other: str) -> list[int]:
        return encoder.tokenizer(other, add_special_tokens=special, truncation=False)["input_ids"]

    ids = tokenize(text)
    positions = roles.question_positions(ids, prefix, question, suffix, encoder.tokenizer, special, tokenize)
    return tuple(ids[: positions[0]]), tuple(ids[positions[-1] + 1 :])
