"""Answers and attention over many questions whose place in the image is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.attention.answer import answer_attention, measure_answer
from a3tune.attention.capture import prepare_capture
from a3tune.errors import Cancelled, RequestError
from a3tune.evaluation.passes import first_column, read_batch
from a3tune.geometry.patch_grid import to_patches
from a3tune.lack_of_memory import in_halves, memory_for
from a3tune.memory_advice import TO_EVALUATE
from a3tune.models.encoded_prompt import EncodedPrompt
from a3tune.models.model import VisionLanguageModel
from a3tune.prefixes.batch import PrefixReader
from a3tune.progress import Progress, no_progress
from a3tune.types import MedicalImage

_IGNORED = -100


@dataclass(frozen=True, eq=False)
class KnownQuestion:
    """A question with its right answer and, where it is about something visible, the place.

    Attributes:
        image: the image.
        question, answer: the words.
        answer_type: "closed" or "open".
        target: bool [height, width], source pixels: what is asked about; None when nothing in the image is.
    """

    image: MedicalImage
    question: str
    answer: str
    answer_type: str
    target: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class PreparedQuestion:
    """A known question as one model sees it.

    Attributes:
        prompt: the dialogue, the right answer closed by the model's end token.
        coverage: float [patches], 0 to 1: how much of each patch the target covers; None without a target.
        answer_type: "closed" or "open".
    """

    prompt: EncodedPrompt
    coverage: np.ndarray | None
    answer_type: str


@dataclass(frozen=True)
class Reading:
    """What a model did with one question.

    Attributes:
        right: whether greedy decoding writes exactly the right answer.
        answer_type: "closed" or "open".
        mass, relative, pointing: attention mass, relative mass and pointing game (see `a3tune.attention.metrics`) of
            the critical heads' mean map while the answer is written; NaN without a target.
        image_share: share of the critical heads' attention that goes to the image at all.
        touched: the attention mass when every patch that the target touches counts whole; NaN without a target. A map
            cannot be finer than its patches: of a structure smaller than a patch, ``mass`` counts most as outside.
    """

    right: bool
    answer_type: str
    mass: float
    relative: float
    pointing: float
    image_share: float
    touched: float


@memory_for("the questions", TO_EVALUATE)
def prepare_questions(model: VisionLanguageModel, questions: Sequence[KnownQuestion]) -> list[PreparedQuestion]:
    """Encode questions once, for any number of adapters.

    Neighbouring questions about one image share its pixels in memory.

    Raises:
        RequestError: a question and its answer do not fit the model's context, or a target has another size than its
            image.
    """
    prepared: list[PreparedQuestion] = []
    before: EncodedPrompt | None = None
    for item in questions:
        prompt = model.encode(item.image, item.question, item.answer, close=True)
        if before is not None:
            for name, tensor in prompt.inputs.items():
                kept = before.inputs.get(name)
                if kept is not None and kept.shape == tensor.shape and torch.equal(kept, tensor):
                    prompt.inputs[name] = kept
        before = prompt
        coverage = None
        if item.target is not None and item.target.any():
            if item.target.shape != (item.image.height, item.image.width):
                raise RequestError(
                    expected=f"a target of the image's size, {item.image.width} x {item.image.height} pixels",
                    got=f"It is {item.target.shape[::-1]}",
                    remedy="Draw the target on the source image",
                )
            grid = model.patch_grid(item.image.height, item.image.width, len(prompt.images[0]))
            coverage = to_patches(item.target, grid)
        prepared.append(PreparedQuestion(prompt, coverage, item.answer_type))
    return prepared


@torch.no_grad()
def read_questions(
    model: VisionLanguageModel,
    questions: Sequence[PreparedQuestion],
    *,
    adapter_set: AdapterSet | None = None,
    adapter: str = BASE,
    critical_count: int | None = None,
    batch_size: int = 16,
    on_progress: Progress = no_progress,
    should_stop: Callable[[], bool] | None = None,
    reader: PrefixReader | None = None,
) -> list[Reading]:
    """Answer questions and see where the critical heads look meanwhile.

    The right answer is read after the question, and counts as given when each of its tokens and the end token is the
    model's first choice after the ones before: just then greedy decoding writes it. Where the model looks is read as
    `a3tune.attention.answer` says, as in an inspection.

    Args:
        model: the model; nothing of it is changed.
        questions: from `prepare_questions` with the same model.
        adapter_set, adapter: which adapter is at work.
        critical_count: K; None for the number of heads of one layer.
        batch_size: questions in one pass.
        on_progress: told how far it is.
        should_stop: asked between passes; True ends the work.
        reader: keeps what was read of the images for further calls; None keeps it for this one.

    Returns:
        One reading per question, in order.

    Raises:
        Cancelled: ``should_stop`` said so.
        AdapterError: the set does not hold the adapter.
    """
    prepare_capture(model.model)
    adapter_set = AdapterSet(model.model) if adapter_set is None else adapter_set
    reader = PrefixReader(model) if reader is None else reader
    # Questions of like length together leave little padding.
    order = sorted(range(len(questions)), key=lambda index: questions[index].prompt.length)
    readings: dict[int, Reading] = {}
    for start in range(0, len(order), batch_size):
        if should_stop is not None and should_stop():
            raise Cancelled
        on_progress("Asking", start / len(order))
        indices = order[start : start + batch_size]
        chosen = [questions[index] for index in indices]
        with memory_for("one question", TO_EVALUATE):
            found = in_halves(lambda some: _read(model, some, adapter_set, adapter, critical_count, reader), chosen)
        readings.update(zip(indices, found, strict=True))
    on_progress("Asking", 1.0)
    return [readings[index] for index in range(len(questions))]


def _read(
    model: VisionLanguageModel,
    questions: Sequence[PreparedQuestion],
    adapters: AdapterSet,
    adapter: str,
    count: int | None,
    reader: PrefixReader,
) -> list[Reading]:
    # The layers at work are shared by all threads, so nobody else may run the model until this is over.
    with model.lock, adapters.using(adapter):
        batch = reader.batch([item.prompt for item in questions], adapter, padding_side="right")
        first = first_column(batch)
        following = torch.nn.functional.pad(batch.labels[:, 1:], (0, 1), value=_IGNORED)[:, first:]
        places = (following != _IGNORED).any(dim=0).nonzero().squeeze(1)
        options = {"logits_to_keep": places} if model.keeps_logits else {}
        output, record = read_batch(model, batch, **options)
    logits, following = output.logits if model.keeps_logits else output.logits[:, places], following[:, places]
    right = ((logits.argmax(dim=-1) == following) | (following == _IGNORED)).all(dim=1).tolist()
    readings = []
    for b, item in enumerate(questions):
        writing = batch.writing[b][batch.rows[b]]
        found = answer_attention(record, b, writing, closed=item.prompt.closed, count=count)
        readings.append(_reading(right[b], item, measure_answer(found.weights, item.coverage)))
    return readings


def _reading(right: bool, item: PreparedQuestion, numbers: dict[str, float]) -> Reading:
    placed = ("attention_mass", "relative_mass", "pointing_game", "image_share", "touched_mass")
    return Reading(right, item.answer_type, *(numbers.get(name, math.nan) for name in placed))
