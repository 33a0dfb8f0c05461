"""The watched questions: what is written about them, and that watching changes nothing."""

import base64

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from a3tune.training.attention_watch import AttentionWatch, choose_watched
from a3tune.training.run_folder import RunFolder
from a3tune.training.tuning import tune
from a3tune.training.validation_examples import ValidationExamples
from tests.support.tuning_data import tiny_config, write_data


@pytest.fixture(scope="module")
def run(tiny_checkpoint, tmp_path_factory):
    """name, settings -> run folder of a finished run."""
    folder = tmp_path_factory.mktemp("watch")
    rows = write_data(folder / "data", images=6)

    def start(name, **settings):
        tune(tiny_config(max_steps=3, **settings), rows, folder / name, str(tiny_checkpoint("llava")), device="cpu")
        return RunFolder(folder / name)

    return start


def halves(text):
    return np.frombuffer(base64.b64decode(text), "<f2").astype(np.float64)


def test_every_snapshot_is_told_with_maps_that_fit_the_picture(run):
    folder = run("told")
    events = folder.event_log.read()
    (watched,) = [event for event in events if event["event"] == "watched"]
    snapshots = [event for event in events if event["event"] == "attention"]
    assert [event["step"] for event in snapshots] == [0, 1, 2, 3]
    assert len(watched["questions"]) == 2, "two images are held out"
    for number, question in enumerate(watched["questions"]):
        with Image.open(folder.path / question["picture"]) as picture:
            assert picture.width * question["height"] == picture.height * question["width"]
        patches = sum(tile["rows"] * tile["columns"] for tile in question["tiles"])
        target = halves(question["target"])
        assert target.shape == (patches,)
        for snapshot in snapshots:
            shares = halves(snapshot["maps"][number])
            assert shares.shape == (patches,)
            assert shares.sum() == pytest.approx(1, abs=2e-3)
            assert snapshot["mass"][number] == pytest.approx(float(shares @ target), abs=2e-3)
    assert snapshots[0]["maps"] != snapshots[-1]["maps"]
    # The watched questions' mass at the end is what the validation saw, which asks these and others.
    assert all(isinstance(right, bool) for snapshot in snapshots for right in snapshot["right"])


@pytest.mark.parametrize("settings", [{}, {"head_choice": "fixed", "method": "lora+align"}])
def test_watching_changes_no_weight(run, monkeypatch, settings):
    seen = run(f"seen{len(settings)}", **settings)
    monkeypatch.setattr(AttentionWatch, "_take_snapshot", lambda self, model, step: None)
    monkeypatch.setattr(ValidationExamples, "write", lambda self, tally: None)
    unseen = run(f"unseen{len(settings)}", **settings)
    one, other = (load_file(folder.adapter / "adapter_model.safetensors") for folder in (seen, unseen))
    assert all(torch.equal(one[name], other[name]) for name in one)


class Stub:
    """Questions by their images and whether they have a target."""

    def __init__(self, *entries):
        self.items = [type("Item", (), {"images": (image,)}) for image, _ in entries]
        self.targets = self
        self._known = [known for _, known in entries]

    def __len__(self):
        return len(self.items)

    def masks(self, index):
        return np.full((1, 4), self._known[index], np.float16)


@pytest.mark.parametrize(
    ("entries", "chosen"),
    [
        ([("a", 1), ("a", 1), ("b", 1)], [0, 2]),
        ([("a", 0), ("a", 1), ("b", 0), ("c", 1)], [1, 3]),
        ([("a", 0), ("b", 0)], [0, 1]),
        ([(name, 1) for name in "abcdef"], [0, 2, 4]),
        ([], []),
    ],
)
def test_different_images_with_a_target_are_chosen(entries, chosen):
    assert choose_watched(Stub(*entries)) == chosen
