"""The validation questions that the best step answers best and worst: its answers, and where it looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from a3tune.figures.overlay import outline, overlay
from a3tune.geometry.patch_grid import to_source
from a3tune.lack_of_memory import in_halves
from a3tune.models.model import VisionLanguageModel
from a3tune.storage import read_json_or_empty, write_json
from a3tune.training.collate import Collator, Questions, load_images
from a3tune.training.event_log import plain
from a3tune.training.question_picture import question_picture
from a3tune.training.trainer import AlignmentTrainer
from a3tune.training.validation import Tally, answer_map
from a3tune.types import MedicalImage, PatchGrid

EACH = 3
"""How many of the best, and of the worst, are kept."""
RECORD_NAME = "examples.json"
_SIDE = 320
_LONGEST = 64


class ValidationExamples:
    """Writes ``examples.json`` and small pictures into the run folder's ``examples``, and an "examples" event.

    They hold "step" and "questions", the best first; of each its "kind" ("best" or "worst"), "image" (the file's name),
    "question", the reference "answer", the "prediction" (greedy, cut after 64 tokens), whether it is "right",
    "probability" (of the reference answer's tokens, their geometric mean), and attention "mass" inside the target (None
    where none is known). The picture ``STEP-NUMBER.png`` has the map of the critical heads while the reference answer
    is written, as validation measures it, and the target's outline. Nothing random is drawn.

    Args:
        model: the model with its adapter.
        trainer: the trainer, which says where things go.
        questions: the validation questions.
    """

    def __init__(self, model: VisionLanguageModel, trainer: AlignmentTrainer, questions: Questions) -> None:
        self._model, self._trainer, self._questions = model, trainer, questions
        self._collate = Collator(questions.encoder)

    def write(self, tally: Tally) -> None:
        """Write those of the step that was just validated; on the main process alone.

        Args:
            tally: what the validation found.
        """
        trainer, model = self._trainer, self._model.model
        step, folder = trainer.state.global_step, trainer.run.examples
        folder.mkdir(exist_ok=True)
        training = model.training
        model.eval()
        chosen = best_and_worst(tally)
        # That each token is the first choice after the ones before says what greedy decoding writes.
        wrong = [index for _, index in chosen if not tally.table[index, 2]]
        trainer.tell_work("Looking at the best and worst answers", 0, len(chosen))
        written = dict(zip(wrong, in_halves(self._predictions, wrong) if wrong else [], strict=True))
        told = []
        for number, (kind, index) in enumerate(chosen):
            trainer.tell_work("Looking at the best and worst answers", number, len(chosen))
            facts = self._facts(tally, index, folder / f"{step}-{number}.png")
            told.append({"kind": kind, **facts, "prediction": written.get(index, facts["answer"])})
        model.train(training)
        before = read_json_or_empty(folder / RECORD_NAME).get("step")
        write_json(folder / RECORD_NAME, plain({"step": step, "questions": told}))
        trainer.run.event_log.add("examples", step=step, questions=told)
        # A run that is killed now goes back to the best step before this one.
        for path in folder.glob("*-*.png"):
            if path.name.partition("-")[0] not in (str(step), str(before)):
                path.unlink()

    def _facts(self, tally: Tally, index: int, path: Path) -> dict[str, Any]:
        trainer, question = self._trainer, self._questions[index]
        loss, tokens, right, mass, looked = tally.table[index].tolist()
        item = question.item
        image, grid = question_picture(self._model, question)
        weights, _ = answer_map(
            self._model.model,
            question,
            collate=self._collate,
            to_device=trainer.to_device,
            extra=trainer.adapter_inputs,
            keeps=trainer.keeps_logits,
        )
        picture_of(image, grid, weights, question.coverage if looked else None).save(path)
        return {
            "image": item.image_name,
            "question": item.question,
            "answer": item.answer,
            "right": bool(right),
            "probability": float(f"{np.exp(-loss / tokens):.4g}"),
            "mass": round(mass, 4) if looked else None,
        }

    def _predictions(self, indices: Sequence[int]) -> list[str]:
        prompts = []
        for item in (self._questions[index].item for index in indices):
            images = load_images(item, self._model.convention)
            prompts.append(self._model.encode(images, item.question, context=item.context))
        batch = self._model.collate(prompts, padding_side="left")
        masks = self._trainer.adapter_inputs({"question": batch.question, "columns": batch.columns})
        answers = self._model.generate_rows({**batch.inputs, **masks}, batch.length, max_new_tokens=_LONGEST)
        return [answer.text for answer in answers]


def best_and_worst(tally: Tally, each: int = EACH) -> list[tuple[str, int]]:
    """("best" or "worst", question), no question twice: right ones before wrong ones, and among each those to whose
    reference answer the model gives more, by the mean cross-entropy of its tokens."""
    loss, tokens, right = tally.table[:, :3].T
    asked = tokens.nonzero().squeeze(1).tolist()
    order = sorted(asked, key=lambda index: (-float(right[index]), float(loss[index] / tokens[index])))
    best = order[: min(each, -(-len(order) // 2))]
    worst = [index for index in order[-each:] if index not in best]
    return [*(("best", index) for index in best), *(("worst", index) for index in worst)]


def picture_of(
    image: MedicalImage, grid: PatchGrid, weights: np.ndarray | None, target: np.ndarray | None
) -> Image.Image:
    """A small picture with a map over it, and the border of the patches of which a third or more belongs to the target.

    Args:
        image: the image.
        grid: where the patches lie.
        weights: float [patches]; None draws no map.
        target: float [patches], 0 to 1; None draws no border.
    """
    small = Image.fromarray(image.pixels)
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    pixels = np.asarray(small)

    def shrunk(values: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.resize(values, small.size, interpolation=cv2.INTER_AREA))

    if weights is not None and weights.sum() > 0:
        # As multiples of what an even map would give.
        multiples = shrunk(to_source(weights * len(weights) / weights.sum(), grid))
        pixels = overlay(pixels, multiples, 0.85, "plasma", 0.0, max(float(multiples.max()), 1e-9), fade=True, dim=0.45)
    if target is not None:
        pixels = outline(pixels, [shrunk(to_source(target, grid, smooth=False)) > 1 / 3])
    return Image.fromarray(pixels)
