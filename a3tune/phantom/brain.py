"""Axial brain MR at the level of the lateral ventricles, with T1, T2 or FLAIR contrast."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from a3tune.phantom.lesions import Lesion, Painted, is_visible, named, planned_findings
from a3tune.phantom.locate import lobe
from a3tune.phantom.shapes import Canvas, blob, closed_curve, grown, largest_part, mirrored, open_curve, paint, room_for
from a3tune.phantom.structures import PhantomStyle, Side, Structure

FINDINGS = ("tumor", "infarct", "hemorrhage", "edema")
DEVICES = ("ventricular shunt",)
COUNTABLE = ("tumor", "infarct")
SIZES = ((256, 256), (256, 224), (272, 240))


class _Contrast(NamedTuple):
    """Grey of each tissue, 0 to 1."""

    white: float
    grey: float
    fluid: float
    fat: float
    muscle: float
    bone: float


CONTRASTS = {
    "T1": _Contrast(white=0.66, grey=0.46, fluid=0.13, fat=0.92, muscle=0.42, bone=0.05),
    "T2": _Contrast(white=0.36, grey=0.53, fluid=0.93, fat=0.66, muscle=0.26, bone=0.05),
    "FLAIR": _Contrast(white=0.40, grey=0.52, fluid=0.10, fat=0.62, muscle=0.30, bone=0.05),
}

# Grey of a lesion's body in T1, T2 and FLAIR.
_LESION_GREY = {
    "tumor": {"T1": 0.34, "T2": 0.74, "FLAIR": 0.72},
    "infarct": {"T1": 0.27, "T2": 0.80, "FLAIR": 0.80},
    "hemorrhage": {"T1": 0.93, "T2": 0.12, "FLAIR": 0.95},
    "edema": {"T1": 0.40, "T2": 0.78, "FLAIR": 0.77},
}

_OUTLINE = [
    (0.0, -0.77), (0.17, -0.755), (0.34, -0.67), (0.47, -0.50), (0.545, -0.28), (0.59, -0.02), (0.59, 0.22),
    (0.53, 0.46), (0.39, 0.66), (0.2, 0.755), (0.0, 0.765),
]  # fmt: skip


class _Head:
    """The organs' masks of one patient."""

    def __init__(self, rng: np.random.Generator) -> None:
        height, width = SIZES[int(rng.integers(len(SIZES)))]
        self.rng = rng
        self.canvas = canvas = Canvas(
            height,
            width,
            rotation=float(rng.normal(0, 0.035)),
            scale=(float(rng.uniform(1.06, 1.2)), float(rng.uniform(1.02, 1.12))),
            shift=(float(rng.normal(0, 0.015)), float(rng.normal(0, 0.015))),
        )
        left = np.array(_OUTLINE)
        left[1:-1] += rng.normal(0, 0.005, (len(left) - 2, 2))
        right = mirrored(left[1:-1])[::-1] + rng.normal(0, 0.004, (len(left) - 2, 2))
        self.outline = outline = closed_curve(np.concatenate([left, right]))
        self.brain = canvas.fill(outline)
        self.inner = canvas.fill(outline * (1.045, 1.04))
        self.bone = canvas.fill(outline * (1.13, 1.115))
        self.skin = canvas.fill(outline * np.stack([1.205 + self._lump(), 1.185 + self._lump()], axis=1))
        self.x, self.y = canvas.ramp()
        self.enlarged = bool(rng.random() < 0.4)
        self.ventricles, self.third = self._ventricles()
        self.fluid, self.cortex = self._folds()
        self.nuclei = self._nuclei() & ~self.ventricles

    def _lump(self) -> np.ndarray:
        """A slow wavering along the outline, float64 [points]."""
        theta = np.linspace(0, 2 * np.pi, len(self.outline), endpoint=False)
        first, second = self.rng.uniform(0, 2 * np.pi, 2)
        return 0.012 * np.sin(2 * theta + first) + 0.008 * np.sin(3 * theta + second)

    def _ventricles(self) -> tuple[np.ndarray, np.ndarray]:
        rng, canvas = self.rng, self.canvas
        horn = rng.uniform(0.205, 0.24) if self.enlarged else rng.uniform(0.105, 0.148)
        thick = 1.75 if self.enlarged else 1.0
        atrium = horn + rng.uniform(0.08, 0.12)
        layer = canvas.empty()
        for sign in (-1, 1):
            length = rng.uniform(0.95, 1.05)
            points = np.array(
                [
                    (0.022, -0.17), (0.024, -0.25 * length), (horn * 0.62, -0.335 * length), (horn, -0.33 * length),
                    (horn * 0.88, -0.255), (0.05 + 0.025 * thick, -0.15), (0.045 + 0.02 * thick, 0.0),
                    (0.07 + 0.04 * thick, 0.13), (atrium, 0.25), (atrium + 0.025 * thick, 0.36 * length),
                    (atrium - 0.02 * thick, 0.45 * length), (atrium - 0.045 * thick, 0.36), (0.075, 0.21), (0.03, 0.10),
                    (0.018, -0.05),
                ]
            )  # fmt: skip
            layer |= canvas.fill(closed_curve(points * (sign, 1))).astype(np.uint8)
        half = 0.02 * thick
        third = canvas.fill(closed_curve(np.array([(-half, -0.06), (half, -0.06), (half, 0.14), (-half, 0.14)])))
        return (layer > 0) | third, third

    def _folds(self) -> tuple[np.ndarray, np.ndarray]:
        """Fluid of the furrows (a soft uint8 layer), and the cortex around them as a mask."""
        rng, canvas, unit = self.rng, self.canvas, self.canvas.unit
        fluid, band = canvas.empty(), canvas.empty()
        ribbon = 0.085 * unit
        count = 46
        at = (np.arange(count) + rng.uniform(-0.28, 0.28, count)) * len(self.outline) / count
        starts = self.outline[at.astype(int) % len(self.outline)]
        wide = rng.uniform(0.7, 1.2) + (0.5 if self.enlarged else 0)
        for index, start in enumerate(starts):
            depth = (0.22, 0.12, 0.27, 0.15)[index % 4] * rng.uniform(0.75, 1.2)
            inward = -start / np.linalg.norm(start)
            across = np.array([-inward[1], inward[0]])
            sway = rng.normal(0, 0.035, 3)
            along = np.array([0.0, 0.5, 1.0])[:, None]
            path = start * 1.01 + inward * depth * along + across * np.array([0, sway[0], sway[1]])[:, None]
            line = open_curve(path, samples=4)
            self._furrow(fluid, band, line, wide, ribbon)
            if depth > 0.18:
                fork = rng.choice((-1, 1)) * rng.uniform(0.05, 0.09)
                end = path[1] + inward * depth * 0.2
                self._furrow(fluid, band, np.array([end, end + across * fork + inward * 0.03]), wide * 0.7, ribbon)
        for sign in (-1, 1):
            sylvian = np.array([(0.6, -0.10), (0.5, -0.085), (0.40, -0.03), (0.37, 0.04)]) + rng.normal(
                0, 0.012, (4, 2)
            )
            insula = np.array([(0.35, -0.20), (0.375, -0.08), (0.375, 0.04), (0.35, 0.15)])
            for path, width in ((sylvian, 2.6), (insula, 1.8)):
                self._furrow(fluid, band, open_curve(path * (sign, 1)), wide * width, ribbon)
        for top, bottom in ((-0.8, -0.37), (0.36, 0.8)):
            sway = np.array([(0, top), (rng.normal(0, 0.005), (top + bottom) / 2), (0, bottom)])
            self._furrow(fluid, band, open_curve(sway), 2.0, ribbon * 1.1)
            for sign in (-1, 1):
                for y in np.linspace(top, bottom, 5)[1:-1] + rng.normal(0, 0.015, 3):
                    tip = (sign * rng.uniform(0.07, 0.14), y + rng.normal(0, 0.03))
                    self._furrow(fluid, band, np.array([(0, y), tip]), wide * 0.8, ribbon)
        across, down = 2.6 * canvas.field(rng, 15), 2.6 * canvas.field(rng, 15)
        fluid, band = canvas.warped(fluid, across, down), canvas.warped(band, across, down)
        inside = cv2.distanceTransform(self.brain.astype(np.uint8), cv2.DIST_L2, 3)
        cortex = ((band > 127) | (inside < 0.05 * unit)) & self.brain
        around_ventricles = cv2.dilate(self.ventricles.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
        fluid[around_ventricles & (np.abs(self.x) > 0.02)] = 0
        return fluid, cortex & ~around_ventricles

    def _furrow(self, fluid: np.ndarray, band: np.ndarray, line: np.ndarray, width: float, ribbon: float) -> None:
        """A fold that narrows towards its depth."""
        shade = 255 if width >= 1 else int(120 + 130 * width)
        half = len(line) // 2
        self.canvas.stroke(band, line, ribbon)
        self.canvas.stroke(fluid, line[half:], max(1.0, width - 1), int(0.8 * shade))
        self.canvas.stroke(fluid, line[: half + 1], max(1.0, width), shade)

    def _nuclei(self) -> np.ndarray:
        rng, canvas = self.rng, self.canvas
        mask = np.zeros(canvas.shape, dtype=bool)
        for sign in (-1, 1):
            for centre, radii, angle in (
                ((0.115, -0.235), (0.05, 0.09), 0.25),
                ((0.245, -0.09), (0.058, 0.135), -0.28),
                ((0.105, 0.06), (0.075, 0.115), -0.35),
            ):
                outline = blob(rng, centre, radii, 0.05, angle)
                mask |= canvas.fill(outline if sign > 0 else mirrored(outline))
        return mask


def _lesions(head: _Head) -> list[Lesion]:
    rng = head.rng
    depth = cv2.distanceTransform(head.brain.astype(np.uint8), cv2.DIST_L2, 3)
    taken = head.ventricles | (np.abs(head.x) < 0.03)
    lesions: list[Lesion] = []
    for finding in planned_findings(rng, FINDINGS, COUNTABLE):
        side: Side = "right" if rng.random() < 0.5 else "left"
        half = head.brain & ((head.x < 0) if side == "right" else (head.x > 0))
        for mask in _lesion_masks(head, finding, half & ~taken, depth):
            if is_visible(mask):
                taken = taken | grown(mask, 5)
                lesions.append(Lesion(finding, mask, side, lobe(mask, head.brain, side), f"{side} hemisphere"))
                break
    return lesions


def _lesion_masks(head: _Head, finding: str, host: np.ndarray, depth: np.ndarray) -> list[np.ndarray]:
    """Candidate masks inside ``host``, best first; none where it does not fit."""
    rng, canvas = head.rng, head.canvas
    span = {"tumor": (0.085, 0.16), "infarct": (0.13, 0.22), "hemorrhage": (0.08, 0.14), "edema": (0.15, 0.23)}[finding]
    size = rng.uniform(*span)
    band = head.y > 1
    third = int(rng.integers(3))
    rows = np.nonzero(head.brain.any(axis=1))[0]
    edges = np.linspace(rows[0], rows[-1] + 1, 4).astype(int)
    band[edges[third] + 4 : edges[third + 1] - 4] = True
    room = cv2.distanceTransform(np.pad(host.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    tight = 0.55 if finding in ("infarct", "edema") else 0.95
    place = room_for(rng, band & (room > tight * size * canvas.unit), np.zeros_like(host), 1.0)
    if place is None:
        return []
    centre = tuple(canvas.body(np.array([place]))[0])
    angle, ratio = rng.uniform(0, np.pi), rng.uniform(0.85, 1.2)
    rough = {"tumor": 0.1, "infarct": 0.2, "hemorrhage": 0.12, "edema": 0.3}[finding]
    if finding == "infarct":
        # A territory: a wedge from the deep white matter out to the cortex.
        outward = np.array(centre) / (np.linalg.norm(centre) + 1e-6)
        across = np.array([-outward[1], outward[0]])
        wedge = [-1.1 * outward, -0.2 * outward + 0.5 * across, 1.5 * outward + 1.0 * across, 1.9 * outward,
                 1.5 * outward - 1.0 * across, -0.2 * outward - 0.5 * across]  # fmt: skip
        outline = closed_curve(np.array(centre) + size * (np.array(wedge) + rng.normal(0, 0.08, (6, 2))))
    elif finding == "edema":
        outline = blob(rng, centre, (size * ratio, size / ratio), rough, angle, harmonics=6)
        return [largest_part(canvas.fill(outline) & host & ~head.nuclei & (depth > 0.03 * canvas.unit))]
    else:
        outline = blob(rng, centre, (size * ratio, size / ratio), rough, angle)
    return [largest_part(canvas.fill(outline) & host)]


def draw_brain(anatomy: np.random.Generator, dressing: np.random.Generator, style: PhantomStyle) -> Painted:
    """Draw an axial brain slice; ``anatomy`` decides patient and contrast, ``dressing`` the shunt."""
    head = _Head(anatomy)
    canvas, rng = head.canvas, anatomy
    variant = tuple(CONTRASTS)[int(rng.integers(len(CONTRASTS)))]
    tissue = CONTRASTS[variant]
    lesions = _lesions(head)

    grey = np.zeros(canvas.shape, dtype=np.float32)
    paint(grey, canvas.soft(head.skin, 0.8), tissue.fat)
    paint(grey, canvas.soft(canvas.fill(head.outline * (1.15, 1.135)), 0.8), tissue.muscle)
    paint(grey, canvas.soft(head.bone, 0.7), tissue.bone)
    outside = canvas.soft(canvas.fill(head.outline * (1.105, 1.09)), 0.7)
    marrow = outside - canvas.soft(canvas.fill(head.outline * (1.07, 1.06)), 0.7)
    grey += np.clip(marrow, 0, 1) * 0.28 * tissue.fat
    paint(grey, canvas.soft(head.inner, 0.8), tissue.fluid * 0.9)
    paint(grey, canvas.soft(head.brain, 0.8), tissue.white)
    paint(grey, canvas.soft(head.cortex, 0.9), tissue.grey)
    paint(grey, 0.8 * canvas.soft(head.nuclei, 1.2), tissue.grey)
    furrows = canvas.soft(head.fluid, 0.8) * canvas.soft(head.inner, 0.7)
    paint(grey, np.clip(furrows * 0.85, 0, 1), tissue.fluid)
    texture = 1 + 0.025 * canvas.field(rng, 20) + 0.02 * canvas.field(rng, 44)
    grey *= texture
    _paint_lesions(head, grey, lesions, variant)
    paint(grey, canvas.soft(head.ventricles, 0.8), tissue.fluid)
    if variant == "FLAIR":
        rim = grown(head.ventricles, 2) & ~head.ventricles
        grey += 0.1 * canvas.soft(rim, 1.0)
    bias = 1 + 0.09 * canvas.field(rng, 3)
    grey *= bias

    hemispheres = {"right": head.brain & (head.x < 0), "left": head.brain & (head.x >= 0)}
    skull = head.bone & ~head.inner
    matter = head.brain & ~head.ventricles & (head.fluid < 100)
    cortex = matter & head.cortex
    organs: list[tuple[str, np.ndarray, Side, str]] = [
        ("brain", head.brain, "midline", "midline"),
        ("right hemisphere", hemispheres["right"], "right", "right side"),
        ("left hemisphere", hemispheres["left"], "left", "left side"),
        ("ventricles", head.ventricles, "midline", "midline"),
        ("gray matter", cortex | (head.nuclei & matter), "midline", "both sides"),
        ("white matter", matter & ~cortex & ~head.nuclei, "midline", "both sides"),
        ("skull", skull, "midline", "both sides"),
    ]
    structures = [Structure(name, "organ", mask, side, location) for name, mask, side, location in organs]
    structures += named(lesions)
    if dressing.random() < (0.2 if style == "standard" else 0.6):
        structures.append(_shunt(dressing, head, grey))
    return Painted(np.clip(grey, 0, 1), tuple(structures), variant)


def _shunt(rng: np.random.Generator, head: _Head, grey: np.ndarray) -> Structure:
    canvas = head.canvas
    side: Side = "right" if rng.random() < 0.6 else "left"
    line = np.array([(-0.50, 0.62), (-0.40, 0.50), (-0.26, 0.34), (-0.12, 0.16)]) + rng.normal(0, 0.012, (4, 2))
    line[0] = (-0.56, 0.68)
    line = open_curve(line if side == "right" else mirrored(line))
    layer = canvas.empty()
    core = canvas.empty()
    canvas.stroke(layer, line, 5)
    canvas.stroke(core, line, 1)
    paint(grey, canvas.soft(layer, 0.7), 0.02)
    paint(grey, 0.6 * canvas.soft(core, 0.7), 0.6)
    return Structure("ventricular shunt", "device", layer > 0, side, f"{side} side")


def _paint_lesions(head: _Head, grey: np.ndarray, lesions: list[Lesion], variant: str) -> None:
    canvas, rng = head.canvas, head.rng
    for lesion in lesions:
        body = _LESION_GREY[lesion.finding][variant] + rng.normal(0, 0.02)
        mottle = 1 + 0.05 * canvas.field(rng, 30)
        if lesion.finding == "tumor":
            swelling = canvas.soft(grown(lesion.mask, 4) & head.brain & ~head.ventricles, 3.0)
            paint(grey, 0.45 * swelling, _LESION_GREY["edema"][variant])
            cover = canvas.soft(lesion.mask, 1.0)
            paint(grey, cover, body * mottle)
            if rng.random() < 0.55:
                core = cv2.distanceTransform(lesion.mask.astype(np.uint8), cv2.DIST_L2, 3)
                ring = lesion.mask & (core < max(3.0, 0.3 * float(core.max())))
                paint(grey, canvas.soft(ring, 0.8), 0.92 if variant == "T1" else 0.5 * body + 0.42)
                dead = canvas.soft(lesion.mask & ~ring, 1.0)
                paint(grey, dead, {"T1": 0.22, "T2": 0.9, "FLAIR": 0.45}[variant])
            else:
                paint(grey, cover, (0.88 if variant == "T1" else body + 0.05) * mottle)
        elif lesion.finding == "hemorrhage":
            paint(grey, 0.5 * canvas.soft(grown(lesion.mask, 3) & head.brain, 2.0), _LESION_GREY["edema"][variant])
            paint(grey, canvas.soft(lesion.mask, 0.9), body * mottle)
            if variant == "T2":
                core = cv2.erode(lesion.mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
                paint(grey, 0.8 * canvas.soft(core, 1.2), 0.3)
        elif lesion.finding == "edema":
            paint(grey, 0.9 * canvas.soft(lesion.mask, 2.6), body * (0.95 + 0.6 * (mottle - 1)))
        else:
            paint(grey, 0.9 * canvas.soft(lesion.mask, 2.0), body * mottle)
