"""Trains the demo bundle from a fixed seed: ``python -m a3tune demo build``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_model as load_model_weights
from safetensors.torch import save_model as save_model_weights
from transformers import LlavaForConditionalGeneration

from a3tune.bundle import DEMO_FOLDER
from a3tune.demo.evaluation import answer_accuracy, attention_alignment
from a3tune.demo.model import IMAGE, build_model, build_processor, build_tokenizer, save_parts
from a3tune.demo.model_card import write_model_card
from a3tune.demo.threads import one_thread
from a3tune.demo.training import cache_features, finish_language, train_language, train_vision
from a3tune.demo.training_data import QUESTION_TEMPLATE, basic_questions, make_samples
from a3tune.models.load import load_model
from a3tune.phantom.structures import HELD_OUT_SEEDS, STYLES, TRAINING_SEEDS
from a3tune.progress import Progress, no_progress
from a3tune.storage import place_folder, write_json


@dataclass(frozen=True)
class Recipe:
    """How much of everything: phantoms that the tower sees and that are asked about, steps of each stage, phantoms to
    measure on."""

    phantoms: int = 6000
    asked_about: int = 4000
    vision_steps: int = 1600
    language_steps: int = 2000
    last_phantoms: int = 1500
    last_steps: int = 300
    measured: int = 200
    aligned: int = 100


QUICK = Recipe(
    phantoms=64,
    asked_about=48,
    vision_steps=4,
    language_steps=4,
    last_phantoms=40,
    last_steps=2,
    measured=8,
    aligned=4,
)


class _Stages:
    """Turns the progress of one stage into progress of the whole, with the time left."""

    def __init__(self, on_progress: Progress) -> None:
        self._on_progress = on_progress
        self._began = time.perf_counter()
        self._bounds = (0.0, 0.0)

    def stage(self, start: float, stop: float) -> None:
        self._bounds = (start, stop)

    def __call__(self, what: str, share: float) -> None:
        start, stop = self._bounds
        done = start + (stop - start) * share
        left = (time.perf_counter() - self._began) * (1 - done) / max(done, 1e-3)
        self._on_progress(f"{what}; about {left / 60:.0f} min left", done)


def build_bundle(
    out: Path | None = None, *, seed: int = 0, quick: bool = False, on_progress: Progress = no_progress
) -> str:
    """Train, measure and save the demo model; returns a summary in words.

    A model that is already in ``out`` stays as it is until the new one is complete.

    Args:
        out: folder of the bundle; the project's own when None. The model goes to ``out``/model.
        seed: of phantoms' order, weights and batches.
        quick: a few steps only.
        on_progress: called with what is being done and the share done.
    """
    with one_thread():
        return _build(out or DEMO_FOLDER, seed, QUICK if quick else Recipe(), _Stages(on_progress))


def _build(out: Path, seed: int, recipe: Recipe, stages: _Stages) -> str:
    began, computing = time.perf_counter(), time.process_time()
    torch.manual_seed(seed)

    stages.stage(0.0, 0.08)
    first = TRAINING_SEEDS[seed * recipe.phantoms]
    samples = make_samples(range(first, first + recipe.phantoms), on_progress=stages)
    # Both cases, so that a question typed in a hurry has not twice the tokens of a tidy one.
    texts = [text for sample in samples for item in sample.exchanges for text in _spellings(item.question, item.answer)]
    processor = build_processor(build_tokenizer(texts))
    model = build_model(processor.tokenizer)
    stages.stage(0.08, 0.5)
    with _kept_stage(out / f".vision-{seed}-{recipe.phantoms}-{recipe.vision_steps}.safetensors", model) as missing:
        if missing:
            train_vision(model, processor, samples, steps=recipe.vision_steps, seed=seed, on_progress=stages)
    asked = [basic_questions(sample) for sample in samples[: recipe.asked_about]]
    features = cache_features(model, asked)
    stages.stage(0.5, 0.88)
    train_language(model, processor, asked, features, steps=recipe.language_steps, seed=seed, on_progress=stages)
    # As a bundle stores them: the last stretch then goes on from a bundle as it does from here.
    model.half().float()
    last = recipe.last_phantoms
    sentences = [item.answer for sample in samples[:last] for item in sample.exchanges if item.topic == "report"]
    stages.stage(0.88, 0.96)
    finish_language(
        model, processor, asked[:last], features[:last], sentences, steps=recipe.last_steps, seed=seed,
        on_progress=stages,
    )  # fmt: skip
    model.eval()
    trained_seconds = time.perf_counter() - began
    # Other work on the machine lengthens the first and hardly the second.
    minutes = {"training_minutes": trained_seconds / 60, "processor_minutes": (time.process_time() - computing) / 60}

    stages.stage(0.96, 1.0)
    stages("measuring on held-out phantoms", 0.0)
    figures: dict[str, Any] = {
        "seed": seed,
        "recipe": asdict(recipe),
        **{name: round(value, 1) for name, value in minutes.items()},
    }
    for style in STYLES:
        held_out = make_samples(HELD_OUT_SEEDS[: recipe.measured], style=style)
        figures[style] = {name: asdict(score) for name, score in answer_accuracy(model, processor, held_out).items()}
    out.mkdir(parents=True, exist_ok=True)
    # On the same disk, so that putting the new model in its place is one step.
    with TemporaryDirectory(dir=out) as work:
        folder = Path(work) / "model"
        save_parts(model, processor, folder)
        figures["alignment"] = asdict(attention_alignment(load_model(folder), HELD_OUT_SEEDS[: recipe.aligned]))
        write_json(folder / "figures.json", figures)
        write_model_card(folder, figures, model)
        place_folder(folder, out / "model")
    for kept in out.glob(".vision-*"):
        kept.unlink()
    stages("done", 1.0)
    closed, opened = figures["standard"]["closed"], figures["standard"]["open"]
    return (
        f"{out / 'model'}: {closed['accuracy']:.1%} of {closed['questions']} closed and {opened['accuracy']:.1%} of "
        f"{opened['questions']} open questions right on {recipe.measured} held-out phantoms; "
        f"{figures['alignment']['mass']:.1%} of the critical heads' attention inside the structure asked about; "
        f"trained in {trained_seconds / 60:.1f} min."
    )


@contextmanager
def _kept_stage(path: Path, model: LlavaForConditionalGeneration) -> Iterator[bool]:
    """Keep the weights that a stage ends with, so that a build which was cut off later goes on from there.

    Yields:
        Whether the stage has to be run; if not, ``model`` holds its outcome.
    """
    if path.is_file():
        load_model_weights(model, path)
        yield False
        return
    yield True
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    save_model_weights(model, str(unfinished))
    unfinished.rename(path)


def _spellings(question: str, answer: str) -> tuple[str, str]:
    text = f"{QUESTION_TEMPLATE.format(image=IMAGE, question=question)} {answer}".replace(IMAGE, "")
    return text, text.lower()
