"""Crops of phantoms with the questions they answer: what the demo scorer learns from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from a3tune.labels.filters import filter_regions
from a3tune.labels.proposals.proposals import propose_regions
from a3tune.labels.scorers.crops import crop_with_surroundings
from a3tune.labels.segmenters.segmentation import Segmenter, region_from_mask
from a3tune.phantom.questions import ask, with_article
from a3tune.phantom.scene import make_phantom
from a3tune.phantom.structures import Phantom, PhantomStyle, Structure
from a3tune.types import MedicalImage, Region

_LEAD_INS = (
    "{text}",
    "Medical image of {kind}. {text}",
    "Medical image of {kind}.{text}",
    "Medical imgaing of {kind}.{text}",
    "{kind}: {text}",
)
_PHRASES = ("{name}", "the {name}", "{article}", "{name} in the {kind}")


class Query(NamedTuple):
    """A text and the rows of :attr:`CropExample.overlaps` that it asks about."""

    text: str
    targets: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class CropExample:
    """One phantom.

    Attributes:
        crops: uint8 [crops, 64, 64, 3], each region with its surroundings, as the scorer will see it.
        overlaps: float32 [structures, crops], IoU of each crop's mask with each structure.
        queries: texts with their targets; every target has a crop with IoU of 0.5 or more.
    """

    crops: np.ndarray
    overlaps: np.ndarray
    queries: tuple[Query, ...]


def make_example(
    phantom: Phantom,
    rng: np.random.Generator,
    *,
    segmenter: Segmenter | None = None,
    maximum: int = 56,
) -> CropExample:
    """Crops of a phantom: drawn outlines made imperfect, good candidates, and candidates that show something else.

    Args:
        phantom: the phantom.
        rng: chooses among candidates, deforms outlines and words the queries.
        segmenter: where candidates come from; plain region proposals, which cost far less, when None.
        maximum: crops at most.
    """
    image = phantom.image
    structures = [item for item in phantom.structures if item.kind != "marker"]
    masks = [_deformed(item.mask, rng) for item in structures for _ in range(2 if item.kind == "lesion" else 1)]
    regions = [region for region in map(region_from_mask, masks) if region is not None]
    regions.extend(_proposed(image) if segmenter is None else segmenter.segment(image).regions)
    kept, _ = filter_regions(regions)
    overlaps = _overlaps([item.mask for item in structures], [region.mask for region in kept])
    chosen = _choose(overlaps, maximum, rng)
    crops = np.stack([crop_with_surroundings(image, kept[index]) for index in chosen])
    overlaps = overlaps[:, chosen]
    return CropExample(crops, overlaps.astype(np.float32), _queries(phantom, structures, overlaps, rng))


def make_examples(
    seeds: Iterable[int],
    *,
    segmenter: Segmenter | None = None,
    shifted: float = 0.1,
) -> Iterator[CropExample]:
    """Examples of many phantoms; ``shifted`` is the share drawn in the shifted style, 0 to 1."""
    for seed in seeds:
        rng = np.random.default_rng((seed, 5))
        style: PhantomStyle = "shifted" if rng.random() < shifted else "standard"
        yield make_example(make_phantom(seed, style=style), rng, segmenter=segmenter)


def _proposed(image: MedicalImage) -> Iterator[Region]:
    size = (image.width, image.height)
    for proposal in propose_regions(image.pixels):
        mask = cv2.resize(proposal.mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5
        region = region_from_mask(mask)
        if region is not None:
            yield region


def _deformed(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The outline as a segmenter might draw it: smoother, and a little too large or too small."""
    reach = np.sqrt(mask.sum())
    sigma = max(0.5, rng.uniform(0.01, 0.06) * reach)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma)
    return soft > rng.uniform(0.3, 0.7)


def _overlaps(first: list[np.ndarray], second: list[np.ndarray]) -> np.ndarray:
    flat = [np.stack([mask[::2, ::2].ravel() for mask in masks]).astype(np.float32) for masks in (first, second)]
    shared = flat[0] @ flat[1].T
    either = flat[0].sum(axis=1)[:, None] + flat[1].sum(axis=1)[None] - shared
    return shared / np.maximum(either, 1)


def _choose(overlaps: np.ndarray, maximum: int, rng: np.random.Generator) -> np.ndarray:
    good = overlaps.max(axis=0) >= 0.5
    order = rng.permutation(overlaps.shape[1])
    order = order[np.argsort(~good[order], kind="stable")]
    # Room is left for candidates that show nothing that has a name.
    kept = order[good[order]][: maximum * 2 // 3]
    rest = order[~good[order]][: maximum - len(kept)]
    return np.sort(np.concatenate([kept, rest]))


def _queries(
    phantom: Phantom, structures: list[Structure], overlaps: np.ndarray, rng: np.random.Generator
) -> tuple[Query, ...]:
    found = {item.name: row for row, item in enumerate(structures) if overlaps[row].max(initial=0) >= 0.5}
    queries = []
    for question in ask(phantom):
        targets = tuple(found[name] for name in question.targets if name in found)
        if targets:
            queries.append(Query(_worded(question.question, phantom, rng), targets))
    names: dict[str, list[int]] = {}
    for item in structures:
        if item.name in found:
            names.setdefault(item.finding or item.name, []).append(found[item.name])
    for name, rows in names.items():
        phrase = str(rng.choice(_PHRASES)).format(name=name, article=with_article(name), kind=phantom.kind)
        queries.append(Query(_worded(phrase, phantom, rng), tuple(rows)))
    return tuple(queries)


def _worded(text: str, phantom: Phantom, rng: np.random.Generator) -> str:
    lead_in = _LEAD_INS[0] if rng.random() < 0.6 else str(rng.choice(_LEAD_INS))
    kind = str(rng.choice([phantom.kind, phantom.kind.upper(), phantom.modality]))
    text = lead_in.format(text=text, kind=kind)
    return text.lower() if rng.random() < 0.3 else text
