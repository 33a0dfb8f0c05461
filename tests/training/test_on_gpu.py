"""Steps, validations and watched questions on a pretended GPU: the same numbers, no mixed devices, few waits.

The pretended device knows no float64, as Apple's GPUs do not. Only what runs forward is seen: torch's backward passes
need a real one.
"""

import json

import pytest
import torch

from a3tune.attention.capture import prepare_capture
from a3tune.data.read import read_dataset, split_dataset
from a3tune.models.load import load_model
from a3tune.training.arguments import training_arguments
from a3tune.training.attention_targets import TargetMaker, TargetPlan
from a3tune.training.attention_watch import AttentionWatch
from a3tune.training.collate import Questions, QuestionStream, on_device
from a3tune.training.fixed_heads import calibrate_heads
from a3tune.training.methods import add_adapter, objective_of
from a3tune.training.run_folder import RunFolder
from a3tune.training.trainer import AlignmentTrainer
from a3tune.training.validation import validate
from tests.support.pretend_cuda import GPU, pretend_cuda, to_cpu, to_gpu
from tests.support.tuning_data import tiny_config, write_data


@pytest.fixture
def training(tiny_checkpoint, tmp_path):
    """settings -> (trainer on the CPU, the loaded model with its adapter, questions)."""
    data = write_data(tmp_path / "data", images=6)

    def build(**settings):
        config = tiny_config(**{"batch_size": 4, "dropout": 0.0, **settings})
        model = load_model(tiny_checkpoint("llava"), device="cpu")
        encoder = model.cpu_encoder()
        items = split_dataset(read_dataset(data)).of("train")
        questions = Questions(items, encoder, TargetMaker(TargetPlan("truth"), encoder, model.patch_grid).make(items))
        torch.manual_seed(0)
        model.model = add_adapter(model, config, "tiny")
        prepare_capture(model.model)
        run = RunFolder(tmp_path / "run")
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        arguments = training_arguments(
            config, run.checkpoints, model, questions=len(questions), validates=False, processes=1
        )
        stream = QuestionStream(questions, steps=2, per_step=config.batch_size, seed=0)
        trainer = AlignmentTrainer(model.model, arguments, stream, None, objective_of(config, model), run, {})
        return trainer, model, questions

    return build


SETTINGS = {
    "a3": {"method": "a3"},
    "lora+align": {"method": "lora+align"},
    "every head": {"method": "lora+align", "no_head_selection": True},
    "rows of the answer": {"method": "lora+align", "align_rows": "answer"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_step_waits_as_seldom_for_many_questions_as_for_few(training, settings):
    trainer, model, questions = training(**settings)
    model.model.train()
    waits = []
    for count in (4, 2):
        batch = trainer.data_collator([questions[index] for index in range(count)])
        expected = float(trainer.compute_loss(model.model, on_device(batch, torch.device("cpu"))).detach())
        with pretend_cuda(double=False) as counts:
            to_gpu(model.model)
            trainer._parts.clear()
            loss = trainer.compute_loss(model.model, on_device(batch, GPU)).detach()
            assert counts.kernels > 300
            waits.append(dict(counts.waits))
            assert float(loss.cpu()) == pytest.approx(expected, rel=1e-5)
            trainer._tell_step({"loss": expected, "learning_rate": 0.1})
        assert trainer.run.event_log.read()[-1]["cross_entropy"] > 0
        to_cpu(model.model)
    assert waits[0] == waits[1]
    # Once for which heads look at the image; transformers snapshots three times whether image and tokens fit.
    chooses = "no_head_selection" not in settings
    assert sum(waits[0].values()) <= 3 + chooses, waits[0]


def test_validation_watched_questions_and_the_choice_of_heads(training):
    trainer, model, questions = training(method="a3")
    model.model.eval()
    options = {
        "batch_size": 3,
        "extra": lambda batch: {"a3_question_mask": batch["question"], "a3_image_mask": batch["columns"]},
    }
    indices = range(len(questions))

    def results(device):
        to = {"to_device": lambda batch: on_device(batch, device)}
        trainer.to_device = to["to_device"]
        tally = validate(model.model, questions, indices, keeps=True, **to, **options)
        heads = calibrate_heads(model.model, questions, indices, count=5, **to, **options)
        AttentionWatch(model, trainer, questions)._take_snapshot(model.model, 1)
        return tally, heads, trainer.run.event_log.read()[-1]

    tally, heads, watched = results(torch.device("cpu"))
    with pretend_cuda(double=False):
        to_gpu(model.model)
        found, chosen, seen = results(GPU)
    torch.testing.assert_close(found.table, tally.table, rtol=1e-5, atol=1e-6)
    assert chosen == heads
    assert json.dumps(seen["mass"]) == json.dumps(watched["mass"])
    assert seen["right"] == watched["right"]


def test_batches_come_on_the_cpu_and_are_moved_without_what_only_says_where_things_stand(training):
    trainer, _, _ = training(method="lora+align")
    loader = trainer.get_train_dataloader()
    assert loader.device is None
    assert trainer.accelerator.device_placement
    batch = next(iter(loader))
    with pretend_cuda() as counts:
        moved = on_device(batch, GPU)
        assert {tensor.device for tensor in moved["inputs"].values()} == {GPU}
        assert counts.waited == 0
        assert counts.copies == len(moved["inputs"])
    assert all(moved[name] is batch[name] for name in batch if name != "inputs")
