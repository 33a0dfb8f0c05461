"""Drawing tools of the phantoms: smooth outlines, strokes, blobs and noise fields on a tilted body frame.

Bodies are described in the **body frame**: (0, 0) is the middle, x grows to the image's right (the patient's left),
y grows downwards, and 1.0 is half of the image's shorter side. `Canvas` turns it into source pixels with the slight
rotation, scale and shift of a real positioning.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import cv2
import numpy as np

_SUBPIXEL_BITS = 4


@lru_cache(maxsize=4)
def _spline_basis(samples: int) -> np.ndarray:
    """Catmull-Rom weights [samples, 4] of the four control points around one segment."""
    t = np.arange(samples, dtype=np.float64)[:, None] / samples
    powers = np.concatenate([np.ones_like(t), t, t**2, t**3], axis=1)
    matrix = 0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]], dtype=np.float64)
    return powers @ matrix


def closed_curve(control: np.ndarray, samples: int = 8) -> np.ndarray:
    """A smooth closed outline through the control points [n, 2]: float64 [n * samples, 2]."""
    control = np.asarray(control, dtype=np.float64)
    around = np.concatenate([control[-1:], control, control[:2]])
    neighbours = np.stack([around[k : k + len(control)] for k in range(4)], axis=1)
    return np.einsum("sk,nkd->nsd", _spline_basis(samples), neighbours).reshape(-1, 2)


def open_curve(control: np.ndarray, samples: int = 8) -> np.ndarray:
    """A smooth line from the first to the last control point [n, 2]: float64 [(n - 1) * samples + 1, 2]."""
    control = np.asarray(control, dtype=np.float64)
    padded = np.concatenate([2 * control[:1] - control[1:2], control, 2 * control[-1:] - control[-2:-1]])
    neighbours = np.stack([padded[k : len(padded) - 3 + k] for k in range(4)], axis=1)
    curve = np.einsum("sk,nkd->nsd", _spline_basis(samples), neighbours).reshape(-1, 2)
    return np.concatenate([curve, control[-1:]])


def mirrored(points: np.ndarray) -> np.ndarray:
    """The same points on the body's other side."""
    return np.asarray(points, dtype=np.float64) * np.array([-1.0, 1.0])


def blob(
    rng: np.random.Generator,
    centre: tuple[float, float],
    radii: tuple[float, float],
    roughness: float = 0.08,
    angle: float = 0.0,
    harmonics: int = 4,
) -> np.ndarray:
    """Outline [48, 2] of an ellipse whose radius wavers by about ``roughness`` of itself; angle in radians."""
    theta = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    order = np.arange(2, 2 + harmonics)
    amplitude, phase = rng.normal(0, roughness, harmonics) / np.sqrt(order), rng.uniform(0, 2 * np.pi, harmonics)
    radius = np.clip(1 + amplitude @ np.cos(order[:, None] * theta + phase[:, None]), 0.6, 1.4)
    x, y = radii[0] * radius * np.cos(theta), radii[1] * radius * np.sin(theta)
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([centre[0] + cosine * x - sine * y, centre[1] + sine * x + cosine * y], axis=1)


class Canvas:
    """The source pixels of one phantom and the body frame laid over them.

    Args:
        height, width: size of the image in pixels.
        rotation: tilt of the body in radians, clockwise on the screen.
        scale: (x, y) size of the body relative to the frame's unit.
        shift: (x, y) displacement in units of the frame.
    """

    def __init__(
        self,
        height: int,
        width: int,
        rotation: float = 0.0,
        scale: tuple[float, float] = (1.0, 1.0),
        shift: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.height, self.width = height, width
        self.unit = min(height, width) / 2
        cosine, sine = np.cos(rotation), np.sin(rotation)
        turn = np.array([[cosine, -sine], [sine, cosine]])
        self._matrix = self.unit * turn @ np.diag(scale)
        self._offset = np.array([width / 2, height / 2]) + self.unit * np.asarray(shift)

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Body frame [n, 2] to source pixels, float64 [n, 2] as (x, y)."""
        return np.asarray(points, dtype=np.float64) @ self._matrix.T + self._offset

    def body(self, points: np.ndarray) -> np.ndarray:
        """Source pixels [n, 2] to the body frame: the inverse of `pixels`."""
        return (np.asarray(points, dtype=np.float64) - self._offset) @ np.linalg.inv(self._matrix).T

    def _fixed(self, points: np.ndarray) -> np.ndarray:
        # cv2 counts from pixel centres, the source frame from pixel edges: half a pixel apart.
        return np.round((self.pixels(points) - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)

    def empty(self) -> np.ndarray:
        """A layer to draw strokes on: uint8 [height, width] of zeros."""
        return np.zeros(self.shape, dtype=np.uint8)

    def fill(self, outline: np.ndarray) -> np.ndarray:
        """The inside of an outline [n, 2], bool [height, width]."""
        layer = self.empty()
        cv2.fillPoly(layer, [self._fixed(outline)], 1, cv2.LINE_8, _SUBPIXEL_BITS)
        return layer.astype(bool)

    def fill_all(self, layer: np.ndarray, outlines: list[np.ndarray], value: int = 255) -> None:
        """Fill several outlines [n, 2] on a uint8 layer at once."""
        ends = np.cumsum([len(outline) for outline in outlines])[:-1]
        for points in np.split(self._fixed(np.concatenate(outlines)), ends):
            cv2.fillPoly(layer, [points], value, cv2.LINE_8, _SUBPIXEL_BITS)

    def stroke(self, layer: np.ndarray, line: np.ndarray, thickness: float, value: int = 255) -> None:
        """Draw a line [n, 2] on a uint8 layer, ``thickness`` in pixels."""
        points = self._fixed(line)
        width = max(1, round(thickness))
        cv2.polylines(layer, [points], False, value, width, cv2.LINE_8, _SUBPIXEL_BITS)

    def strokes(self, layer: np.ndarray, lines: list[np.ndarray], thickness: float, value: int = 255) -> None:
        """Draw several lines [n, 2] alike, in one go."""
        ends = np.cumsum([len(line) for line in lines])[:-1]
        points = np.split(self._fixed(np.concatenate(lines)), ends)
        cv2.polylines(layer, points, False, value, max(1, round(thickness)), cv2.LINE_8, _SUBPIXEL_BITS)

    def soft(self, mask: np.ndarray, sigma: float) -> np.ndarray:
        """A mask (bool, or a uint8 layer of 0 to 255) with blurred edges: float32 [height, width], 0 to 1.

        The blur runs on 8-bit integers, where cv2 promises the same result on every machine.
        """
        layer = mask.astype(np.uint8) * np.uint8(255) if mask.dtype == np.bool_ else mask
        if sigma > 5:
            small = cv2.resize(layer, (self.width // 4, self.height // 4), interpolation=cv2.INTER_AREA)
            small = cv2.GaussianBlur(small, (0, 0), sigma / 4, borderType=cv2.BORDER_REPLICATE)
            layer = cv2.resize(small, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        elif sigma > 0:
            layer = cv2.GaussianBlur(layer, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        return layer.astype(np.float32) / np.float32(255)

    def field(self, rng: np.random.Generator, cells: int) -> np.ndarray:
        """Smooth noise with about ``cells`` bumps across: float32 [height, width], unit variance or a bit less."""
        coarse = rng.standard_normal((cells, cells), dtype=np.float32)
        return cv2.resize(coarse, (self.width, self.height), interpolation=cv2.INTER_CUBIC)

    def warped(self, layer: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
        """A uint8 layer with every pixel taken from (``across``, ``down``) pixels, float32 [height, width], away."""
        columns = np.arange(self.width, dtype=np.float32)[None, :] + across
        rows = np.arange(self.height, dtype=np.float32)[:, None] + down
        return cv2.remap(layer, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    @cached_property
    def _ramp(self) -> tuple[np.ndarray, np.ndarray]:
        inverse = np.linalg.inv(self._matrix)
        column = np.arange(self.width, dtype=np.float64)[None, :] + 0.5 - self._offset[0]
        row = np.arange(self.height, dtype=np.float64)[:, None] + 0.5 - self._offset[1]
        x = inverse[0, 0] * column + inverse[0, 1] * row
        y = inverse[1, 0] * column + inverse[1, 1] * row
        return x.astype(np.float32), y.astype(np.float32)

    def ramp(self) -> tuple[np.ndarray, np.ndarray]:
        """Body coordinates of the pixel centres, (x [height, width], y [height, width]), float32."""
        return self._ramp


def paint(image: np.ndarray, cover: np.ndarray, value: float | np.ndarray) -> None:
    """Lay ``value`` over a float32 image in place, ``cover`` being the opacity 0 to 1."""
    image += (value - image) * cover


def largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask, bool [height, width]."""
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    if len(rows) == 0:
        return mask
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask[window].astype(np.uint8), connectivity=4)
    if count <= 2:
        return mask
    part = np.zeros_like(mask)
    part[window] = labels == 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))
    return part


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    """The mask with a rim of ``pixels`` added."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    return cv2.dilate(mask.astype(np.uint8), kernel).astype(bool)


def room_for(
    rng: np.random.Generator, host: np.ndarray, taken: np.ndarray, radius: float
) -> tuple[float, float] | None:
    """A random place in ``host``, clear of ``taken``, where a disc of ``radius`` pixels fits.

    Returns (x, y) in source pixels, or None where there is no room.
    """
    free = (host & ~taken).astype(np.uint8)
    free[0, :] = free[-1, :] = 0
    free[:, 0] = free[:, -1] = 0
    distance = cv2.distanceTransform(free, cv2.DIST_L2, 3)
    rows, columns = np.nonzero(distance >= radius)
    if len(rows) == 0:
        return None
    pick = int(rng.integers(len(rows)))
    return columns[pick] + 0.5, rows[pick] + 0.5
