"""Every way of decoding on tiny models: batches as one by one, the model afterwards as it was."""

import itertools
from collections import Counter

import pytest
import torch

from a3tune.attention.capture import prepare_capture
from a3tune.errors import ModelError, RequestError
from a3tune.evaluation.answering import answer_batch
from a3tune.evaluation.decoding import opera
from a3tune.evaluation.decoding.layers import boosted
from a3tune.evaluation.decoding.registry import DECODINGS, decoding_named
from a3tune.evaluation.decoding.stream import Stream

QUESTIONS = ("Is it there?", "Where is the large liver of this patient, please?")
PLAIN = [name for name, decoding in DECODINGS.items() if not decoding.samples]


def ask(model, prompts, texts, name, seed=0, tokens=6):
    return answer_batch(model, prompts, decoding_named(name), text_only=lambda: texts, max_new_tokens=tokens, seed=seed)


@pytest.fixture(scope="module")
def asked(tiny_model, random_image):
    model = tiny_model("llava")
    prepare_capture(model.model)
    prompts = [model.encode(random_image(number), text) for number, text in enumerate(QUESTIONS)]
    return model, prompts, [model.encode_text(text) for text in QUESTIONS]


@pytest.mark.parametrize("name", DECODINGS)
def test_each_way_answers_the_same_again_and_leaves_the_model_as_it_was(asked, name):
    model, prompts, texts = asked
    before = ask(model, prompts, texts, "greedy")
    first = ask(model, prompts, texts, name, seed=3)
    assert first == ask(model, prompts, texts, name, seed=3)
    assert all(len(answer.token_ids) <= 6 for answer in first)
    assert ask(model, prompts, texts, "greedy") == before


@pytest.mark.parametrize("name", PLAIN)
def test_a_batch_answers_as_one_by_one(asked, name):
    model, prompts, texts = asked
    together = ask(model, prompts, texts, name)
    for place, answer in enumerate(together):
        (alone,) = ask(model, prompts[place : place + 1], texts[place : place + 1], name)
        assert alone.token_ids == answer.token_ids
        assert alone.margin == pytest.approx(answer.margin, abs=1e-4)


def test_greedy_is_what_the_model_writes_by_itself(asked):
    model, prompts, texts = asked
    for prompt, answer in zip(prompts, ask(model, prompts, texts, "greedy"), strict=True):
        assert answer.text == model.generate(prompt, max_new_tokens=6).text


def test_ways_differ_from_greedy(asked):
    model, prompts, texts = asked
    greedy = [answer.token_ids for answer in ask(model, prompts, texts, "greedy", tokens=12)]
    for name in DECODINGS:
        if name != "greedy":
            found = [answer.token_ids for answer in ask(model, prompts, texts, name, tokens=12)]
            assert found != greedy, name


def test_an_answer_goes_back_behind_a_word_that_too_many_lean_on(asked, monkeypatch):
    model, prompts, texts = asked
    gone = []

    class Noted(opera.GoingBack):
        def __init__(self):
            gone.append((processor[0]._kept, {key: set(words) for key, words in processor[0]._left_out.items()}))

    processor = []

    class Watched(opera._Opera):
        def __init__(self, context):
            super().__init__(context)
            processor[:] = [self]

    monkeypatch.setattr(opera, "_Opera", Watched)
    before = ask(model, prompts[:1], texts[:1], "opera", tokens=12)[0].token_ids
    assert gone == []  # twelve words are too few
    monkeypatch.setattr("a3tune.evaluation.decoding.opera.GoingBack", Noted)
    monkeypatch.setattr("a3tune.evaluation.decoding.opera.THRESHOLD", 3)
    after = ask(model, prompts[:1], texts[:1], "opera", tokens=12)[0].token_ids
    assert gone
    assert after != before
    assert before[: len(gone[0][0])] == gone[0][0]
    (kept, left_out) = gone[-1]
    assert after[: len(kept)] == kept
    for words, following in left_out.items():
        if after[: len(words)] == words:
            assert after[len(words)] not in following
    places = [len(words) for words, _ in gone]
    assert all(later >= earlier - 1 for earlier, later in itertools.pairwise(places))
    assert max(Counter(places).values()) <= opera.TIMES
    # It is another search only where it went back.
    assert ask(model, prompts[:1], texts[:1], "beam", tokens=12)


def test_a_second_reading_of_the_same_prompts_is_the_first_one(asked):
    model, prompts, _ = asked
    batch = model.collate(prompts, padding_side="left")
    stream = Stream(model, batch)
    with torch.no_grad():
        first = stream.logits(batch.inputs["input_ids"])
        word = first.argmax(dim=-1, keepdim=True)
        second = stream.logits(torch.cat([batch.inputs["input_ids"], word], dim=1))
        for place, prompt in enumerate(prompts):
            alone = model.model(**prompt.inputs).logits[0, -1]
            torch.testing.assert_close(first[place], alone, atol=1e-4, rtol=1e-4)
            grown = model.append_answer(prompt, [int(word[place])])
            alone = model.model(**grown.inputs).logits[0, -1]
            torch.testing.assert_close(second[place], alone, atol=1e-4, rtol=1e-4)


def test_raised_attention_is_computed_as_its_formula_says(asked):
    """With alpha 0 PAI's attention is the plain one; above, the image weighs more."""
    scores = torch.randn(2, 4, 1, 9)
    image = torch.zeros(2, 1, 1, 9, dtype=torch.bool)
    image[..., 2:5] = True
    assert torch.equal(boosted(scores, image, 0.0), scores)
    share = boosted(scores, image, 0.5).softmax(-1)[..., 2:5].sum(-1)
    assert (share > scores.softmax(-1)[..., 2:5].sum(-1)).all()


def test_an_unknown_way_and_a_model_without_a_class_token_are_told(tiny_model, random_image):
    with pytest.raises(RequestError, match="greedy, beam"):
        decoding_named("magic")
    for name, decoding, words in (("llava_siglip", "damro", "class token"), ("qwen2_vl", "m3id", "its own count")):
        model = tiny_model(name)
        prepare_capture(model.model)
        prompt, text = model.encode(random_image(1), QUESTIONS[0]), model.encode_text(QUESTIONS[0])
        with pytest.raises(ModelError, match=words):
            ask(model, [prompt], [text], decoding)
        assert ask(model, [prompt, prompt], [text, text], "beam", tokens=3)
