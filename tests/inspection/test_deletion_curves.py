"""Deletion, insertion and the randomised-weights control on a tiny model."""

import numpy as np
import pytest
import torch

from a3tune.errors import Cancelled, RequestError
from a3tune.inspection import deletion_curves
from a3tune.inspection.deletion_curves import measure_curves, measure_randomised
from a3tune.inspection.inspect import inspect_image
from a3tune.types import MedicalImage


@pytest.fixture
def model(tiny_model):
    return tiny_model("llava")


@pytest.fixture
def inspection(model, random_image):
    return inspect_image(model, random_image(5, 60, 92), "Is there a mass in the left lung?", max_new_tokens=4)


def test_curves_begin_and_end_with_the_whole_and_the_veiled_image(model, inspection):
    view = inspection.views[0]
    steps = []
    curves = measure_curves(
        model,
        inspection,
        "base",
        view.critical_heads,
        steps=4,
        random_orders=2,
        on_progress=lambda *step: steps.append(step),
    )
    for curve in (curves.deletion, curves.insertion, curves.deletion_random, curves.insertion_random):
        assert curve.shape == curves.shares.shape == (5,)
        assert ((curve > 0) & (curve <= 1)).all()
    # The answer's own probability, by hand.
    ids = [token.id for token in view.tokens if token.role == "answer"]
    whole = model.append_answer(model.encode(inspection.image, inspection.question), ids)
    with torch.no_grad():
        logits = model.model(**whole.inputs).logits[0, -len(ids) - 1 : -1]
    expected = torch.log_softmax(logits, -1)[range(len(ids)), ids].mean().exp().item()
    assert curves.deletion[0] == pytest.approx(expected, rel=1e-4)
    assert curves.insertion[-1] == curves.deletion[0] == curves.deletion_random[0]
    assert curves.insertion[0] == curves.deletion[-1] != curves.deletion[0]
    assert set(curves.areas) == {"deletion", "insertion", "deletion_random", "insertion_random"}
    shares = [share for _, share in steps]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] < 1
    again = measure_curves(model, inspection, "base", view.critical_heads, steps=4, random_orders=2)
    np.testing.assert_array_equal(again.insertion_random, curves.insertion_random)


def test_random_weights_change_the_map_and_are_put_back(model, inspection):
    view = inspection.views[0]
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    control = measure_randomised(model, inspection, "base", view.critical_heads)
    assert control.randomised == tuple(range(model.layers + 1))
    assert control.correlation[0] == 1
    assert -1 <= control.correlation[-1] < 0.9
    for name, value in model.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_layers_below_a_head_of_their_own_are_found(tiny_model, random_image):
    model = tiny_model("llama4")
    inspection = inspect_image(model, random_image(5, 60, 92), "Is there a mass?", max_new_tokens=2)
    control = measure_randomised(model, inspection, "base", inspection.views[0].critical_heads)
    assert control.randomised == tuple(range(model.layers + 1))
    assert control.correlation[-1] < 1


def test_weights_that_are_brought_anew_for_each_pass_cannot_be_at_random(model, inspection, monkeypatch):
    monkeypatch.setattr(deletion_curves, "is_offloaded", lambda found: found is model.model)
    with pytest.raises(RequestError, match="offloading"):
        measure_randomised(model, inspection, "base", inspection.views[0].critical_heads)


def test_a_stop_ends_the_work_and_the_trained_weights_come_back(model, inspection):
    view = inspection.views[0]
    before = [parameter.clone() for parameter in model.language_model.parameters()]
    for measure in (measure_curves, measure_randomised):
        answers = iter([False, True])
        with pytest.raises(Cancelled):
            measure(model, inspection, "base", view.critical_heads, should_stop=lambda answers=answers: next(answers))
    assert all(torch.equal(*pair) for pair in zip(before, model.language_model.parameters(), strict=True))


def test_an_empty_answer_has_no_curves(model, inspection):
    view = inspection.views[0]
    tokens = tuple(token for token in view.tokens if token.role != "answer")
    object.__setattr__(view, "tokens", tokens)
    with pytest.raises(RequestError, match="answer is empty"):
        measure_curves(model, inspection, "base", view.critical_heads)


def test_patches_are_hidden_in_the_picture_that_the_model_is_given(model, random_image):
    eye, given = random_image(5, 60, 92), random_image(6, 60, 92)
    curves = []
    for image in (given, MedicalImage(eye.pixels, model_pixels=given.pixels), eye):
        inspection = inspect_image(model, image, "Is there a mass?", max_new_tokens=4)
        heads = inspection.views[0].critical_heads
        curves.append(measure_curves(model, inspection, "base", heads, steps=3, random_orders=1))
    for name in ("deletion", "insertion", "deletion_random", "insertion_random"):
        np.testing.assert_array_equal(getattr(curves[0], name), getattr(curves[1], name))
    assert not np.allclose(curves[1].deletion, curves[2].deletion)
