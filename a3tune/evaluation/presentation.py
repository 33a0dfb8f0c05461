"""How a report's numbers are called, counted and coloured: in figures, tables for papers, and on the page."""

from __future__ import annotations

from a3tune.evaluation.right_reason import CELLS

METRIC_TITLES = {
    "accuracy": "closed accuracy",
    "verbatim": "letter by letter",
    "recall": "open recall",
    "precision": "open precision",
    "f1": "open F1",
    "exact_match": "open exact match",
    "attention_mass": "attention mass",
    "touched_mass": "mass, touched patches",
    "relative_mass": "relative mass (× chance)",
    "pointing_game": "pointing game",
    "iou": "overlap",
    "area_under_curve": "area under the curve",
    "image_share": "attention on the image",
}
"""Title of a number by its name in a report; those that are not among them go by their names."""

PLAIN_METRICS = ("relative_mass", "CIDEr")
"""Numbers that are told as they are; all others are shares of 0 to 1, told in per cent."""

SYSTEM_COLOURS = ("#0f766e", "#d9822b", "#7c6ee6", "#c2477f", "#5b8db8", "#8794a3")
"""Colours of systems, taken in turn."""

CELL_COLOURS = dict(zip(CELLS, ("#0f766e", "#d9822b", "#7c6ee6", "#8794a3"), strict=True))
"""Colour of each cell of `a3tune.evaluation.right_reason`."""
