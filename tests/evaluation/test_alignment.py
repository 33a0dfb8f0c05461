"""Answers and attention over many questions: what is counted is what generation writes and an inspection shows."""

import numpy as np
import pytest

from a3tune.attention.critical_heads import critical_heads, rows_at, visual_ratio
from a3tune.attention.metrics import measure_head_set
from a3tune.errors import AdapterError, Cancelled, RequestError
from a3tune.evaluation.alignment import KnownQuestion, prepare_questions, read_questions
from a3tune.geometry.patch_grid import to_patches
from a3tune.inspection.passes import read_attention

QUESTIONS = ("Is there a mass?", "Where is the liver, and what does it look like?", "Is it normal?")


@pytest.fixture(scope="module")
def known(random_image):
    image = random_image(3, 60, 92)
    target = np.zeros((60, 92), bool)
    target[10:40, 20:60] = True
    return [
        KnownQuestion(image, QUESTIONS[0], "yes", "closed", target),
        KnownQuestion(image, QUESTIONS[1], "left lung", "open", target),
        KnownQuestion(random_image(4, 60, 92), QUESTIONS[2], "no", "closed"),
    ]


def test_each_question_is_measured_as_an_inspection_measures_it(tiny_model, known):
    model = tiny_model("llava")
    readings = read_questions(model, prepare_questions(model, known), critical_count=3, batch_size=2)
    for item, reading in zip(known[:2], readings, strict=False):
        prompt = model.encode(item.image, item.question, item.answer)
        maps = read_attention(model, prompt)
        heads = critical_heads(visual_ratio(maps.image_share), 3)
        grid = model.patch_grid(60, 92, len(prompt.images[0]))
        expected = measure_head_set(maps, heads, to_patches(item.target, grid), rows_at(maps, prompt.writing))
        assert reading.mass == pytest.approx(expected["attention_mass"], abs=1e-5)
        whole = measure_head_set(maps, heads, to_patches(item.target, grid) > 0, rows_at(maps, prompt.writing))
        assert reading.touched == pytest.approx(whole["attention_mass"], abs=1e-5)
        assert reading.touched >= reading.mass
        assert reading.relative == pytest.approx(expected["relative_mass"], abs=1e-4)
        assert reading.pointing == pytest.approx(expected["pointing_game"], abs=1e-6)
        assert reading.image_share == pytest.approx(expected["image_share"], abs=1e-5)
    assert np.isnan(readings[2].mass)
    assert [reading.answer_type for reading in readings] == ["closed", "open", "closed"]


def test_an_answer_is_right_exactly_when_the_model_writes_it(tiny_model, known):
    model = tiny_model("llava")
    written = model.generate(model.encode(known[0].image, known[0].question), max_new_tokens=6)
    right = KnownQuestion(known[0].image, known[0].question, written.text, "open")
    readings = read_questions(model, prepare_questions(model, [right, known[0]]))
    ends = written.ending == "end"
    texts = model.append_answer(model.encode(right.image, right.question), written.text, close=True)
    same = [texts.ids[place] for place in texts.answer][: len(written.token_ids)] == list(written.token_ids)
    assert readings[0].right == (ends and same)
    assert not readings[1].right


def test_neighbours_share_the_pixels_of_their_image(tiny_model, known):
    first, second, third = prepare_questions(tiny_model("llava"), known)
    assert first.prompt.inputs["pixel_values"] is second.prompt.inputs["pixel_values"]
    assert third.prompt.inputs["pixel_values"] is not second.prompt.inputs["pixel_values"]
    assert third.coverage is None


def test_bad_targets_unknown_adapters_and_stops_are_told(tiny_model, known):
    model = tiny_model("llava")
    with pytest.raises(RequestError, match="92 x 60"):
        prepare_questions(model, [KnownQuestion(known[0].image, "q?", "yes", "closed", np.ones((3, 4), bool))])
    prepared = prepare_questions(model, known)
    with pytest.raises(AdapterError, match="nobody"):
        read_questions(model, prepared, adapter="nobody")
    with pytest.raises(Cancelled):
        read_questions(model, prepared, should_stop=lambda: True)
    shares = []
    read_questions(model, prepared, batch_size=2, on_progress=lambda what, share: shares.append(share))
    assert shares == [0.0, pytest.approx(2 / 3), 1.0]
