"""Frontal chest radiograph: attenuation added up as on a detector, bright where much tissue was in the way."""

from __future__ import annotations

import cv2
import numpy as np

from a3tune.phantom.chest_devices import draw_devices
from a3tune.phantom.lesions import Lesion, Painted, is_visible, named, planned_findings
from a3tune.phantom.locate import zone
from a3tune.phantom.shapes import Canvas, blob, closed_curve, grown, largest_part, mirrored, open_curve, room_for
from a3tune.phantom.structures import PhantomStyle, Side, Structure

FINDINGS = ("nodule", "mass", "pneumonia", "effusion", "pneumothorax")
COUNTABLE = ("nodule",)
SIZES = ((256, 288), (288, 256), (256, 256), (256, 272), (272, 256))

_RIGHT_LUNG = [
    (-0.11, -0.60), (-0.24, -0.76), (-0.40, -0.70), (-0.55, -0.48), (-0.66, -0.16), (-0.725, 0.16), (-0.745, 0.40),
    (-0.735, 0.545), (-0.62, 0.42), (-0.44, 0.345), (-0.25, 0.35), (-0.13, 0.44), (-0.12, 0.20), (-0.13, -0.10),
    (-0.115, -0.35),
]  # fmt: skip
_LEFT_LUNG = [
    (0.11, -0.60), (0.24, -0.76), (0.40, -0.70), (0.55, -0.48), (0.66, -0.16), (0.725, 0.16), (0.745, 0.42),
    (0.735, 0.575), (0.62, 0.47), (0.44, 0.41), (0.25, 0.42), (0.13, 0.47), (0.12, 0.20), (0.12, -0.10),
    (0.115, -0.35),
]  # fmt: skip


class _Thorax:
    """The organs' masks of one patient."""

    def __init__(self, rng: np.random.Generator) -> None:
        height, width = SIZES[int(rng.integers(len(SIZES)))]
        self.rng = rng
        self.canvas = canvas = Canvas(
            height,
            width,
            rotation=float(rng.normal(0, 0.022)),
            scale=(float(rng.uniform(0.98, 1.12)), float(rng.uniform(0.97, 1.1))),
            shift=(float(rng.normal(0, 0.02)), float(rng.uniform(-0.03, 0.09))),
        )
        breath = rng.uniform(-0.05, 0.05)
        raw = []
        for outline in (_RIGHT_LUNG, _LEFT_LUNG):
            points = np.array(outline) + rng.normal(0, 0.009, (len(outline), 2))
            points[:, 1] += breath * (points[:, 1] > 0.25)
            raw.append(canvas.fill(closed_curve(points)))
        self.enlarged = bool(rng.random() < 0.35)
        self.heart = canvas.fill(self._heart_outline())
        self.mediastinum = canvas.fill(self._mediastinum_outline()) & ~self.heart
        central = self.heart | self.mediastinum
        self.raw_lungs = raw[0] | raw[1]
        self.lungs: dict[Side, np.ndarray] = {
            "right": largest_part(raw[0] & ~central),
            "left": largest_part(raw[1] & ~central),
        }
        self.fields = self.lungs["right"] | self.lungs["left"]
        self.trachea_line = open_curve(
            np.array([(0.0, -1.1), (rng.normal(0, 0.01), -0.8), (-0.01, -0.6), (-0.012, -0.40)])
        )
        layer = canvas.empty()
        canvas.stroke(layer, self.trachea_line, 0.085 * canvas.unit)
        self.carina = (-0.012, -0.385)
        for tip in ((-0.16, -0.25), (0.17, -0.23)):
            canvas.stroke(layer, np.array([self.carina, tip]), 0.05 * canvas.unit)
        self.trachea = layer > 0

    def _heart_outline(self) -> np.ndarray:
        rng = self.rng
        span = 1.48 * (rng.uniform(0.56, 0.64) if self.enlarged else rng.uniform(0.38, 0.445))
        right = -span * rng.uniform(0.27, 0.33)
        apex = span + right
        low = rng.uniform(0.42, 0.48)
        points = [
            (-0.02, -0.24), (-0.09, -0.12), (right * 0.93, 0.04), (right, 0.18), (right * 0.92, 0.33), (-0.05, low),
            (apex * 0.45, low + 0.05), (apex * 0.85, low + 0.02), (apex, 0.33), (apex * 0.94, 0.18), (apex * 0.7, 0.0),
            (apex * 0.42, -0.13), (0.13, -0.22), (0.05, -0.26),
        ]  # fmt: skip
        return closed_curve(np.array(points))

    def _mediastinum_outline(self) -> np.ndarray:
        rng = self.rng
        knob = rng.uniform(0.15, 0.2)
        points = [
            (-0.09, -1.2), (-0.1, -0.75), (-0.12, -0.5), (-0.13, -0.3), (-0.14, -0.1), (-0.12, 0.2), (-0.12, 0.5),
            (0.12, 0.5), (0.13, 0.2), (0.14, -0.1), (0.13, -0.23), (0.12, -0.3), (knob, -0.37), (knob * 0.95, -0.46),
            (0.12, -0.53), (0.1, -0.75), (0.09, -1.2),
        ]  # fmt: skip
        return closed_curve(np.array(points), samples=6)


def _ribs(thorax: _Thorax) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Layers uint8 of posterior ribs, of their hollow insides, and of anterior ribs."""
    canvas, rng = thorax.canvas, thorax.rng
    posterior, inside, anterior = canvas.empty(), canvas.empty(), canvas.empty()
    thickness = 0.05 * canvas.unit
    slope = rng.uniform(0.9, 1.15)
    back, front = [], []
    for index in range(10):
        start = -0.80 + 0.135 * index
        reach = float(np.interp(start, (-0.85, -0.6, -0.3, 0.1, 0.5), (0.34, 0.56, 0.70, 0.79, 0.80)))
        drop = slope * (0.07 + 0.014 * index)
        line = np.array(
            [
                (0.06, start + 0.02), (0.2, start - 0.045), (0.2 + 0.42 * (reach - 0.2), start - 0.02),
                (0.2 + 0.78 * (reach - 0.2), start + 0.45 * drop), (reach, start + drop + 0.03),
                (reach + 0.025, start + drop + 0.13),
            ]
        )  # fmt: skip
        back.append(open_curve(line))
    for index in range(6):
        start = -0.42 + 0.165 * index
        reach = float(np.interp(start, (-0.6, -0.3, 0.1, 0.5), (0.56, 0.70, 0.78, 0.79)))
        line = np.array(
            [
                (reach + 0.01, start - 0.03), (reach - 0.06, start + 0.08), (reach - 0.2, start + 0.19),
                (reach - 0.36, start + 0.24),
            ]
        )  # fmt: skip
        front.append(open_curve(line))
    back += [mirrored(line) for line in back]
    front += [mirrored(line) for line in front]
    canvas.strokes(posterior, back, thickness)
    canvas.strokes(inside, back, thickness - 3)
    canvas.strokes(anterior, front, thickness * 1.15)
    return posterior, inside, anterior


def _clavicles(thorax: _Thorax) -> np.ndarray:
    canvas, rng = thorax.canvas, thorax.rng
    layer = canvas.empty()
    for flip in (False, True):
        tilt = rng.normal(0, 0.02)
        line = np.array(
            [(0.075, -0.60), (0.2, -0.655), (0.38, -0.685), (0.55, -0.75 + tilt), (0.72, -0.79 + tilt), (0.86, -0.77)]
        )
        bone = open_curve(mirrored(line) if flip else line)
        canvas.stroke(layer, bone, 0.05 * canvas.unit)
        canvas.stroke(layer, bone[:8], 0.075 * canvas.unit)
        canvas.stroke(layer, bone[-12:], 0.065 * canvas.unit)
    return layer


def _spine(thorax: _Thorax) -> tuple[np.ndarray, np.ndarray]:
    """Mask of the spine and a layer of its vertebrae with their disc spaces, pedicles and processes."""
    canvas = thorax.canvas
    layer = canvas.empty()
    column = canvas.fill(np.array([(-0.075, -1.3), (0.075, -1.3), (0.095, 1.3), (-0.095, 1.3)]))
    bodies = []
    middles = -1.12 + 0.125 * np.arange(19)
    for y in middles:
        half, waist = 0.082 + 0.012 * y, 0.072 + 0.012 * y
        bodies.append(
            np.array(
                [
                    (-half, y - 0.052), (half, y - 0.052), (waist, y), (half, y + 0.052), (-half, y + 0.052),
                    (-waist, y),
                ]
            )
        )  # fmt: skip
    canvas.fill_all(layer, bodies, 150)
    pedicles = [np.array([(x, y - 0.02), (x, y + 0.005)]) for y in middles for x in (-0.055, 0.055)]
    canvas.strokes(layer, pedicles, 4, 230)
    canvas.strokes(layer, [np.array([(0, y), (0, y + 0.055)]) for y in middles], 3, 230)
    return column, layer


def _vessels(thorax: _Thorax) -> np.ndarray:
    """Branching lung vessels from both hila, bright on a uint8 layer."""
    canvas, rng = thorax.canvas, thorax.rng
    layer = canvas.empty()
    trunks, twigs = [], []
    for sign, hilum in ((-1, (-0.17, -0.08)), (1, (0.19, -0.12))):
        for bearing in np.linspace(-1.25, 1.3, 11) + rng.normal(0, 0.07, 11):
            length = rng.uniform(0.32, 0.6) * (1.05 if bearing > 0.3 else 0.85)
            steps = np.linspace(0, 1, 5)[:, None]
            bend = rng.normal(0, 0.12)
            direction = bearing + bend * steps
            path = np.array(hilum) + length * steps * np.concatenate(
                [sign * np.cos(direction), np.sin(direction)], axis=1
            )
            trunks.append(path)
            for knot in (1, 2, 3):
                turn = direction[knot, 0] + rng.choice((-1, 1)) * rng.uniform(0.4, 0.8)
                reach = length * rng.uniform(0.2, 0.4)
                tip = path[knot] + reach * np.array([sign * np.cos(turn), np.sin(turn)])
                twigs.append(np.array([path[knot], tip]))
    for start in range(3):
        shade = (105, 150, 195)[start]
        canvas.strokes(layer, twigs[start::3], 1, int(0.65 * shade))
        canvas.strokes(layer, [path[3:] for path in trunks[start::3]], 1, int(0.65 * shade))
        canvas.strokes(layer, [path[2:4] for path in trunks[start::3]], 2, int(0.8 * shade))
        canvas.strokes(layer, [path[:3] for path in trunks[start::3]], 3, shade)
    hila = [blob(rng, hilum, (0.055, 0.1), 0.2) for hilum in ((-0.17, -0.08), (0.19, -0.12))]
    canvas.fill_all(layer, hila, 150)
    return layer


def _lesions(thorax: _Thorax) -> list[Lesion]:
    canvas, rng = thorax.canvas, thorax.rng
    taken = np.zeros(canvas.shape, dtype=bool)
    lesions: list[Lesion] = []
    for finding in planned_findings(rng, FINDINGS, COUNTABLE):
        sides: list[Side] = ["right", "left"]
        if rng.random() < 0.5:
            sides.reverse()
        for side in sides:
            lung = thorax.lungs[side]
            tries = (_lesion_mask(thorax, finding, side, taken) for _ in range(2))
            mask = next((mask for mask in tries if mask is not None), None)
            if mask is not None:
                taken |= grown(mask, 4)
                lesions.append(Lesion(finding, mask, side, zone(mask, lung, side), f"{side} lung"))
                break
    return lesions


def _lesion_mask(thorax: _Thorax, finding: str, side: Side, taken: np.ndarray) -> np.ndarray | None:
    """A mask inside the lung of that side, clear of what is taken; None where it does not fit."""
    canvas, rng, lung = thorax.canvas, thorax.rng, thorax.lungs[side]
    x, y = canvas.ramp()
    rows = np.nonzero(lung.any(axis=1))[0]
    if finding == "effusion":
        lateral = np.clip((np.abs(x) - 0.2) / 0.5, 0, 1.1)
        level = rng.uniform(0.12, 0.34) - rng.uniform(0.1, 0.24) * lateral**2
        mask = lung & (y > level)
    elif finding == "pneumothorax":
        mask = _pleural_air(thorax, lung, rows)
    else:
        radius = {"nodule": (0.068, 0.1), "mass": (0.14, 0.2), "pneumonia": (0.16, 0.27)}[finding]
        size = rng.uniform(*radius)
        clearance = size * canvas.unit * (0.55 if finding == "pneumonia" else 1.0)
        room = cv2.distanceTransform((lung & ~taken).astype(np.uint8), cv2.DIST_L2, 3) > clearance
        edges = np.linspace(rows[0], rows[-1] + 1, 4).astype(int)
        place = None
        for third in rng.permutation(3):
            band = np.zeros(canvas.shape, dtype=bool)
            band[edges[third] + 4 : edges[third + 1] - 4] = True
            place = place or room_for(rng, band & room, np.zeros_like(taken), 1.0)
        if place is None:
            return None
        centre = tuple(canvas.body(np.array([place]))[0])
        ratio = rng.uniform(0.85, 1.15)
        rough = {"nodule": 0.05, "mass": 0.14, "pneumonia": 0.25}[finding]
        outline = blob(rng, centre, (size * ratio, size / ratio), rough, rng.uniform(0, np.pi))
        mask = largest_part(canvas.fill(outline) & lung & ~taken)
    return mask if is_visible(mask) and not (mask & taken).any() else None


def _pleural_air(thorax: _Thorax, lung: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Air between chest wall and lung: a cap at the apex and a crescent that thins out down the side wall."""
    canvas, rng = thorax.canvas, thorax.rng
    x, _ = canvas.ramp()
    height = rows[-1] - rows[0]
    cap, end = rng.uniform(0.14, 0.24) * height, rng.uniform(0.55, 0.8) * height
    below = (np.arange(canvas.height, dtype=np.float32) - rows[0])[:, None]
    wall = np.where(lung, np.abs(x), 0).max(axis=1, keepdims=True)
    rim = rng.uniform(0.12, 0.19) * np.sqrt(np.clip(1 - below / end, 0, 1))
    mask = lung & ((np.abs(x) > wall - rim) | ((below < cap) & (np.abs(x) > 0.15))) & (below < end)
    # A blur and a threshold round the corner where cap and crescent meet.
    return largest_part((canvas.soft(mask, 4.0) > 0.5) & lung)


def _structures(thorax: _Thorax, ribs: np.ndarray, clavicles: np.ndarray, spine: np.ndarray) -> list[Structure]:
    canvas = thorax.canvas
    _, y = canvas.ramp()
    below = ~thorax.raw_lungs & ~thorax.heart & (y > 0.2)
    diaphragm = below & grown(thorax.raw_lungs, round(0.07 * canvas.unit)) & ~thorax.mediastinum
    across = np.nonzero(thorax.raw_lungs.any(axis=0))[0]
    diaphragm[:, : across[0]] = diaphragm[:, across[-1] :] = False
    organs: list[tuple[str, np.ndarray, Side, str]] = [
        ("right lung", thorax.lungs["right"], "right", "right side"),
        ("left lung", thorax.lungs["left"], "left", "left side"),
        ("heart", thorax.heart, "left", "left side"),
        ("mediastinum", thorax.mediastinum, "midline", "midline"),
        ("trachea", thorax.trachea, "midline", "midline"),
        ("spine", spine, "midline", "midline"),
        ("diaphragm", diaphragm, "midline", "both sides"),
        ("ribs", ribs, "midline", "both sides"),
        ("clavicles", clavicles, "midline", "both sides"),
    ]
    return [Structure(name, "organ", mask, side, location) for name, mask, side, location in organs]


def draw_chest(anatomy: np.random.Generator, dressing: np.random.Generator, style: PhantomStyle) -> Painted:
    """Draw a frontal chest radiograph; ``anatomy`` decides the patient, ``dressing`` tubes and lines."""
    thorax = _Thorax(anatomy)
    canvas, rng = thorax.canvas, anatomy
    x, y = canvas.ramp()
    posterior, inside, anterior = _ribs(thorax)
    clavicles = _clavicles(thorax)
    column, vertebrae = _spine(thorax)
    vessels = _vessels(thorax)
    lesions = _lesions(thorax)
    lungs, heart = thorax.raw_lungs, thorax.heart

    torso = np.array(
        [
            (0.16, -1.5), (0.165, -1.15), (0.2, -0.98), (0.45, -0.91), (0.82, -0.84), (1.1, -0.62), (1.2, -0.2),
            (1.16, 0.1), (1.0, 0.25), (0.93, 0.45), (0.95, 0.9), (0.97, 1.6),
        ]
    )  # fmt: skip
    edge = open_curve(torso)
    body = canvas.fill(np.concatenate([edge, mirrored(edge)[::-1]]))
    film = 0.60 * canvas.soft(body, 4) * (1 - 0.22 * np.clip(np.abs(x) - 0.55, 0, 0.6))
    below = canvas.soft(body & ~lungs, 3) * np.clip((y - 0.08) / 0.35, 0, 1)
    film += below * (0.15 + 0.12 * np.clip(y - 0.3, 0, 0.6) - 0.1 * np.clip(np.abs(x) - 0.4, 0, 0.5))
    film += 0.02 * below * canvas.field(rng, 5)

    air = canvas.soft(lungs, 2.0)
    clear = 0.36 - 0.05 * np.clip(y, -0.6, 0.6) - 0.06 * np.clip(0.3 - np.abs(x), 0, 0.3)
    clear = clear + 0.012 * canvas.field(rng, 6) + 0.012 * canvas.field(rng, 24)
    film -= air * clear
    film += 0.30 * canvas.soft(thorax.mediastinum | heart, 2.0) * air
    film += canvas.soft(heart, 3.0) * 0.08 + canvas.soft(heart, 12.0) * 0.06
    film += 0.17 * canvas.soft(vessels, 0.9) * air * (0.35 + 0.65 * np.clip(1.15 - np.abs(x) * 1.3, 0, 1))
    film += canvas.soft(column, 2.5) * 0.02 + canvas.soft(vertebrae, 1.0) * 0.09 * (1 - 0.4 * np.clip(y, 0, 1))
    film -= canvas.soft(thorax.trachea, 1.5) * 0.12
    bones = 0.105 * canvas.soft(posterior, 1.0) - 0.045 * canvas.soft(inside, 1.0) + 0.05 * canvas.soft(anterior, 1.3)
    film += bones * (0.45 + 0.55 * air)
    film += 0.13 * canvas.soft(clavicles, 1.1)
    _soft_tissue(thorax, film, air)
    _paint_lesions(thorax, film, lesions)

    structures = _structures(thorax, (posterior > 0) | (anterior > 0), clavicles > 0, column)
    structures += named(lesions)
    structures += draw_devices(dressing, canvas, film, thorax.lungs, thorax.trachea_line, style)
    return Painted(np.clip((film - 0.16) / 0.86, 0, 1), tuple(structures), "PA")


def _soft_tissue(thorax: _Thorax, film: np.ndarray, air: np.ndarray) -> None:
    """Shoulder blades, breasts and the air bubble of the stomach, added to the film in place."""
    canvas, rng = thorax.canvas, thorax.rng
    blade = np.array([(0.60, -0.66), (0.9, -0.74), (0.93, -0.55), (0.8, -0.2), (0.70, -0.02), (0.655, -0.2)])
    layer = canvas.empty()
    border = open_curve(np.array([(0.60, -0.64), (0.625, -0.4), (0.655, -0.2), (0.70, -0.03), (0.78, -0.22)]))
    for sign in (-1, 1):
        canvas.fill_all(layer, [closed_curve(blade) * (sign, 1)], 110)
        canvas.stroke(layer, border * (sign, 1), 3, 200)
        canvas.stroke(layer, np.array([(0.62 * sign, -0.60), (0.95 * sign, -0.78)]), 5, 170)
        canvas.fill_all(layer, [blob(rng, (1.0 * sign, -0.64), (0.115, 0.125), 0.03)], 200)
        canvas.stroke(layer, np.array([(1.03 * sign, -0.6), (1.15 * sign, 0.3)]), 0.1 * canvas.unit, 180)
    film += 0.1 * canvas.soft(layer, 1.8)
    if rng.random() < 0.5:
        size = rng.uniform(0.24, 0.33)
        breast = blob(rng, (0.47, 0.24), (size * 1.05, size), 0.03)
        film += 0.06 * canvas.soft(canvas.fill(breast) | canvas.fill(mirrored(breast)), 4.0)
    if rng.random() < 0.8:
        below = ~grown(thorax.raw_lungs | thorax.heart, 4)
        bubble = blob(rng, (rng.uniform(0.3, 0.42), rng.uniform(0.56, 0.62)), (rng.uniform(0.1, 0.17), 0.09), 0.12)
        film -= rng.uniform(0.12, 0.24) * canvas.soft(canvas.fill(bubble) & below, 1.6)


def _paint_lesions(thorax: _Thorax, film: np.ndarray, lesions: list[Lesion]) -> None:
    canvas, rng = thorax.canvas, thorax.rng
    for lesion in lesions:
        if lesion.finding == "pneumothorax":
            cover = canvas.soft(lesion.mask, 1.2)
            film -= cover * (0.07 + 0.35 * np.clip(film - 0.26, -0.05, 0.2))
            lung = thorax.lungs["right" if lesion.side == "right" else "left"]
            rest = lung & ~lesion.mask
            film += 0.035 * canvas.soft(rest, 2.0)
            edge = grown(lesion.mask, 1) & rest
            film += 0.16 * canvas.soft(edge, 0.8)
        elif lesion.finding == "effusion":
            # The fluid reaches the chest wall: no rim of air may shine through there.
            cover = canvas.soft(grown(lesion.mask, 4) & (lesion.mask | ~thorax.fields), 2.0)
            film += cover * np.maximum(0.92 * (0.80 - film), 0)
        elif lesion.finding == "pneumonia":
            cover = canvas.soft(lesion.mask, 3.5)
            patchy = np.clip(0.75 + 0.3 * canvas.field(rng, 22) + 0.15 * canvas.field(rng, 48), 0.25, 1.3)
            film += cover * patchy * rng.uniform(0.2, 0.27)
        else:
            cover = 0.7 * canvas.soft(lesion.mask, 1.9) + 0.3 * canvas.soft(lesion.mask, 4.5)
            cover *= 1 + 0.08 * canvas.field(rng, 40)
            strength = rng.uniform(0.2, 0.28) if lesion.finding == "nodule" else rng.uniform(0.25, 0.34)
            film += cover * strength
