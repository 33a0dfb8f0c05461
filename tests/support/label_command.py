"""The labels command on small pictures, and what it leaves."""

import json

import cv2
import numpy as np
from PIL import Image

from a3tune.cli.main import main
from tests.support.tuning_data import TINY


def body(seed=0, width=150, height=120):
    """A grey body with a bright and a dark organ on black: uint8 [height, width]."""
    grey = np.full((height, width), 5, np.uint8)
    middle, radius = (width // 2, height // 2), (int(width * 0.45), int(height * 0.45))
    cv2.ellipse(grey, middle, radius, 0, 0, 360, 110, cv2.FILLED)
    cv2.ellipse(grey, (width // 3, height // 2), (width // 7, height // 5), 0, 0, 360, 190, cv2.FILLED)
    cv2.ellipse(grey, (2 * width // 3, height // 2), (width // 9, height // 5), 0, 0, 360, 40, cv2.FILLED)
    noise = np.random.default_rng(seed).normal(0, 3, grey.shape)
    return (cv2.GaussianBlur(grey, (0, 0), 0.8) + noise).clip(0, 255).astype(np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def labels(image, out, *more, prompt="Where is the liver?"):
    return main(["labels", "--image", str(image), "--prompt", prompt, "--out", str(out), *map(str, more)])


def one_line(capsys, *words):
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1, captured.err
    for word in words:
        assert word in captured.err
    return captured.err


def read(folder):
    record = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    with np.load(folder / "masks.npz", allow_pickle=False) as arrays:
        return record, arrays["masks"]


def tuning_data(root, count=4):
    """Two questions about each of a few pictures, the last held out."""
    rows = ["image,question,answer,split,mask"]
    for number in range(count):
        save(root / f"{number}.png", body(number))
        split = "validation" if number == count - 1 else "train"
        for question, answer in (("Where is the liver?", "left"), ("Is there a cyst?", "no")):
            rows.append(f"{number}.png,{question},{answer},{split},")
    (root / "rows.csv").write_text("\n".join(rows) + "\n")
    return root


def tune(data, out, model, *more, **settings):
    chosen = {**TINY, "max_steps": 2, "evaluate_every": None, "label_segmenter": "auto", "label_scorer": "demo"}
    sets = [f"--set={name}={'null' if value is None else value}" for name, value in {**chosen, **settings}.items()]
    command = ["tune", "--data", str(data), "--out", str(out), "--model", str(model), "--device", "cpu"]
    assert main([*command, *sets, *map(str, more)]) == 0
    targets = np.load(out / "targets.npz")
    return json.loads((out / "run.json").read_text()), targets["kinds"].tolist(), targets["values"]
