"""Batches that take over what was read before: their answers and maps are those of prompts that are read whole."""

from functools import partial

import numpy as np
import pytest
import torch
from peft import LoraConfig

from a3tune.adapters.a3moe import A3MoeConfig
from a3tune.attention.capture import prepare_capture
from a3tune.evaluation.answering import answer_batch
from a3tune.evaluation.decoding.registry import decoding_named
from a3tune.evaluation.head_sets import HeadSet
from a3tune.evaluation.reading import read_attention_of
from a3tune.evaluation.systems import GREEDY
from a3tune.models.load import load_model
from a3tune.prefixes.batch import PrefixedBatch, PrefixReader
from a3tune.prefixes.features import GIVEN, JOINED
from tests.support.adapter_sets import adapter_set

QUESTIONS = ("Where is the mass?", "Is there a mass in the left lung? Answer briefly.", "How many?")
SETS = (HeadSet("critical"), HeadSet("all heads", every=True))
# Prompts of tokens and pixels alone, places counted one by one, no window that the prompt could outgrow.
GO_ON = {
    "deepseek_vl", "idefics3", "internvl", "janus", "lighton_ocr", "llava", "llava_next", "llava_next_video",
    "llava_onevision", "llava_pixtral", "llava_siglip", "mistral3", "perception_lm", "smolvlm", "video_llama_3",
    "vipllava",
}  # fmt: skip


@pytest.fixture
def images(random_image):
    return [random_image(1, 60, 92), random_image(2, 90, 61)]


@pytest.fixture
def llava(tiny_checkpoint):
    """A tiny LLaVA of the test's own, whose vision tower tells how often it read something."""
    model = load_model(tiny_checkpoint("llava"), device="cpu")
    prepare_capture(model.model)
    model.model.model.vision_tower.register_forward_hook(_count)
    _count.read = 0
    return model


def _count(*_):
    _count.read += 1


# The reader takes over nothing from a model with hooks of strangers.
_count.__module__ = "a3tune.tests"


def asked(model, images):
    return [model.encode(image, question) for image in images for question in QUESTIONS]


def kind(batch):
    """What a batch takes over."""
    return "prefix" if isinstance(batch, PrefixedBatch) else "features" if GIVEN in batch.inputs else "nothing"


def answered(model, prompts, collate=None):
    with model.lock:
        return answer_batch(
            model, prompts, decoding_named(GREEDY), text_only=list, max_new_tokens=4, head_sets=SETS, collate=collate
        )


def read(model, prompts, collate=None):
    given = [model.append_answer(prompt, "In the left lung", close=True) for prompt in prompts]
    return [[w for _, w in one] for one in read_attention_of(model, given, [None] * len(given), SETS, collate)]


def close(found, expected, tolerance=1e-5):
    for one, other in zip(found, expected, strict=True):
        for weights, others in zip(one, other, strict=True):
            np.testing.assert_allclose(weights, others, rtol=0, atol=tolerance)


def test_every_class_answers_and_looks_as_when_it_reads_the_whole(tiny_name, tiny_model, images):
    model = tiny_model(tiny_name)
    prepare_capture(model.model)
    prompts, reader = asked(model, images), PrefixReader(model)
    whole, looked = answered(model, prompts), read(model, prompts)
    features = "features" if model.config.model_type in JOINED else "nothing"
    # Rows with adapters of their own have no beginning in common.
    for name, expected in (("base", "prefix" if tiny_name in GO_ON else features), ("", features)):
        assert kind(reader.batch(prompts, name)) == expected
        behind = answered(model, prompts, partial(reader.batch, name=name))
        assert [one.token_ids for one in behind] == [one.token_ids for one in whole]
        close([one.weights for one in behind], [one.weights for one in whole])
        close(read(model, prompts, partial(reader.batch, name=name, padding_side="right")), looked)


def test_each_beginning_is_read_once_and_alone(llava, images):
    prompts, reader = asked(llava, images), PrefixReader(llava)
    collate = partial(reader.batch, name="base")
    first = answered(llava, prompts, collate)
    assert _count.read == len(images)
    again, maps = answered(llava, prompts, collate), read(llava, prompts, collate)
    assert _count.read == len(images)
    fresh = partial(PrefixReader(llava).batch, name="base")
    # Bit for bit, whatever was kept and whoever was asked before.
    close([one.weights for one in again], [one.weights for one in first], 0)
    close(read(llava, prompts, fresh), maps, 0)
    (alone,) = fresh(prompts[3:4]).prefixes
    beside = reader.batch(prompts, "base").prefixes[3]
    for one, other in zip(alone.layers, beside.layers, strict=True):
        assert all(torch.equal(*parts) for parts in zip(one, other, strict=True))


def test_a_prompt_with_several_images_goes_on_behind_the_last(llava, images):
    prompts = [llava.encode(images, question) for question in QUESTIONS]
    collate = partial(PrefixReader(llava).batch, name="base")
    batch = collate(prompts)
    assert batch.begun == prompts[0].images[1][-1] + 1
    close([one.weights for one in answered(llava, prompts, collate)], [one.weights for one in answered(llava, prompts)])


def test_every_adapter_has_beginnings_of_its_own_and_experts_read_the_whole(llava, images, tmp_path):
    text = r".*language_model.*\.(q_proj|v_proj)"
    kinds = {
        "lora": LoraConfig(r=2, target_modules=text, init_lora_weights=False),
        "vision": LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False),
        "a3": A3MoeConfig(query_experts=3, key_experts=3, init_weights=False),
    }
    adapters, prompts, reader = adapter_set(llava.model, kinds, tmp_path), asked(llava, images), PrefixReader(llava)
    looked = {}
    for name in ("base", "lora", "base", "lora"):
        collate = partial(reader.batch, name=name)
        with adapters.using(name):
            looked[name] = read(llava, prompts, collate)
            close(looked[name], read(llava, prompts))
    assert max(abs(one - other).max() for one, other in zip(looked["base"][0], looked["lora"][0], strict=True)) > 1e-4
    for name, expected in (("vision", "nothing"), ("a3", "features")):
        with adapters.using(name):
            assert kind(reader.batch(prompts, name)) == expected
            close(read(llava, prompts, partial(reader.batch, name=name)), read(llava, prompts))


def test_changed_weights_read_anew(llava, images):
    prompts, collate = asked(llava, images), partial(PrefixReader(llava).batch, name="base")
    read(llava, prompts, collate)
    with torch.no_grad():
        llava.language_model.layers[0].self_attn.k_proj.weight.mul_(-1.5)
    close(read(llava, prompts, collate), read(llava, prompts))


def test_of_what_cannot_be_kept_the_features_serve(llava, images):
    prompts = asked(llava, images)
    size = PrefixReader(llava).batch(prompts[:1], "base").prefixes[0].size
    small = PrefixReader(llava, size)
    assert kind(small.batch(prompts[:3], "base")) == "prefix"  # one image
    for several in (prompts, [llava.encode(image, "Where?") for image in images]):
        assert kind(small.batch(several, "base")) == "features"
    assert kind(PrefixReader(llava, 0).batch(prompts[:1], "base")) == "nothing"


def test_a_prompt_without_image_has_nothing_to_take_over(llava):
    assert kind(PrefixReader(llava).batch([llava.encode_text("Where is the mass?")], "base")) == "nothing"
