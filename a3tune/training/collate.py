"""From data items to batches: the order of the questions, their tokens, and the targets that belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from a3tune.data.dataset import TrainingItem
from a3tune.errors import DataError, ImageError
from a3tune.images import load_image
from a3tune.models.encoded_prompt import EncodedPrompt
from a3tune.models.prompt import PromptEncoder
from a3tune.recently_used import RecentlyUsed
from a3tune.training.attention_targets import PatchTargets
from a3tune.types import MedicalImage

_REMEMBERED_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class Question:
    """One item, ready for a batch.

    Attributes:
        item: the item.
        prompt: the whole dialogue, the answer closed by the model's end token.
        target: float32 [masks, patches], 0 to 1: where to look, image after image; no mask when nothing is known.
        known: whether the target is ground truth instead of a weak label.
    """

    item: TrainingItem
    prompt: EncodedPrompt
    target: torch.Tensor
    known: bool

    @property
    def coverage(self) -> np.ndarray:
        """float32 [patches], 0 to 1: how much of each patch any of the masks covers."""
        return self.target.amax(dim=0).numpy()


class Questions:
    """The questions of one split, encoded when they are asked for; recent ones are remembered.

    Args:
        items: the items.
        encoder: turns them into tokens; on the CPU, whatever device the model is on.
        targets: one target per item, in the same order.
    """

    def __init__(self, items: Sequence[TrainingItem], encoder: PromptEncoder, targets: PatchTargets) -> None:
        if len(items) != len(targets):
            raise ValueError(f"{len(items)} items need as many targets, not {len(targets)}")
        self.items, self.encoder, self.targets = tuple(items), encoder, targets
        self._recent: RecentlyUsed[EncodedPrompt] | None = None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Question:
        item = self.items[index]
        prompt = self._recent.get(index) if self._recent is not None else None
        if prompt is None:
            prompt = encode_item(item, self.encoder)
            if self._recent is None:
                size = sum(tensor.nbytes for tensor in prompt.inputs.values())
                self._recent = RecentlyUsed(max(1, _REMEMBERED_BYTES // max(size, 1)))
            self._recent.put(index, prompt)
        target = torch.from_numpy(self.targets.masks(index).astype(np.float32))
        patches = sum(map(len, prompt.images))
        if len(target) and target.shape[1] != patches:
            raise DataError(
                expected=f"the image that the targets were made for ({target.shape[1]} patches)",
                got=f"{item.image_name} now takes {patches} patches",
                remedy="Do not change the data while a run is going on; start a new run",
            )
        return Question(item, prompt, target, self.targets.known(index))


def encode_item(item: TrainingItem, encoder: PromptEncoder) -> EncodedPrompt:
    """The whole dialogue of an item, with the token that ends the answer.

    Raises:
        DataError: the image can no longer be read.
        RequestError: the dialogue is longer than the model takes.
    """
    images = load_images(item, encoder.convention)
    with encoder.lock:
        return encoder.append(encoder.encode_placed(images, item.question, item.context), item.answer, close=True)


def load_images(item: TrainingItem, convention: str | None = None) -> list[MedicalImage]:
    """All images of an item, in their order, as a model with a convention is given them.

    Raises:
        DataError: one can no longer be read.
    """
    images = []
    for path in item.images:
        try:
            images.append(load_image(path, convention=convention))
        except (ImageError, OSError) as error:
            raise DataError(
                expected="the images that were there when the data was checked",
                got=f"{path.name} ({item.place}) cannot be read: {error}",
                remedy="Check the data folder and start again",
            ) from error
    return images


class QuestionStream(Dataset):
    """Every question of a run in the order in which it is seen: one epoch after the other, each shuffled anew.

    The order is a function of the seed alone, so a run that goes on after a stop needs to know its step and nothing
    else. The last step of an epoch is filled up with the first questions of the next one.

    Args:
        questions: what there is to ask.
        steps: optimiser steps of the run.
        per_step: questions in one step, over all processes and accumulated batches.
        seed: of the order.
    """

    def __init__(self, questions: Questions, *, steps: int, per_step: int, seed: int) -> None:
        self.questions, self.steps, self.per_step, self.seed = questions, steps, per_step, seed
        self._order = lru_cache(maxsize=2)(self._shuffled)
        self._ahead, self._batch, self._processes = 0, 1, 1
        self._pool: ThreadPoolExecutor | None = None
        self._coming: dict[int, Future[Question]] = {}

    def prefetch(self, count: int, batch: int, processes: int) -> None:
        """Prepare the ``count`` questions after each that is asked for in a thread of its own, so that a GPU need not
        wait for images to be read; ``processes`` take turns of ``batch`` questions."""
        self._ahead, self._batch, self._processes = count, batch, processes
        self._pool = ThreadPoolExecutor(1, "questions") if count else None

    def __len__(self) -> int:
        return self.steps * self.per_step

    def index(self, position: int) -> int:
        """Which question stands at a position of the stream."""
        epoch, place = divmod(position, len(self.questions))
        return int(self._order(epoch)[place])

    def __getitem__(self, position: int) -> Question:
        if self._pool is None:
            return self.questions[self.index(position)]
        wanted = [position]
        while len(wanted) <= self._ahead:
            turn = (wanted[-1] + 1) % self._batch == 0
            wanted.append(wanted[-1] + 1 + turn * self._batch * (self._processes - 1))
        for place in set(self._coming).difference(wanted):
            self._coming.pop(place).cancel()
        for place in wanted:
            if place < len(self) and place not in self._coming:
                self._coming[place] = self._pool.submit(self.questions.__getitem__, self.index(place))
        return self._coming.pop(position).result()

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.questions))


class Collator:
    """Pads questions to one batch of plain tensors; see `on_device`.

    The result holds ``inputs`` (keyword arguments of the model), ``labels`` (int64 [batch, length], -100 off the
    answers), the bool masks ``question``, ``writing`` (from where the answer is written), ``rows`` (text after the
    image) and ``columns`` (image tokens), all [batch, length], ``targets`` (a tensor [masks, patches] per question)
    and ``known`` (a bool per question).
    """

    def __init__(self, encoder: PromptEncoder) -> None:
        self.encoder = encoder

    def __call__(self, questions: Sequence[Question]) -> dict[str, Any]:
        batch = self.encoder.collate([question.prompt for question in questions])
        return {
            "inputs": batch.inputs,
            "labels": batch.labels,
            "question": batch.question,
            "writing": batch.writing,
            "rows": batch.rows,
            "columns": batch.columns,
            "targets": [question.target for question in questions],
            "known": [question.known for question in questions],
        }


def on_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch with the model's inputs on a device; nobody waits for the copies.

    All else stays on the CPU: masks and labels say where things stand, which an accelerator would have to be asked.
    """
    moved = {name: tensor.to(device, non_blocking=True) for name, tensor in batch["inputs"].items()}
    return {**batch, "inputs": moved}
