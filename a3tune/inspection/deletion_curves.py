"""Whether a map matters to the answer: deletion and insertion curves, and a control with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from a3tune.adapters.switch import AdapterSet
from a3tune.attention.critical_heads import head_set_map
from a3tune.attention.patch_ranking import area_under, curve_shares, first_patches, patch_order, rank_correlation
from a3tune.decoder_layers import layer_modules
from a3tune.errors import Cancelled, RequestError
from a3tune.geometry.patch_grid import to_source
from a3tune.images import image_from_array
from a3tune.inspection.inspect import Inspection
from a3tune.inspection.passes import adapted, read_attention
from a3tune.inspection.views import AdapterView
from a3tune.lack_of_memory import memory_for
from a3tune.memory_advice import TO_CHECK
from a3tune.models.model import VisionLanguageModel
from a3tune.offloading import is_offloaded
from a3tune.progress import Progress, no_progress
from a3tune.types import Head, MedicalImage, PatchGrid


@dataclass(frozen=True, eq=False)
class FaithfulnessCurves:
    """The answer's probability while patches are hidden (deletion) or shown (insertion).

    Probabilities are the geometric mean over the answer's tokens, 0 to 1: the model reads the changed image and the
    unchanged answer.

    Attributes:
        shares: float64 [points], share of the patches that are hidden or shown, 0 to 1.
        deletion, insertion: float64 [points], in the order of the map, highest first.
        deletion_random, insertion_random: float64 [points], mean over random orders.
    """

    shares: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray
    deletion_random: np.ndarray
    insertion_random: np.ndarray

    @property
    def areas(self) -> dict[str, float]:
        """Area under each curve by its name."""
        names = ("deletion", "insertion", "deletion_random", "insertion_random")
        return {name: area_under(self.shares, getattr(self, name)) for name in names}


@dataclass(frozen=True, eq=False)
class RandomisedWeights:
    """How like the map stays while the decoder's layers lose what they have learnt, the topmost first.

    Attributes:
        randomised: how many layers have random weights, from 0 to all of them.
        correlation: float64, one for each: Spearman's rank correlation with the map of the trained weights, -1 to 1;
            NaN where a map is the same everywhere.
    """

    randomised: tuple[int, ...]
    correlation: np.ndarray


def curve_passes(steps: int = 10, random_orders: int = 3) -> int:
    """How often the model is asked by `measure_curves`."""
    return 2 + 2 * (1 + random_orders) * (steps - 1)


@memory_for("this check", TO_CHECK)
def measure_curves(
    model: VisionLanguageModel,
    inspection: Inspection,
    adapter: str,
    heads: Sequence[Head],
    rows: Sequence[int] | None = None,
    *,
    adapter_set: AdapterSet | None = None,
    steps: int = 10,
    random_orders: int = 3,
    seed: int = 0,
    on_progress: Progress = no_progress,
    should_stop: Callable[[], bool] | None = None,
) -> FaithfulnessCurves:
    """Deletion and insertion curves of a head set's map.

    A hidden patch shows a strongly blurred copy of the image (Gaussian, a tenth of the longer edge), which keeps the
    brightness and drops the structure; black patches would be a finding of their own in a radiograph.

    Args:
        model: the model that the inspection was made with.
        inspection: image, question and the adapter's answer.
        adapter: whose map and answer.
        heads, rows: the map, as in :func:`a3tune.attention.critical_heads.head_set_map`.
        adapter_set: the adapters beside the model.
        steps: how many steps a curve has.
        random_orders: how many random orders are averaged for the comparison.
        seed: of the random orders.
        on_progress: called with what is being done and the share done.
        should_stop: asked between passes; True ends the work.

    Raises:
        RequestError: the answer is empty, too few steps, or a head or row that there is not.
        NotEnoughMemoryError: memory ran out.
        Cancelled: ``should_stop`` said so.
    """
    view = inspection.view(adapter)
    if not _answer_ids(view):
        raise RequestError(
            expected="an answer whose probability can be followed",
            got="The answer is empty",
            remedy="Ask another question",
        )
    shares = curve_shares(steps)
    generator = np.random.default_rng(seed)
    count = inspection.grid.count
    orders = [patch_order(head_set_map(view.maps, heads, rows))]
    orders += [generator.permutation(count) for _ in range(random_orders)]
    blurred = _blurred(inspection.image)
    total = curve_passes(steps, random_orders)
    done = 0

    def probability(hidden: np.ndarray) -> float:
        nonlocal done
        if should_stop is not None and should_stop():
            raise Cancelled
        on_progress("Hiding and showing patches", done / total)
        done += 1
        image = _with_hidden(inspection.image, blurred, inspection.grid, hidden)
        return _answer_probability(model, image, inspection.question, view, adapter_set)

    # Nothing hidden and everything hidden are the same for every order.
    clear, veiled = probability(np.zeros(count, bool)), probability(np.ones(count, bool))
    curves = np.empty((len(orders), 2, len(shares)))
    curves[:, 0, 0] = curves[:, 1, -1] = clear
    curves[:, 0, -1] = curves[:, 1, 0] = veiled
    for place, order in enumerate(orders):
        for point in range(1, steps):
            first = first_patches(order, shares[point])
            curves[place, 0, point] = probability(first)
            curves[place, 1, point] = probability(~first)
    others = curves[1:].mean(axis=0) if random_orders else np.full(curves.shape[1:], np.nan)
    return FaithfulnessCurves(shares, curves[0, 0], curves[0, 1], others[0], others[1])


@memory_for("this check", TO_CHECK)
def measure_randomised(
    model: VisionLanguageModel,
    inspection: Inspection,
    adapter: str,
    heads: Sequence[Head],
    rows: Sequence[int] | None = None,
    *,
    adapter_set: AdapterSet | None = None,
    seed: int = 0,
    on_progress: Progress = no_progress,
    should_stop: Callable[[], bool] | None = None,
) -> RandomisedWeights:
    """The map of the same heads and words while layer after layer of the decoder, topmost first, gets random weights.

    The weights of a layer are shuffled, each tensor within itself, so that their sizes stay what they were. The
    trained weights are put back afterwards, also when the work is stopped; meanwhile the model holds both, so that
    memory for a second decoder is needed.

    Args, Raises: as :func:`measure_curves`; also RequestError for a model that is partly left in the machine's memory,
    whose weights are brought anew for each pass.
    """
    if is_offloaded(model.model):
        raise RequestError(
            expected="a model whose weights all lie where it computes",
            got="This one was loaded with offloading, which would bring the trained weights back for each pass",
            remedy="Load it without offloading, for example in 4 bit",
        )
    view = inspection.view(adapter)
    expected = head_set_map(view.maps, heads, rows)
    prompt = model.encode(inspection.image, inspection.question)
    whole = model.append_answer(prompt, _answer_ids(view)) if _answer_ids(view) else prompt
    layers = layer_modules(model.language_model)
    correlation = [1.0]
    with adapted(model, adapter_set, adapter, whole), _random_layers(layers, seed) as randomise:
        for count in range(1, len(layers) + 1):
            if should_stop is not None and should_stop():
                raise Cancelled
            on_progress(f"Reading the map with {count} of {len(layers)} layers at random", (count - 1) / len(layers))
            randomise(len(layers) - count)
            found = head_set_map(read_attention(model, whole), heads, rows)
            correlation.append(rank_correlation(expected, found))
    return RandomisedWeights(tuple(range(len(layers) + 1)), np.array(correlation))


@contextmanager
def _random_layers(layers: Sequence[torch.nn.Module], seed: int) -> Iterator[Callable[[int], None]]:
    generator = torch.Generator().manual_seed(seed)
    before: list[tuple[torch.nn.Parameter, torch.Tensor]] = []

    def randomise(layer: int) -> None:
        for parameter in layers[layer].parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            before.append((parameter, parameter.data))
            parameter.data = parameter.data.flatten()[order].view_as(parameter)

    try:
        yield randomise
    finally:
        for parameter, data in before:
            parameter.data = data


def _answer_ids(view: AdapterView) -> list[int]:
    return [token.id for token in view.tokens if token.role == "answer"]


def _answer_probability(
    model: VisionLanguageModel, image: MedicalImage, question: str, view: AdapterView, adapter_set: AdapterSet | None
) -> float:
    """Geometric mean of the probabilities of the answer's tokens, 0 to 1."""
    ids = _answer_ids(view)
    whole = model.append_answer(model.encode(image, question), ids)
    with adapted(model, adapter_set, view.adapter, whole), model.lock, torch.inference_mode():
        # Of the whole prompt they would take more memory than the rest of the pass.
        options = {"logits_to_keep": len(ids) + 1} if model.keeps_logits else {}
        logits = model.model(**whole.inputs, **options, use_cache=False).logits[0, -len(ids) - 1 : -1].float()
    chosen = torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(ids, device=logits.device)[:, None])
    return float(chosen.mean().exp())


def _blurred(image: MedicalImage) -> np.ndarray:
    spread = max(image.height, image.width) / 10
    return cv2.GaussianBlur(image.model_input, (0, 0), spread, borderType=cv2.BORDER_REPLICATE)


def _with_hidden(image: MedicalImage, blurred: np.ndarray, grid: PatchGrid, hidden: np.ndarray) -> MedicalImage:
    # Where tiles of patches overlap, a pixel is hidden when most of what shows it is.
    some, whole = (to_source(values.astype(np.float32), grid, smooth=False) for values in (hidden, np.ones(grid.count)))
    return image_from_array(np.where((some > whole / 2)[..., None], blurred, image.model_input))
