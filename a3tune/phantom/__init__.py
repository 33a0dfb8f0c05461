"""Synthetic radiology images whose every structure is known exactly, and questions about them."""

from a3tune.phantom.questions import PhantomQuestion, ask, example_questions
from a3tune.phantom.scene import make_phantom
from a3tune.phantom.structures import (
    HELD_OUT_SEEDS,
    KINDS,
    MODALITIES,
    STYLES,
    TRAINING_SEEDS,
    VALIDATION_SEEDS,
    Phantom,
    PhantomKind,
    PhantomStyle,
    Structure,
)

__all__ = [
    "HELD_OUT_SEEDS",
    "KINDS",
    "MODALITIES",
    "STYLES",
    "TRAINING_SEEDS",
    "VALIDATION_SEEDS",
    "Phantom",
    "PhantomKind",
    "PhantomQuestion",
    "PhantomStyle",
    "Structure",
    "ask",
    "example_questions",
    "make_phantom",
]
