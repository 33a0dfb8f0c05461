"""What the demo model is trained on is what it meets at use."""

import numpy as np
import pytest
import torch

from a3tune.demo.model import GRID, build_model, build_processor, build_tokenizer
from a3tune.demo.training import packed_logits, patch_features
from a3tune.demo.training_data import (
    IGNORED,
    QuestionPacker,
    basic_questions,
    make_sample,
    make_samples,
    pixel_batch,
    square_patches,
)
from a3tune.phantom.scene import make_phantom


@pytest.fixture(scope="module")
def samples():
    return [make_sample(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def processor(samples):
    texts = [f"{item.question} {item.answer} USER: ASSISTANT:" for sample in samples for item in sample.exchanges]
    return build_processor(build_tokenizer(texts))


@pytest.fixture(scope="module")
def model(processor):
    torch.manual_seed(0)
    return build_model(processor.tokenizer).eval()


def conversation(question):
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]


def test_packed_questions_get_the_logits_that_they_have_alone(samples, processor, model):
    packed = QuestionPacker(processor).pack(samples)
    with torch.no_grad():
        logits = packed_logits(model, packed, patch_features(model, pixel_batch(samples)))
        for row, sample in enumerate(samples):
            image = make_phantom(sample.seed).image.pixels.copy()
            for exchange, (start, stop) in zip(packed.exchanges[row], packed.spans[row], strict=True):
                text = processor.apply_chat_template(conversation(exchange.question), add_generation_prompt=True)
                alone = processor(images=[image], text=[f"{text} {exchange.answer}</s>"], return_tensors="pt")
                expected = model(**alone).logits[0, -(stop - start) :]
                # Samples keep their pixels in half precision.
                torch.testing.assert_close(logits[row, start:stop], expected, atol=2e-3, rtol=0)


def test_packed_ids_are_those_of_the_chat_template(samples, processor):
    packed = QuestionPacker(processor).pack(samples[:1])
    prefix = packed.spans[0][0][0]
    for exchange, (start, stop) in zip(packed.exchanges[0], packed.spans[0], strict=True):
        text = processor.apply_chat_template(conversation(exchange.question), add_generation_prompt=True)
        text = text.replace("<image>", "<image>" * GRID * GRID)
        alone = processor.tokenizer(f"{text} {exchange.answer}</s>")["input_ids"]
        assert packed.ids[0, :prefix].tolist() + packed.ids[0, start:stop].tolist() == alone


def test_labels_are_the_answer_and_its_end(samples, processor):
    packed = QuestionPacker(processor).pack(samples)
    for row, exchanges in enumerate(packed.exchanges):
        for exchange, (start, stop) in zip(exchanges, packed.spans[row], strict=True):
            labels = packed.labels[row, start:stop]
            assert processor.tokenizer.decode(labels[labels != IGNORED]) == f" {exchange.answer}</s>"


def test_drawing_questions_depends_on_the_seed_alone(samples, processor):
    first, again, other = (
        QuestionPacker(processor, seed=seed, per_image=2, vary=True).pack(samples).ids for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_samples_from_processes_equal_samples_made_here(samples):
    for here, there in zip(samples, make_samples(range(3), workers=2), strict=True):
        np.testing.assert_array_equal(here.pixels, there.pixels)
        assert here.exchanges == there.exchanges
        assert here.coverage.keys() == there.coverage.keys()


def test_patch_shares_keep_the_area_of_a_mask():
    mask = np.zeros((200, 256), bool)
    mask[40:90, 30:100] = True
    patches = square_patches(mask)
    assert patches.sum() * (256 / GRID) ** 2 == pytest.approx(mask.sum(), rel=1e-3)


def test_unseen_text_has_tokens_and_reads_back(processor):
    text = "Où est la lésion ≥ 3 mm?"
    ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert processor.tokenizer.decode(ids) == text


def test_the_base_model_is_taught_what_there_is_and_nothing_else(samples):
    for sample in samples:
        taught = basic_questions(sample)
        assert {item.topic for item in taught.exchanges} <= {"presence", "organ", "modality"}
        assert {item.topic for item in sample.exchanges} > {item.topic for item in taught.exchanges}
        drilled = [item for group in taught.drill.values() for item in group]
        assert {item.topic for item in drilled} == {"presence"}
        assert {item.answer for item in drilled} == {"yes", "no"}
