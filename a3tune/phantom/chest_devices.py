"""Tubes, lines and leads of the chest radiograph, each drawn where it belongs in a patient."""

from __future__ import annotations

import numpy as np

from a3tune.phantom.shapes import Canvas, blob, closed_curve, mirrored, open_curve, paint
from a3tune.phantom.structures import PhantomStyle, Side, Structure

DEVICES = ("endotracheal tube", "nasogastric tube", "central line", "chest tube", "pacemaker", "ecg leads")


def draw_devices(
    rng: np.random.Generator,
    canvas: Canvas,
    film: np.ndarray,
    lungs: dict[Side, np.ndarray],
    trachea: np.ndarray,
    style: PhantomStyle,
) -> list[Structure]:
    """Draw some devices on the film in place: 0 to 2 in standard style, 2 to 4 in shifted style.

    Args:
        rng: decides which and where.
        canvas: the body frame.
        film: float32 [height, width], changed in place.
        lungs: masks by side; a chest tube ends inside one of them.
        trachea: middle line [n, 2] of the windpipe in the body frame.
        style: "standard" or "shifted".

    Returns:
        A structure for each device.
    """
    count = int(rng.choice(3, p=(0.45, 0.35, 0.2))) if style == "standard" else int(rng.integers(2, 5))
    chosen = sorted(rng.choice(len(DEVICES), size=count, replace=False).tolist())
    structures = []
    for name in (DEVICES[index] for index in chosen):
        layer = canvas.empty()
        core = canvas.empty()
        side: Side = "midline"
        strength = 0.3
        if name == "endotracheal tube":
            tip = rng.uniform(-0.58, -0.47)
            line = trachea[trachea[:, 1] < tip] + (rng.normal(0, 0.006), 0)
            canvas.stroke(layer, line, 5)
            canvas.stroke(core, line, 2)
            strength = 0.26
        elif name == "nasogastric tube":
            lean = rng.uniform(0.01, 0.05)
            points = [
                (0.03, -1.2),
                (lean, -0.7),
                (lean + 0.02, -0.2),
                (0.06, 0.25),
                (0.1, 0.46),
                (0.22, 0.62),
                (0.4, 0.7),
            ]
            canvas.stroke(layer, open_curve(np.array(points)), 2)
            side = "left"
        elif name == "central line":
            side = "right" if rng.random() < 0.7 else "left"
            start = [(-0.2, -1.1), (-0.19, -0.85), (-0.13, -0.6)]
            if side == "left":
                start = [(0.2, -1.1), (0.19, -0.8), (0.1, -0.56), (-0.04, -0.47)]
            points = [*start, (-0.115, -0.35), (-0.115, rng.uniform(-0.2, 0.0))]
            canvas.stroke(layer, open_curve(np.array(points)), 2)
        elif name == "chest tube":
            side = "right" if rng.random() < 0.5 else "left"
            tube = np.array([(-1.0, 0.36), (-0.8, 0.2), (-0.6, 0.02), (-0.47, -0.22), (-0.38, -0.5)])
            tube[2:] += rng.normal(0, 0.03, (3, 2))
            line = open_curve(tube if side == "right" else mirrored(tube))
            canvas.stroke(layer, line, 5)
            canvas.stroke(core, line, 2)
        elif name == "pacemaker":
            side = "left" if rng.random() < 0.85 else "right"
            box = blob(rng, (0.58, -0.42), (0.115, 0.095), 0.03)
            lead = np.array(
                [(0.52, -0.5), (0.35, -0.62), (0.12, -0.54), (-0.06, -0.4), (-0.1, -0.1), (0.05, 0.28), (0.3, 0.34)]
            )
            if side == "right":
                box = mirrored(box)
                lead[:3] = mirrored(lead[:3])
            layer[canvas.fill(closed_curve(box, samples=2))] = 255
            canvas.stroke(layer, open_curve(lead), 2)
            strength = 0.34
        else:
            for x, y in ((-0.62, -0.45), (0.6, -0.5), (0.66, 0.3)):
                spot = (x + rng.normal(0, 0.04), y + rng.normal(0, 0.05))
                layer[canvas.fill(blob(rng, spot, (0.04, 0.04), 0.01))] = 255
                wire = [spot, (spot[0] * 0.9, spot[1] + 0.25), (spot[0] * 0.6, 0.75), (0.3, 1.2)]
                canvas.stroke(layer, open_curve(np.array(wire)), 1)
        if name == "pacemaker":
            paint(film, 0.7 * canvas.soft(layer, 0.6), 1.0)
        film += strength * canvas.soft(layer, 0.6) - 0.6 * strength * canvas.soft(core, 0.6)
        location = "midline" if side == "midline" else f"{side} side"
        structures.append(Structure(name, "device", layer > 0, side, location))
    return structures
