"""Several adapters that answer as the rows of one batch: the same words, maps and experts as one by one."""

import functools

import numpy as np
import pytest
import torch
from peft import LoraConfig

from a3tune.adapters.a3moe import A3MoeConfig
from a3tune.errors import Cancelled, NotEnoughMemoryError
from a3tune.inspection import views as views_module
from a3tune.inspection.inspect import inspect_image
from a3tune.inspection.record import record
from a3tune.models.load import load_model
from a3tune.prefixes.cache import PrefixCache
from tests.support.adapter_sets import adapter_set

NAMES = ("base", "lora", "a3")
QUESTION = "Is there a mass in the left lung?"


@pytest.fixture
def image(random_image):
    return random_image(5, 60, 92)


@pytest.fixture(scope="module")
def adapted(tiny_checkpoint, tmp_path_factory):
    """name -> a tiny model with a LoRA and an A3MoE adapter."""
    loaded = {}

    def load(name):
        if name not in loaded:
            model, folder = load_model(tiny_checkpoint(name), device="cpu"), tmp_path_factory.mktemp(name)
            text = r".*(language|text)_model.*\.(q_proj|v_proj|up_proj)"
            kinds = {
                "lora": LoraConfig(r=2, target_modules=text, init_lora_weights=False),
                "a3": A3MoeConfig(query_experts=3, key_experts=3, init_weights=False),
            }
            loaded[name] = model, adapter_set(model.model, kinds, folder)
        return loaded[name]

    return load


def ask(adapted, name, image, **options):
    model, adapters = adapted(name)
    options = {"adapters": NAMES, "adapter_set": adapters, "max_new_tokens": 6, **options}
    return inspect_image(model, image, QUESTION, **options)


def words(view):
    return [token.id for token in view.tokens if token.role == "answer"]


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "gemma3", "idefics3"])
def test_answers_that_end_apart_are_those_of_one_by_one(name, adapted, image, monkeypatch):
    free = ask(adapted, name, image)
    written = [words(view) for view in free.views]
    lengths = {token: [one.index(token) if token in one else 6 for one in written] for one in written for token in one}
    end = max(lengths, key=lambda token: len(set(lengths[token])))
    assert len(set(lengths[end])) > 1
    monkeypatch.setattr(type(adapted(name)[0]), "end_token_ids", property(lambda model: {end}))
    alone = ask(adapted, name, image)
    together = ask(adapted, name, image, together=True)
    assert [len(words(view)) for view in alone.views] == lengths[end]
    for view, expected in zip(together.views, alone.views, strict=True):
        assert (view.adapter, view.answer, view.tokens) == (expected.adapter, expected.answer, expected.tokens)
        np.testing.assert_array_equal(view.maps.rows, expected.maps.rows)
        np.testing.assert_allclose(view.maps.weights, expected.maps.weights, rtol=0, atol=1e-5)
        assert view.critical_heads == expected.critical_heads
        assert view.metrics == pytest.approx(expected.metrics, abs=1e-5)
        assert (view.mode, expected.mode) == ("one batch: base, lora, a3", "alone")
    found, expected = together.view("a3").experts, alone.view("a3").experts
    np.testing.assert_array_equal(found.key_choice, expected.key_choice)
    np.testing.assert_allclose(found.query_gates, expected.query_gates, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.key_probabilities, expected.key_probabilities, rtol=0, atol=1e-6)
    assert (
        np.abs(together.view("lora").maps.weights[:, :, 0] - together.view("base").maps.weights[:, :, 0]).max() > 1e-4
    )
    assert record(together)["adapters"]["a3"]["mode"] == "one batch: base, lora, a3"
    assert set(together.seconds) == {f"{kind}.{part}" for kind in NAMES for part in ("first word", "answer")}


def test_a_decoder_with_a_head_around_its_layers_is_asked_too(adapted, image):
    base = ask(adapted, "llama4", image, together=True, adapters=("base", "lora"))
    assert all("outside the attention and MLP layers" in view.mode for view in base.views)  # its sparse experts


def test_the_image_is_looked_at_once_for_all_rows(adapted, image, monkeypatch):
    inner = adapted("llava")[0].model.base_model
    read, seen = inner.get_image_features, []

    @functools.wraps(read)
    def counted(*args, **options):
        seen.append(1)
        return read(*args, **options)

    monkeypatch.setattr(inner, "get_image_features", counted)
    ask(adapted, "llava", image, together=True)
    assert len(seen) == 1


def test_why_each_answered_alone_is_said(adapted, image, monkeypatch):
    _, adapters = adapted("llava")
    once = ask(adapted, "llava", image, together=True, max_new_tokens=2)
    for more, why in (
        ({"prefixes": PrefixCache()}, "goes on from what it has read"),
        ({"adapter_set": lambda name: adapters}, "not held together"),
        ({"adapters": ("base", "base")}, "named twice"),
    ):
        found = ask(adapted, "llava", image, together=True, **{"max_new_tokens": 2, **more})
        assert all(view.mode.startswith("alone: ") and why in view.mode for view in found.views)
        assert found.views[0].answer == once.views[0].answer
    assert ask(adapted, "llava", image, together=True, adapters=("a3",)).view("a3").mode == "alone"


def test_what_memory_does_not_hold_together_answers_in_smaller_batches(adapted, image, monkeypatch):
    answers, most = views_module.answers_together, 2

    def short(model, prompt, adapters, names, **options):
        if len(names) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return answers(model, prompt, adapters, names, **options)

    whole = ask(adapted, "llava", image, together=True)
    monkeypatch.setattr(views_module, "answers_together", short)
    found = ask(adapted, "llava", image, together=True)
    assert [view.mode for view in found.views] == [
        "alone: too little memory for one batch",
        *["one batch: lora, a3"] * 2,
    ]
    assert [view.answer for view in found.views] == [view.answer for view in whole.views]
    np.testing.assert_array_equal(found.view("a3").experts.key_choice, whole.view("a3").experts.key_choice)
    most = 0
    with pytest.raises(NotEnoughMemoryError, match="shorter question"):
        ask(adapted, "llava", image, together=True)
    most = 3
    assert ask(adapted, "llava", image, together=True).view("a3").answer == whole.view("a3").answer


def test_a_batch_is_cancelled_between_two_tokens_and_the_base_is_left_alone(adapted, image):
    model, adapters = adapted("llava")
    asked = []
    with pytest.raises(Cancelled):
        ask(adapted, "llava", image, together=True, should_stop=lambda: asked.append(1) or len(asked) > 5)
    assert adapters.active == "base"
    assert not any("a3tune" in type(module).__module__ for module in model.model.modules())
