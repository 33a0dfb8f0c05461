"""The best and worst validation questions of a run: those of the adapter that is kept, with its own answers."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from a3tune.adapters.switch import AdapterSet
from a3tune.data.read import read_dataset
from a3tune.figures.regions import REGION_COLOURS
from a3tune.images import load_image
from a3tune.models.load import load_model
from a3tune.training.run_folder import RunFolder
from a3tune.training.tuning import tune
from a3tune.training.validation import Tally
from a3tune.training.validation_examples import best_and_worst
from tests.support.tuning_data import tiny_config, write_data


def tally(rows):
    """Of (loss, tokens, right) of each question."""
    table = torch.tensor([[*row, 0, 0] for row in rows], dtype=torch.float64).reshape(-1, 5)
    return Tally(table, torch.zeros(len(rows), dtype=torch.bool))


@pytest.mark.parametrize(
    ("rows", "each", "chosen"),
    [
        # By the mean over the answer's tokens, right ones first; who was not asked is left out.
        (
            [(4, 1, 0), (4, 8, 0), (2, 2, 1), (1, 9, 1), (0, 0, 0), (9, 2, 0)],
            2,
            [("best", 3), ("best", 2), ("worst", 0), ("worst", 5)],
        ),
        ([(1, 1, 1), (2, 1, 1), (3, 1, 1)], 3, [("best", 0), ("best", 1), ("worst", 2)]),
        ([(1, 1, 0)], 3, [("best", 0)]),
        ([], 3, []),
    ],
)
def test_no_question_is_told_twice_and_the_worst_come_last(rows, each, chosen):
    assert best_and_worst(tally(rows), each) == chosen


@pytest.fixture(scope="module")
def stopped(tiny_checkpoint, tmp_path_factory):
    """Folder of a run that was stopped once and went on, and its data."""
    place = tmp_path_factory.mktemp("examples")
    rows = write_data(place / "data", images=5, validation=3)
    source, run = str(tiny_checkpoint("llava")), RunFolder(place / "run")
    config = tiny_config(max_steps=4, evaluate_every=1, save_every=1, learning_rate=5e-3)
    tune(config, rows, run.path, source, device="cpu", should_stop=lambda: len(list(run.checkpoints.glob("c*"))) > 0)
    assert run.read()["status"] == "stopped"
    tune(config, rows, run.path, source, device="cpu", resume=True)
    return run, rows, source


def test_they_are_of_the_step_that_is_kept_and_say_what_its_adapter_answers(stopped):
    run, rows, source = stopped
    record = json.loads((run.examples / "examples.json").read_text())
    assert record["step"] == run.read()["best_step"]
    told = [event for event in run.event_log.read() if event["event"] == "examples"]
    assert told[-1]["questions"] == record["questions"]
    assert [question["kind"] for question in record["questions"]] == ["best"] * 3 + ["worst"] * 3
    probabilities = [question["probability"] for question in record["questions"]]
    assert all(0 < each <= 1 for each in probabilities)
    held_out = read_dataset(rows).of("validation")
    known = {(item.image.name, item.question): (place, item) for place, item in enumerate(held_out)}
    mass = np.load(run.tally(record["step"]))[:, 3]
    model = load_model(source, device="cpu")
    adapters = AdapterSet(model.model, {"mine": run.adapter})
    adapters.activate("mine")
    model.model.eval()
    for question in record["questions"]:
        place, item = known[question["image"], question["question"]]
        assert question["answer"] == item.answer
        prompt = model.encode(load_image(item.image), item.question)
        assert question["prediction"] == model.generate(prompt, max_new_tokens=64).text
        assert question["right"] == (question["prediction"] == item.answer)
        assert question["mass"] == pytest.approx(mass[place], abs=1e-4)


def test_pictures_are_small_and_no_more_than_two_steps_are_kept(stopped):
    run, _, _ = stopped
    record = json.loads((run.examples / "examples.json").read_text())
    pictures = sorted(run.examples.glob("*.png"))
    assert {path.name for path in pictures} >= {f"{record['step']}-{number}.png" for number in range(6)}
    assert len({path.name.partition("-")[0] for path in pictures}) <= 2
    for path in pictures:
        with Image.open(path) as picture:
            assert max(picture.size) <= 320
            assert (np.asarray(picture) == REGION_COLOURS[0]).all(axis=-1).any(), "the target's outline"
    assert sum(path.stat().st_size for path in run.examples.iterdir()) < 2_000_000
