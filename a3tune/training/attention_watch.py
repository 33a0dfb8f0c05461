"""A few held-out questions that a run looks at again and again: how their attention moves from step to step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from a3tune.attention.metrics import attention_mass
from a3tune.encoding import base64_halves
from a3tune.models.model import VisionLanguageModel
from a3tune.training.collate import Collator, Question, Questions
from a3tune.training.question_picture import question_picture
from a3tune.training.trainer import AlignmentTrainer
from a3tune.training.validation import answer_map

WATCH_NAME = "watch"
"""Folder of the run folder with a small picture of each watched image."""

WATCHED = 3
SNAPSHOTS = 24
"""How often, at most, a run looks at them after its start."""

_SIDE = 320


class AttentionWatch(TrainerCallback):
    """Writes an "attention" event before the first step, every few steps and after the last one.

    A "watched" event says first what is watched: question, answer, the image's size and tiles, and the target. Maps
    are base64 of little-endian float16 [patches]: the mean attention of the critical heads while the answer is
    written, over its sum. Nothing random is drawn, so a run ends at the same weights with and without.

    Args:
        model: the model, for the places of the patches.
        trainer: the trainer, which says how heads are chosen and where events go.
        questions: what to choose from: the validation questions, or where there are none the training questions.
    """

    def __init__(self, model: VisionLanguageModel, trainer: AlignmentTrainer, questions: Questions) -> None:
        self._model, self._trainer, self._run = model, trainer, trainer.run
        self._main = trainer.is_world_process_zero()
        self._collate = Collator(questions.encoder)
        self._watched = [questions[index] for index in choose_watched(questions)]
        self._every = max(1, -(-trainer.args.max_steps // SNAPSHOTS))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self._watched:
            return
        if self._main:
            self._run.event_log.add("watched", step=0, questions=self._describe())
        if state.global_step == 0:
            self._take_snapshot(kwargs["model"], 0)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        step = state.global_step
        if self._watched and (step % self._every == 0 or step == state.max_steps):
            self._take_snapshot(kwargs["model"], step)

    def _take_snapshot(self, model: nn.Module, step: int) -> None:
        trainer, training = self._trainer, model.training
        model.eval()
        maps, mass, right = [], [], []
        for number, question in enumerate(self._watched):
            trainer.tell_work("Looking at the watched questions", number, len(self._watched))
            weights, exactly = answer_map(
                model,
                question,
                collate=self._collate,
                to_device=trainer.to_device,
                extra=trainer.adapter_inputs,
                keeps=trainer.keeps_logits,
            )
            if weights is None:
                # The trainer ends such a run when it logs the step, and gives the loss as the reason.
                model.train(training)
                return
            maps.append(base64_halves(weights / max(weights.sum(), 1e-12)))
            known = bool(question.target.any())
            mass.append(round(float(attention_mass(weights, question.coverage)), 5) if known else None)
            right.append(exactly)
        model.train(training)
        if self._main:
            self._run.event_log.add("attention", step=step, maps=maps, mass=mass, right=right)

    def _describe(self) -> list[dict[str, Any]]:
        folder = self._run.path / WATCH_NAME
        folder.mkdir(exist_ok=True)
        return [self._facts(folder, number, question) for number, question in enumerate(self._watched)]

    def _facts(self, folder: Path, number: int, question: Question) -> dict[str, Any]:
        image, grid = question_picture(self._model, question)
        picture = Image.fromarray(image.pixels)
        picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        name = f"{number}.png"
        picture.save(folder / name, "PNG")
        target = question.coverage if question.target.any() else None
        return {
            "question": question.item.question,
            "answer": question.item.answer,
            "split": question.item.split,
            "picture": f"{WATCH_NAME}/{name}",
            "width": image.width,
            "height": image.height,
            "tiles": grid.tiles_record(),
            "target": None if target is None else base64_halves(target),
        }


def choose_watched(questions: Questions, count: int = WATCHED) -> list[int]:
    """Which questions to watch: of different images, those with a target first, spread over the whole list."""
    order = sorted(range(len(questions)), key=lambda index: not questions.targets.masks(index).any())
    first: dict[tuple[Path, ...], int] = {}
    for index in order:
        first.setdefault(questions.items[index].images, index)
    known = [index for index in first.values() if questions.targets.masks(index).any()]
    chosen = known or list(first.values())
    return [chosen[place * len(chosen) // count] for place in range(count)] if len(chosen) > count else chosen
