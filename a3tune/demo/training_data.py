"""Phantoms as training tensors: pixels, the share of each patch that every structure covers, packed questions."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from types import MappingProxyType

import cv2
import numpy as np
import torch
from transformers import LlavaProcessor

from a3tune.demo.model import END, GRID, IMAGE, build_image_processor
from a3tune.phantom.questions import (
    DEVICES,
    FINDINGS,
    ORGAN_FORMS,
    ORGANS,
    PRESENCE_FORMS,
    ask,
    with_article,
)
from a3tune.phantom.scene import make_phantom
from a3tune.phantom.structures import Phantom, PhantomStyle, Structure
from a3tune.progress import Progress, no_progress

IGNORED = -100
# What the base model is taught. Where, which side, how many and reports are left to tuning.
BASIC_TOPICS = ("presence", "organ", "modality")
NO_DRILL: Mapping[str, int] = MappingProxyType({})
QUESTION_TEMPLATE = "USER: {image}\n{question} ASSISTANT:"


@dataclass(frozen=True)
class Exchange:
    """One question with its answer; ``targets`` name the structures asked about."""

    question: str
    answer: str
    answer_type: str
    topic: str
    targets: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class PhantomSample:
    """One phantom, small enough to keep thousands.

    Attributes:
        seed: the phantom's seed.
        pixels: float16 [3, 128, 128], processor pixel frame, as the demo's image processor makes them.
        coverage: word -> float16 [16, 16], share of each patch that structures with this word cover.
        exchanges: its questions.
        drill: simple questions about everything, by group, for training alone.
    """

    seed: int
    pixels: np.ndarray
    coverage: dict[str, np.ndarray]
    exchanges: tuple[Exchange, ...]
    drill: dict[str, tuple[Exchange, ...]]


def words_of(structure: Structure) -> set[str]:
    """The words that say what a structure is and where: those that its patches are taught to carry."""
    text = f"{structure.finding or structure.name} {structure.location}"
    return {word for word in text.split() if not word.isdigit()} - {"side", "sides", "both"}


def drill_questions(phantom: Phantom) -> dict[str, tuple[Exchange, ...]]:
    """Presence questions about everything, for training alone.

    Whether a brain scan shows a liver is easy to tell; learning that first is the way to telling whether a lung
    shows a nodule. Each thing of every kind of phantom is asked about.

    Returns:
        "yes" and "no": the questions with that answer.
    """
    shown = {structure.finding or structure.name for structure in phantom.structures}
    generator = random.Random(phantom.seed)
    drill: dict[str, list[Exchange]] = {"yes": [], "no": []}
    for things, forms, article in (
        (ORGANS, ORGAN_FORMS, False),
        (FINDINGS, PRESENCE_FORMS, True),
        (DEVICES, PRESENCE_FORMS, True),
    ):
        for name in sorted({name for names in things.values() for name in names}):
            question = generator.choice(forms).format(thing=with_article(name) if article else name)
            answer = "yes" if name in shown else "no"
            drill[answer].append(Exchange(question, answer, "closed", "presence", ()))
    return {group: tuple(items) for group, items in drill.items()}


def basic_questions(sample: PhantomSample) -> PhantomSample:
    """The sample with those of its questions that the base model is taught: what is there, never where or how many."""
    exchanges = tuple(item for item in sample.exchanges if item.topic in BASIC_TOPICS)
    return replace(sample, exchanges=exchanges)


def square_patches(mask: np.ndarray) -> np.ndarray:
    """Share of each patch that ``mask`` covers under the demo processor (pad to square, resize).

    Args:
        mask: bool [height, width], source pixel frame.

    Returns:
        float32 [16, 16], patch frame.
    """
    return cv2.resize(pad_to_square(mask.astype(np.float32)), (GRID, GRID), interpolation=cv2.INTER_AREA)


def pad_to_square(image: np.ndarray) -> np.ndarray:
    """The image [height, width, ...] centred on a black square, as LLaVA's processor pads."""
    height, width = image.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, *image.shape[2:]), image.dtype)
    square[top : top + height, left : left + width] = image
    return square


def make_sample(seed: int, style: PhantomStyle = "standard") -> PhantomSample:
    """The phantom of ``seed`` as a sample."""
    phantom = make_phantom(seed, style=style)
    pixels = build_image_processor()(phantom.image.pixels.copy())["pixel_values"][0]
    coverage: dict[str, np.ndarray] = {}
    for structure in phantom.structures:
        patches = square_patches(structure.mask).astype(np.float16)
        for word in words_of(structure):
            coverage[word] = np.maximum(coverage[word], patches) if word in coverage else patches
    exchanges = tuple(
        Exchange(item.question, item.answer, item.answer_type, item.topic, item.targets) for item in ask(phantom)
    )
    return PhantomSample(seed, np.asarray(pixels, np.float16), coverage, exchanges, drill_questions(phantom))


def make_samples(
    seeds: Iterable[int],
    *,
    style: PhantomStyle = "standard",
    workers: int = 2,
    on_progress: Progress = no_progress,
) -> list[PhantomSample]:
    """Samples for ``seeds``, in their order, made by ``workers`` processes."""
    seeds = list(seeds)
    samples: list[PhantomSample] = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_use_one_thread) as pool:
        for sample in pool.map(partial(make_sample, style=style), seeds, chunksize=8):
            samples.append(sample)
            if len(samples) % 200 == 0:
                on_progress("drawing phantoms", len(samples) / len(seeds))
    return samples


def _use_one_thread() -> None:
    """Processes that each use every core mostly wait for one another."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def pixel_batch(samples: Sequence[PhantomSample]) -> torch.Tensor:
    """float32 [batch, 3, 128, 128]: the model's ``pixel_values``."""
    return torch.from_numpy(np.stack([sample.pixels for sample in samples])).float()


def coverage_batch(samples: Sequence[PhantomSample], words: Sequence[str]) -> torch.Tensor:
    """float32 [batch, 256, words]: share of each patch that structures with each word cover."""
    target = np.zeros((len(samples), GRID * GRID, len(words)), np.float32)
    index = {word: number for number, word in enumerate(words)}
    for row, sample in enumerate(samples):
        for word, patches in sample.coverage.items():
            target[row, :, index[word]] = patches.reshape(-1)
    return torch.from_numpy(target)


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """Several images, each followed by all its questions; no question sees another one's.

    Attributes:
        ids: int64 [batch, length].
        positions: int64 [batch, length]; every question starts where the image prefix ends.
        visible: bool [batch, 1, length, length]; which token may attend to which.
        asking: bool [batch, length]; the tokens of questions and answers.
        labels: int64 [batch, length]; the next token where it is part of an answer, else -100.
        weights: float32 [batch, length]; what each label counts, so that each answer counts 1 however long.
        exchanges: for each image, the questions in the order packed.
        spans: for each of them, where in the sequence it starts and stops.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    visible: torch.Tensor
    asking: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    exchanges: tuple[tuple[Exchange, ...], ...]
    spans: tuple[tuple[tuple[int, int], ...], ...]


class QuestionPacker:
    """Packs questions of a batch of samples behind their image, so that the image is read once for all.

    A sequence "prefix, question 1, question 2, ..." with a mask that keeps the questions apart and positions
    that restart after the prefix gives each question exactly the hidden states that it has on its own.
    """

    def __init__(
        self,
        processor: LlavaProcessor,
        *,
        seed: int = 0,
        per_image: int | None = None,
        vary: bool = False,
        early: float = 0.0,
        drilled: Mapping[str, int] = NO_DRILL,
    ) -> None:
        """Args:
        processor: the demo's processor.
        seed: of the draw of questions and of their variation.
        per_image: how many questions of each image are drawn; None for all of them, in order.
        vary: write some questions as a hurried person might.
        early: also ask each token of a question for the answer's first token, with this weight in all. The
            word that names a structure then learns in one step of attention what the answer needs.
        drilled: how many questions of each group of the drill come on top.
        """
        self._early, self._drilled = early, drilled
        self._vary = vary
        self._tokenizer = processor.tokenizer
        self._random = random.Random(seed)
        self._per_image = per_image
        self._prefix = self._ids(
            QUESTION_TEMPLATE.format(image=IMAGE * GRID * GRID, question="")[: -len(" ASSISTANT:")]
        )

    def _ids(self, text: str, *, special: bool = True) -> list[int]:
        return self._tokenizer(text, add_special_tokens=special)["input_ids"]

    def _varied(self, question: str) -> str:
        """The question as a hurried person might type it, now and then."""
        if self._vary and self._random.random() < 0.15:
            question = question.lower()
        if self._vary and self._random.random() < 0.1:
            question = question.rstrip("?.")
        return question

    def pack(self, samples: Sequence[PhantomSample]) -> PackedBatch:
        """The batch for ``samples``."""
        chosen = [self._drawn(sample.exchanges) + self._drill(sample.drill) for sample in samples]
        rows = [self._row(exchanges) for exchanges in chosen]
        length = max(len(ids) for ids, *_ in rows)
        ids = torch.full((len(rows), length), self._tokenizer.pad_token_id)
        labels = torch.full((len(rows), length), IGNORED)
        positions = torch.zeros((len(rows), length), dtype=torch.int64)
        segments = torch.full((len(rows), length), -1)
        weights = torch.zeros((len(rows), length))
        prefix = len(self._prefix)
        for row, (row_ids, row_labels, row_weights, spans) in enumerate(rows):
            ids[row, : len(row_ids)] = torch.tensor(row_ids)
            labels[row, : len(row_ids)] = torch.tensor(row_labels)
            positions[row, :prefix] = torch.arange(prefix)
            segments[row, :prefix] = 0
            for number, (start, stop) in enumerate(spans, start=1):
                segments[row, start:stop] = number
                positions[row, start:stop] = prefix + torch.arange(stop - start)
                weights[row, start:stop] = torch.tensor(row_weights[start:stop])
        same = segments[:, :, None] == segments[:, None, :]
        to_prefix = (segments == 0)[:, None, :]
        visible = torch.tril(torch.ones(length, length, dtype=torch.bool)) & (same | to_prefix)
        places = tuple(tuple(spans) for *_, spans in rows)
        return PackedBatch(ids, positions, visible[:, None], segments > 0, labels, weights, tuple(chosen), places)

    def _drawn(self, exchanges: tuple[Exchange, ...]) -> tuple[Exchange, ...]:
        if self._per_image is None:
            return exchanges
        return tuple(self._random.sample(exchanges, min(self._per_image, len(exchanges))))

    def _drill(self, drill: Mapping[str, Sequence[Exchange]]) -> tuple[Exchange, ...]:
        drawn: list[Exchange] = []
        for group, items in drill.items():
            drawn += self._random.sample(items, min(self._drilled.get(group, 0), len(items)))
        return tuple(drawn)

    def _row(self, exchanges: Sequence[Exchange]) -> tuple[list[int], list[int], list[float], list[tuple[int, int]]]:
        ids, spans = list(self._prefix), []
        labels, weights = [IGNORED] * len(ids), [0.0] * len(ids)
        for exchange in exchanges:
            question = self._ids(f"{self._varied(exchange.question)} ASSISTANT:", special=False)
            answer = self._ids(f" {exchange.answer}{END}", special=False)
            spans.append((len(ids), len(ids) + len(question) + len(answer)))
            ids += question + answer
            # Label i is the token after i: the last question token predicts the first answer token.
            before = len(question) - 1
            labels += [answer[0] if self._early else IGNORED] * before + answer + [IGNORED]
            weights += [self._early / before] * before + [1 / len(answer)] * len(answer) + [0.0]
        return ids, labels, weights, spans
