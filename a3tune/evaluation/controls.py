"""What a model is shown in a control: nothing, a grey picture, or the image of somebody else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from a3tune.evaluation.questions import EvaluationQuestion
from a3tune.types import MedicalImage

GREY = 127


def blank_image(image: MedicalImage) -> MedicalImage:
    """A picture of the same size in one grey."""
    return MedicalImage(np.full_like(image.pixels, GREY))


def other_images(questions: Sequence[EvaluationQuestion], seed: int = 0) -> dict[str, EvaluationQuestion]:
    """image digest -> a question about another image, which is shown instead: one of the same organ and modality where
    the data names them and has another, drawn by a hash so that it is the same on every machine.

    Images that are alone in the data have no entry.
    """
    first: dict[str, EvaluationQuestion] = {}
    for question in questions:
        first.setdefault(question.image_digest, question)
    kinds: dict[tuple[str, str, int], list[str]] = {}
    for digest, question in first.items():
        kinds.setdefault(_kind(question), []).append(digest)
    everybody = sorted(first, key=lambda digest: _order(digest, seed))
    found = {}
    for members in kinds.values():
        circle = sorted(members, key=lambda digest: _order(digest, seed)) if len(members) > 1 else everybody
        for digest in members:
            other = circle[(circle.index(digest) + 1) % len(circle)]
            if other != digest:
                found[digest] = first[other]
    return found


def _kind(question: EvaluationQuestion) -> tuple[str, str, int]:
    return question.item.organ.casefold(), question.item.modality.casefold(), len(question.item.images)


def _order(digest: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{digest}".encode()).digest()
