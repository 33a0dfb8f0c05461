"""One question about several images: each one's maps are of its own tokens, and with one image nothing changes."""

import numpy as np
import pytest
import torch
from peft import get_peft_model

from a3tune.adapters.a3moe import A3MoeConfig
from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.errors import RequestError
from a3tune.inspection.image_set import inspect_images
from a3tune.inspection.inspect import inspect_image
from a3tune.models.load import load_model

QUESTION = "What has changed since the first one?"


@pytest.fixture(scope="module")
def images(random_image):
    return [random_image(5, 60, 92), random_image(6, 48, 40)]


def test_with_one_image_nothing_changes(tiny_model, images):
    model = tiny_model("qwen2_5_vl")
    target = np.zeros((60, 92), bool)
    target[10:40, 20:60] = True
    alone = inspect_image(model, images[0], QUESTION, max_new_tokens=3, target=target).view(BASE)
    found = inspect_images(model, images[:1], QUESTION, max_new_tokens=3, targets=[target])
    for view in (found.views[0], found.parts[0].view(BASE)):
        assert (view.answer, view.tokens, view.critical_heads) == (alone.answer, alone.tokens, alone.critical_heads)
        np.testing.assert_array_equal(view.maps.weights, alone.maps.weights)
        assert {name: view.metrics[name] for name in alone.metrics} == pytest.approx(alone.metrics)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "idefics3"])
def test_each_images_maps_are_eager_attention_to_its_own_tokens(tiny_model, images, name):
    model = tiny_model(name)
    found = inspect_images(model, images, QUESTION, max_new_tokens=3)
    ids = [token.id for token in found.views[0].tokens if token.role == "answer"]
    prompt = model.append_answer(model.encode(images, QUESTION), ids)
    model.model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            attentions = model.model(**prompt.inputs, output_attentions=True).attentions
    finally:
        model.model.set_attn_implementation("sdpa")
    whole = torch.stack(attentions)[:, 0]
    for part, positions in zip(found.parts, prompt.images, strict=True):
        view = part.view(BASE)
        expected = whole[:, :, view.maps.rows.tolist()][..., list(positions)]
        np.testing.assert_allclose(view.maps.weights, expected.numpy(), atol=1e-5)
        np.testing.assert_allclose(view.maps.image_share, expected.sum(-1).numpy(), atol=1e-5)
        assert part.grid.count == len(positions)
    shares = [part.view(BASE).metrics["share_of_images"] for part in found.parts]
    assert sum(shares) == pytest.approx(1)


def test_the_experts_of_each_image_are_those_of_its_own_patches(tiny_checkpoint, images, tmp_path):
    model = load_model(tiny_checkpoint("qwen2_5_vl"), device="cpu")
    wrapped = get_peft_model(model.model, A3MoeConfig(query_experts=3, key_experts=3, init_weights=False))
    wrapped.save_pretrained(tmp_path / "a3", save_embedding_layers=False)
    wrapped.unload()
    adapters = AdapterSet(model.model, {"a3": tmp_path / "a3"})
    found = inspect_images(model, images, QUESTION, adapters=(BASE, "a3"), adapter_set=adapters, max_new_tokens=2)
    whole = found.views[1].experts
    parts = [part.view("a3").experts for part in found.parts]
    assert [len(part.key_choice[0]) for part in parts] == [part.grid.count for part in found.parts]
    np.testing.assert_array_equal(np.concatenate([part.key_choice for part in parts], axis=1), whole.key_choice)


def test_a_class_that_was_trained_on_one_image_says_so(tiny_model, images):
    found = inspect_images(tiny_model("llava"), images, QUESTION, max_new_tokens=1)
    assert "trained on one image a prompt" in found.views[0].notes[0]
    assert not inspect_images(tiny_model("llava"), images[:1], QUESTION, max_new_tokens=1).views[0].notes


def test_targets_belong_to_images(tiny_model, images):
    with pytest.raises(RequestError, match="1 of them for 2 images"):
        inspect_images(tiny_model("qwen2_5_vl"), images, QUESTION, targets=[None])
