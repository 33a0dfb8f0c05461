"""One adapter has one number: the validation while it is tuned, an inspection and an evaluation tell the same."""

import numpy as np
import pytest

from a3tune.adapters.switch import AdapterSet
from a3tune.evaluation.items import read_items
from a3tune.evaluation.questions import read_evaluation_data
from a3tune.evaluation.run import EvaluationPlan, evaluate
from a3tune.images import load_image
from a3tune.inspection.inspect import inspect_image
from a3tune.models.load import load_model
from a3tune.training.run_folder import RunFolder
from a3tune.training.tuning import tune
from tests.support.tuning_data import tiny_config, write_data


@pytest.fixture(scope="module", params=["a3", "lora"])
def told(request, tmp_path_factory, tiny_checkpoint):
    """(validation's event, evaluated items, model, run folder) of a run that ends with its validation."""
    folder = tmp_path_factory.mktemp("agreement")
    data, source = write_data(folder / "data", images=7), str(tiny_checkpoint("llava"))
    config = tiny_config(method=request.param, max_steps=4, evaluate_every=4)
    run = folder / "run"
    tune(config, data, run, source, device="cpu")
    (validation,) = [event for event in RunFolder(run).event_log.read() if event["event"] == "validation"]
    model = load_model(source, device="cpu")
    asked = read_evaluation_data(data, held_out=(config.validation_share, config.seed))
    plan = EvaluationPlan({"base": None, "tuned": run / "adapter"}, masks="true", batch_size=3, max_new_tokens=8)
    evaluate(plan, asked, model, folder / "out", model_name=source)
    return validation, read_items(folder / "out" / "items.jsonl"), model, run, asked


def test_the_run_and_the_evaluation_agree(told):
    validation, items, *_ = told
    tuned = [item for item in items if item.system == "tuned"]
    assert len(tuned) == validation["questions"]
    masses = [item.value("given.attention_mass") for item in tuned]
    known = [mass for mass in masses if np.isfinite(mass)]
    assert known
    assert np.mean(known) == pytest.approx(validation["attention_mass"], abs=5e-5)
    assert np.mean([item.value("strict.verbatim") for item in tuned]) == pytest.approx(validation["accuracy"])


def test_an_inspection_and_the_evaluation_agree(told):
    _, items, model, run, asked = told
    question = asked.questions[0]
    image = load_image(question.item.image)
    mask = np.array(load_image(question.item.mask).pixels[:, :, 0] > 0)
    names = ("base", "tuned")
    adapters = AdapterSet(model.model, {"tuned": run / "adapter"}, identity=model)
    inspection = inspect_image(
        model, image, question.item.question, adapters=names, adapter_set=adapters, target=mask, max_new_tokens=8
    )
    for name in names:
        found = inspection.view(name)
        (item,) = [item for item in items if item.system == name and item.number == 0]
        assert found.answer == item.prediction
        assert found.metrics["attention_mass"] == pytest.approx(item.value("generated.attention_mass"), rel=1e-4)
