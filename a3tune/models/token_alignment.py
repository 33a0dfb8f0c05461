"""Whether each image token of a model shows the place in the image that its patch grid says, tried on the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from a3tune.errors import A3TuneError, ModelError
from a3tune.models.encoded_prompt import EncodedPrompt
from a3tune.models.model import VisionLanguageModel
from a3tune.types import MedicalImage, PatchGrid

ALIGNMENT_TOLERANCE = 0.25
"""How much a token elsewhere may change, against the token that was painted: resampling smears a patch's edges."""

_QUESTION = "What is shown in this image?"
_SIZES = ((160, 224), (208, 112))
_TRIES = 8


def check_token_alignment(model: VisionLanguageModel) -> None:
    """Refuse a model whose maps would be drawn in the wrong places; takes a few passes of its vision tower.

    Raises:
        ModelError: an image token changes with another place than its own, or that cannot be tried.
    """
    try:
        _, stray = stray_change(model, sizes=_SIZES[:1], tries=6)
    except A3TuneError:
        raise
    # The model's and its processor's own code, of a class that nobody here has tried: it may raise anything.
    except Exception as error:
        raise ModelError(
            expected="a model that reads a picture and a question as its processor prepares them",
            got=f"{model.name} ({model.config.model_type}) failed with {type(error).__name__}: {error}",
            remedy="Choose a model of a class in docs/models.md",
        ) from error
    if stray > ALIGNMENT_TOLERANCE:
        raise ModelError(
            expected="image tokens that each stand for the place in the image where the processor puts it",
            got=f"{model.name} ({model.config.model_type}) mixes the places of its image before its words see it",
            remedy="Choose a model such as LLaVA, Qwen2.5-VL, Gemma 3, PaliGemma, Idefics3, SmolVLM or InternVL",
        )


def stray_change(
    model: VisionLanguageModel, *, sizes: Sequence[tuple[int, int]] = _SIZES, tries: int = _TRIES
) -> tuple[int, float]:
    """Paint one patch after another and see which image token the language model gets to see changed.

    The vision tower's attention is silenced, so that each of its tokens depends on its own pixels alone. What the
    language model is given is read where it comes in, after every merging, shuffling and joining of tokens.

    Args:
        model: any model; it is called, not changed.
        sizes: (height, width) of the images that are painted, in pixels.
        tries: how many patches of each are painted.

    Returns:
        how many patches were painted, and the worst case of: the largest change of a token that does not lie where
        was painted, against the change of the painted token. Inf when the painted token itself stays as it was.

    Raises:
        ModelError: the language model is not given its tokens as embeddings.
    """
    cases, worst = 0, 0.0
    for height, width in sizes:
        grey = np.full((height, width, 3), 96, np.uint8)
        prompt = model.encode(MedicalImage(grey), _QUESTION)
        grid = model.patch_grid(height, width, len(prompt.images[0]))
        before = _seen(model, prompt)
        for painted in _spread(grid, height, width, tries):
            x0, y0, x1, y1 = _middle(grid.boxes[painted])
            picture = grey.copy()
            picture[round(y0) : max(round(y1), round(y0) + 1), round(x0) : max(round(x1), round(x0) + 1)] = 250
            change = (_seen(model, model.encode(MedicalImage(picture), _QUESTION)) - before).norm(dim=-1).numpy()
            left, top, right, bottom = grid.boxes.T
            elsewhere = (right <= x0) | (left >= x1) | (bottom <= y0) | (top >= y1)
            own, stray = float(change[painted]), float(change[elsewhere].max(initial=0.0))
            worst = max(worst, stray / own if own > 0 else float("inf"))
            cases += 1
    return cases, worst


def _spread(grid: PatchGrid, height: int, width: int, tries: int) -> list[int]:
    """Some tokens whose whole box lies in the image, from the first to the last."""
    left, top, right, bottom = grid.boxes.T
    inside = (left >= 0) & (top >= 0) & (right <= width) & (bottom <= height) & (right > left) & (bottom > top)
    places = inside.nonzero()[0]
    return sorted({int(places[i]) for i in np.linspace(0, len(places) - 1, tries).round().astype(int)})


def _middle(box: np.ndarray) -> tuple[float, float, float, float]:
    """The box with a quarter taken off on each side: what is painted should not smear into the neighbours."""
    x0, y0, x1, y1 = box
    return x0 + (x1 - x0) / 4, y0 + (y1 - y0) / 4, x1 - (x1 - x0) / 4, y1 - (y1 - y0) / 4


class _Seen(Exception):
    """Ends a forward pass where the language model begins."""


def _seen(model: VisionLanguageModel, prompt: EncodedPrompt) -> torch.Tensor:
    """float32 [image tokens, width], on the CPU: what the language model is given at the image's positions."""
    found: list[torch.Tensor] = []

    def keep(module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        found.append(options["inputs_embeds"])
        raise _Seen

    handle = model.language_model.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        with torch.no_grad(), _silent_vision(model):
            model.model(**prompt.inputs, use_cache=False)
    except _Seen:
        pass
    finally:
        handle.remove()
    if not found or found[0] is None:
        raise ModelError(
            expected="a language model that is given its tokens as embeddings",
            got=f"{type(model.language_model).__name__} is not",
            remedy="Where its image tokens lie cannot be checked this way",
        )
    return found[0][0, list(prompt.images[0])].float().cpu()


@contextmanager
def _silent_vision(model: VisionLanguageModel) -> Iterator[None]:
    """Have every attention module outside of the language model add nothing."""

    def silence(module: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, torch.Tensor):
            return torch.zeros_like(output)
        return (torch.zeros_like(output[0]), *output[1:])

    inside = set(model.language_model.modules())
    modules = [module for module in model.model.modules() if module not in inside]
    handles = [
        module.register_forward_hook(silence) for module in modules if type(module).__name__.endswith("Attention")
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
