"""What another question about an image takes over from the last one, and that it is answered as if nothing were."""

import json
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer

from a3tune.adapters.a3moe import A3MoeConfig
from a3tune.adapters.switch import name_in_layers
from a3tune.inspection.inspect import inspect_image
from a3tune.inspection.passes import answer_with_maps
from a3tune.lack_of_memory import release_memory
from a3tune.models.load import load_model
from a3tune.prefixes import cache as module
from a3tune.prefixes.cache import PrefixCache, PrefixStore, PromptReading
from a3tune.prefixes.supported_models import FEATURES_ONLY, PROVEN
from tests.support.adapter_sets import adapter_set

FIRST, SECOND = "What is shown in this image?", "Is there a mass in the left lung? Answer briefly."
# Tiny windows that a prompt outgrows; and layers of linear attention, of which there is no beginning to keep.
WINDOWED = ("llava_mistral", "gemma3", "aya_vision", "cohere2_vision", "gemma4", "llama4")
LINEAR = ("lfm2_vl", "qwen3_5", "qwen3_5_moe")


@pytest.fixture
def image(random_image):
    return random_image(5, 60, 92)


@pytest.fixture(scope="module")
def wide(tiny_checkpoint, tiny_model, tmp_path_factory):
    """name -> a tiny model whose sliding windows are longer than its prompts."""

    def load(name):
        if name not in WINDOWED:
            return tiny_model(name)
        folder = shutil.copytree(tiny_checkpoint(name), tmp_path_factory.mktemp("wide") / name)
        config = json.loads((folder / "config.json").read_text())
        for key in ("sliding_window", "attention_chunk_size"):
            if config["text_config"].get(key):
                config["text_config"][key] = 512
        (folder / "config.json").write_text(json.dumps(config))
        return load_model(folder, device="cpu", name=name)

    return load


@pytest.fixture
def towers(monkeypatch):
    """model -> list that grows with each time that its vision tower reads an image."""

    def watch(model):
        seen, inner = [], model.model.base_model
        read = inner.get_image_features
        monkeypatch.setattr(inner, "get_image_features", counting(read, seen))
        return seen

    return watch


def counting(read, seen):
    def get_image_features(*args, **options):
        seen.append(1)
        return read(*args, **options)

    get_image_features.__wrapped__ = read  # its signature
    return get_image_features


def reading(model, image, prefixes, question=SECOND, name=""):
    """How a question would be read now: "whole", "features" or "prefix"."""
    with torch.inference_mode():
        begun = PromptReading(model, model.encode(image, question), prefixes, name)
    return "prefix" if begun.read else "features" if "mm_encoder_outputs" in begun.inputs else "whole"


def same(found, expected, tolerance=1e-5):
    (answer, maps), (other, others) = found, expected
    assert answer == other
    np.testing.assert_array_equal(maps.rows, others.rows)
    np.testing.assert_allclose(maps.weights, others.weights, rtol=0, atol=tolerance)


def test_every_class_answers_a_second_question_as_a_fresh_run_does(tiny_name, wide, image, towers):
    model = wide(tiny_name)
    kind = model.config.model_type
    assert kind in PROVEN
    first, second = (model.encode(image, question) for question in (FIRST, SECOND))
    fresh = [answer_with_maps(model, prompt, max_new_tokens=3) for prompt in (first, second)]
    seen, prefixes = towers(model), PrefixCache()
    same(answer_with_maps(model, first, max_new_tokens=3, prefixes=prefixes), fresh[0], 0)
    expected = "features" if kind in FEATURES_ONLY or tiny_name in LINEAR else "prefix"
    again = answer_with_maps(model, second, max_new_tokens=3, prefixes=prefixes)
    same(again, fresh[1], 0 if expected == "features" else 1e-5)
    assert len(seen) == 1
    assert reading(model, image, prefixes) == expected


@pytest.mark.parametrize("name", ["llava_mistral", "gemma3"])
def test_a_window_that_the_prompt_outgrows_leaves_the_features_alone(name, tiny_model, image):
    model, prefixes = tiny_model(name), PrefixCache()
    answer_with_maps(model, model.encode(image, FIRST), max_new_tokens=4, prefixes=prefixes)
    assert reading(model, image, prefixes) == "features"
    second = model.encode(image, SECOND)
    fresh = answer_with_maps(model, second, max_new_tokens=4)
    same(answer_with_maps(model, second, max_new_tokens=4, prefixes=prefixes), fresh, 0)


@pytest.fixture(scope="module")
def adapted(tiny_checkpoint, tmp_path_factory):
    """A tiny LLaVA with a LoRA, one that is also on the vision tower, and an A3MoE adapter."""
    model = load_model(tiny_checkpoint("llava"), device="cpu")
    folder = tmp_path_factory.mktemp("adapters")
    text = r".*language_model.*\.(q_proj|v_proj)"
    kinds = {
        "lora": LoraConfig(r=2, target_modules=text, init_lora_weights=False),
        "vision": LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False),
        "a3": A3MoeConfig(query_experts=3, key_experts=3, init_weights=False),
    }
    return model, adapter_set(model.model, kinds, folder)


def test_each_adapter_goes_on_from_its_own_prefix_and_shares_the_features(adapted, image, towers):
    model, adapters = adapted
    names = ("base", "lora", "a3")
    ask = {"adapters": names, "adapter_set": adapters, "max_new_tokens": 4}
    fresh = inspect_image(model, image, SECOND, **ask)
    seen, prefixes = towers(model), PrefixCache()
    inspect_image(model, image, FIRST, **ask, prefixes=prefixes)
    found = inspect_image(model, image, SECOND, **ask, prefixes=prefixes)
    assert len(seen) == 1
    for name in names:
        assert found.view(name).tokens == fresh.view(name).tokens
        tolerance = 0 if name == "a3" else 1e-5
        np.testing.assert_allclose(found.view(name).maps.weights, fresh.view(name).maps.weights, rtol=0, atol=tolerance)
        with adapters.using(name):
            assert reading(model, image, prefixes, name=name) == ("features" if name == "a3" else "prefix")
    assert np.abs(found.view("lora").maps.weights - found.view("base").maps.weights).max() > 1e-3
    # What is kept stays what it was.
    third = inspect_image(model, image, SECOND, **ask, prefixes=prefixes)
    np.testing.assert_array_equal(third.view("lora").maps.weights, found.view("lora").maps.weights)
    np.testing.assert_array_equal(found.view("a3").experts.key_choice, fresh.view("a3").experts.key_choice)
    with adapters.using("lora"):
        # Another scale, or another adapter of the same name, is not the one that wrote the prefix.
        assert reading(model, image, prefixes, name="base") == "features"
        layer = next(m for m in model.language_model.modules() if isinstance(m, LoraLayer))
        layer.scaling[name_in_layers("lora")] *= 2
        assert reading(model, image, prefixes, name="lora") == "features"
        layer.scaling[name_in_layers("lora")] /= 2


def test_an_adapter_on_the_vision_tower_reads_all_itself(adapted, image, towers):
    model, adapters = adapted
    prefixes, ask = PrefixCache(), {"adapters": ("base", "vision"), "adapter_set": adapters, "max_new_tokens": 3}
    fresh = inspect_image(model, image, SECOND, **{**ask, "adapters": ("vision",)})
    seen = towers(model)
    inspect_image(model, image, FIRST, **ask, prefixes=prefixes)
    found = inspect_image(model, image, SECOND, **ask, prefixes=prefixes)
    assert len(seen) == 3  # the base's once, the adapter's for each question
    np.testing.assert_array_equal(found.view("vision").maps.weights, fresh.view("vision").maps.weights)


@pytest.fixture(scope="module")
def own_llava(tiny_checkpoint):
    """A model to be changed."""
    return load_model(tiny_checkpoint("llava"), device="cpu")


@contextmanager
def hooked(part):
    handle = part.register_forward_hook(lambda *call: None)
    yield
    handle.remove()


@contextmanager
def scaled(part):
    weight = next(part.parameters())
    with torch.no_grad():
        weight.mul_(2)
    yield


@contextmanager
def replaced(part):
    weight = next(part.parameters())
    before = weight.data
    weight.data = before.clone()
    yield
    weight.data = before


@contextmanager
def learning(part):
    part.train()
    yield
    part.eval()


@contextmanager
def bent(part):
    part.forward = part.forward
    yield
    del part.forward


@pytest.mark.parametrize("change", [hooked, scaled, replaced, learning, bent])
@pytest.mark.parametrize("where", ["vision_tower", "multi_modal_projector", "language_model.layers.1", "lm_head"])
def test_a_model_that_somebody_works_on_reads_again_what_may_have_changed(change, where, own_llava, image, towers):
    model, prefixes = own_llava, PrefixCache()
    answer_with_maps(model, model.encode(image, FIRST), max_new_tokens=2, prefixes=prefixes)
    assert reading(model, image, prefixes) == "prefix"
    seen = towers(model)
    with change(model.model.get_submodule(where if where == "lm_head" else f"model.{where}")):
        text = where in ("language_model.layers.1", "lm_head")
        # With other weights the tower can be read anew, and kept; with somebody's hook nothing can.
        assert reading(model, image, prefixes) == ("features" if text or change in (scaled, replaced) else "whole")
        assert len(seen) == (not text and change in (scaled, replaced))


def test_only_the_same_image_and_beginning_are_the_same(tiny_model, image, random_image, monkeypatch):
    model, prefixes = tiny_model("llava"), PrefixCache()
    answer_with_maps(model, model.encode(image, FIRST), max_new_tokens=2, prefixes=prefixes)
    other = random_image(6, 60, 92)
    assert reading(model, other, prefixes) == "features"
    fresh = answer_with_maps(model, model.encode(other, SECOND), max_new_tokens=3)
    same(answer_with_maps(model, model.encode(other, SECOND), max_new_tokens=3, prefixes=prefixes), fresh, 0)
    prompt = model.encode(image, SECOND)
    ids = prompt.inputs["input_ids"].clone()
    ids[0, 1] += 1  # another word of the system text
    with torch.inference_mode():
        begun = PromptReading(model, replace(prompt, inputs={**prompt.inputs, "input_ids": ids}), prefixes)
    assert begun.read is None
    monkeypatch.setattr(module, "PROVEN", frozenset())
    assert reading(model, image, prefixes) == "whole"
    assert reading(model, image, None) == "whole"


def test_visits_are_apart_and_what_is_over_is_gone(tiny_model, image):
    model, store = tiny_model("llava"), PrefixStore()
    one, other = PrefixCache(store), PrefixCache(store)
    for prefixes in (one, other):
        answer_with_maps(model, model.encode(image, FIRST), max_new_tokens=2, prefixes=prefixes)
    assert len(store) == 4
    one.close()
    assert len(store) == 2
    answer_with_maps(model, model.encode(image, FIRST), max_new_tokens=2, prefixes=one)  # one that was still running
    assert (len(store), reading(model, image, other)) == (2, "prefix")
    release_memory()  # as when memory has run out
    assert (len(store), store.size) == (0, 0)
    answer_with_maps(model, model.encode(image, FIRST), max_new_tokens=2, prefixes=other)
    second = tiny_model("llava_siglip")
    answer_with_maps(second, second.encode(image, FIRST), max_new_tokens=2, prefixes=other)
    assert len(store) == 2  # nothing of the model that was asked before


def test_the_store_keeps_within_its_bytes_and_leaves_room_for_a_question(tiny_model, image, random_image, monkeypatch):
    model, store = tiny_model("llava"), PrefixStore()
    prefixes = PrefixCache(store)
    answer_with_maps(model, model.encode(image, FIRST), max_new_tokens=2, prefixes=prefixes)
    size = store.size
    # Keys and values of 2 layers and the features; the first text row stands behind the image.
    prompt, text = model.encode(image, FIRST), model.text_config
    tokens = prompt.images[-1][-1] + 1
    keys = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * 4 * tokens
    assert size >= keys + len(prompt.images[0]) * text.hidden_size * 4
    store.most_bytes = 2 * size - 1
    answer_with_maps(model, model.encode(random_image(6, 60, 92), FIRST), max_new_tokens=2, prefixes=prefixes)
    assert store.size <= store.most_bytes
    assert reading(model, random_image(6, 60, 92), prefixes) == "prefix"
    monkeypatch.setattr(module, "available_memory", lambda device: 0)
    answer_with_maps(model, model.encode(random_image(7, 60, 92), FIRST), max_new_tokens=2, prefixes=prefixes)
    assert len(store) == 0
    store.most_bytes = 0
    monkeypatch.undo()
    answer_with_maps(model, model.encode(image, FIRST), max_new_tokens=2, prefixes=prefixes)
    assert len(store) == 0
