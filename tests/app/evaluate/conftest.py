"""A finished evaluation in a folder, made of items: no model is asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from a3tune.encoding import base64_halves
from a3tune.evaluation.export import export
from a3tune.evaluation.items import EvaluatedItem, write_items
from a3tune.evaluation.report import make_report, write_report
from a3tune.storage import write_json

SAID = {"base": ("yes", "no", "no", "no", None), "a3": ("yes", "yes", "yes", "no", "no")}
RELATIVE = {"base": (3.0, 1.2, 0.5, 0.5, 3.0), "a3": (3.0, 3.0, 1.2, 0.5, 3.0)}
WANTED = ("yes", "yes", "yes", "yes", "yes")


def item(system: str, number: int) -> EvaluatedItem:
    said = SAID[system][number]
    scores = {} if said is None else {"strict": {"accuracy": float(said == WANTED[number]), "verbatim": 1.0}}
    looked = {"relative_mass": RELATIVE[system][number], "attention_mass": 0.25}
    return EvaluatedItem(
        f"q{number}", number, system, f"images/{number}.png", f"h{number}", f"Is there a mass, {number}?",
        WANTED[number], "closed", said, scores=scores, adapter=system,
        attention={} if said is None else {"generated": looked},
        groups={"topic": "side" if number < 2 else "presence"}, masks="true", gap="" if said else "It is damaged",
    )  # fmt: skip


@pytest.fixture(scope="session")
def finished_evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished evaluation and the folder ``data`` with its images, to copy: figures and statistics take a second."""
    root = tmp_path_factory.mktemp("evaluation")
    (root / "data" / "images").mkdir(parents=True)
    for number in range(4):  # the last image is gone
        Image.fromarray(np.full((20, 30), 60 * number, np.uint8)).save(root / "data" / "images" / f"{number}.png")
    folder = root / "run"
    folder.mkdir()
    items = [item(system, number) for system in SAID for number in range(len(WANTED))]
    write_items(folder / "items.jsonl", items)
    report = make_report(
        items, {"name": "mine", "split": "test", "questions": 5, "images": 5}, {"settings": {"seed": 0}}
    )
    write_report(report, folder)
    for kind in ("markdown", "latex", "figures"):
        export(kind, report, items, folder)
    tile = {"start": 0, "rows": 2, "columns": 2, "box": [0, 0, 30, 20], "overview": False}
    place = {"width": 30, "height": 20, "tiles": [tile], "target": base64_halves(np.array([1.0, 0, 0, 0]))}
    maps = dict.fromkeys(SAID, base64_halves(np.full(4, 0.25)))
    lines = [{"number": number, "place": place, "maps": maps} for number in range(len(WANTED))]
    (folder / "maps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


@pytest.fixture
def write_evaluation(finished_evaluation: Path) -> Callable[[Path, Path], None]:
    """(folder, data) -> None: a finished evaluation of two systems on five questions about images in ``data``."""

    def write(folder: Path, data: Path) -> None:
        shutil.copytree(finished_evaluation / "data", data, dirs_exist_ok=True)
        shutil.copytree(finished_evaluation / "run", folder)
        write_json(folder / "evaluation.json", {"status": "finished", "images": [str(data)]})

    return write


@pytest.fixture
def folder(write_evaluation, tmp_path):
    """The folder of a finished evaluation; its images lie in ``data`` beside it."""
    write_evaluation(tmp_path / "run", tmp_path / "data")
    return tmp_path / "run"
