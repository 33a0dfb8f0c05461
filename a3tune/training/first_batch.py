"""The first batch of a run exactly as the model gets it: words and which of them are learnt, pictures and targets."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from a3tune.geometry.patch_grid import to_source
from a3tune.models.model import VisionLanguageModel
from a3tune.storage import write_json
from a3tune.training.collate import Collator, Question, QuestionStream
from a3tune.training.question_picture import question_picture
from a3tune.training.run_folder import RunFolder
from a3tune.types import PatchGrid

MOST = 8
"""How many questions of the batch are kept."""
_TINT, _SHARE = np.array([255.0, 176.0, 32.0]), 0.45
_SIDE = 768


def write_first_batch(run: RunFolder, model: VisionLanguageModel, stream: QuestionStream, size: int) -> None:
    """Put the first questions of a run into ``batch.json`` and pictures of its folder ``batch``, and tell them as the
    event "batch".

    Of each: "image" (the file's name, of several all), "question", "answer", "known" (whether the target is the data's
    own), "regions" (how many masks), and "pieces" of the sequence in order, each with its "kind" ("masked", "learnt",
    "image" or "padding"), its "tokens" and the decoded "text" of words. The picture shows what the processor made of
    the image, target patches tinted.

    Args:
        run: the run folder.
        model: the model.
        stream: the run's questions in their order.
        size: questions in one batch.
    """
    chosen = [stream.questions[stream.index(place)] for place in range(min(size, len(stream)))]
    batch = Collator(stream.questions.encoder)(chosen)
    folder = run.batch
    folder.mkdir(exist_ok=True)
    told = []
    for number, question in enumerate(chosen[:MOST]):
        picture_of(model, question).save(folder / f"{number}.png")
        told.append(
            {
                "image": question.item.image_name,
                "question": question.item.question,
                "answer": question.item.answer,
                "known": question.known,
                "regions": len(question.target),
                "pieces": pieces_of(model, batch, number),
            }
        )
    write_json(folder / "batch.json", {"size": len(chosen), "questions": told})
    run.event_log.add("batch", step=0, size=len(chosen), questions=told)


def pieces_of(model: VisionLanguageModel, batch: dict[str, Any], b: int) -> list[dict[str, Any]]:
    """The sequence of one question of a batch in pieces of one kind (see `write_first_batch`).

    Args:
        model: the model, whose tokenizer decodes.
        batch: from `a3tune.training.collate.Collator`.
        b: which question.
    """
    ids, labels = batch["inputs"]["input_ids"][b].tolist(), batch["labels"][b].tolist()
    seen, image = batch["inputs"]["attention_mask"][b].tolist(), batch["columns"][b].tolist()
    kinds = [
        "padding" if not there else "image" if patch else "masked" if label == -100 else "learnt"
        for there, patch, label in zip(seen, image, labels, strict=True)
    ]
    pieces = []
    for kind, run in itertools.groupby(zip(kinds, ids, strict=True), key=lambda pair: pair[0]):
        tokens = [token for _, token in run]
        words = kind in ("masked", "learnt")
        text = model.tokenizer.decode(tokens, skip_special_tokens=False) if words else ""
        pieces.append({"kind": kind, "tokens": len(tokens), "text": text})
    return pieces


def picture_of(model: VisionLanguageModel, question: Question) -> Image.Image:
    """What the processor made of a question's image, its normalisation undone; the patches of the target are tinted by
    how much of each it covers. Where there are several images, or the processor makes several pictures, or rows of
    patches, of one, the pictures stand side by side, and the target is tinted on the images as they were (no edge over
    `_SIDE`), behind them."""
    patches = sum(map(len, question.prompt.images))
    coverage = question.coverage if len(question.target) else np.zeros(patches, np.float32)
    frames = _frames(model, question.prompt.inputs)
    source, grid = question_picture(model, question)
    if len(frames) == len(grid.tiles) == 1:
        return Image.fromarray(_tinted(frames[0], _on_frame(coverage, grid, frames[0].shape[:2])))
    covered = to_source(coverage, grid, smooth=False)
    last = Image.fromarray(_tinted(source.model_input, covered / max(float(covered.max()), 1e-9)))
    last.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    shown = [*frames, np.asarray(last)]
    whole = Image.new("RGB", (sum(picture.shape[1] for picture in shown), max(picture.shape[0] for picture in shown)))
    left = 0
    for picture in shown:
        whole.paste(Image.fromarray(picture), (left, 0))
        left += picture.shape[1]
    return whole


def _on_frame(coverage: np.ndarray, grid: PatchGrid, size: Sequence[int]) -> np.ndarray:
    """float [height, width] of the processor's picture: each patch's value over its own pixels."""
    (tile,) = grid.tiles
    values = coverage[tile.start : tile.start + tile.rows * tile.columns].reshape(tile.rows, tile.columns)
    rows, columns = (np.arange(pixels) * count // pixels for pixels, count in zip(size, values.shape, strict=True))
    return values[np.ix_(rows, columns)]


def _tinted(picture: np.ndarray, share: np.ndarray) -> np.ndarray:
    mixed = _SHARE * np.clip(share, 0, 1)[..., None]
    return (picture * (1 - mixed) + _TINT * mixed).round().astype(np.uint8)


def _frames(model: VisionLanguageModel, inputs: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """uint8 [height, width, 3] of each picture among a prompt's inputs; none where patches stand in a row."""
    pixels = inputs.get("pixel_values")
    if pixels is None or pixels.dim() < 4 or pixels.shape[-3] != 3:
        return []
    processor = model.processor.image_processor
    values = pixels.detach().cpu().float().reshape(-1, *pixels.shape[-3:]).movedim(1, -1).numpy()
    if getattr(processor, "do_normalize", False):
        values = values * np.asarray(processor.image_std) + np.asarray(processor.image_mean)
    scaled = values / (processor.rescale_factor if getattr(processor, "do_rescale", True) else 1)
    return list(np.clip(scaled, 0, 255).round().astype(np.uint8))
