"""What an image processor makes of an image, brought into one form: tiles of pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from a3tune.errors import ModelError

_LONGEST_FAULT = 200


@dataclass(frozen=True)
class ProcessorOutput:
    pixels: np.ndarray  # float32 [tiles, 3, height, width]; smaller tiles are filled up with 0 at the right and bottom
    shown: np.ndarray  # bool [tiles], False for tiles that only fill up a batch
    merged: tuple[tuple[int, int, int], ...] | None = None
    any_resolution: bool = False

    def size(self, tile: int) -> tuple[int, int]:
        """Height and width of one tile's own pixels."""
        height, width = self.pixels.shape[2:]
        if self.merged is None:
            return height, width
        rows, columns, _ = self.merged[tile]
        most_rows, most_columns = (max(grid[axis] for grid in self.merged) for axis in (0, 1))
        return height // most_rows * rows, width // most_columns * columns


def run_processor(image_processor: Any, image: np.ndarray, options: Mapping[str, Any]) -> ProcessorOutput:
    height, width = image.shape[:2]
    try:
        features = image_processor(images=Image.fromarray(image), return_tensors="pt", **options)
    except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError) as fault:
        raise ModelError(
            expected=f"an image size that {type_name(image_processor)} takes",
            # Some print their whole configuration.
            got=f"It fails on {width} x {height} pixels ({' '.join(str(fault).split())[:_LONGEST_FAULT]})",
            remedy="Pad, crop or resize the image",
        ) from fault
    pixels = features.get("pixel_values")
    if pixels is None or not hasattr(pixels, "detach"):
        raise refusal(image_processor, "gives no single tensor of pixel_values")
    pixels = pixels.detach().to("cpu").float().numpy()
    if "image_grid_thw" in features:
        return _unflattened(image_processor, pixels, features["image_grid_thw"])
    if "spatial_shapes" in features:  # SigLIP 2, as in LFM2-VL: a row of padded patches for each tile
        shapes = np.asarray(features["spatial_shapes"].detach().to("cpu")).reshape(-1, 2)
        return _padded_patches(image_processor, pixels, shapes, "downsample_factor")
    if "image_position_ids" in features:  # Gemma 4: the same, with the x and y of each patch, -1 in the padding
        places = np.asarray(features["image_position_ids"].detach().to("cpu"))
        return _padded_patches(image_processor, pixels, places.max(axis=1)[:, ::-1] + 1, "pooling_kernel_size")
    tiled = pixels.ndim == 5 and pixels.shape[0] == 1
    if tiled:
        pixels = pixels[0]
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise refusal(image_processor, f"gives pixel_values of shape {list(pixels.shape)}")
    mask = features.get("pixel_attention_mask")
    shown: np.ndarray = np.ones(len(pixels), bool)
    if mask is not None:
        shown = np.asarray(mask.detach().to("cpu")).reshape(len(pixels), -1).max(axis=1).astype(bool)
    return ProcessorOutput(pixels, shown, any_resolution=tiled and "image_sizes" in features)


def _unflattened(image_processor: Any, pixels: np.ndarray, grids: Any) -> ProcessorOutput:
    """Undo the flattening of Qwen2-VL's family: [patches, 3 * frames * edge * edge], merge blocks together."""
    grids = np.asarray(grids.detach().to("cpu")).reshape(-1, 3)
    frames, rows, columns = (int(number) for number in grids[0])
    merge = int(getattr(image_processor, "merge_size", 0) or 0)
    depth = int(getattr(image_processor, "temporal_patch_size", 1) or 1)
    edge = round((pixels.shape[-1] / (3 * depth)) ** 0.5)
    block = max(merge, 1)
    if (
        len(grids) != 1
        or frames != 1
        or pixels.shape != (rows * columns, 3 * depth * edge * edge)
        or rows % block
        or columns % block
    ):
        raise refusal(image_processor, f"gives pixel_values of shape {list(pixels.shape)} for grids {grids.tolist()}")
    blocks = pixels.reshape(rows // block, columns // block, block, block, 3, depth, edge, edge)[:, :, :, :, :, 0]
    # To [channel, block row, row in block, y, block column, column in block, x].
    picture = blocks.transpose(4, 0, 2, 5, 1, 3, 6).reshape(1, 3, rows * edge, columns * edge)
    return ProcessorOutput(picture, np.ones(1, bool), ((rows, columns, merge),))


def _padded_patches(image_processor: Any, pixels: np.ndarray, shapes: np.ndarray, merge_name: str) -> ProcessorOutput:
    """Put [tiles, patches, edge * edge * 3] together, of which the first rows * columns of a tile are its patches.

    Args:
        shapes: int [tiles, 2], the rows and columns of each tile.
        merge_name: the processor's attribute that says along how many patches a token is merged.
    """
    merge = int(getattr(image_processor, merge_name, 0) or 0)
    edge = round((pixels.shape[-1] / 3) ** 0.5)
    if (
        pixels.ndim != 3
        or pixels.shape[2] != 3 * edge * edge
        or len(shapes) != len(pixels)
        or shapes.prod(axis=1).max() > pixels.shape[1]
        or merge < 1
        or (shapes % merge).any()
    ):
        raise refusal(image_processor, f"gives pixel_values of shape {list(pixels.shape)} for {shapes.tolist()}")
    most_rows, most_columns = shapes.max(axis=0)
    pictures = np.zeros((len(pixels), 3, most_rows * edge, most_columns * edge), pixels.dtype)
    for picture, patches, (rows, columns) in zip(pictures, pixels, shapes, strict=True):
        blocks = patches[: rows * columns].reshape(rows, columns, edge, edge, 3).transpose(4, 0, 2, 1, 3)
        picture[:, : rows * edge, : columns * edge] = blocks.reshape(3, rows * edge, columns * edge)
    grids = tuple((int(rows), int(columns), merge) for rows, columns in shapes)
    return ProcessorOutput(pictures, np.ones(len(pixels), bool), grids)


def type_name(image_processor: Any) -> str:
    return type(image_processor).__name__


def refusal(image_processor: Any, fault: str) -> ModelError:
    return ModelError(
        expected="an image processor that resizes, crops, pads or tiles the image",
        got=f"{type_name(image_processor)} {fault}",
        remedy="Use a model whose image processor keeps pixels in a grid",
    )
