import pytest
import torch
from transformers import StaticCache

from a3tune.attention.capture import attention_modules, prepare_capture
from a3tune.errors import RequestError
from a3tune.models.load import load_model


def test_describes_itself(tiny_name, tiny_model):
    model = tiny_model(tiny_name)
    assert model.layers == len(attention_modules(model.model)) > 1
    assert model.heads == 4
    assert model.dtype == torch.float32
    assert model.device == torch.device("cpu")
    assert model.name == tiny_name
    assert not model.model.training


def test_the_answer_is_the_same_prepared_unprepared_and_eager(tiny_name, tiny_checkpoint, random_image):
    model = load_model(tiny_checkpoint(tiny_name), device="cpu")
    prompts = [model.encode(random_image(seed), f"What is shown in image {seed}?") for seed in range(3)]
    plain = [model.generate(prompt, max_new_tokens=10) for prompt in prompts]
    model.model.set_attn_implementation("eager")
    eager = [model.generate(prompt, max_new_tokens=10) for prompt in prompts]
    model.model.set_attn_implementation("sdpa")
    prepare_capture(model.model)
    prepared = [model.generate(prompt, max_new_tokens=10) for prompt in prompts]
    assert plain == eager == prepared
    assert plain == [model.generate(prompt, max_new_tokens=10) for prompt in prompts]
    assert len({answer.token_ids for answer in plain}) > 1


def test_an_answer_ends_at_the_end_token(tiny_model, random_image):
    model = tiny_model("llava")
    prompt = model.encode(random_image(), "What is it?")
    first = model.generate(prompt, max_new_tokens=3)
    assert first.ending == "length"
    assert len(first.token_ids) == 3
    head = model.model.lm_head.weight
    try:
        with torch.no_grad():
            saved = head[model.end_token_id].clone()
            head[model.end_token_id] = head[first.token_ids[1]] * 1.5
        ended = model.generate(prompt, max_new_tokens=30)
    finally:
        with torch.no_grad():
            head[model.end_token_id] = saved
    assert ended.ending == "end"
    assert model.end_token_id not in ended.token_ids
    assert len(ended.token_ids) < 30


def test_generation_can_be_stopped(tiny_model, random_image):
    model = tiny_model("llava")
    prompt = model.encode(random_image(), "What is it?")
    whole = model.generate(prompt, max_new_tokens=12)
    asked = []

    def should_stop():
        asked.append(True)
        return len(asked) == 4

    stopped = model.generate(prompt, max_new_tokens=12, should_stop=should_stop)
    assert stopped.ending == "stopped"
    assert stopped.token_ids == whole.token_ids[:4]


def test_the_context_limits_an_answer(tiny_model, random_image):
    model = tiny_model("llava")
    prompt = model.encode(random_image(), "mass " * 95)
    room = 256 - prompt.length
    assert 0 < room < 100
    assert len(model.generate(prompt, max_new_tokens=200).token_ids) <= room
    with pytest.raises(RequestError, match="max_new_tokens 0"):
        model.generate(prompt, max_new_tokens=0)


def test_answers_hold_no_image_tokens(tiny_model, random_image):
    model = tiny_model("llava")
    prompt = model.encode(random_image(), "What is it?")
    head = model.model.lm_head.weight
    image = model.config.image_token_id
    try:
        with torch.no_grad():
            saved = head[image].clone()
            head[image] = head[model.generate(prompt, max_new_tokens=1).token_ids[0]] * 2
        answer = model.generate(prompt, max_new_tokens=4)
    finally:
        with torch.no_grad():
            head[image] = saved
    assert image not in answer.token_ids


def test_a_cache_of_a_fixed_size_does_not_have_the_model_compiled(tiny_model, monkeypatch):
    """transformers compiles a decode step over such a cache on a GPU unless it is told not to."""
    model = tiny_model("llava")
    config, cache = model.generation_config_for(3), StaticCache(model.text_config, max_cache_len=64)
    monkeypatch.setattr(type(model.model), "device", torch.device("cuda"))
    assert not model.model._valid_auto_compile_criteria({"past_key_values": cache}, config)
    config.disable_compile = False
    assert model.model._valid_auto_compile_criteria({"past_key_values": cache}, config)
