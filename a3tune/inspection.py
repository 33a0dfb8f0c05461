"""The result of the main job: one question about one image, answered and looked into, per adapter."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from a3tune.attention.capture import capture, prepare
from a3tune.attention.heads import critical_heads, rows_at, visual_ratio
from a3tune.attention.metrics import measure_head_set
from a3tune.errors import AdapterError, Cancelled, RequestError
from a3tune.geometry import probe_patch_grid, to_patches
from a3tune.models.model import VisionLanguageModel
from a3tune.models.prompt import EncodedPrompt
from a3tune.types import AttentionMaps, Head, MedicalImage, PatchGrid, Token, WeakLabels

BASE = "base"
Progress = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class AdapterView:
    """What the model with one adapter answered and where it looked.

    Attributes:
        adapter: the adapter's name; "base" for the model without one.
        answer: the decoded answer, special tokens removed.
        tokens: every token of prompt and answer in sequence order, image tokens included.
        maps: attention of every head from every text token to every patch, from one replay of prompt + answer.
        visual_ratio: float32 [layers, heads], share of the text tokens' attention that goes to the image.
        critical_heads: the heads with the highest visual ratio, highest first.
        metrics: named numbers about the maps (see a3tune.attention.metrics).
    """

    adapter: str
    answer: str
    tokens: tuple[Token, ...]
    maps: AttentionMaps
    visual_ratio: np.ndarray
    critical_heads: tuple[Head, ...]
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Inspection:
    """One question about one image.

    Attributes:
        model: the model's display name.
        image: the image that was asked about.
        question: the question as asked.
        grid: where each patch lies in the image.
        views: one view per adapter, in the order asked for.
        labels: the ranked regions, when they were made.
        seconds: how long each step took ("answer", "maps", ...).
    """

    model: str
    image: MedicalImage
    question: str
    grid: PatchGrid
    views: tuple[AdapterView, ...]
    labels: WeakLabels | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def view(self, adapter: str) -> AdapterView:
        """The view of one adapter.

        Raises:
            KeyError: the inspection was made without that adapter.
        """
        for view in self.views:
            if view.adapter == adapter:
                return view
        raise KeyError(adapter)


def inspect_image(
    model: VisionLanguageModel,
    image: MedicalImage,
    question: str,
    *,
    adapters: Sequence[str] = (BASE,),
    critical_count: int | None = None,
    max_new_tokens: int = 64,
    target: np.ndarray | None = None,
    on_progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Inspection:
    """Ask ``question`` about ``image`` and look into every head of every adapter.

    The answer is generated greedily; the maps come from one replay of prompt and answer, so that they belong to
    the very tokens shown.

    Args:
        model: the loaded model.
        image: source pixels.
        question: the question; template and image tokens are added here.
        adapters: names of adapters that ``model`` holds, "base" for none.
        critical_count: K, how many critical heads; None for the number of heads of one layer, which is the K
            that the research code of A3Tune (ACL 2025) arrives at.
        max_new_tokens: longest answer in tokens.
        target: bool [height, width], source pixels: where the model should look; adds the mass, pointing and
            overlap numbers to the metrics of each view.
        on_progress: called with what is being done and the share done, 0 to 1.
        should_stop: asked between steps and tokens; True ends the work.

    Raises:
        RequestError: an empty or too long question, or a head count that the model does not have.
        AdapterError: an adapter that the model does not hold.
        Cancelled: ``should_stop`` said so.
    """
    if not adapters:
        raise RequestError(expected="at least one adapter", got="No adapter was chosen", remedy=f'Choose "{BASE}"')
    seconds: dict[str, float] = {}
    report = on_progress or (lambda what, share: None)

    def proceed(what: str, share: float) -> None:
        if should_stop is not None and should_stop():
            raise Cancelled
        report(what, share)

    proceed("Reading the image and the question", 0.0)
    prompt = model.encode(image, question)
    grid = probe_patch_grid(model.processor.image_processor, image.height, image.width, len(prompt.images[0]))
    coverage = None if target is None else to_patches(target, grid)
    views = []
    for number, adapter in enumerate(adapters):
        if adapter != BASE:
            raise AdapterError(
                expected=f'"{BASE}"', got=f'The model holds no adapter "{adapter}"', remedy="Load the adapter first"
            )
        start = number / len(adapters)
        proceed(f"Answering ({adapter})", start + 0.1 / len(adapters))
        began = time.perf_counter()
        answer = model.generate(prompt, max_new_tokens=max_new_tokens, should_stop=should_stop)
        seconds[f"{adapter}.answer"] = time.perf_counter() - began
        proceed(f"Reading the attention of every head ({adapter})", start + 0.6 / len(adapters))
        began = time.perf_counter()
        tokens, maps = replay(model, prompt, answer.token_ids)
        seconds[f"{adapter}.maps"] = time.perf_counter() - began
        ratio = visual_ratio(maps.image_share)
        heads = critical_heads(ratio, maps.heads if critical_count is None else critical_count)
        metrics = measure_head_set(maps, heads, coverage, answer_rows(tokens, maps))
        views.append(AdapterView(adapter, answer.text, tokens, maps, ratio, heads, metrics))
    proceed("Done", 1.0)
    return Inspection(model.name, image, question, grid, tuple(views), seconds=seconds)


def replay(
    model: VisionLanguageModel, prompt: EncodedPrompt, answer_ids: Sequence[int]
) -> tuple[tuple[Token, ...], AttentionMaps]:
    """Tokens and attention of one forward pass over prompt and answer.

    Args:
        prompt: the encoded prompt that the answer was generated from.
        answer_ids: the token ids that the model generated, taken as they are.

    Returns:
        Every token of the sequence, and the attention of its text tokens to the image.
    """
    whole = model.append_answer(prompt, answer_ids)
    prepare(model.model)
    with model.lock, torch.inference_mode(), capture(whole.rows, whole.columns) as record:
        model.model(**whole.inputs, use_cache=False)
    return whole.tokens, record.maps(0)


def answer_rows(tokens: Sequence[Token], maps: AttentionMaps) -> np.ndarray:
    """Places on the row axis of ``maps`` of the answer's tokens; of all rows when the answer is empty."""
    positions = [token.position for token in tokens if token.role == "answer"]
    return rows_at(maps, positions) if positions else np.arange(len(maps.rows))
