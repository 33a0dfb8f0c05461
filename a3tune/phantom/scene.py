"""Whole phantoms: a body, its contents, the markers and the detector's noise, all from one seed."""

from __future__ import annotations

import cv2
import numpy as np

from a3tune.errors import RequestError
from a3tune.phantom.abdomen import draw_abdomen
from a3tune.phantom.brain import draw_brain
from a3tune.phantom.chest import draw_chest
from a3tune.phantom.structures import (
    KINDS,
    MODALITIES,
    STYLES,
    Phantom,
    PhantomKind,
    PhantomStyle,
    Side,
    Structure,
)
from a3tune.types import MedicalImage

_DRAW = {"chest": draw_chest, "brain": draw_brain, "abdomen": draw_abdomen}
_CODES = {"chest": "DX", "brain": "MR", "abdomen": "CT"}
# Strokes of the letters R and L in a unit square, x to the right and y down. Drawn here because a font of OpenCV's
# changes with its version, and with it the masks.
_LETTERS: dict[str, list[list[tuple[float, float]]]] = {
    "right": [
        [(0.0, 1.0), (0.0, 0.0), (0.65, 0.0), (0.92, 0.1), (1.0, 0.27), (0.92, 0.44), (0.65, 0.54), (0.0, 0.54)],
        [(0.5, 0.54), (1.0, 1.0)],
    ],
    "left": [[(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)]],
}


def _generator(*words: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def make_phantom(seed: int, kind: PhantomKind | None = None, style: PhantomStyle = "standard") -> Phantom:
    """Make the phantom that belongs to a seed.

    The shifted style shows the same patient and lesions as the standard style of the same seed; only tubes, markers,
    window, sharpness and noise differ.

    Args:
        seed: from 0; `TRAINING_SEEDS`, `VALIDATION_SEEDS` and `HELD_OUT_SEEDS` say which are for what.
        kind: "chest", "brain", "abdomen", or None to let the seed choose.
        style: "standard", or "shifted" for a test under other conditions than in training.

    Returns:
        The phantom; the same for the same arguments on every machine.

    Raises:
        RequestError: an unknown kind or style, or a negative seed.
    """
    if kind is not None and kind not in KINDS:
        raise RequestError(expected="a kind of phantom", got=f"'{kind}'", remedy=f"Choose one of: {', '.join(KINDS)}")
    if style not in STYLES:
        raise RequestError(expected="a phantom style", got=f"'{style}'", remedy=f"Choose one of: {', '.join(STYLES)}")
    if seed < 0:
        raise RequestError(expected="a seed of 0 or more", got=f"{seed}", remedy="Use a whole number from 0")
    if kind is None:
        kind = KINDS[int(_generator(seed, 0).integers(len(KINDS)))]
    code = 1 + KINDS.index(kind)
    dressing = _generator(seed, code, 1 + STYLES.index(style))
    painted = _DRAW[kind](_generator(seed, code, 0), dressing, style)
    grey = _exposed(dressing, painted.grey, kind, style)
    markers = _markers(dressing, grey, style)
    level = np.clip(np.round(grey * 255), 0, 255).astype(np.uint8)
    pixels = np.repeat(level[:, :, None], 3, axis=2)
    return Phantom(
        image=MedicalImage(pixels=pixels, modality=_CODES[kind]),
        kind=kind,
        modality=MODALITIES[kind],
        structures=(*painted.structures, *markers),
        seed=seed,
        style=style,
        variant=painted.variant,
    )


def _exposed(rng: np.random.Generator, grey: np.ndarray, kind: PhantomKind, style: PhantomStyle) -> np.ndarray:
    """Blur, window and noise of the acquisition: float32 [height, width], 0 to 1."""
    shifted = style == "shifted"
    sigma = rng.uniform(0.9, 1.3) if shifted else rng.uniform(0.35, 0.75)
    grey = cv2.GaussianBlur(grey, (0, 0), sigma)
    noise = rng.uniform(0.045, 0.075) if shifted else rng.uniform(0.008, 0.022)
    if kind == "brain":
        # Magnitude of a complex signal with Gaussian noise in both parts: Rician (Gudbjartsson and Patz 1995).
        real = grey + noise * rng.standard_normal(grey.shape, dtype=np.float32)
        imaginary = noise * rng.standard_normal(grey.shape, dtype=np.float32)
        grey = np.sqrt(real**2 + imaginary**2)
    elif kind == "chest":
        # Quanta: the variance grows where less tissue was in the way is in counts; on the log image it falls there.
        spread = noise * (0.55 + 0.9 * grey)
        grey = grey + spread * rng.standard_normal(grey.shape, dtype=np.float32)
    else:
        # Reconstruction correlates the noise of neighbouring pixels.
        grain = cv2.GaussianBlur(rng.standard_normal(grey.shape, dtype=np.float32), (0, 0), 0.7)
        grey = grey + 1.9 * noise * grain * (grey > 0.02)
    gain = rng.uniform(0.82, 1.08) if shifted else rng.uniform(0.95, 1.05)
    gamma = rng.choice((rng.uniform(0.62, 0.78), rng.uniform(1.3, 1.6))) if shifted else rng.uniform(0.9, 1.12)
    return np.clip(gain * np.clip(grey, 0, 1) ** np.float32(gamma), 0, 1).astype(np.float32)


def _markers(rng: np.random.Generator, grey: np.ndarray, style: PhantomStyle) -> list[Structure]:
    """Write the letters R and L beside the body, in place; the patient's right is on the image's left."""
    shifted = style == "shifted"
    height, width = grey.shape
    present = [side for side in ("right", "left") if rng.random() < (0.9 if shifted else 0.45)]
    tall = round(rng.uniform(19, 26) if shifted else rng.uniform(13, 18))
    wide, pen = round(0.7 * tall), 3 if tall > 16 else 2
    edge = rng.uniform(0.02, 0.05)
    low, high = (0.82, 0.92) if shifted else (0.04, 0.12)
    down = rng.uniform(low, high)
    boxed = shifted and rng.random() < 0.6
    structures = []
    for side in present:
        left = round(edge * width) if side == "right" else width - round(edge * width) - wide
        top = int(np.clip(round(down * height), 4, height - tall - 5))
        layer = np.zeros(grey.shape, dtype=np.uint8)
        for line in _LETTERS[side]:
            points = np.round(np.array(line) * (wide, tall) + (left, top)).astype(np.int32)
            cv2.polylines(layer, [points], False, 255, pen, cv2.LINE_8)
        if boxed:
            cv2.rectangle(layer, (left - 3, top - 4), (left + wide + 2, top + tall + 4), 255, 1)
        mask = layer > 0
        grey += (np.float32(0.97) - grey) * (cv2.GaussianBlur(layer, (3, 3), 0.5).astype(np.float32) / 255)
        marked: Side = "right" if side == "right" else "left"
        structures.append(Structure(f"{side} marker", "marker", mask, marked, f"{side} side"))
    return structures
