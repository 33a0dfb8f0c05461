"""The bundled demo model is what its card says, and answers by generating what the measurement counts."""

import json

import pytest

from a3tune.bundle import DEMO_MODEL
from a3tune.demo.evaluation import answer_accuracy
from a3tune.demo.training_data import make_sample
from a3tune.models.load import load_model
from a3tune.phantom import ask, make_phantom
from a3tune.phantom.structures import HELD_OUT_SEEDS

LARGEST_FILE = 10_000_000


@pytest.fixture(scope="module")
def model():
    return load_model(DEMO_MODEL)


@pytest.fixture(scope="module")
def figures():
    return json.loads((DEMO_MODEL / "figures.json").read_text(encoding="utf-8"))


def test_it_is_a_small_llava_in_small_files(model):
    assert type(model.model).__name__ == "LlavaForConditionalGeneration"
    assert 1_500_000 < sum(weight.numel() for weight in model.model.parameters()) < 6_000_000
    assert all(path.stat().st_size < LARGEST_FILE for path in DEMO_MODEL.iterdir())


def test_measured_again_it_answers_as_well_as_its_card_says(model, figures):
    samples = [make_sample(seed) for seed in HELD_OUT_SEEDS[:40]]
    scores = answer_accuracy(model.model, model.processor, samples)
    # A fifth of the phantoms behind the card's figures: three standard errors of that many questions.
    for kind in ("closed", "open"):
        expected, count = figures["standard"][kind]["accuracy"], scores[kind].questions
        assert abs(scores[kind].accuracy - expected) < 3 * (expected * (1 - expected) / count) ** 0.5 + 0.01


def test_the_card_holds_the_measured_figures_and_the_warning(figures):
    card = (DEMO_MODEL / "README.md").read_text(encoding="utf-8")
    for kind in ("closed", "open"):
        assert f"{figures['standard'][kind]['accuracy']:.1%}" in card
    assert f"{figures['alignment']['mass']:.1%}" in card
    assert "synthetic phantoms only" in card
    assert "not for diagnosis" in card


def test_an_answer_counts_exactly_when_generation_writes_it(model):
    hits = []
    for seed in HELD_OUT_SEEDS[:6]:
        phantom, sample = make_phantom(seed), make_sample(seed)
        scores = answer_accuracy(model.model, model.processor, [sample])
        total = sum(scores[kind].accuracy * scores[kind].questions for kind in ("closed", "open") if kind in scores)
        written = [
            model.generate(model.encode(phantom.image, item.question), max_new_tokens=80).text.strip() == item.answer
            for item in ask(phantom)
        ]
        # Samples keep their pixels in half precision, which may tip a close call.
        assert sum(written) == pytest.approx(total, abs=1)
        hits += written
    assert 0 < sum(hits) < len(hits) or all(hits)
