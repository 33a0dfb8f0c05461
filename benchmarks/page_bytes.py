"""Count the bytes of maps on their way to the page: of the demo model and of one in LLaVA-Med's shape.

python -m benchmarks.page_bytes --write docs/page.md
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from a3tune.bundle import DEMO_MODEL, EXAMPLES
from a3tune.images import load_image
from a3tune.inspection.inspect import Inspection, inspect_image
from a3tune.inspection.views import AdapterView
from a3tune.models.load import load_model
from a3tune.types import AttentionMaps, Head, PatchGrid, PatchTile, Token
from app.common.widgets import json_text
from app.engine.model_generation import ModelGeneration
from app.inspect.sessions.opened_image import OpenedImage
from app.inspect.sessions.results import Result, ViewNumbers
from app.inspect.viewer.values import head_map_value, result_value
from benchmarks.document import write_between

LAYERS = HEADS = 32
SIDE, QUESTION, WORDS, TEMPLATE = 24, 20, 60, 8


def demo_inspection() -> Inspection:
    """The demo model's first example, answered by the base model."""
    return inspect_image(
        load_model(DEMO_MODEL, device="cpu"), load_image(EXAMPLES / "chest_mass.png"), "Is there a mass?"
    )


def large_inspection() -> Inspection:
    """An inspection in LLaVA-Med's shape with random maps: 60 words of an answer to a question of 20 tokens."""
    roles = ["image"] * SIDE**2 + ["question"] * QUESTION + ["template"] * TEMPLATE + ["answer"] * WORDS
    tokens = tuple(Token(place, place, " word", role) for place, role in enumerate(roles))
    patches, rows = SIDE**2, np.arange(SIDE**2, len(roles) - 1)
    weights = np.random.default_rng(0).random((LAYERS, HEADS, len(rows), patches), dtype=np.float32) / patches
    maps = AttentionMaps(weights, rows, weights.sum(-1))
    boxes = np.array([[x, y, x + 1, y + 1] for y in range(SIDE) for x in range(SIDE)], dtype=np.float64)
    grid = PatchGrid(boxes, (PatchTile(0, SIDE, SIDE, (0.0, 0.0, float(SIDE), float(SIDE))),), SIDE, SIDE)
    heads = tuple(Head(layer, 0) for layer in range(HEADS))
    view = AdapterView("base", " word" * WORDS, tokens, maps, maps.image_share.mean(-1), heads)
    return Inspection("7B", load_image(EXAMPLES / "chest_mass.png"), " word" * QUESTION, grid, (view,))


def row(name: str, inspection: Inspection) -> str:
    """One line of the table."""
    view = inspection.views[0]
    opened = OpenedImage(inspection.image, None)  # type: ignore[arg-type]
    numbers = ViewNumbers({}, np.zeros(view.visual_ratio.shape))
    result = Result("result", inspection, (numbers,), opened, ModelGeneration("it"))  # type: ignore[arg-type]
    value = result_value(result)
    word = json_text(result_value(result, more_to_come=True))
    sent = value["views"][0]
    words = sum(len(text) for text in sent["maps"].values())
    means = sum(len(text or "") for text in sent["head_means"].values())
    one = len(json_text(head_map_value(view.maps.weights[0, 0])))
    shape = f"{view.maps.layers} x {view.maps.heads} heads, {inspection.grid.count} patches, {len(view.maps.rows)} rows"
    cells = [view.maps.weights.nbytes, len(json_text(value)), words, means, len(word), one]
    return f"| {name}: {shape} | " + " | ".join(_told(cell) for cell in cells) + " |"


def _told(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB" if count >= 1e3 else f"{count} B"


def main(arguments: list[str] | None = None) -> None:
    """Count, print, and write the document's table if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between this document's marks")
    options = parser.parse_args(arguments)
    lines = [
        "| answer of one adapter | maps in memory | sent with it | for its words | for its heads | a word | one head |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        row("demo model", demo_inspection()),
        row("7B", large_inspection()),
    ]
    print("\n".join(lines))
    if options.write is not None:
        write_between(options.write, "\n".join(lines), "bytes")


if __name__ == "__main__":
    main()
