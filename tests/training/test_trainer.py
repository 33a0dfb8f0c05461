"""The losses of a step, against the same numbers worked out by hand."""

import json

import numpy as np
import pytest
import torch
from peft import PeftModel

from a3tune.adapters.a3moe import record_experts
from a3tune.attention.capture import capture, prepare_capture
from a3tune.attention.critical_heads import critical_heads, visual_ratio
from a3tune.attention.loss import alignment_loss
from a3tune.data.read import read_dataset, split_dataset
from a3tune.errors import AdapterError, ModelError
from a3tune.images import load_image
from a3tune.models.load import load_model
from a3tune.models.prompt import PromptEncoder
from a3tune.training.attention_targets import TargetMaker, TargetPlan
from a3tune.training.collate import Collator, Questions, QuestionStream
from a3tune.training.methods import adapter_config, add_adapter, objective_of
from a3tune.training.run_folder import RunFolder
from a3tune.training.trainer import AlignmentTrainer
from a3tune.training.tuning import tune
from a3tune.training.validation import Tally, validate
from tests.support.tuning_data import tiny_config, write_data


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data", images=5)


@pytest.fixture
def tuned(tiny_checkpoint, data, tmp_path):
    """settings -> (step event of the first step, base model, questions, order)."""

    def start(**settings):
        config = tiny_config(**{"max_steps": 1, "evaluate_every": None, "save_every": None, "dropout": 0.0, **settings})
        tune(config, data, tmp_path / "run", str(tiny_checkpoint("llava")), device="cpu")
        model = load_model(tiny_checkpoint("llava"), device="cpu")
        encoder = PromptEncoder(model.processor, model.config, torch.device("cpu"))
        items = split_dataset(read_dataset(data)).of("train")
        targets = TargetMaker(TargetPlan("truth"), encoder, model.patch_grid).make(items)
        questions = Questions(items, encoder, targets)
        order = QuestionStream(questions, steps=1, per_step=config.effective_batch(), seed=config.seed)
        event = next(event for event in RunFolder(tmp_path / "run").event_log.read() if event["event"] == "step")
        return event, model, questions, [order.index(position) for position in range(config.effective_batch())]

    return start


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "rows"), [(4, 1, "text"), (2, 2, "text"), (1, 4, "text"), (2, 2, "answer")]
)
def test_a_step_weighs_tokens_and_questions_however_it_is_cut(tuned, batch_size, accumulation, rows):
    # B starts at zero, so the first step's losses are those of the base model.
    event, model, questions, order = tuned(
        method="lora+align", batch_size=batch_size, gradient_accumulation=accumulation, top_heads=2, align_rows=rows
    )
    prepare_capture(model.model)
    entropy = tokens = alignment = 0.0
    for index in order:
        question = questions[index]
        batch = Collator(questions.encoder)([question])
        with torch.no_grad(), capture(batch["rows"], batch["columns"]) as record:
            logits = model.model(**batch["inputs"], use_cache=False).logits[0]
        logits = logits.log_softmax(-1)
        for position in question.prompt.answer:
            entropy -= float(logits[position - 1, question.prompt.ids[position]])
            tokens += 1
        heads = critical_heads(visual_ratio(record.image_share(0)), 2)
        weights = record.weights(0)
        if rows == "answer":
            # A token is written where the one before it is read; the token that ends the answer is no part of it.
            writing = np.isin(record.rows(0), [position - 1 for position in question.prompt.answer[:-1]])
            assert 0 < writing.sum() < len(writing)
            weights = weights[:, :, torch.from_numpy(writing)]
        alignment += float(alignment_loss(weights, question.target, heads, combine="union"))
    assert event["cross_entropy"] == pytest.approx(entropy / tokens, rel=1e-5)
    assert event["alignment"] == pytest.approx(alignment / len(order), rel=1e-5)
    assert event["loss"] == pytest.approx(entropy / tokens + alignment / len(order), rel=1e-5)


def test_the_balance_of_a_row_is_that_of_the_row_alone(tiny_checkpoint, tuned):
    _, model, questions, order = tuned(method="lora")
    adapted = add_adapter(model, tiny_config(), "tiny").train()
    batches = [Collator(questions.encoder)([questions[index] for index in chosen]) for chosen in (order, order[:1])]
    found = []
    for batch in batches:
        masks = {"a3_question_mask": batch["question"], "a3_image_mask": batch["columns"]}
        torch.manual_seed(0)
        adapted.eval()
        with record_experts() as use:
            adapted(**batch["inputs"], **masks, use_cache=False)
        found.append(use.balance_losses(len(batch["labels"])))
    assert [tuple(losses.shape) for losses in found] == [(len(order),), (1,)]
    assert float(found[0][0].detach()) == pytest.approx(float(found[1][0].detach()), rel=1e-4)
    found[0].sum().backward()
    assert any("router" in name and w.grad is not None and w.grad.any() for name, w in adapted.named_parameters())


def test_balance_without_gradient_is_refused(tuned):
    _, model, questions, order = tuned(method="lora")
    adapted = add_adapter(model, tiny_config(), "tiny").train()
    batch = Collator(questions.encoder)([questions[order[0]]])
    masks = {"a3_question_mask": batch["question"], "a3_image_mask": batch["columns"]}
    with torch.no_grad(), record_experts() as use:
        adapted(**batch["inputs"], **masks, use_cache=False)
    with pytest.raises(AdapterError, match="carry gradient"):
        use.balance_losses(1)


@pytest.mark.parametrize("method", ["a3", "lora"])
def test_only_the_language_model_is_tuned_in_float32(tiny_checkpoint, method):
    model = load_model(tiny_checkpoint("llava"), device="cpu", dtype="bfloat16")
    adapted = add_adapter(model, tiny_config(method=method), "some/model")
    trained = {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert trained
    assert all("language_model" in name and weight.dtype == torch.float32 for name, weight in trained.items())
    assert adapted.peft_config["default"].base_model_name_or_path == "some/model"


def test_bfloat16_trains(tuned):
    event, *_ = tuned(precision="bf16", method="a3", gradient_checkpointing=True)
    assert event["loss"] == pytest.approx(
        event["cross_entropy"] + event["alignment"] + 0.01 * event["balance"], rel=1e-2
    )


def test_ablations_reach_the_adapter(tiny_model):
    plain = adapter_config(tiny_config(no_query_experts=True, no_key_experts=True))
    assert (plain.query_experts, plain.key_experts, plain.key_top_k) == (1, 1, 1)
    objective = objective_of(tiny_config(no_head_selection=True, top_heads=None), tiny_model("llava"))
    assert (objective.selection, objective.head_count) == ("all", 4)
    assert not objective_of(tiny_config(no_alignment=True), tiny_model("llava")).aligns


def test_a_loss_that_is_no_number_ends_the_run(tiny_checkpoint, data, tmp_path, monkeypatch):
    compute = AlignmentTrainer.compute_loss

    def broken(self, *args, **options):
        loss = compute(self, *args, **options)
        return loss * float("nan") if self.state.global_step == 2 else loss

    monkeypatch.setattr(AlignmentTrainer, "compute_loss", broken)
    with pytest.raises(ModelError, match="The loss of step 3 is nan"):
        tune(tiny_config(), data, tmp_path / "run", str(tiny_checkpoint("llava")), device="cpu")
    folder = RunFolder(tmp_path / "run")
    assert folder.read()["status"] == "failed"
    assert folder.steps_saved() == (2,)


def test_exact_answers_are_those_that_greedy_decoding_writes(tiny_checkpoint, data, tmp_path):
    config = tiny_config(
        method="lora", learning_rate=0.01, max_steps=60, dropout=0.0, evaluate_every=None, save_every=None, batch_size=6
    )
    summary = tune(config, data, tmp_path / "run", str(tiny_checkpoint("llava")), device="cpu")
    model = load_model(tiny_checkpoint("llava"), device="cpu")
    encoder = PromptEncoder(model.processor, model.config, torch.device("cpu"))
    items = read_dataset(data).items
    targets = TargetMaker(TargetPlan("truth"), encoder, model.patch_grid).make(items)
    questions = Questions(items, encoder, targets)
    model.model = PeftModel.from_pretrained(model.model, summary.adapter).eval()
    prepare_capture(model.model)
    right = []
    for index, item in enumerate(items):
        tally = validate(
            model.model, questions, [index], batch_size=1,
            to_device=lambda batch: batch, extra=lambda batch: {}, keeps=True,
        )  # fmt: skip
        prompt = questions[index].prompt
        answer = model.generate(encoder.encode([load_image(item.image)], item.question), max_new_tokens=12)
        exact = answer.token_ids == tuple(prompt.ids[position] for position in prompt.answer[:-1])
        assert tally.metrics()["accuracy"] == float(exact and answer.ending == "end")
        right.append(exact)
    assert any(right)
    together = validate(
        model.model, questions, range(len(items)), batch_size=4,
        to_device=lambda batch: batch, extra=lambda batch: {}, keeps=True,
    )  # fmt: skip
    assert together.metrics()["accuracy"] == pytest.approx(sum(right) / len(right))


def test_a_tally_adds_up_over_processes():
    closed = torch.tensor([True, False, False, False])
    one, two = torch.zeros(2, 4, 5, dtype=torch.float64)
    one[0] = torch.tensor([2, 4, 1, 0.5, 1])
    two[1:] = torch.tensor([[1, 1, 1, 0, 0], [1, 0.5, 0, 0, 0], [2, 0.5, 0, 0, 0]])
    wanted = {"loss": 1.0, "accuracy": 0.5, "closed_accuracy": 1.0, "open_accuracy": 1 / 3, "attention_mass": 0.5}
    assert Tally(one + two, closed).metrics() == pytest.approx(wanted)
    assert "open_accuracy" not in Tally(one, closed).metrics()
    assert json.dumps(Tally(two, closed).metrics())
