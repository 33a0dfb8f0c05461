"""What is read once, on a pretended GPU: no mixed devices, and the answers and maps of the CPU."""

from functools import partial

import numpy as np
import pytest
import torch

from a3tune.attention.capture import prepare_capture
from a3tune.evaluation.answering import answer_batch
from a3tune.evaluation.decoding.registry import decoding_named
from a3tune.evaluation.head_sets import HeadSet
from a3tune.evaluation.reading import read_attention_of
from a3tune.evaluation.systems import GREEDY
from a3tune.inspection.inspect import inspect_image
from a3tune.models.load import load_model
from a3tune.models.model import VisionLanguageModel
from a3tune.prefixes.batch import PrefixedBatch, PrefixReader
from a3tune.prefixes.cache import PrefixCache, PromptReading
from tests.support.pretend_cuda import GPU, pretend_cuda, to_gpu

QUESTIONS = ("What is shown in this image?", "Is there a mass in the left lung? Answer briefly.")
SETS = (HeadSet("critical heads"),)


@pytest.fixture
def images(random_image):
    return [random_image(5, 60, 92), random_image(6, 40, 40)]


def asked(model, images):
    """Answers and maps of a second question of a visit."""
    prefixes = PrefixCache()
    for question in QUESTIONS:
        found = inspect_image(model, images[0], question, max_new_tokens=3, prefixes=prefixes).views[0]
    with torch.no_grad():
        reading = PromptReading(model, model.encode(images[0], QUESTIONS[0]), prefixes, "base")
    assert reading.read is not None
    assert {layer.keys.device for layer in reading.cache.layers} == {model.device}
    return found.answer, found.maps.weights


def evaluated(model, images):
    """Words and numbers of a batch behind its beginnings."""
    prepare_capture(model.model)
    reader = PrefixReader(model)
    prompts = [model.encode(image, question) for question in QUESTIONS for image in images]
    assert isinstance(reader.batch(prompts, "base"), PrefixedBatch)
    answers = answer_batch(
        model, prompts, decoding_named(GREEDY), text_only=list, max_new_tokens=3, head_sets=SETS,
        collate=partial(reader.batch, name="base"),
    )  # fmt: skip
    read = read_attention_of(
        model, [model.append_answer(prompt, "left lung") for prompt in prompts], [None] * 4, SETS,
        collate=partial(reader.batch, name="base", padding_side="right"),
    )  # fmt: skip
    return [answer.text for answer in answers], np.stack([map_ for ((_, map_),) in read])


@pytest.mark.parametrize("name", ["llava", "idefics3"])
@pytest.mark.parametrize("work", [asked, evaluated])
def test_what_was_read_serves_there_as_on_the_cpu(name, work, tiny_checkpoint, images):
    model = load_model(tiny_checkpoint(name), device="cpu")
    words, maps = work(model, images)
    with pretend_cuda(double=False):
        to_gpu(model.model)
        there = VisionLanguageModel(name, model.model, model.processor)
        assert there.device == GPU
        found, weights = work(there, images)
    assert found == words
    np.testing.assert_allclose(weights, maps, rtol=0, atol=1e-5)
