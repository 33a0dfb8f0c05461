"""How well the demo model answers about phantoms it never saw, and how much of its attention is where it belongs."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from a3tune.demo.training import packed_logits, patch_features
from a3tune.demo.training_data import IGNORED, PhantomSample, QuestionPacker, pixel_batch
from a3tune.inspection.inspect import inspect_image
from a3tune.models.model import VisionLanguageModel
from a3tune.phantom.questions import ask
from a3tune.phantom.scene import make_phantom
from a3tune.phantom.structures import PhantomStyle


@dataclass(frozen=True)
class Score:
    """Share of questions answered with exactly the expected words, and how many questions there were."""

    accuracy: float
    questions: int


@torch.no_grad()
def answer_accuracy(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, samples: Sequence[PhantomSample], batch: int = 16
) -> dict[str, Score]:
    """Exact-match accuracy over every question of every sample, by answer type and by topic.

    An answer counts when each of its tokens and the end token is the model's first choice after the ones before:
    that is the case exactly when greedy decoding writes this answer and stops.

    Returns:
        "closed", "open" and one entry for each topic.
    """
    packer = QuestionPacker(processor)
    hits: dict[str, list[bool]] = defaultdict(list)
    for start in range(0, len(samples), batch):
        chosen = samples[start : start + batch]
        packed = packer.pack(chosen)
        logits = packed_logits(model, packed, patch_features(model, pixel_batch(chosen)))
        right = (logits.argmax(dim=-1) == packed.labels) | (packed.labels == IGNORED)
        for row in range(len(chosen)):
            for exchange, (first, last) in zip(packed.exchanges[row], packed.spans[row], strict=True):
                hit = bool(right[row, first:last].all())
                for name in {exchange.answer_type, exchange.topic}:
                    hits[name].append(hit)
    return {name: Score(float(np.mean(values)), len(values)) for name, values in sorted(hits.items())}


@dataclass(frozen=True)
class Alignment:
    """Where the critical heads look while the answer is written, over questions about something visible.

    ``mass`` is the mean share of their attention inside the structure asked about, ``relative`` how many times what
    a uniform map would have there (geometric mean), ``pointing`` the share of maps whose peak lies in it.
    """

    mass: float
    relative: float
    pointing: float
    questions: int


def attention_alignment(
    model: VisionLanguageModel, seeds: Sequence[int], style: PhantomStyle = "standard"
) -> Alignment:
    """Ask one question about each phantom's visible structures and measure where the critical heads look.

    Args:
        model: the demo model.
        seeds: phantoms; one question with targets of each, drawn by its seed.
        style: of the phantoms.
    """
    numbers = []
    for seed in seeds:
        phantom = make_phantom(seed, style=style)
        visible = [item for item in ask(phantom) if item.targets]
        if not visible:
            continue
        item = random.Random(seed).choice(visible)
        inspection = inspect_image(model, phantom.image, item.question, target=phantom.mask_of(item.targets))
        metrics = inspection.views[0].metrics
        numbers.append((metrics["attention_mass"], metrics["relative_mass"], metrics["pointing_game"]))
    mass, relative, pointing = np.array(numbers).T
    return Alignment(
        float(mass.mean()), float(np.exp(np.log(relative + 1e-6).mean())), float(pointing.mean()), len(numbers)
    )
