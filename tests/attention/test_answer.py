"""One definition of where a model looks while it answers, whoever reads it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from a3tune.attention.answer import answer_attention, measure_answer
from a3tune.attention.capture import capture, prepare_capture
from a3tune.attention.metrics import area_under_curve
from a3tune.data.dataset import TrainingItem
from a3tune.evaluation.alignment import PreparedQuestion, read_questions
from a3tune.geometry.patch_grid import to_patches
from a3tune.inspection.inspect import inspect_image
from a3tune.training.collate import Question
from a3tune.training.validation import validate

QUESTION = "Where is the mass?"


class _Asked:
    """One question, as `Questions` gives it."""

    def __init__(self, model, question):
        self.encoder, self.items, self._question = model.cpu_encoder(), (question.item,), question

    def __getitem__(self, index):
        return self._question


def test_inspection_validation_and_evaluation_tell_one_number(tiny_model, random_image):
    model = tiny_model("llava")
    image = random_image(2)
    target = np.zeros((image.height, image.width), bool)
    target[3:20, 5:14] = True
    inspection = inspect_image(model, image, QUESTION, target=target, max_new_tokens=6)
    view = inspection.views[0]
    assert view.answer
    ids = [token.id for token in view.tokens if token.role == "answer"]
    prompt = model.encode(image, QUESTION, ids, close=True)
    coverage = to_patches(target, inspection.grid)
    (reading,) = read_questions(model, [PreparedQuestion(prompt, coverage, "open")])
    for name, value in (
        ("attention_mass", reading.mass),
        ("relative_mass", reading.relative),
        ("pointing_game", reading.pointing),
        ("image_share", reading.image_share),
        ("touched_mass", reading.touched),
    ):
        assert value == pytest.approx(view.metrics[name], rel=1e-5), name
    item = TrainingItem(Path("image.png"), QUESTION, view.answer, "open", "validation", "rows.csv", 1)
    question = Question(item, prompt, torch.from_numpy(coverage[None]).half().float(), True)
    tally = validate(
        model.model,
        _Asked(model, question),
        [0],
        batch_size=1,
        to_device=lambda batch: batch,
        extra=lambda batch: {},
        keeps=True,
    )
    # Targets of a run are kept in half precision.
    assert tally.metrics()["attention_mass"] == pytest.approx(view.metrics["attention_mass"], rel=1e-3)


def test_an_empty_answer_is_measured_over_the_whole_question(tiny_model, random_image):
    model = tiny_model("llava")
    prompt = model.encode(random_image(1), QUESTION)
    prepare_capture(model.model)
    with torch.no_grad(), capture(prompt.rows, prompt.columns) as record:
        model.model(**prompt.inputs, use_cache=False)
    nothing = torch.zeros(int(prompt.rows.sum()), dtype=torch.bool)
    found = answer_attention(record, 0, nothing, closed=False, count=2)
    share = record.image_share(0)
    chosen = [float(share[head.layer, head.head].mean()) for head in found.heads]
    assert len(found.heads) == 2
    assert found.weights.sum() == pytest.approx(np.mean(chosen), rel=1e-5)
    assert measure_answer(found.weights, None).keys() == {"entropy", "image_share"}


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order():
    weights = np.array([[0.1, 0.4, 0.2, 0.2], [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 0.0, 0.0]])
    coverage = np.array([0.0, 1.0, 1.0, 0.0])
    assert area_under_curve(weights, coverage)[:2] == pytest.approx([3.5 / 4, 0.5])
    assert np.isnan(area_under_curve(weights, coverage)[2])
    assert np.isnan(area_under_curve(weights[0], np.ones(4)))
    assert np.isnan(area_under_curve(weights[0], np.zeros(4)))
