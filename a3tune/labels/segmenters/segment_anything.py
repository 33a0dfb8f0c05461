"""Segment Anything: regions from a grid of points, with ViT-B, ViT-L or ViT-H and a checkpoint file.

The defaults are the parameters with which A3Tune makes its weak labels (Focus on What Matters: A3Tune,
ACL 2025). MedSAM's checkpoint, a ViT-B, works as well.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import Sam
from segment_anything.utils.amg import generate_crop_boxes, rle_to_mask

from a3tune.checkpoints import locate_checkpoint, read_checkpoint, weights_digest
from a3tune.device import choose_device
from a3tune.errors import LabelError, RequestError
from a3tune.labels.segmenters.point_grid import POINTS_AT_ONCE, CompressedMaskGenerator, attend_head_by_head
from a3tune.labels.segmenters.segment_anything_names import original_names
from a3tune.labels.segmenters.segmentation import (
    Box,
    Segmentation,
    check_box,
    check_contrast,
    region_from_mask,
    region_in_box,
)
from a3tune.labels.segmenters.weight_pages import load_sam
from a3tune.labels.segmenters.working_size import WORKING_SIDE, working_image, working_note
from a3tune.lack_of_memory import memory_for
from a3tune.memory_advice import TO_LABEL
from a3tune.recently_used import RecentlyUsed
from a3tune.types import MedicalImage, Region

Variant = Literal["vit_b", "vit_l", "vit_h"]
_WIDTHS: dict[int, Variant] = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
_PURPOSE = "a Segment Anything checkpoint (ViT-B, ViT-L, ViT-H or MedSAM)"
_REFERENCE_AREA = 256 * 256
_CROP_OVERLAP = 512 / 1500


@dataclass(frozen=True)
class GridParameters:
    """Settings of the automatic mask generator; see segment-anything for each.

    Attributes:
        minimum_region_area: parts and holes smaller than this are removed, in pixels of a 256 x 256 frame.
        scale_minimum_area: apply that area in proportion to the image's own size; when False it is taken as
            source pixels.
    """

    points_per_side: int = 8
    points_per_batch: int = 128
    predicted_iou_threshold: float = 0.5
    stability_score_threshold: float = 0.5
    box_nms_threshold: float = 0.8
    crop_layers: int = 1
    crop_points_downscale_factor: int = 2
    crop_nms_threshold: float = 0.8
    minimum_region_area: int = 200
    scale_minimum_area: bool = True

    def __post_init__(self) -> None:
        checks = {
            "points_per_side": self.points_per_side >= 1,
            "points_per_batch": self.points_per_batch >= 1,
            "predicted_iou_threshold": 0 <= self.predicted_iou_threshold <= 1,
            "stability_score_threshold": 0 <= self.stability_score_threshold <= 1,
            "box_nms_threshold": 0 < self.box_nms_threshold <= 1,
            "crop_layers": 0 <= self.crop_layers <= 3,
            "crop_points_downscale_factor": self.crop_points_downscale_factor >= 1,
            "crop_nms_threshold": 0 < self.crop_nms_threshold <= 1,
            "minimum_region_area": self.minimum_region_area >= 0,
        }
        for name, good in checks.items():
            if not good:
                raise RequestError(
                    expected="thresholds from 0 to 1, 0 to 3 crop layers and counts of 1 or more",
                    got=f"The segmenter setting {name} is {getattr(self, name)}",
                    remedy="Change the setting",
                )

    def area_in_pixels(self, height: int, width: int) -> int:
        """The minimum region area for an image of that size, in source pixels."""
        if not self.scale_minimum_area:
            return self.minimum_region_area
        return round(self.minimum_region_area * height * width / _REFERENCE_AREA)


class SegmentAnythingSegmenter:
    """Segment Anything's automatic mask generator.

    Embeddings of the images and crops used last are kept, so that a box drawn later does not run the image
    encoder again. One instance may be shared by threads; they take turns.

    Args:
        checkpoint: .pth or .safetensors file, or ``hub:OWNER/REPOSITORY/FILE`` for one on the Hugging Face hub; its
            authors' form or that of transformers.
        variant: "vit_b", "vit_l" or "vit_h"; read off the weights when None.
        parameters: settings of the generator.
        device: "cpu", "cuda" or "auto" (CUDA where there is one).
        embeddings: how many embeddings are kept (4 MB each; an image needs 1 and 4 for a layer of crops).

    Raises:
        LabelError: the file is missing, out of reach, hostile or not such a checkpoint.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        *,
        variant: Variant | None = None,
        parameters: GridParameters | None = None,
        device: str = "auto",
        embeddings: int = 10,
    ) -> None:
        path = locate_checkpoint(checkpoint, purpose=_PURPOSE, gives="which finds the regions")
        state = original_names(read_checkpoint(path, purpose=_PURPOSE))
        variant = variant or deduce_variant(state, name=path.name)
        if variant not in _WIDTHS.values():
            raise LabelError(
                expected=f"one of {', '.join(_WIDTHS.values())}",
                got=f"The variant is {variant!r}",
                remedy="Leave the variant out: it is read off the weights",
            )
        model, digest = load_sam(
            sam_model_registry[variant], state, path, purpose=_PURPOSE, device=choose_device(device, mps=False)
        )
        self._set_up(model, f"Segment Anything {variant}", digest, parameters, embeddings)

    @classmethod
    def from_model(
        cls,
        model: Sam,
        *,
        name: str = "Segment Anything",
        parameters: GridParameters | None = None,
        device: str = "cpu",
        embeddings: int = 10,
    ) -> SegmentAnythingSegmenter:
        """Use a model that is already in memory, of any size."""
        segmenter = cls.__new__(cls)
        digest = weights_digest(model.state_dict())
        model = attend_head_by_head(model.eval().requires_grad_(False)).to(choose_device(device, mps=False))
        segmenter._set_up(model, name, digest, parameters, embeddings)
        return segmenter

    def _set_up(self, model: Sam, name: str, digest: str, parameters: GridParameters | None, embeddings: int) -> None:
        self.name, self.digest = name, digest
        self.grid = parameters or GridParameters()
        self._model = model
        self._predictor = _RememberingPredictor(self._model, RecentlyUsed(embeddings))
        # The predictor holds the current image: one thread at a time.
        self._turn = threading.Lock()

    @property
    def parameters(self) -> dict[str, object]:
        """Every setting that changes the regions."""
        return {**asdict(self.grid), "working_side": WORKING_SIDE}

    def segment(self, image: MedicalImage) -> Segmentation:
        """Find the regions of an image, in the order of the generator.

        Raises:
            LabelError: the image has the same value everywhere or is too thin, or no region was found.
        """
        check_contrast(image)
        grid = self.grid
        shown = working_image(image, WORKING_SIDE)
        self._check_shape(image, generate_crop_boxes((shown.height, shown.width), grid.crop_layers, _CROP_OVERLAP)[0])
        generator = CompressedMaskGenerator(
            self._model,
            output_mode="uncompressed_rle",
            points_per_side=grid.points_per_side,
            points_per_batch=min(grid.points_per_batch, POINTS_AT_ONCE),
            pred_iou_thresh=grid.predicted_iou_threshold,
            stability_score_thresh=grid.stability_score_threshold,
            box_nms_thresh=grid.box_nms_threshold,
            crop_n_layers=grid.crop_layers,
            crop_overlap_ratio=_CROP_OVERLAP,
            crop_n_points_downscale_factor=grid.crop_points_downscale_factor,
            crop_nms_thresh=grid.crop_nms_threshold,
            min_mask_region_area=round(
                grid.area_in_pixels(image.height, image.width) * shown.height * shown.width / image.height / image.width
            ),
        )
        generator.predictor = self._predictor
        with self._turn:
            self._predictor.source = image.sha256
            records = generator.generate(shown.pixels)
        regions = []
        for record in records:
            # The generator's boxes have inclusive edges; ours come from the mask itself.
            region = region_from_mask(
                rle_to_mask(record["segmentation"]),
                predicted_iou=float(record["predicted_iou"]),
                stability_score=float(record["stability_score"]),
                size=(image.height, image.width),
            )
            if region is not None:
                regions.append(region)
        if not regions:
            raise LabelError(
                expected="at least one region",
                got=f"{self.name} found none in this image",
                remedy="Lower the quality thresholds, or draw a box over the structure",
            )
        notes = (f"{len(regions)} regions from a grid of points", *working_note(image, WORKING_SIDE))
        return Segmentation(tuple(regions), self.name, image.height, image.width, notes)

    @memory_for("the region in this box", TO_LABEL)
    def segment_box(self, image: MedicalImage, box: Box) -> Region:
        """As `Segmenter.segment_box`."""
        check_contrast(image)
        x, y, width, height = check_box(box, image.height, image.width)
        shown = working_image(image, WORKING_SIDE)
        self._check_shape(image, [[0, 0, shown.width, shown.height]])
        scale = np.tile([shown.width / image.width, shown.height / image.height], 2).astype(np.float32)
        with self._turn:
            self._predictor.source = image.sha256
            self._predictor.set_image(shown.pixels)
            corners = np.array([x, y, x + width, y + height], dtype=np.float32) * scale
            masks, quality, _ = self._predictor.predict(box=corners, multimask_output=False)
        predicted = float(np.clip(quality[0], 0, 1))
        region = region_from_mask(masks[0], predicted_iou=predicted, size=(image.height, image.width))
        return region_in_box(region, box)

    def forget(self, sha256: str) -> None:
        """As `Segmenter.forget`."""
        with self._turn:
            self._predictor.forget(sha256)

    def _check_shape(self, image: MedicalImage, crops: Sequence[Sequence[int]]) -> None:
        """Refuse an image of which a crop, (x0, y0, x1, y1) in what is shown, would be shown without a pixel across."""
        side = self._model.image_encoder.img_size
        for x0, y0, x1, y1 in crops:
            shorter, longer = sorted((x1 - x0, y1 - y0))
            if shorter <= 0 or shorter * side < longer / 2:
                raise LabelError(
                    expected=f"an image with pixels for {self.name} in each of its crops",
                    got=f"The image of {image.width} x {image.height} pixels is too thin",
                    remedy="Pad or crop the image to a less extreme shape",
                )


class _RememberingPredictor(SamPredictor):
    """A predictor that does not encode the same picture twice.

    Attributes:
        source: digest of the image that pictures are made of from now on.
    """

    features: torch.Tensor
    input_size: tuple[int, ...]

    def __init__(self, model: Sam, memory: RecentlyUsed[tuple[torch.Tensor, tuple[int, ...]]]) -> None:
        super().__init__(model)
        self._memory = memory
        self.source = ""

    def forget(self, sha256: str) -> None:
        """Drop what is kept of an image."""
        self._memory.forget(lambda key: key[0] == sha256)
        if self.source == sha256:
            self.reset_image()

    def set_image(self, image: np.ndarray, image_format: str = "RGB") -> None:
        key = (self.source, image.shape, image_format, hash(np.ascontiguousarray(image).tobytes()))
        known = self._memory.get(key)
        if known is None:
            super().set_image(image, image_format)
            self._memory.put(key, (self.features, self.input_size))
            return
        self.reset_image()
        self.features, self.input_size = known
        self.original_size = image.shape[:2]
        self.is_image_set = True


def deduce_variant(state: Mapping[str, torch.Tensor], *, name: str = "the checkpoint") -> Variant:
    """Read ViT-B, ViT-L or ViT-H off the width of the image encoder.

    Raises:
        LabelError: the weights are not Segment Anything's, or of another size.
    """
    weight = state.get("image_encoder.patch_embed.proj.weight")
    width = int(weight.shape[0]) if weight is not None and weight.ndim == 4 else None
    if width in _WIDTHS:
        return _WIDTHS[width]
    raise LabelError(
        expected=_PURPOSE,
        got=f"{name} holds {'an image encoder of width ' + str(width) if width else 'no image encoder of that kind'}",
        remedy="Use sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth, sam_vit_h_4b8939.pth or medsam_vit_b.pth",
    )
