"""Check on any checkpoint folder that captured attention is what the model's plain (eager) attention gives, and that
each image token lies where its map is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from a3tune.attention.capture import capture, prepare_capture
from a3tune.errors import ModelError
from a3tune.models.encoded_prompt import EncodedBatch
from a3tune.models.load import load_model
from a3tune.models.model import VisionLanguageModel
from a3tune.models.token_alignment import ALIGNMENT_TOLERANCE, stray_change
from a3tune.parity.generation import MOST_TOKENS, reused_difference, written_differences
from a3tune.types import MedicalImage

ATTENTION_TOLERANCE = 1e-5
"""Largest difference of two attention weights in float32 that counts as rounding."""
FUSED_TOLERANCE = 1e-4
"""The same where torch chooses the kernel that computes what the next layer reads: it rounds otherwise than eager
attention does, by how much depends on the processor, and layers of wide weights make that larger."""

_QUESTIONS = ("What is shown in this image?", "Is there a bright region on the left side of the image? Answer briefly.")


@dataclass(frozen=True)
class ParityRow:
    """One check: how many cases it compared, the largest absolute difference, and whether that is small enough."""

    name: str
    cases: int
    worst_error: float
    ok: bool


def check_checkpoint(folder: str | Path, *, device: str = "auto") -> list[ParityRow]:
    """Compare capture with eager attention on a checkpoint, in float32, over synthetic images and questions.

    Every layer and head is compared, on one sequence, on a batch of two padded on the right, on one padded on the left,
    while answers are written, over key-value caches of each kind, and for another question about an image; then the
    greedy answer with and without capture at work, and whether each image token changes with its own place in the image
    (see :func:`a3tune.models.token_alignment.stray_change`). All that with torch's plain attention kernel, so that the
    difference is capture's own; the batches once more with the kernels that torch chooses by itself.

    Args:
        folder: a checkpoint folder (or hub id).
        device: as for :func:`a3tune.models.load.load_model`.

    Raises:
        ModelError: the checkpoint cannot be loaded or its attention cannot be captured.
    """
    model = load_model(folder, device=device, dtype="float32")
    images = [_test_image(96, 128), _test_image(120, 80)]
    prompts = [
        model.encode(image, question, answer)
        for image, question, answer in zip(images, _QUESTIONS, ("A bright ellipse.", "Yes"), strict=True)
    ]
    batches = {
        "attention, one sequence": model.collate(prompts[:1]),
        "attention, padded right": model.collate(prompts, padding_side="right"),
        "attention, padded left": model.collate(prompts, padding_side="left"),
    }
    with sdpa_kernel(SDPBackend.MATH):
        questions = [model.encode(image, question) for image, question in zip(images, _QUESTIONS, strict=True)]
        answers = [model.generate(question, max_new_tokens=MOST_TOKENS) for question in questions]
        wholes = [
            model.append_answer(question, answer.token_ids) for question, answer in zip(questions, answers, strict=True)
        ]
        model.model.set_attn_implementation("eager")
        expected = {name: eager_attention(model, batch) for name, batch in batches.items()}
        written = [eager_attention(model, model.collate([whole]))[0] for whole in wholes]
        model.model.set_attn_implementation("sdpa")
        prepare_capture(model.model)
        rows = [_row(name, *_captured_difference(model, batch, expected[name])) for name, batch in batches.items()]
        differing, differences = written_differences(model, questions, answers, written)
        rows += [_row(name, *difference) for name, difference in differences.items()]
        reused = reused_difference(model, *(model.encode(images[0], question) for question in _QUESTIONS))
        rows.append(_row("attention, an image that was read before", model.layers * model.heads, reused))
    fused = [_captured_difference(model, batch, expected[name]) for name, batch in batches.items()]
    cases, worst = sum(cases for cases, _ in fused), max(worst for _, worst in fused)
    rows.append(ParityRow("attention, torch's own choice of kernels", cases, worst, worst <= FUSED_TOLERANCE))
    painted, stray = stray_change(model)
    return [
        *rows,
        ParityRow("answer with capture at work", len(answers), float(differing), differing == 0),
        ParityRow("image tokens in their places", painted, stray, stray <= ALIGNMENT_TOLERANCE),
    ]


def eager_attention(model: VisionLanguageModel, batch: EncodedBatch) -> list[torch.Tensor]:
    """For each sequence of a batch float32 [layers, heads, rows, patches] from ``output_attentions``; the model must
    have been set to eager attention.

    Raises:
        ModelError: the model does not return its attention.
    """
    with torch.no_grad():
        attentions = model.model(**batch.inputs, output_attentions=True, use_cache=False).attentions
    if not attentions or any(layer is None for layer in attentions):
        raise ModelError(
            expected="a model that returns its attention when it runs eagerly",
            got=f"{type(model.model).__name__} returns none",
            remedy="Its captured attention cannot be checked this way",
        )
    selected = []
    for b, (rows, columns) in enumerate(zip(batch.rows, batch.columns, strict=True)):
        rows, columns = rows.nonzero().squeeze(1), columns.nonzero().squeeze(1)
        selected.append(torch.stack([layer[b].cpu()[:, rows][:, :, columns] for layer in attentions]))
    return selected


def format_rows(rows: Iterable[ParityRow]) -> str:
    """A plain-text table, one line per row."""
    cells = [("check", "cases", "worst error", "ok")]
    cells += [(row.name, str(row.cases), f"{row.worst_error:.2e}", "yes" if row.ok else "NO") for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return "\n".join(_line(line, widths) for line in cells)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, cases, error, ok = cells
    return f"{name:<{widths[0]}}  {cases:>{widths[1]}}  {error:>{widths[2]}}  {ok}"


def _captured_difference(
    model: VisionLanguageModel, batch: EncodedBatch, expected: Sequence[torch.Tensor]
) -> tuple[int, float]:
    """How many heads of a batch's sequences were compared, and the largest difference."""
    with torch.no_grad(), capture(batch.rows, batch.columns) as record:
        model.model(**batch.inputs, use_cache=False)
    differences = [(record.weights(b).cpu() - weights).abs() for b, weights in enumerate(expected)]
    worst = max(float(difference.max()) for difference in differences)
    return sum(difference.shape[0] * difference.shape[1] for difference in differences), worst


def _row(name: str, cases: int, worst: float) -> ParityRow:
    return ParityRow(name, cases, worst, worst <= ATTENTION_TOLERANCE)


def _test_image(height: int, width: int) -> MedicalImage:
    """A grey ramp with a bright ellipse left of the centre."""
    y, x = np.mgrid[0:height, 0:width]
    ellipse = ((x / width - 0.35) / 0.2) ** 2 + ((y / height - 0.5) / 0.3) ** 2 < 1
    grey = np.where(ellipse, 220, 40 + 80 * x // width).astype(np.uint8)
    return MedicalImage(np.repeat(grey[:, :, None], 3, axis=2))
