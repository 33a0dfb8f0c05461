"""The check of where image tokens lie tells a right patch grid from wrong ones, and leaves the model as it was."""

import dataclasses
import json

import pytest
import torch

from a3tune.errors import ModelError
from a3tune.models import load
from a3tune.models.checkpoint_folder import PROVEN
from a3tune.models.token_alignment import ALIGNMENT_TOLERANCE, check_token_alignment, stray_change
from a3tune.types import PatchGrid
from tests.support.tiny_models import BUILDERS


@pytest.mark.parametrize(
    "wrong",
    [
        lambda boxes: boxes[::-1],
        lambda boxes: boxes.reshape(4, 4, 4).swapaxes(0, 1).reshape(16, 4),
        lambda boxes: boxes[[*range(1, 16), 0]],
    ],
    ids=["backwards", "transposed", "one token late"],
)
def test_a_wrong_grid_is_found_out(tiny_model, monkeypatch, wrong):
    model = tiny_model("llava")
    real = model.patch_grid

    def turned(height: int, width: int, patches: int) -> PatchGrid:
        grid = real(height, width, patches)
        return dataclasses.replace(grid, boxes=wrong(grid.boxes).copy())

    assert stray_change(model)[1] < ALIGNMENT_TOLERANCE
    monkeypatch.setattr(model, "patch_grid", turned)
    assert stray_change(model)[1] > 2 * ALIGNMENT_TOLERANCE
    with pytest.raises(ModelError, match=r"llava \(llava\) mixes the places"):
        check_token_alignment(model)


def test_every_proven_type_has_a_tiny_model_and_others_are_tried_when_they_are_loaded(tiny_checkpoint, monkeypatch):
    found = {}
    for name in BUILDERS:
        config = json.loads((tiny_checkpoint(name) / "config.json").read_text())
        found.setdefault(config["model_type"], set()).add(config["vision_config"]["model_type"])
    assert found.keys() == PROVEN.keys()
    assert all(towers is None or set(towers) == found[kind] for kind, towers in PROVEN.items())
    assert load.load_model(tiny_checkpoint("llava"), device="cpu").notes == ()
    monkeypatch.setattr(load, "PROVEN", {**PROVEN, "llava": ("pixtral",)})
    (note,) = load.load_model(tiny_checkpoint("llava"), device="cpu").notes
    assert "not tested with models of type llava that see with clip_vision_model" in note
    monkeypatch.setattr("a3tune.models.token_alignment.stray_change", lambda model, **options: (4, 1.5))
    with pytest.raises(ModelError, match="mixes the places"):
        load.load_model(tiny_checkpoint("llava"), device="cpu")


def test_a_model_that_fails_when_it_is_tried_is_refused_with_what_it_said(tiny_model, monkeypatch):
    model = tiny_model("llava")

    def fail(*call: object) -> None:
        raise IndexError("no such tile")

    monkeypatch.setattr(model, "patch_grid", fail)
    with pytest.raises(ModelError, match="failed with IndexError: no such tile"):
        check_token_alignment(model)


def test_the_model_answers_as_before(tiny_model, random_image):
    model = tiny_model("llava")
    prompt = model.encode(random_image(4), "What is shown?")
    with torch.no_grad():
        before = model.model(**prompt.inputs).logits
        stray_change(model)
        assert torch.equal(model.model(**prompt.inputs).logits, before)


def test_a_model_that_is_not_given_embeddings_is_named(tiny_model, monkeypatch):
    model = tiny_model("llava")
    monkeypatch.setattr(type(model), "language_model", torch.nn.Linear(1, 1))
    with pytest.raises(ModelError, match="Linear is not"):
        stray_change(model)
