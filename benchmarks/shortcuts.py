"""Whether alignment keeps the demo model from a shortcut: a device that lies where the finding lies, in training only.

    python -m benchmarks.shortcuts --runs .cache/shortcuts

The question is on which side a finding of a chest phantom lies, which the base model was never asked. In all training
images one tube, line or pacemaker lies on that side ("same") or on the other one ("other"), so that its side tells the
answer as well as the finding does. Tests are images of both kinds. Finished runs are kept in the runs folder.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.bundle import DEMO, model_source
from a3tune.evaluation.alignment import KnownQuestion, Reading, prepare_questions, read_questions
from a3tune.evaluation.statistics import mean_interval, paired_difference
from a3tune.models.load import load_model
from a3tune.phantom.questions import IS_SIDE_FORMS, WHICH_SIDE_FORMS
from a3tune.phantom.scene import make_phantom
from a3tune.phantom.structures import HELD_OUT_SEEDS, TRAINING_SEEDS, Phantom, Structure
from a3tune.storage import read_json, write_json
from a3tune.training.config_file import load_config
from a3tune.training.run_folder import RunFolder
from a3tune.training.tuning import tune
from benchmarks.document import write_between

Cell = Literal["same", "other"]
CELLS: tuple[Cell, Cell] = ("same", "other")
DEVICES = ("chest tube", "central line", "pacemaker")
METHODS: dict[str, dict[str, object]] = {
    "lora": {"method": "lora"},
    "a3, weak labels": {"method": "a3", "targets": "weak"},
    "a3, masks": {"method": "a3", "targets": "truth"},
}
TRAINED, TESTED = 140, 100


def sided_pair(phantom: Phantom) -> tuple[Structure, Structure] | None:
    """The phantom's only finding and its only device with a side; None where it has others or none."""
    findings = phantom.lesions
    devices = [item for item in phantom.of_kind("device") if item.name in DEVICES]
    if len(findings) != 1 or len(devices) != 1 or "midline" in (findings[0].side, devices[0].side):
        return None
    return findings[0], devices[0]


def phantoms_of(cell: Cell, seeds: Sequence[int], count: int) -> Iterator[tuple[Phantom, Structure, Structure]]:
    """The first ``count`` chest phantoms of a cell, each with its finding and its device."""
    for seed in seeds:
        if not count:
            return
        phantom = make_phantom(seed, "chest")
        pair = sided_pair(phantom)
        if pair is not None and (pair[0].side == pair[1].side) == (cell == "same"):
            yield phantom, *pair
            count -= 1


def questions_of(finding: Structure) -> Iterator[tuple[str, str, str]]:
    """(question, answer, answer type) on the side of a finding, in every wording."""
    name = str(finding.finding)
    for form in WHICH_SIDE_FORMS:
        yield form.format(name=name), finding.side, "open"
    for form, side in zip(IS_SIDE_FORMS, ("right", "left"), strict=True):
        yield form.format(name=name, side=side), "yes" if side == finding.side else "no", "closed"


def write_data(folder: Path, cell: Cell) -> Path:
    """Training data of one cell with the findings' masks; what is there already is kept."""
    table = folder / "data.csv"
    if table.is_file():
        return table
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for phantom, finding, _ in phantoms_of(cell, TRAINING_SEEDS[700_000:], TRAINED):
        names = f"{phantom.seed}.png", f"{phantom.seed}_mask.png"
        Image.fromarray(phantom.image.pixels[:, :, 0]).save(folder / names[0])
        Image.fromarray(finding.mask.astype(np.uint8) * 255).save(folder / names[1])
        rows += [(names[0], *asked, "train", names[1]) for asked in questions_of(finding)]
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image", "question", "answer", "answer_type", "split", "mask"))
        writer.writerows(rows)
    return table


class Bench:
    """Tunes on one cell and asks about both; the questions are prepared once.

    Args:
        runs: where data, runs and results are kept.
        seed: of every run.
    """

    def __init__(self, runs: Path, seed: int) -> None:
        self.runs, self.seed = runs, seed
        self.model = load_model(model_source(DEMO), device="cpu")
        self.images: dict[Cell, list[int]] = {}
        self.known: dict[Cell, dict[str, list[KnownQuestion]]] = {}
        for cell in CELLS:
            self.images[cell], self.known[cell] = [], {"finding": [], "device": []}
            for phantom, finding, device in phantoms_of(cell, HELD_OUT_SEEDS[50_000:], TESTED):
                for question, answer, kind in questions_of(finding):
                    self.images[cell].append(phantom.seed)
                    for what, structure in (("finding", finding), ("device", device)):
                        asked = KnownQuestion(phantom.image, question, answer, kind, structure.mask)
                        self.known[cell][what].append(asked)

    def measured(self, trained: Cell, method: str) -> dict[str, dict[str, list[float]]]:
        """cell -> "right", "finding" and "device" of each question, the last two as shares of the attention."""
        name = method.replace(",", "").replace(" ", "-")
        result = self.runs / f"{trained}-{name}-{self.seed}.json"
        if not result.is_file():
            adapter = None if method == BASE else self._tuned(trained, method, result.with_suffix(""))
            write_json(result, {cell: self._ask(cell, adapter) for cell in CELLS})
        return read_json(result)

    def _tuned(self, trained: Cell, method: str, folder: Path) -> Path:
        run = RunFolder(folder)
        if (run.read() or {}).get("status") != "finished":
            config = load_config("demo", {"evaluate_every": None, **METHODS[method], "seed": self.seed})
            tune(config, write_data(self.runs / f"data-{trained}", trained).parent, folder, DEMO, device="cpu")
        return run.adapter

    def _ask(self, cell: Cell, adapter: Path | None) -> dict[str, list[float]]:
        adapters = AdapterSet(self.model.model, {} if adapter is None else {"tuned": adapter})
        name = BASE if adapter is None else "tuned"
        read: dict[str, list[Reading]] = {
            what: read_questions(
                self.model, prepare_questions(self.model, known), adapter_set=adapters, adapter=name
            )
            for what, known in self.known[cell].items()
        }  # fmt: skip
        if adapter is not None:
            adapters.remove("tuned")
        masses = {what: [round(item.mass, 5) for item in items] for what, items in read.items()}
        return {"right": [float(item.right) for item in read["finding"]], **masses}


def table(bench: Bench, trained: Cell, found: dict[str, dict[str, dict[str, list[float]]]]) -> list[str]:
    """A row for each method; the differences to LoRA are on the cell that contradicts the training."""
    against: Cell = "other" if trained == "same" else "same"
    lines = [
        f"## Trained with the device on the {trained} side",
        "",
        "| | right, as trained | right, against it | less lora | attention on the finding | on the device |",
        "|---|---|---|---|---:|---:|",
    ]
    for method, cells in found.items():
        shown = []
        for cell in (trained, against):
            part = mean_interval(100 * np.array(cells[cell]["right"]), bench.images[cell])
            shown.append(f"{part.value:.1f} ({part.low:.1f} to {part.high:.1f})")
        change = ""
        if method not in (BASE, "lora") and "lora" in found:
            pair = (100 * np.array(found[name][against]["right"]) for name in ("lora", method))
            apart = paired_difference(*pair, bench.images[against])
            change = f"{apart.value:+.1f} ({apart.low:+.1f} to {apart.high:+.1f})"
        masses = [f"{100 * np.mean(cells[against][what]):.1f}" for what in ("finding", "device")]
        lines.append(f"| {method} | {shown[0]} | {shown[1]} | {change} | {masses[0]} | {masses[1]} |")
    return [*lines, ""]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR", help="where finished runs are kept")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--trained", nargs="+", choices=CELLS, default=list(CELLS), help="which training data")
    parser.add_argument("--methods", nargs="+", choices=[BASE, *METHODS], default=[BASE, *METHODS], metavar="NAME")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables between the document's marks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.runs.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.runs, options.seed)
    lines = []
    for trained in options.trained:
        lines += table(bench, trained, {name: bench.measured(trained, name) for name in options.methods})
    print("\n".join(lines))
    if options.write:
        write_between(options.write, "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
