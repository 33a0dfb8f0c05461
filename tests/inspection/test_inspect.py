"""The main job on tiny models of every class: answer, maps, heads and numbers that belong together."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from a3tune.adapters.a3moe import A3MoeConfig, record_experts
from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.errors import AdapterError, Cancelled, RequestError
from a3tune.inspection import views as views_module
from a3tune.inspection.inspect import inspect_each, inspect_image
from a3tune.inspection.passes import adapted, answer_with_maps, read_attention
from a3tune.inspection.record import record
from a3tune.inspection.views import answer_rows
from a3tune.models.load import load_model
from a3tune.models.prompt import PromptEncoder
from a3tune.parity.eager import eager_attention
from a3tune.types import Region, ScoredRegion, WeakLabels


@pytest.fixture
def image(random_image):
    return random_image(5, 60, 92)


def test_every_class_answers_and_shows_every_head(tiny_name, tiny_model, image):
    model = tiny_model(tiny_name)
    inspection = inspect_image(model, image, "Is there a mass in the left lung?", max_new_tokens=4)
    view = inspection.view(BASE)
    assert view.maps.weights.shape[:2] == (model.layers, model.heads)
    assert view.maps.weights.shape[3] == inspection.grid.count == np.prod(inspection.grid.shape)
    np.testing.assert_allclose(view.maps.weights.sum(axis=-1), view.maps.image_share, atol=1e-5)
    assert len(view.critical_heads) == model.heads
    ratios = [view.visual_ratio[head] for head in view.critical_heads]
    assert ratios == sorted(ratios, reverse=True)
    ids = [token.id for token in view.tokens if token.role == "answer"]
    prompt = model.encode(image, inspection.question)
    assert model.decode(ids) == view.answer == model.generate(prompt, max_new_tokens=4).text
    assert record(inspection)["adapters"][BASE]["metrics"]["entropy"] <= 1


def test_maps_read_while_writing_are_those_of_a_pass_over_prompt_and_answer(tiny_name, tiny_model, image):
    model = tiny_model(tiny_name)
    prompt = model.encode(image, "Where is the liver?")
    answer, maps = answer_with_maps(model, prompt, max_new_tokens=4)
    replayed = read_attention(model, model.append_answer(prompt, answer.token_ids))
    np.testing.assert_array_equal(maps.rows, replayed.rows)
    np.testing.assert_allclose(maps.weights, replayed.weights, atol=1e-5)


def test_an_answer_that_ends_by_itself_has_a_row_for_its_last_word_too(tiny_model, image, monkeypatch):
    model = tiny_model("llava")
    prompt = model.encode(image, "Where is the liver?")
    first, second, third, *_ = model.generate(prompt, max_new_tokens=4).token_ids
    assert third not in (first, second)
    ends = property(lambda self: {third})
    monkeypatch.setattr(type(model), "end_token_ids", ends)
    answer, maps = answer_with_maps(model, prompt, max_new_tokens=9)
    assert (answer.token_ids, answer.ending) == ((first, second), "end")
    assert maps.rows[-2:].tolist() == [prompt.length, prompt.length + 1]


def test_experts_are_those_of_the_whole_pass_and_the_mask_reaches_every_step(tiny_checkpoint, image, tmp_path):
    model = load_model(tiny_checkpoint("llava"), device="cpu")
    wrapped = get_peft_model(model.model, A3MoeConfig(query_experts=3, key_experts=3, init_weights=False))
    wrapped.save_pretrained(tmp_path / "a3", save_embedding_layers=False)
    wrapped.unload()
    adapters = AdapterSet(model.model, {"a3": tmp_path / "a3"})
    question = "Is there a mass in the left lung?"
    view = inspect_image(model, image, question, adapters=("a3",), adapter_set=adapters, max_new_tokens=4).views[0]
    prompt = model.encode(image, question)
    whole = model.append_answer(prompt, [token.id for token in view.tokens if token.role == "answer"])
    with adapted(model, adapters, "a3", whole), record_experts() as use:
        replayed = read_attention(model, whole)
    np.testing.assert_allclose(view.maps.weights, replayed.weights, atol=1e-5)
    np.testing.assert_array_equal(view.experts.key_choice, use.key_choice())
    np.testing.assert_allclose(view.experts.query_gates, use.query_gates(), atol=1e-6)
    assert np.abs(view.maps.weights - read_attention(model, whole).weights).max() > 1e-4


def test_words_are_told_while_they_are_written_with_the_maps_up_to_there(tiny_model, image, monkeypatch):
    monkeypatch.setattr(views_module, "_SHOWN_EACH", 0.0)
    monkeypatch.setattr(views_module, "_SHARE_FOR_SHOWING", 1e9)
    told, words = [], []
    whole = inspect_image(
        tiny_model("llava_mistral"), image, "Where is the liver?", max_new_tokens=4,
        on_words=words.append, on_progress=lambda what, share: told.append(what),
    )  # fmt: skip
    view = whole.view(BASE)
    answer = [token for token in view.tokens if token.role == "answer"]
    assert [len([t for t in part.views[0].tokens if t.role == "answer"]) for part in words] == [1, 2, 3, 4]
    for count, part in enumerate(words, 1):
        (begun,) = part.views
        rows = len(view.maps.rows) - len(answer) + count - 1
        np.testing.assert_array_equal(begun.maps.weights, view.maps.weights[:, :, :rows])
        assert answer[count - 1].read_at == begun.maps.rows[-1]
        assert f"base: {begun.answer}" in told
    assert list(whole.seconds) == ["base.first word", "base.answer"]
    assert 0 < whole.seconds["base.first word"] < whole.seconds["base.answer"]


def test_maps_equal_eager_attention_over_prompt_and_answer(tiny_model, image):
    model = tiny_model("llava")
    view = inspect_image(model, image, "Where is the liver?", max_new_tokens=3).view(BASE)
    ids = [token.id for token in view.tokens if token.role == "answer"]
    batch = model.collate([model.append_answer(model.encode(image, "Where is the liver?"), ids)])
    model.model.set_attn_implementation("eager")
    try:
        (expected,) = eager_attention(model, batch)
    finally:
        model.model.set_attn_implementation("sdpa")
    np.testing.assert_allclose(view.maps.weights, expected.numpy(), atol=1e-5)


def test_a_target_adds_the_numbers_about_it(tiny_model, image):
    target = np.zeros((60, 92), bool)
    target[10:40, 20:60] = True
    metrics = inspect_image(tiny_model("llava"), image, "Is it normal?", target=target).view(BASE).metrics
    assert 0 < metrics["attention_mass"] < 1
    assert {"relative_mass", "pointing_game", "iou", "entropy", "image_share"} <= metrics.keys()


def test_the_record_is_on_the_stored_grid(tiny_model, image):
    stretched = replace(image, stored_size=(20, 92), spacing=(3.0, 1.0))
    target = np.zeros((60, 92), bool)
    target[12:42, 20:60] = True
    inspection = inspect_image(tiny_model("llava"), stretched, "Is it normal?", max_new_tokens=1, target=target)
    region = ScoredRegion(Region(target, (20, 12, 40, 30)), 30.0, 1, 1.0, "x")
    told = record(replace(inspection, labels=WeakLabels((region,), "x", "s", "c")))
    assert (told["image"]["height"], told["image"]["width"], told["image"]["spacing"]) == (20, 92, [3.0, 1.0])
    assert (told["labels"][0]["box"], told["labels"][0]["area"]) == ([20, 4, 40, 10], 400)
    plain = record(replace(inspection, image=image))
    assert told["adapters"] == plain["adapters"]
    np.testing.assert_allclose(np.array(told["patches"]) * [1, 3, 1, 3], plain["patches"], atol=2e-3)


def test_an_empty_answer_is_described_by_the_prompt(tiny_model, image):
    view = inspect_image(tiny_model("llava"), image, "Is it normal?", max_new_tokens=1).view(BASE)
    question = tuple(token for token in view.tokens if token.role != "answer")
    np.testing.assert_array_equal(answer_rows(question, view.maps), np.arange(len(view.maps.rows)))


def test_the_answer_is_written_from_the_tokens_before_its_own(tiny_model, image):
    view = inspect_image(tiny_model("llava"), image, "Is it normal?", max_new_tokens=3).view(BASE)
    first = next(place for place, token in enumerate(view.tokens) if token.role == "answer")
    assert view.tokens[first - 1].role == "template"
    positions = view.maps.rows[answer_rows(view.tokens, view.maps)]
    assert positions.tolist() == [token.position - 1 for token in view.tokens if token.role == "answer"]


def test_progress_ends_at_one_and_never_goes_back(tiny_model, image):
    shares = []
    inspect_image(tiny_model("llava"), image, "Is it normal?", on_progress=lambda what, share: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize("after", range(4))
def test_it_can_be_cancelled_between_steps_and_tokens(tiny_model, image, after):
    asked = []

    def should_stop():
        asked.append(None)
        return len(asked) > after

    with pytest.raises(Cancelled):
        inspect_image(tiny_model("llava"), image, "Is it normal?", should_stop=should_stop)


def test_unknown_adapters_and_head_counts_are_refused(tiny_model, image):
    model = tiny_model("llava")
    with pytest.raises(AdapterError, match="no adapter"):
        inspect_image(model, image, "q", adapters=("a3",))
    with pytest.raises(RequestError, match="adapter"):
        inspect_image(model, image, "q", adapters=())
    with pytest.raises(RequestError, match="critical heads"):
        inspect_image(model, image, "q", critical_count=model.layers * model.heads + 1)


def test_random_state_is_left_alone(tiny_model, image):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    inspect_image(tiny_model("llava"), image, "Is it normal?", max_new_tokens=2)
    torch.testing.assert_close(torch.rand(3), expected, atol=0, rtol=0)


@pytest.fixture
def adapter_set(tiny_checkpoint, tmp_path):
    """A model of the test's own and a set with one LoRA adapter."""
    model = load_model(tiny_checkpoint("llava"), device="cpu")
    config = LoraConfig(r=2, target_modules=r".*language_model.*\.(q_proj|k_proj)", init_lora_weights=False)
    tuned = get_peft_model(model.model, config)
    tuned.save_pretrained(tmp_path / "lora", save_embedding_layers=False)
    tuned.unload()
    return model, AdapterSet(model.model, {"lora": tmp_path / "lora"})


def test_each_adapter_is_there_when_it_is_done_and_the_prompt_is_encoded_once(adapter_set, image, monkeypatch):
    model, adapters = adapter_set
    encoded, encode = [], PromptEncoder.encode
    monkeypatch.setattr(PromptEncoder, "encode", lambda *args: encoded.append(args) or encode(*args))
    options = {"adapters": ("base", "lora"), "adapter_set": adapters, "max_new_tokens": 2}
    each = inspect_each(model, image, "Is it normal?", **options)
    first = next(each)
    assert [view.adapter for view in first.views] == ["base"]
    # Whoever follows may use the model between two adapters, with another one at work.
    assert adapters.active == "base"
    assert model.lock.acquire(blocking=False)
    model.lock.release()
    second = next(each)
    assert [view.adapter for view in second.views] == ["base", "lora"]
    assert second.views[0] is first.views[0]
    assert list(first.seconds) == ["base.first word", "base.answer"]
    assert next(each, None) is None
    assert len(encoded) == 1
    whole = inspect_image(model, image, "Is it normal?", **options)
    for view, expected in zip(whole.views, second.views, strict=True):
        assert view.answer == expected.answer
        np.testing.assert_array_equal(view.maps.weights, expected.maps.weights)
    assert np.abs(whole.view("lora").maps.weights - whole.view("base").maps.weights).max() > 1e-4


def test_a_set_of_its_own_for_each_adapter_is_asked_for_when_its_turn_comes(adapter_set, image):
    model, adapters = adapter_set
    asked = []

    def set_of(name):
        asked.append(name)
        return adapters if name == "lora" else None

    each = inspect_each(model, image, "q", adapters=("base", "lora", "mine"), adapter_set=set_of, max_new_tokens=1)
    next(each)
    assert asked == ["base"]
    assert [view.adapter for view in next(each).views] == ["base", "lora"]
    with pytest.raises(AdapterError, match='There is no adapter "mine"'):
        next(each)
