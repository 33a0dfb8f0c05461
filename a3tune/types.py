"""Frozen value objects that flow between the folders of the library.

These frames are used throughout and every coordinate names its own:

* **source pixel**: the image as loaded, x to the right, y down, the pixel (0, 0) covers [0, 1) x [0, 1); pixels are
  square where the file tells their size, so this may be a finer grid than the **stored pixel** frame of the file, in
  which masks, boxes and maps are read and written (:mod:`a3tune.images.frames`);
* **processor pixel**: what the model's image processor hands to the vision tower (resized, cropped, padded, tiled);
* **patch**: one image token of the language model, numbered in the order in which the tokens stand in the prompt.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

TokenRole = Literal["image", "question", "template", "answer"]


class Window(NamedTuple):
    """A grey-value window: ``centre`` and ``width`` in the file's own units (Hounsfield units for CT)."""

    centre: float
    width: float


class Edges(NamedTuple):
    """Which way each edge of a picture lies in the patient: L left, R right, A front, P back, H head, F feet; of an
    oblique picture two or three letters, the nearest direction first."""

    left: str
    right: str
    top: str
    bottom: str


class Head(NamedTuple):
    """One attention head of the language model, both numbers counted from 0."""

    layer: int
    head: int


def _frozen(array: np.ndarray, dtype: np.dtype | type, dimensions: int, name: str) -> np.ndarray:
    array = np.ascontiguousarray(array)
    if array.dtype != dtype or array.ndim != dimensions:
        raise ValueError(
            f"{name} must be {np.dtype(dtype).name} with {dimensions} dimensions, "
            f"not {array.dtype.name} with shape {array.shape}"
        )
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class MedicalImage:
    """One picture, ready to look at, with the few facts about it that may be kept.

    Attributes:
        pixels: uint8 [height, width, 3], RGB, source pixel frame, read-only.
        format: what the file was: "PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "DICOM", "NIfTI" or "array".
        modality: DICOM modality code ("CT", "MR", "DX", ...), or None when the file does not say.
        spacing: (row, column) distance between the centres of stored pixels in millimetres, or None.
        stored_size: (height, width) of the picture in the file; another than that of ``pixels`` when those were
            resampled to be square. None for the same.
        window: the window the grey values were shown with, or None for 8-bit pictures.
        frame: index of the frame or slice that ``pixels`` shows, from 0.
        frame_count: how many frames or slices the file holds along the chosen axis.
        model_pixels: uint8 [height, width, 3], source pixel frame, read-only: what a model is given instead of
            ``pixels`` where it was trained on another picture than one for the eye; None where it gets ``pixels``.
        convention: name of the convention that ``model_pixels`` follow (:mod:`a3tune.images.conventions`), or None.
        notes: what a reader should know about how the picture was made, in sentences.
        edges: which way the edges of ``pixels`` lie in the patient, or None where the file does not say for certain.
        spacing_plane: where ``spacing`` was measured when that is not in the patient: "detector" (a projection, so
            larger than what it shows) or "film"; else "".
        frame_time: milliseconds that the file gives this frame until the next one, or None.

    Nothing else of a file's header is held: names, dates and identifiers never enter this object.
    """

    pixels: np.ndarray
    format: str = "array"
    modality: str | None = None
    spacing: tuple[float, float] | None = None
    window: Window | None = None
    frame: int = 0
    frame_count: int = 1
    # None until it is known what the picture is: never seen from outside.
    stored_size: tuple[int, int] = None  # type: ignore[assignment]
    notes: tuple[str, ...] = ()
    model_pixels: np.ndarray | None = None
    convention: str | None = None
    edges: Edges | None = None
    spacing_plane: str = ""
    frame_time: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", _frozen(self.pixels, np.uint8, 3, "pixels"))
        if self.model_pixels is not None:
            object.__setattr__(self, "model_pixels", _frozen(self.model_pixels, np.uint8, 3, "model_pixels"))
            if self.model_pixels.shape != self.pixels.shape:
                raise ValueError(f"model_pixels must be {self.pixels.shape} as pixels, not {self.model_pixels.shape}")
        if self.stored_size is None:
            object.__setattr__(self, "stored_size", self.pixels.shape[:2])
        if self.pixels.shape[2] != 3 or 0 in self.pixels.shape:
            raise ValueError(f"pixels must be [height, width, 3] and not empty, not {self.pixels.shape}")

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def model_input(self) -> np.ndarray:
        """uint8 [height, width, 3], source pixel frame: the picture that a model is given."""
        return self.pixels if self.model_pixels is None else self.model_pixels

    @property
    def is_resampled(self) -> bool:
        """Whether the pixels are another grid than the file's."""
        return self.stored_size != (self.height, self.width)

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the shape and ``pixels``: the image's identity in results and caches."""
        digest = hashlib.sha256(f"{self.height}x{self.width}".encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Token:
    """One token of prompt or answer.

    Attributes:
        position: index in the sequence that the language model sees (image tokens expanded), from 0.
        id: vocabulary id.
        text: the token as it reads in the decoded text, spaces kept; special tokens by their name.
        role: "image", "question", "template" (everything the chat template adds) or "answer".
    """

    position: int
    id: int
    text: str
    role: TokenRole

    @property
    def read_at(self) -> int:
        """Position whose attention tells where the model looked for this token.

        A token of the answer is chosen by the pass that reads the token before it; any other is read at its own.
        """
        return self.position - 1 if self.role == "answer" else self.position


@dataclass(frozen=True)
class PatchTile:
    """A rectangle of patches that the processor made from one part of the image.

    Attributes:
        start: index of the tile's first patch in the patch frame; its patches follow row by row.
        rows, columns: size of the tile in patches.
        box: (x0, y0, x1, y1) in source pixels that the whole tile covers; may reach beyond the image
            where the processor padded.
        overview: True when other tiles show the same area in more detail.
    """

    start: int
    rows: int
    columns: int
    box: tuple[float, float, float, float]
    overview: bool = False


@dataclass(frozen=True, eq=False)
class PatchGrid:
    """Where each patch lies in the source image.

    Attributes:
        boxes: float64 [patches, 4] as (x0, y0, x1, y1) in source pixels; may reach beyond the image where
            the processor padded; zero-area boxes belong to image tokens that show no pixels (row separators).
        tiles: the rectangles of patches, in token order.
        height, width: size of the source image in pixels.
    """

    boxes: np.ndarray
    tiles: tuple[PatchTile, ...]
    height: int
    width: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", _frozen(self.boxes, np.float64, 2, "boxes"))

    @property
    def count(self) -> int:
        """How many patches (image tokens) there are."""
        return len(self.boxes)

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) with h * w == count: the tile's rows and columns, or for several equal tiles the tiles
        stacked from top to bottom; (1, count) when the patches form no such rectangle."""
        widths = {tile.columns for tile in self.tiles}
        rows = sum(tile.rows for tile in self.tiles)
        if len(widths) == 1 and rows * min(widths) == self.count:
            return rows, min(widths)
        return 1, self.count

    def tiles_record(self) -> list[dict[str, Any]]:
        """The tiles as plain JSON values, by the names of `PatchTile`'s fields."""
        return [{**vars(tile), "box": [float(edge) for edge in tile.box]} for tile in self.tiles]


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """Attention of the text tokens of one sequence to the patches of its image(s).

    Attributes:
        weights: float32 [layers, heads, rows, patches]: post-softmax weight of text row i on patch j,
            exactly the columns of eager attention that belong to image tokens.
        rows: int64 [rows], positions of the text tokens in the sequence (every text token that stands after
            the first image token; earlier ones cannot see the image), ascending.
        image_share: float32 [layers, heads, rows], each row's total weight on the image tokens.
    """

    weights: np.ndarray
    rows: np.ndarray
    image_share: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", _frozen(self.weights, np.float32, 4, "weights"))
        object.__setattr__(self, "rows", _frozen(self.rows, np.int64, 1, "rows"))
        object.__setattr__(self, "image_share", _frozen(self.image_share, np.float32, 3, "image_share"))
        if self.weights.shape[:3] != self.image_share.shape or self.weights.shape[2] != len(self.rows):
            raise ValueError(
                f"weights {self.weights.shape}, image_share {self.image_share.shape} and rows "
                f"{self.rows.shape} do not describe the same layers, heads and rows"
            )

    @property
    def layers(self) -> int:
        return self.weights.shape[0]

    @property
    def heads(self) -> int:
        return self.weights.shape[1]


def _tightest(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1) if len(rows) else (0,) * 4


@dataclass(frozen=True, eq=False, init=False)
class Region:
    """One region that a segmenter found, its mask kept as bits within its box.

    A mask may be drawn on a coarser grid than the image, over the same area: each source pixel then belongs to the
    grid pixel that holds its centre.

    Args:
        mask: bool [h, w], the whole image on the source pixels or on a coarser grid.
        box: (x, y, width, height) in pixels of ``mask``, exclusive edges; what lies outside is left out. The tightest
            around the mask when None; (0, 0, 0, 0) around an empty one.
        predicted_iou: see below.
        stability_score: see below.
        size: (height, width) of the image in source pixels; that of ``mask`` when None.

    Attributes:
        grid: (h, w) of the grid that the mask is drawn on.
        place: (x, y, width, height) of the box in pixels of that grid.
        size: (height, width) of the image in source pixels.
        box: (x, y, width, height) in source pixels, exclusive edges: the mask lies in
            [x, x + width) x [y, y + height).
        predicted_iou: the segmenter's own estimate of its quality, 0 to 1, or None.
        stability_score: agreement of the mask under a shifted threshold, 0 to 1, or None.
        bits: uint8, the grid pixels of the box row by row, eight in each.
    """

    grid: tuple[int, int]
    place: tuple[int, int, int, int]
    size: tuple[int, int]
    box: tuple[int, int, int, int]
    predicted_iou: float | None
    stability_score: float | None
    bits: np.ndarray

    def __init__(
        self,
        mask: np.ndarray,
        box: tuple[int, int, int, int] | None = None,
        predicted_iou: float | None = None,
        stability_score: float | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        if mask.dtype != np.bool_ or mask.ndim != 2:
            raise ValueError(f"mask must be bool with 2 dimensions, not {mask.dtype.name} with shape {mask.shape}")
        x, y, width, height = box = _tightest(mask) if box is None else box
        part = mask[y : y + height, x : x + width]
        values = vars(self)
        values |= {"grid": mask.shape, "place": (x, y, part.shape[1], part.shape[0]), "size": size or mask.shape}
        values |= {"predicted_iou": predicted_iou, "stability_score": stability_score, "bits": np.packbits(part)}
        (top, rows), (left, columns) = self._span(0), self._span(1)
        values["box"] = box if self.size == self.grid else (left, top, int(columns.sum()), int(rows.sum()))

    def _span(self, axis: int) -> tuple[int, np.ndarray]:
        """Along rows (0) or columns (1): the first source pixel of the box, and how many each grid pixel holds."""
        first, length = self.place[1 - axis], self.place[3 - axis]
        old, new = self.grid[axis], self.size[axis]
        # Source pixel i belongs to grid pixel floor((2 i + 1) old / (2 new)).
        edges = -((old - 2 * new * np.arange(first, first + length + 1)) // (2 * old))
        return int(edges[0]), np.diff(edges)

    @property
    def inside(self) -> np.ndarray:
        """bool [h, w]: the mask on its own grid, cut to its box there."""
        width, height = self.place[2:]
        return np.unpackbits(self.bits, count=height * width).reshape(height, width).astype(bool)

    @property
    def mask(self) -> np.ndarray:
        """bool [height, width], source pixel frame, read-only; made anew each time."""
        full = self.mask_on(self.size)
        full.flags.writeable = False
        return full

    def mask_on(self, grid: tuple[int, int]) -> np.ndarray:
        """bool [h, w]: the mask on another grid over the same area, taken at each grid pixel's centre."""
        x, y, width, height = self.place
        full = np.zeros(grid, dtype=bool)
        rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(grid, self.grid, strict=True))
        top, bottom = np.searchsorted(rows, [y, y + height])
        left, right = np.searchsorted(columns, [x, x + width])
        full[top:bottom, left:right] = self.inside.take(rows[top:bottom] - y, 0).take(columns[left:right] - x, 1)
        return full

    @cached_property
    def area(self) -> int:
        """How many source pixels the mask holds."""
        return int(self._span(0)[1] @ (self.inside @ self._span(1)[1]))

    @cached_property
    def key(self) -> str:
        """16 hex digits that name the region among all of its image: the same for the same pixels."""
        digest = hashlib.sha256(repr(self.box).encode())
        digest.update(self.bits.tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class ScoredRegion:
    """A region with its standing for one prompt.

    Attributes:
        region: the region.
        score: 100 x cosine between the crop's and the prompt's embedding (facts: CLIP's usual scale).
        rank: 1 for the best score.
        weight: softmax over the scores of all regions of the image, 0 to 1.
        phrase: the prompt, or the phrase of several that fits the region best.
    """

    region: Region
    score: float
    rank: int
    weight: float
    phrase: str


@dataclass(frozen=True, eq=False)
class WeakLabels:
    """The regions of one image, ranked for one prompt, best first.

    Attributes:
        regions: ranked regions.
        prompt: the text the ranking was made for.
        segmenter, scorer: names of what made them, for the record.
        notes: what was dropped and why, in words ("12 of 31 regions kept: 9 touch the border, ...").
        settings: digest of everything but image and prompt that they were made with; "" where that is not known.
        checked: whether a person chose these regions.
    """

    regions: tuple[ScoredRegion, ...]
    prompt: str
    segmenter: str
    scorer: str
    notes: tuple[str, ...] = field(default=())
    settings: str = ""
    checked: bool = False
