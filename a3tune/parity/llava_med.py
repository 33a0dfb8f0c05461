"""Check an original LLaVA-Med checkpoint against numbers that LLaVA-Med's own code computed from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from a3tune.attention.capture import capture, prepare_capture
from a3tune.errors import DataError
from a3tune.models.encoded_prompt import EncodedPrompt
from a3tune.models.load import load_model
from a3tune.models.model import VisionLanguageModel
from a3tune.parity.eager import ATTENTION_TOLERANCE, ParityRow
from a3tune.storage import named_path
from a3tune.types import MedicalImage

LOGIT_TOLERANCE = 1e-4
"""Largest difference of two logits in float32 that counts as rounding."""

IMAGE_PLACEHOLDER = -200
"""Stands for a whole image among LLaVA's token ids."""


def check_llava_med(
    folder: str | Path, *, vision_tower: str | Path | None = None, device: str = "cpu"
) -> list[ParityRow]:
    """Compare prompt, pixels, logits, attention and greedy answer with golden numbers, in float32.

    Args:
        folder: holds ``checkpoint/`` in LLaVA-Med's own layout, ``cases.json`` (a list of ``prompt`` and
            ``full_prompt``) and ``golden.npz`` with, for case i, ``image_i`` uint8 [h, w, 3], ``pixel_values_i``,
            ``input_ids_i`` (-200 is the image), ``logits_i`` [1, tokens, vocabulary], ``attn_i`` [layers, 1, heads,
            tokens, tokens] and ``generated_i``. The checkpoint itself may be named when the others lie beside it.
        vision_tower: as for :func:`a3tune.models.load.load_model`.
        device: as for :func:`a3tune.models.load.load_model`.

    Raises:
        DataError: the golden numbers are missing or damaged.
        ModelError: the checkpoint cannot be loaded.
    """
    folder = named_path(folder)
    home = folder if (folder / "cases.json").is_file() else folder.parent
    cases, golden = _read(home)
    checkpoint = home / "checkpoint" if folder == home else folder
    model = load_model(checkpoint, device=device, dtype="float32", vision_tower=vision_tower)
    prompts = [
        model.encode(MedicalImage(golden[f"image_{number}"]), case["prompt"]) for number, case in enumerate(cases)
    ]
    wrong_text = sum(
        model.tokenizer.decode(prompt.ids) != _expanded_text(model, prompt, case["full_prompt"])
        for prompt, case in zip(prompts, cases, strict=True)
    )
    wrong_ids = sum(
        list(prompt.ids) != _expanded(golden[f"input_ids_{number}"][0].tolist(), prompt, model)
        for number, prompt in enumerate(prompts)
    )
    answers = [_wrong_answer(model, prompt, golden[f"generated_{n}"][0].tolist()) for n, prompt in enumerate(prompts)]

    def worst(name: str, tolerance: float, error: Callable[[int, EncodedPrompt], float]) -> ParityRow:
        errors = [error(number, prompt) for number, prompt in enumerate(prompts)]
        return ParityRow(name, len(errors), max(errors), max(errors) <= tolerance)

    rows = [
        ParityRow("conversation template", len(cases), float(wrong_text), wrong_text == 0),
        ParityRow("token ids", len(cases), float(wrong_ids), wrong_ids == 0),
        worst("pixel values", 1e-6, lambda n, prompt: _gap(prompt.inputs["pixel_values"], golden[f"pixel_values_{n}"])),
        worst("logits", LOGIT_TOLERANCE, lambda n, prompt: _gap(_logits(model, prompt), golden[f"logits_{n}"])),
        ParityRow("greedy answer", len(cases), float(sum(answers)), not any(answers)),
    ]
    model.model.set_attn_implementation("eager")
    rows.append(
        worst("attention, eager", ATTENTION_TOLERANCE, lambda n, p: _gap(_eager(model, p), golden[f"attn_{n}"]))
    )
    model.model.set_attn_implementation("sdpa")
    prepare_capture(model.model)
    rows.append(
        worst("attention, captured", ATTENTION_TOLERANCE, lambda n, p: _captured_gap(model, p, golden[f"attn_{n}"]))
    )
    return rows


def _read(home: Path) -> tuple[list[dict], Mapping[str, np.ndarray]]:
    try:
        cases = json.loads((home / "cases.json").read_text(encoding="utf-8"))
        with np.load(home / "golden.npz") as file:
            golden = dict(file)
        needed = ("image", "pixel_values", "input_ids", "logits", "attn", "generated")
        absent = [f"{name}_{n}" for n in range(len(cases)) for name in needed if f"{name}_{n}" not in golden]
    except (OSError, ValueError) as error:
        raise DataError(
            expected="cases.json and golden.npz beside the LLaVA-Med checkpoint",
            got=f"{home} without readable ones ({error})",
            remedy="Name the folder that holds checkpoint/, cases.json and golden.npz",
        ) from error
    if absent or not cases:
        raise DataError(
            expected="golden numbers for each case", got=f"none for {absent[:3] or 'any case'}", remedy="Fetch it again"
        )
    return cases, golden


def _expanded(ids: list[int], prompt: EncodedPrompt, model: VisionLanguageModel) -> list[int]:
    patches = [prompt.ids[prompt.images[0][0]]] * len(prompt.images[0])
    return [new for token in ids for new in (patches if token == IMAGE_PLACEHOLDER else [token])]


def _expanded_text(model: VisionLanguageModel, prompt: EncodedPrompt, full_prompt: str) -> str:
    patches = "<image>" * len(prompt.images[0])
    return model.tokenizer.decode(model.tokenizer(full_prompt.replace("<image>", patches))["input_ids"])


def _wrong_answer(model: VisionLanguageModel, prompt: EncodedPrompt, generated: list[int]) -> bool:
    # LLaVA's code hands out a start token before what was generated.
    start = model.tokenizer.bos_token_id
    expected = generated[1:] if generated[:1] == [start] else generated
    answer = list(model.generate(prompt, max_new_tokens=len(expected)).token_ids)
    return answer != [token for token in expected if token != model.end_token_id]


def _logits(model: VisionLanguageModel, prompt: EncodedPrompt) -> torch.Tensor:
    with torch.no_grad():
        return model.model(**prompt.inputs, use_cache=False).logits


def _eager(model: VisionLanguageModel, prompt: EncodedPrompt) -> torch.Tensor:
    with torch.no_grad():
        return torch.stack(model.model(**prompt.inputs, output_attentions=True, use_cache=False).attentions)


def _captured_gap(model: VisionLanguageModel, prompt: EncodedPrompt, golden: np.ndarray) -> float:
    rows, columns = (mask[0].nonzero().squeeze(1).numpy() for mask in (prompt.rows, prompt.columns))
    with torch.no_grad(), capture(prompt.rows, prompt.columns) as record:
        model.model(**prompt.inputs, use_cache=False)
    return _gap(record.weights(0), golden[:, 0][:, :, rows][:, :, :, columns])


def _gap(found: torch.Tensor, golden: np.ndarray) -> float:
    """The largest difference; infinite for another shape. The image token's own logit, which LLaVA does not have, is
    left out."""
    values = found.detach().cpu().float().numpy()
    if values.shape[:-1] == golden.shape[:-1] and values.shape[-1] > golden.shape[-1]:
        values = values[..., : golden.shape[-1]]
    return float(np.abs(values - golden).max()) if values.shape == golden.shape else float("inf")
