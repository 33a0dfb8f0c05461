"""Axial abdominal CT at the level of the kidneys, in a soft-tissue window."""

from __future__ import annotations

import cv2
import numpy as np

from a3tune.phantom.lesions import Lesion, Painted, is_visible, named, planned_findings
from a3tune.phantom.shapes import Canvas, blob, closed_curve, grown, largest_part, mirrored, open_curve, paint, room_for
from a3tune.phantom.structures import PhantomStyle, Side, Structure

FINDINGS = ("metastasis", "cyst", "stone", "abscess")
DEVICES = ("feeding tube", "drain")
COUNTABLE = ("metastasis", "cyst")
SIZES = ((256, 256), (256, 256), (232, 264), (240, 288))

# Hounsfield units, unenhanced and in the portal venous phase.
_UNITS = {
    "unenhanced": {
        "liver": 58, "spleen": 50, "kidney": 34, "vessel": 42, "stomach": 30, "gallbladder": 10, "muscle": 52,
    },
    "portal venous": {
        "liver": 112, "spleen": 122, "kidney": 175, "vessel": 165, "stomach": 38, "gallbladder": 8, "muscle": 62,
    },
}  # fmt: skip
_FAT, _AIR, _BONE = -95.0, -950.0, 320.0
_HOSTS = {
    "metastasis": ("liver", "spleen"),
    "cyst": ("right kidney", "left kidney", "liver"),
    "stone": ("right kidney", "left kidney", "gallbladder"),
    "abscess": ("liver", "spleen"),
}


class _Trunk:
    """The organs' masks of one patient."""

    def __init__(self, rng: np.random.Generator) -> None:
        height, width = SIZES[int(rng.integers(len(SIZES)))]
        self.rng = rng
        roomy = width / height
        self.canvas = canvas = Canvas(
            height,
            width,
            rotation=float(rng.normal(0, 0.03)),
            scale=(float(rng.uniform(0.98, 1.06)) * min(1.12, roomy), float(rng.uniform(0.97, 1.05))),
            shift=(float(rng.normal(0, 0.015)), float(rng.uniform(-0.06, 0.0))),
        )
        self.x, self.y = canvas.ramp()
        self.fat = rng.uniform(0.03, 0.13)
        self.skin_line = self._ring(1.0)
        self.skin = canvas.fill(self.skin_line)
        self.wall = canvas.fill(self._ring(1.0 - self.fat))
        self.cavity = canvas.fill(self._ring(0.93 - self.fat, back=0.02))
        self._bones()
        self._organs()

    def _ring(self, size: float, back: float = 0.0) -> np.ndarray:
        points = np.array(
            [
                (0.0, -0.62), (0.3, -0.6), (0.6, -0.46), (0.83, -0.2), (0.90, 0.06), (0.83, 0.34), (0.62, 0.56),
                (0.36, 0.66), (0.1, 0.64 - back), (0.0, 0.62 - back),
            ]
        )  # fmt: skip
        points = np.concatenate([points, mirrored(points[1:-1])[::-1]])
        return closed_curve((points - (0, 0.02)) * size + (0, 0.02))

    def _bones(self) -> None:
        rng, canvas = self.rng, self.canvas
        y = 0.25
        body = blob(rng, (0.0, y), (0.135, 0.105), 0.03)
        self.body_of_vertebra = canvas.fill(body)
        arch = [
            (-0.11, y + 0.07), (-0.12, y + 0.15), (-0.27, y + 0.155), (-0.275, y + 0.185), (-0.11, y + 0.2),
            (-0.03, y + 0.235), (-0.02, y + 0.34), (0.02, y + 0.34), (0.03, y + 0.235), (0.11, y + 0.2),
            (0.275, y + 0.185), (0.27, y + 0.155), (0.12, y + 0.15), (0.11, y + 0.07),
        ]  # fmt: skip
        self.canal = canvas.fill(blob(rng, (0.0, y + 0.145), (0.062, 0.05), 0.03))
        self.vertebra = (self.body_of_vertebra | canvas.fill(np.array(arch))) & ~self.canal
        muscles = np.zeros(canvas.shape, dtype=bool)
        for sign in (-1, 1):
            back = blob(rng, (0.17, 0.48), (0.15, 0.105), 0.06, 0.15)
            psoas = blob(rng, (0.185, 0.29), (0.065, 0.095), 0.05, -0.3)
            loin = blob(rng, (0.37, 0.45), (0.1, 0.065), 0.06, -0.35)
            for outline in (back, psoas, loin):
                muscles |= canvas.fill(outline if sign > 0 else mirrored(outline))
        self.back = muscles & ~self.vertebra & ~self.canal & self.wall
        layer = canvas.empty()
        for sign in (-1, 1):
            for angle in np.array([-0.55, -0.2, 0.18, 0.55, 0.9]) + rng.normal(0, 0.06, 5):
                size, half = 0.955 - self.fat, rng.uniform(0.045, 0.11)
                along = np.array([angle - half, angle, angle + half])
                arc = np.stack([0.885 * np.cos(along), 0.02 + 0.64 * np.sin(along)], axis=1) * size
                rib = open_curve(arc * (sign, 1))
                canvas.stroke(layer, rib, 4, 255)
                canvas.stroke(layer, rib[2:-2], 2, 140)
        self.ribs = layer

    def _organs(self) -> None:
        rng, canvas = self.rng, self.canvas
        shrink = 0.985 - self.fat * 1.05

        def organ(points: list[tuple[float, float]], wobble: float = 0.012) -> np.ndarray:
            outline = np.array(points) + rng.normal(0, wobble, (len(points), 2))
            return canvas.fill(closed_curve(outline * (shrink, shrink))) & self.cavity

        tail = rng.uniform(0.0, 0.18)
        liver = [
            (-0.76, -0.20), (-0.52, -0.42), (-0.25, -0.50), (0.02 + tail, -0.48), (0.06 + tail, -0.38),
            (-0.04, -0.25), (-0.16, -0.16), (-0.24, -0.02), (-0.30, 0.08), (-0.48, 0.16), (-0.58, 0.32),
            (-0.72, 0.26), (-0.82, 0.04),
        ]  # fmt: skip
        spleen = [
            (0.56, 0.18), (0.63, 0.06), (0.70, -0.10), (0.78, -0.10), (0.82, 0.06), (0.77, 0.26), (0.65, 0.42),
            (0.55, 0.40),
        ]  # fmt: skip
        stomach = [
            (0.16 + tail * 0.6, -0.46), (0.36, -0.47), (0.54, -0.36), (0.63, -0.18), (0.57, -0.05), (0.44, -0.06),
            (0.38, -0.20), (0.25, -0.28), (0.12 + tail * 0.4, -0.34),
        ]  # fmt: skip
        self.masks: dict[str, np.ndarray] = {}
        size = rng.uniform(0.9, 1.1)
        kidneys = {}
        for side, sign in (("right", -1), ("left", 1)):
            centre = np.array([sign * rng.uniform(0.37, 0.41), rng.uniform(0.2, 0.27)])
            outline = blob(rng, (0, 0), (0.125 * size, 0.165 * size), 0.03)
            notch = np.exp(-(((outline[:, 1]) / 0.055) ** 2)) * (outline[:, 0] < 0) * 0.075
            outline[:, 0] += notch
            turn = -0.5
            spun = outline @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
            kidneys[side] = canvas.fill((spun * (sign, 1) + centre) * (shrink, 1)) & self.cavity
        blocked = self.vertebra | self.canal | self.back
        self.masks["right kidney"] = largest_part(kidneys["right"] & ~blocked)
        self.masks["left kidney"] = largest_part(kidneys["left"] & ~blocked)
        near = grown(self.masks["right kidney"] | self.masks["left kidney"], 3) | blocked
        bile = blob(rng, (rng.uniform(-0.30, -0.24) * shrink, rng.uniform(-0.21, -0.15)), (0.085, 0.125), 0.05, 0.3)
        self.masks["gallbladder"] = canvas.fill(bile) & self.cavity & ~near
        self.masks["liver"] = largest_part(organ(liver) & ~near & ~grown(self.masks["gallbladder"], 1))
        self.masks["spleen"] = largest_part(organ(spleen) & ~near)
        self.masks["stomach"] = largest_part(
            organ(stomach) & ~near & ~grown(self.masks["spleen"] | self.masks["liver"], 2)
        )
        self.masks["aorta"] = canvas.fill(blob(rng, (rng.uniform(0.03, 0.06), 0.085), (0.052, 0.05), 0.02))
        self.cava = canvas.fill(blob(rng, (-0.1, 0.08), (0.066, 0.046), 0.05)) & ~near
        self.pancreas = organ(
            [(-0.16, -0.06), (-0.08, -0.1), (0.06, -0.1), (0.22, -0.12), (0.42, 0.02), (0.42, 0.08), (0.22, -0.02),
             (0.05, -0.01), (-0.1, 0.03)], 0.012
        ) & ~near & ~self.masks["liver"] & ~self.masks["stomach"] & ~self.masks["aorta"]  # fmt: skip


def _lesions(trunk: _Trunk) -> list[Lesion]:
    rng, canvas = trunk.rng, trunk.canvas
    taken = np.zeros(canvas.shape, dtype=bool)
    lesions: list[Lesion] = []
    for finding in planned_findings(rng, FINDINGS, COUNTABLE):
        hosts = _HOSTS[finding]
        for index in rng.permutation(len(hosts)):
            organ = hosts[index]
            host = trunk.masks[organ]
            span = {"metastasis": (0.075, 0.125), "cyst": (0.072, 0.12), "stone": (0.062, 0.08), "abscess": (0.1, 0.14)}
            size = rng.uniform(*span[finding])
            place = room_for(rng, host, taken, size * canvas.unit * (0.95 if organ in ("liver", "spleen") else 0.8))
            if place is None:
                continue
            centre = tuple(canvas.body(np.array([place]))[0])
            ratio = rng.uniform(0.88, 1.14)
            rough = {"metastasis": 0.12, "cyst": 0.02, "stone": 0.16, "abscess": 0.12}[finding]
            outline = blob(rng, centre, (size * ratio, size / ratio), rough, rng.uniform(0, np.pi))
            mask = largest_part(canvas.fill(outline) & host & ~taken)
            if not is_visible(mask):
                continue
            taken |= grown(mask, 4)
            side: Side = "left" if organ in ("left kidney", "spleen") else "right"
            lesions.append(Lesion(finding, mask, side, organ, organ))
            break
    return lesions


def _bowel(trunk: _Trunk, units: np.ndarray, blocked: np.ndarray) -> None:
    """Loops of bowel in the free space, with wall, content and gas."""
    rng, canvas = trunk.rng, trunk.canvas
    free = trunk.cavity & ~blocked
    for _ in range(14):
        place = room_for(rng, free, np.zeros_like(free), 0.06 * canvas.unit)
        if place is None:
            break
        centre = tuple(canvas.body(np.array([place]))[0])
        radius = rng.uniform(0.055, 0.085)
        outline = blob(rng, centre, (radius * rng.uniform(0.9, 1.4), radius), 0.1, rng.uniform(0, np.pi))
        loop = canvas.fill(outline) & free
        free &= ~grown(loop, 2)
        paint(units, canvas.soft(loop, 0.8), rng.uniform(35, 80))
        inner = cv2.erode(loop.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        paint(units, canvas.soft(inner, 0.8), rng.choice((15.0, 30.0, 120.0), p=(0.45, 0.4, 0.15)))
        if rng.random() < 0.3:
            gas = inner & (trunk.y < centre[1] - 0.01)
            paint(units, canvas.soft(gas, 0.6), _AIR * 0.8)


def draw_abdomen(anatomy: np.random.Generator, dressing: np.random.Generator, style: PhantomStyle) -> Painted:
    """Draw an axial abdominal CT; ``anatomy`` decides patient and phase, ``dressing`` tubes and the window."""
    trunk = _Trunk(anatomy)
    canvas, rng, masks = trunk.canvas, anatomy, trunk.masks
    variant = "portal venous" if rng.random() < 0.7 else "unenhanced"
    typical = {name: value + rng.normal(0, 5) for name, value in _UNITS[variant].items()}
    lesions = _lesions(trunk)

    units = np.full(canvas.shape, -1000.0, dtype=np.float32)
    table = canvas.empty()
    for lift, value in ((0.0, 255), (0.05, 170)):
        arc = np.array([(-1.1, 0.66), (-0.5, 0.745), (0.0, 0.77), (0.5, 0.745), (1.1, 0.66)])
        arc[:, 1] += lift
        canvas.stroke(table, open_curve(arc), 2, value)
    paint(units, canvas.soft(table, 0.6) * 0.9, 90.0)
    paint(units, canvas.soft(trunk.skin, 0.7), 20.0)
    fatty = cv2.erode(trunk.skin.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    paint(units, canvas.soft(fatty, 0.8), _FAT + 8 * canvas.field(rng, 20))
    paint(units, canvas.soft(trunk.wall, 0.9), typical["muscle"])
    layers = canvas.empty()
    for size in (0.965, 0.945):
        canvas.stroke(layers, trunk._ring(size - trunk.fat)[20:-20], 1, 200)
    paint(units, 0.5 * canvas.soft(layers, 0.7) * (trunk.y < 0.3), _FAT)
    paint(units, canvas.soft(trunk.cavity, 0.9), _FAT + 10 * canvas.field(rng, 30))
    solid = np.zeros(canvas.shape, dtype=bool)
    for mask in masks.values():
        solid |= mask
    blocked = grown(solid | trunk.vertebra | trunk.canal | trunk.back | trunk.cava | trunk.pancreas, 2)
    _bowel(trunk, units, blocked)
    paint(units, canvas.soft(trunk.back, 1.0), typical["muscle"] + 10 * canvas.field(rng, 40))
    paint(units, canvas.soft(trunk.pancreas, 1.2), typical["muscle"] + 30 + 18 * canvas.field(rng, 40))
    for name in ("liver", "spleen"):
        paint(units, canvas.soft(masks[name], 0.9), typical[name] + 4 * canvas.field(rng, 40))
    if variant == "portal venous":
        _liver_vessels(trunk, units, typical["vessel"])
    _stomach(trunk, units, typical["stomach"])
    for side in ("right", "left"):
        _kidney(trunk, units, masks[f"{side} kidney"], typical["kidney"], variant)
    paint(units, canvas.soft(grown(masks["gallbladder"], 1), 0.8), typical["muscle"] + 15)
    paint(units, canvas.soft(masks["gallbladder"], 0.8), typical["gallbladder"])
    paint(units, canvas.soft(trunk.cava, 0.9), typical["vessel"] - 12)
    paint(units, canvas.soft(masks["aorta"], 0.8), typical["vessel"] + 8)
    paint(units, canvas.soft(trunk.vertebra, 0.9), _BONE)
    marrow = cv2.erode(trunk.body_of_vertebra.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
    paint(units, canvas.soft(marrow, 1.2), 190 + 40 * canvas.field(rng, 60))
    paint(units, canvas.soft(trunk.canal, 0.9), 30.0)
    paint(units, canvas.soft(trunk.ribs, 0.7), 420.0)
    _paint_lesions(trunk, units, lesions, typical)

    structures = _structures(trunk)
    structures += named(lesions)
    structures += _devices(dressing, trunk, units, style)
    width, centre = dressing.uniform(320, 440), dressing.uniform(35, 60)
    if style == "shifted":
        width, centre = dressing.uniform(480, 650), dressing.uniform(0, 90)
    return Painted(np.clip((units - centre) / width + 0.5, 0, 1), tuple(structures), variant)


def _structures(trunk: _Trunk) -> list[Structure]:
    masks = trunk.masks
    fat = trunk.skin & ~trunk.wall & ~trunk.vertebra & (trunk.ribs == 0)
    muscle = ((trunk.wall & ~trunk.cavity) | trunk.back) & (trunk.ribs == 0) & ~trunk.vertebra & ~trunk.canal
    organs: list[tuple[str, np.ndarray, Side, str]] = [
        ("liver", masks["liver"], "right", "right side"),
        ("gallbladder", masks["gallbladder"], "right", "right side"),
        ("right kidney", masks["right kidney"], "right", "right side"),
        ("left kidney", masks["left kidney"], "left", "left side"),
        ("spleen", masks["spleen"], "left", "left side"),
        ("stomach", masks["stomach"], "left", "left side"),
        ("aorta", masks["aorta"], "midline", "midline"),
        ("vertebra", trunk.vertebra, "midline", "midline"),
        ("ribs", trunk.ribs > 0, "midline", "both sides"),
        ("muscle", muscle, "midline", "both sides"),
        ("fat", fat, "midline", "both sides"),
    ]
    return [Structure(name, "organ", mask, side, location) for name, mask, side, location in organs]


def _liver_vessels(trunk: _Trunk, units: np.ndarray, value: float) -> None:
    canvas, rng = trunk.canvas, trunk.rng
    layer = canvas.empty()
    root = np.array([-0.22, -0.02])
    for bearing in rng.uniform(-0.3, 0.3) + np.array([2.5, 3.0, 3.5, 4.1]):
        length = rng.uniform(0.25, 0.42)
        direction = np.array([np.cos(bearing), np.sin(bearing)])
        middle = root + 0.5 * length * direction + rng.normal(0, 0.03, 2)
        canvas.stroke(layer, np.array([root, middle]), 3)
        canvas.stroke(layer, np.array([middle, root + length * direction]), 2)
        turn = bearing + rng.choice((-0.6, 0.6))
        canvas.stroke(layer, np.array([middle, middle + 0.5 * length * np.array([np.cos(turn), np.sin(turn)])]), 2)
    layer[~trunk.masks["liver"]] = 0
    paint(units, 0.75 * canvas.soft(layer, 0.8), value)


def _stomach(trunk: _Trunk, units: np.ndarray, content: float) -> None:
    canvas, rng, mask = trunk.canvas, trunk.rng, trunk.masks["stomach"]
    paint(units, canvas.soft(mask, 0.9), 75.0)
    inner = cv2.erode(mask.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
    paint(units, canvas.soft(inner, 0.9), content + 12 * canvas.field(rng, 30))
    rows = np.nonzero(inner.any(axis=1))[0]
    if len(rows):
        level = rows[0] + rng.uniform(0.15, 0.5) * (rows[-1] - rows[0])
        air = inner & (np.arange(canvas.height)[:, None] < level)
        paint(units, canvas.soft(air, 0.6), _AIR)


def _kidney(trunk: _Trunk, units: np.ndarray, mask: np.ndarray, value: float, variant: str) -> None:
    canvas = trunk.canvas
    paint(units, canvas.soft(mask, 0.8), value)
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    if variant == "portal venous":
        paint(units, 0.5 * canvas.soft(depth > 0.05 * canvas.unit, 1.2), value - 45)
    paint(units, 0.85 * canvas.soft(depth > 0.082 * canvas.unit, 1.2), _FAT * 0.7)


def _paint_lesions(trunk: _Trunk, units: np.ndarray, lesions: list[Lesion], typical: dict[str, float]) -> None:
    canvas, rng = trunk.canvas, trunk.rng
    for lesion in lesions:
        cover = canvas.soft(lesion.mask, 0.9)
        if lesion.finding == "cyst":
            paint(units, cover, rng.uniform(0, 12))
        elif lesion.finding == "stone":
            paint(units, canvas.soft(lesion.mask, 0.7), rng.uniform(500, 900))
        elif lesion.finding == "metastasis":
            host = typical["liver" if lesion.organ == "liver" else "spleen"]
            paint(units, 0.95 * canvas.soft(lesion.mask, 2.0), host - rng.uniform(48, 62))
            core = canvas.soft(lesion.mask, 4.0) * cover
            paint(units, 0.35 * core, host - 85)
        else:
            host = typical["liver" if lesion.organ == "liver" else "spleen"]
            paint(units, cover, host + rng.uniform(28, 40))
            depth = cv2.distanceTransform(lesion.mask.astype(np.uint8), cv2.DIST_L2, 3)
            inside = depth > 3.0
            paint(units, canvas.soft(inside, 1.0), 22.0)
            gas = inside & (trunk.y < np.median(trunk.y[lesion.mask]) - 0.03)
            paint(units, canvas.soft(gas & (depth > 4), 0.8), _AIR * 0.6)


def _devices(rng: np.random.Generator, trunk: _Trunk, units: np.ndarray, style: PhantomStyle) -> list[Structure]:
    canvas = trunk.canvas
    chance = 0.22 if style == "standard" else 0.7
    structures = []
    if rng.random() < chance:
        rows, columns = np.nonzero(trunk.masks["stomach"])
        centre = tuple(canvas.body(np.array([[columns.mean() + 0.5, rows.mean() + 0.5]]))[0])
        mask = canvas.fill(blob(rng, centre, (0.04, 0.04), 0.01))
        paint(units, canvas.soft(mask, 0.6), 900.0)
        paint(units, canvas.soft(canvas.fill(blob(rng, centre, (0.016, 0.016), 0.01)), 0.5), -300.0)
        structures.append(Structure("feeding tube", "device", mask, "left", "left side"))
    if rng.random() < chance:
        side: Side = "right" if rng.random() < 0.5 else "left"
        line = np.array([(-0.98, -0.20), (-0.8, -0.13), (-0.62, -0.07), (-0.5, -0.02)]) + rng.normal(0, 0.02, (4, 2))
        line = open_curve(line if side == "right" else mirrored(line))
        layer = canvas.empty()
        canvas.stroke(layer, line, 4)
        paint(units, canvas.soft(layer, 0.6), 700.0)
        structures.append(Structure("drain", "device", layer > 0, side, f"{side} side"))
    return structures
