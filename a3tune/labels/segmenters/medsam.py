"""MedSAM: masks from boxes by its authors' way, with a checkpoint file.

MedSAM (Ma et al., "Segment anything in medical images", Nature Communications 2024) is a Segment Anything ViT-B that
was trained further with boxes alone, on images squashed to 1024 x 1024 with grey values from 0 to 1; its loss is of
the masks, so that the head that estimates their quality was not trained with them and is not asked. Everything else,
the proposals whose boxes it is given included, is as with LiteMedSAM.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from segment_anything import sam_model_registry
from torch import Tensor

from a3tune.checkpoints import locate_checkpoint, read_checkpoint
from a3tune.errors import LabelError
from a3tune.labels.segmenters.lite_medsam import LiteMedSamSegmenter, _Drawn
from a3tune.labels.segmenters.mask_decoder import decode_boxes, stability
from a3tune.labels.segmenters.segment_anything import deduce_variant
from a3tune.labels.segmenters.segment_anything_names import original_names
from a3tune.labels.segmenters.weight_pages import load_sam
from a3tune.labels.segmenters.working_size import working_image
from a3tune.types import MedicalImage

_PURPOSE = "a checkpoint of MedSAM (a ViT-B)"


def is_medsam(name: str | Path) -> bool:
    """Whether a path or a place on the hub names MedSAM, by its file or, where that says nothing, its folder: the
    weights have the form of SAM ViT-B, so that nothing in them tells."""
    *_, folder, file = ("", "", *Path(str(name)).parts)
    return "medsam" in (file if "sam" in file.lower() else folder).lower()


class MedSamSegmenter(LiteMedSamSegmenter):
    """Region proposals, the best of them redrawn by MedSAM.

    Args:
        checkpoint: .pth or .safetensors file, or ``hub:OWNER/REPOSITORY/FILE``; its authors' form or that of
            transformers.
        settings: as for `LiteMedSamSegmenter`.

    Raises:
        LabelError: the file is missing, out of reach, hostile or not such a checkpoint.
    """

    name = "MedSAM"

    def __init__(self, checkpoint: str | Path, **settings: Any) -> None:
        super().__init__(checkpoint, **settings)

    def _load(self, checkpoint: str | Path | None) -> tuple[Any, str]:
        path = locate_checkpoint(checkpoint or "", purpose=_PURPOSE, gives="which finds the regions")
        state = original_names(read_checkpoint(path, purpose=_PURPOSE))
        variant = deduce_variant(state, name=path.name)
        if variant != "vit_b":
            raise LabelError(
                expected=_PURPOSE,
                got=f"{path.name} holds a {variant}",
                remedy="Use medsam_vit_b.pth, or name a checkpoint of Segment Anything without the word medsam",
            )
        return load_sam(sam_model_registry[variant], state, path, purpose=_PURPOSE, device=self.device)

    def _draw(self, image: MedicalImage, boxes: np.ndarray) -> _Drawn:
        scale = self._model.image_encoder.img_size / np.array([image.width, image.height] * 2)
        prompts = torch.as_tensor(boxes * scale, dtype=torch.float32, device=self.device)
        decoded = decode_boxes(self._model.mask_decoder, self._model.prompt_encoder, self._embedding(image), prompts)
        # Probabilities are what the authors enlarge and cut at a half.
        inside = (decoded.logits.sigmoid() - 0.5).cpu().numpy()
        return _Drawn(inside, np.full(len(inside), np.nan), stability(decoded.logits).cpu().numpy())

    @torch.inference_mode()
    def _encode(self, image: MedicalImage) -> Tensor:
        side = self._model.image_encoder.img_size
        return self._model.image_encoder(torch.from_numpy(prepare(image, side)).to(self.device))


def prepare(image: MedicalImage, side: int = 1024) -> np.ndarray:
    """float32 [1, 3, side, side], 0 to 1: the image squashed to a square, cubic after a Gaussian that keeps finer
    detail from folding over, and stretched over the whole range."""
    pixels = working_image(image).pixels
    shrunk = [max(0.0, (length / side - 1) / 2) for length in pixels.shape[1::-1]]
    if max(shrunk) > 0:
        # OpenCV takes 0 for "as the other": the least width leaves an axis as it is.
        across, down = (max(sigma, 1e-3) for sigma in shrunk)
        pixels = cv2.GaussianBlur(pixels, (0, 0), sigmaX=across, sigmaY=down)
    square = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    low, high = float(square.min()), float(square.max())
    return np.ascontiguousarray(((square - low) / max(high - low, 1e-8)).transpose(2, 0, 1)[None])
