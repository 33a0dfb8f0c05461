"""Whole runs on a tiny model: what is written, going on after a kill, stopping, full disks, several processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerCallback

from a3tune.adapters.stored import read_adapter
from a3tune.adapters.switch import AdapterSet
from a3tune.errors import Cancelled, DataError, ModelError, NotEnoughMemoryError, RequestError
from a3tune.models.fingerprint import weights_fingerprint
from a3tune.models.load import load_model
from a3tune.training import reporting
from a3tune.training.event_log import EventLog
from a3tune.training.methods import add_adapter
from a3tune.training.run_folder import STOP_NAME, RunFolder
from a3tune.training.stop import StopRequested
from a3tune.training.trainer import AlignmentTrainer
from a3tune.training.tuning import tune
from tests.support.tuning_data import TINY, tiny_config, write_data, write_pairs

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "tests" / "support" / "launch_tune.py"


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("tuning"), images=7)


@pytest.fixture(scope="session")
def one_image(tmp_path_factory):
    """Two questions and nothing held out, for runs whose validation is not what is looked at."""
    return write_data(tmp_path_factory.mktemp("one"), images=1, validation=0)


@pytest.fixture
def run(tiny_checkpoint, data):
    """(out, settings) -> summary of a run on the tiny LLaVA."""

    def start(out, *, model="llava", should_stop=None, resume=False, rows=data, **settings):
        source = str(tiny_checkpoint(model))
        return tune(tiny_config(**settings), rows, out, source, device="cpu", should_stop=should_stop, resume=resume)

    return start


def weights(folder):
    return load_file(folder / "adapter_model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def events(folder, kind):
    return [event for event in RunFolder(folder).event_log.read() if event["event"] == kind]


def without_times(found):
    left = ("time", "seconds_left", "samples_per_second", "memory_gib")
    return [{name: value for name, value in event.items() if name not in left} for event in found]


class Killed(Exception):
    """Stands for a process that is gone."""


@pytest.fixture
def kill(monkeypatch, run):
    """(step, out, settings): a run that dies at the end of the step, before anything of that step is saved."""

    def start(step, out, **settings):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == step:
                raise Killed
            return control

        with monkeypatch.context() as patch:
            patch.setattr(StopRequested, "on_step_end", on_step_end)
            with pytest.raises(Killed):
                run(out, **settings)
        assert RunFolder(out).read()["status"] == "training"

    return start


def under_way(out):
    """Whether the run's first step has begun."""
    return (RunFolder(out).read() or {}).get("status") == "training"


def test_a_run_writes_what_it_did(run, tmp_path):
    summary = run(tmp_path / "run", method="a3")
    assert (summary.status, summary.step, summary.steps) == ("finished", 6, 6)
    assert summary.targets == {"weak": 0, "truth": 10, "none": 0}
    assert set(summary.metrics) == {"loss", "accuracy", "closed_accuracy", "open_accuracy", "attention_mass"}
    record = RunFolder(tmp_path / "run").read()
    assert record["status"] == "finished"
    assert record["config"]["method"] == "a3"
    assert record["model"]["fingerprint"] == weights_fingerprint(record["model"]["source"])
    notes = read_adapter(summary.adapter).notes
    assert notes["a3tune_base_fingerprint"] == record["model"]["fingerprint"]
    assert "/" not in notes["a3tune_base"]
    assert record["versions"]["torch"] == torch.__version__
    steps = events(tmp_path / "run", "step")
    assert [event["step"] for event in steps] == [1, 2, 3, 4, 5, 6]
    for event in steps:
        parts = event["cross_entropy"] + event["alignment"] + 0.01 * event["balance"]
        assert event["loss"] == pytest.approx(parts, rel=1e-5)
        assert event["samples_per_second"] > 0
        assert 0 < event["memory_gib"] < 64
        assert event["gradient_norm"] > 0
    assert [event["step"] for event in events(tmp_path / "run", "validation")] == [3, 6]
    best = min(events(tmp_path / "run", "validation"), key=lambda event: event["loss"])["step"]
    assert summary.best_step == best
    (base,) = events(tmp_path / "run", "base_validation")
    assert (base["step"], base["questions"]) == (0, events(tmp_path / "run", "validation")[0]["questions"])
    found = next(event for event in events(tmp_path / "run", "validation") if event["step"] == best)
    assert record["verdict"]["gain"] == pytest.approx(100 * (found["accuracy"] - base["accuracy"]), abs=0.01)
    assert record["verdict"]["step"] == best
    assert record["verdict"]["words"] == summary.verdict.words()
    kept = RunFolder(tmp_path / "run").steps_saved()
    assert set(kept) == {best, 6}
    assert same(weights(summary.adapter), weights(RunFolder(tmp_path / "run").checkpoint(best)))
    assert not list((tmp_path / "run").rglob("*.part"))
    card = (summary.adapter / "README.md").read_text()
    assert "Steps made: 6 of 6, finished" in card
    assert f"at step {best}, the best of 2" in card


def test_the_adapter_has_its_card_from_the_first_checkpoint_on(kill, tmp_path):
    kill(5, tmp_path / "run")
    card = (tmp_path / "run/adapter/README.md").read_text()
    assert "The run was not finished when this card was written." in card
    assert "Steps made: 4 of 6, training" in card


def test_a_lora_adapter_loads_on_the_base_model(run, tmp_path, tiny_checkpoint):
    summary = run(tmp_path / "run", method="lora+align", max_steps=2, evaluate_every=None, save_every=None)
    adapters = AdapterSet(load_model(tiny_checkpoint("llava"), device="cpu").model, {"tuned": summary.adapter})
    assert not adapters.takes_masks("tuned")
    changed = [weight for name, weight in weights(summary.adapter).items() if "_B" in name]
    assert changed
    assert any(weight.any() for weight in changed)


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"method": "lora"}, set()),
        ({"method": "lora+align"}, {"alignment", "attention_mass"}),
        ({"method": "a3moe"}, {"balance"}),
        ({"method": "a3", "no_alignment": True}, {"balance"}),
        ({"method": "a3", "no_key_experts": True}, {"alignment", "attention_mass"}),
        ({"method": "a3", "no_query_experts": True}, {"alignment", "attention_mass", "balance"}),
        ({"method": "a3", "no_head_selection": True, "alignment": "kl"}, {"alignment", "attention_mass", "balance"}),
    ],
)
def test_each_method_trains_with_its_own_losses(run, one_image, tmp_path, settings, parts):
    plain = {"validation_share": 0.0, "max_steps": 1, "evaluate_every": None, "save_every": None}
    summary = run(tmp_path / "run", rows=one_image, **plain, **settings)
    (step,) = events(tmp_path / "run", "step")
    assert {"alignment", "attention_mass", "balance"} & set(step) == parts
    names = {name.split("self_attn.")[1].split(".")[0] for name in weights(summary.adapter) if "router" in name}
    experts = settings["method"] in ("a3", "a3moe")
    wanted = {"q_proj"} if experts and not settings.get("no_query_experts") else set()
    wanted |= {"k_proj"} if experts and not settings.get("no_key_experts") else set()
    assert names == wanted


def test_every_class_is_tuned_saved_and_loaded_again(
    tiny_name, run, one_image, tmp_path, tiny_checkpoint, random_image, monkeypatch
):
    trained = []

    def add_and_keep(*call):
        trained.append(add_adapter(*call))
        return trained[0]

    monkeypatch.setattr("a3tune.training.tuning.add_adapter", add_and_keep)
    settings = {"method": "a3", "max_steps": 2, "gradient_checkpointing": True, "validation_share": 0.0}
    summary = run(
        tmp_path / "run", model=tiny_name, rows=one_image, evaluate_every=None, save_every=None, **settings
    )  # fmt: skip
    assert (summary.status, summary.step, summary.targets["truth"]) == ("finished", 2, 2)
    assert all(0 < step["attention_mass"] < 1 and step["alignment"] > 0 for step in events(tmp_path / "run", "step"))
    assert not any("vision" in key or ".visual." in key for key in weights(summary.adapter))
    fresh = load_model(tiny_checkpoint(tiny_name), device="cpu")
    prompt = fresh.encode(random_image(3), "Where is the mass?")
    batch = fresh.collate([prompt])
    masks = {"a3_question_mask": batch.question, "a3_image_mask": batch.columns}
    adapters = AdapterSet(fresh.model, {"tuned": summary.adapter})
    assert adapters.takes_masks("tuned")
    with torch.no_grad():
        expected = trained[0].eval()(**prompt.inputs, **masks).logits
        untuned = fresh.model(**prompt.inputs).logits
        with adapters.using("tuned") as model:
            found = model(**prompt.inputs, **masks).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found - untuned).abs().max() > 1e-3


def test_questions_about_two_images_are_tuned_and_aligned_on_both(run, tmp_path):
    rows = write_pairs(tmp_path / "data")
    settings = {"validation_share": 0.5, "max_steps": 2, "evaluate_every": 2, "save_every": None}
    summary = run(tmp_path / "run", model="qwen2_5_vl", rows=rows, method="a3", **settings)
    assert (summary.status, summary.targets["truth"]) == ("finished", 2)
    assert all(0 < step["attention_mass"] < 1 for step in events(tmp_path / "run", "step"))
    assert any("4 questions are about several images" in note for note in summary.notes)
    (watched,) = events(tmp_path / "run", "watched")
    # Pairs of the same pictures, one way round and the other, stay together.
    assert {question["width"] for question in watched["questions"]} == {36 + 8 + 36}
    batch = events(tmp_path / "run", "batch")[0]["questions"]
    assert all(question["image"].count("; ") == 1 for question in batch)
    assert [piece["kind"] for piece in batch[0]["pieces"]].count("image") == 2


def test_a_run_without_validation_questions_says_that_nothing_compares_it_with_its_base(run, one_image, tmp_path):
    settings = {"validation_share": 0.0, "max_steps": 2, "evaluate_every": None}
    alone, compared = run(tmp_path / "alone", rows=one_image, **settings), run(tmp_path / "compared", **settings)
    words = "nothing says whether this adapter answers better or worse than the base model, and the last step is kept"
    assert alone.verdict is None
    assert words in alone.notes[-1]
    assert any(words in event["text"] for event in events(tmp_path / "alone", "note"))
    assert compared.verdict is not None
    assert not any(words in note for note in compared.notes)


def test_gradient_checkpointing_changes_nothing(run, one_image, tmp_path):
    settings = {"rows": one_image, "validation_share": 0.0, "max_steps": 2, "evaluate_every": None}
    plain = run(tmp_path / "plain", **settings)
    saving = run(tmp_path / "saving", gradient_checkpointing=True, **settings)
    one, other = weights(plain.adapter), weights(saving.adapter)
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-6


@pytest.fixture(scope="session")
def unbroken(tiny_checkpoint, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken") / "run"
    tune(tiny_config(gradient_accumulation=2), data, out, str(tiny_checkpoint("llava")), device="cpu")
    return out


@pytest.mark.parametrize("step", [1, 3, 4, 6])
def test_a_killed_run_goes_on_to_the_same_weights(run, kill, unbroken, tmp_path, step):
    kill(step, tmp_path / "run", gradient_accumulation=2)
    summary = run(tmp_path / "run", gradient_accumulation=2, resume=step > 1)
    assert summary.status == "finished"
    for name in ("adapter", "checkpoints/checkpoint-6"):
        assert same(weights(tmp_path / "run" / name), weights(unbroken / name))
    states = [torch.load(folder / "checkpoints/checkpoint-6/optimizer.pt", weights_only=True)["state"] for folder in
              (tmp_path / "run", unbroken)]  # fmt: skip
    assert all(torch.equal(states[0][key]["exp_avg"], states[1][key]["exp_avg"]) for key in states[0])
    for kind in ("step", "validation"):
        assert without_times(events(tmp_path / "run", kind)) == without_times(events(unbroken, kind))
    assert summary.verdict.record() == RunFolder(unbroken).read()["verdict"]


def test_fixed_heads_survive_a_kill(run, kill, tmp_path):
    settings = {"head_choice": "fixed", "max_steps": 3, "evaluate_every": None}
    whole = run(tmp_path / "whole", **settings)
    kill(3, tmp_path / "run", **settings)
    heads = RunFolder(tmp_path / "run").read()["fixed_heads"]
    assert len(heads) == TINY["top_heads"]
    again = run(tmp_path / "run", **settings)
    assert RunFolder(tmp_path / "run").read()["fixed_heads"] == heads
    assert same(weights(whole.adapter), weights(again.adapter))


def test_a_stop_request_saves_and_the_run_goes_on(run, unbroken, tmp_path):
    summary = run(tmp_path / "run", should_stop=lambda: under_way(tmp_path / "run"), gradient_accumulation=2)
    assert (summary.status, summary.step) == ("stopped", 1)
    assert any("expert" in name for name in weights(summary.adapter))
    assert events(tmp_path / "run", "stopped")[0]["step"] == 1
    (tmp_path / "run" / STOP_NAME).touch()  # an old request must not stop the next start
    assert run(tmp_path / "run", gradient_accumulation=2).status == "finished"
    assert same(weights(tmp_path / "run/adapter"), weights(unbroken / "adapter"))


def test_a_stop_file_or_signal_stops_after_the_step(run, tmp_path, monkeypatch):
    told = EventLog.add

    def add_event(self, kind, **facts):
        told(self, kind, **facts)
        if kind == "step" and facts["step"] == 1:
            asks[0](self)

    monkeypatch.setattr(EventLog, "add", add_event)
    before = signal.getsignal(signal.SIGTERM)
    for name, ask in (
        ("file", lambda log: (log.path.parent / STOP_NAME).touch()),
        ("signal", lambda log: os.kill(os.getpid(), signal.SIGTERM)),
    ):
        asks = [ask]
        summary = run(tmp_path / name, evaluate_every=None, save_every=None)
        assert (summary.status, summary.step) == ("stopped", 2)
        assert (summary.adapter / "adapter_model.safetensors").is_file()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stop_before_the_first_step_is_told(run, tmp_path):
    with pytest.raises(Cancelled):
        run(tmp_path / "run", should_stop=lambda: RunFolder(tmp_path / "run").read() is not None)
    assert RunFolder(tmp_path / "run").read()["status"] == "stopped"
    assert run(tmp_path / "run", max_steps=6).status == "finished"


def test_what_is_not_the_disks_fault_is_not_told_as_a_full_disk(run, tmp_path, monkeypatch):
    """A step that takes too much memory says what to lower, a GPU that fails while saving says that; both go on."""
    save, loss = AlignmentTrainer._save_optimizer_and_scheduler, AlignmentTrainer.compute_loss

    def fails(self, folder):
        if self.state.global_step == 4:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with TORCH_USE_CUDA_DSA")
        save(self, folder)

    def takes_too_much(self, *args, **options):
        if self.state.global_step == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return loss(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(AlignmentTrainer, "compute_loss", takes_too_much)
        with pytest.raises(NotEnoughMemoryError, match=r"a step of this run.*batch_size to 1"):
            run(tmp_path / "run")
    assert RunFolder(tmp_path / "run").read()["status"] == "failed"
    with monkeypatch.context() as patch:
        patch.setattr(AlignmentTrainer, "_save_optimizer_and_scheduler", fails)
        with pytest.raises(ModelError, match=r"illegal memory access.*step 3 is kept.*device that works") as told:
            run(tmp_path / "run")
    assert "space" not in str(told.value)
    assert run(tmp_path / "run").status == "finished"


def test_a_full_disk_keeps_the_earlier_checkpoint(run, unbroken, tmp_path, monkeypatch):
    save = AlignmentTrainer._save_optimizer_and_scheduler

    def full(self, folder):
        if self.state.global_step == 4:
            (Path(folder) / "optimizer.pt").write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(AlignmentTrainer, "_save_optimizer_and_scheduler", full)
        with pytest.raises(DataError, match=r"step 4 .*No space left.*step 3 is kept|No space left.*step 3 is kept"):
            run(tmp_path / "run", gradient_accumulation=2)
    folder = RunFolder(tmp_path / "run")
    assert folder.steps_saved()[-1] == 3
    assert folder.read()["status"] == "failed"
    assert run(tmp_path / "run", gradient_accumulation=2).status == "finished"
    assert same(weights(tmp_path / "run/adapter"), weights(unbroken / "adapter"))
    assert not list(folder.path.rglob("*.part"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "llava_mistral"}, "another model"),
        ({"learning_rate": 1e-3}, "another configuration: learning_rate is 0.02 there, 0.001 here"),
        ({"rows": "other"}, "other data"),
    ],
)
def test_a_folder_of_another_run_is_refused(run, kill, tmp_path, change, words):
    kill(2, tmp_path / "run")
    if "rows" in change:
        change = {"rows": write_data(tmp_path / "other", images=5)}
    before = (tmp_path / "run/run.json").read_text()
    with pytest.raises(DataError, match=words):
        run(tmp_path / "run", **change)
    assert (tmp_path / "run/run.json").read_text() == before


def test_finished_foreign_and_missing_runs_are_told_apart(run, tmp_path, unbroken):
    with pytest.raises(DataError, match="is finished"):
        run(unbroken, gradient_accumulation=2)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/diary.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds other files \(diary.txt\)"):
        run(tmp_path / "notes")
    with pytest.raises(DataError, match="There is none in"):
        run(tmp_path / "nothing", resume=True)
    assert not (tmp_path / "nothing").exists()


def test_early_stopping_keeps_the_best(run, tmp_path, monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 2.2, 1.0])
    evaluate = AlignmentTrainer.evaluate

    def scripted(self, *args, **options):
        metrics = evaluate(self, *args, **options)
        metrics["eval_loss"] = next(losses)
        self.state.log_history[-1]["eval_loss"] = metrics["eval_loss"]
        return metrics

    monkeypatch.setattr(AlignmentTrainer, "evaluate", scripted)
    summary = run(tmp_path / "run", evaluate_every=1, save_every=None, early_stopping=2)
    assert (summary.status, summary.step, summary.best_step) == ("finished", 4, 2)
    assert [event["best"] for event in events(tmp_path / "run", "validation")] == [True, True, False, False]
    assert same(weights(summary.adapter), weights(RunFolder(tmp_path / "run").checkpoint(2)))


def test_questions_without_a_region_are_told(run, tmp_path):
    rows = write_data(tmp_path / "data", images=5)
    lines = rows.read_text().splitlines()
    rows.write_text("\n".join([lines[0], *(line.rsplit(",", 1)[0] + "," for line in lines[1:3]), *lines[3:]]) + "\n")
    summary = run(tmp_path / "run", rows=rows, max_steps=1, evaluate_every=None)
    assert summary.targets == {"weak": 0, "truth": 4, "none": 2}
    assert any("2 of 6 training questions have no region" in note for note in summary.notes)


def test_masks_of_the_data_count_unless_told_otherwise_and_a_note_says_how_many(run, tmp_path):
    rows = write_data(tmp_path / "data", images=5)
    lines = rows.read_text().splitlines()
    rows.write_text("\n".join([lines[0], *(line.rsplit(",", 1)[0] + "," for line in lines[1:3]), *lines[3:]]) + "\n")
    settings = {"method": "lora", "label_segmenter": "auto", "max_steps": 1, "evaluate_every": None}
    summary = run(tmp_path / "run", rows=rows, **settings)
    assert summary.targets == {"weak": 0, "truth": 4, "none": 2}
    (note,) = [note for note in summary.notes if "the data's own masks" in note]
    assert "Training questions: 4 of them by the data's own masks, 0 by weak labels, 2 by nothing" in note
    assert "measured on held-out questions: 4 of them by the data's own masks" in note
    told = run(tmp_path / "weak", rows=rows, targets="weak", validation_targets="truth", **settings)
    assert told.targets == {"weak": 0, "truth": 0, "none": 6}


def test_nothing_to_align_with_is_an_error(run, tmp_path):
    rows = write_data(tmp_path / "data", images=4, masks=False)
    with pytest.raises(DataError, match="Not one training question has a region") as caught:
        run(tmp_path / "run", rows=rows)
    assert "label_min_score" not in str(caught.value)
    with pytest.raises(DataError, match=r"Lower label_min_score \(it is 45\) or set it to null"):
        run(tmp_path / "other", rows=rows, label_min_score=45)
    with pytest.raises(DataError, match="Not one training question has a region") as caught:
        run(tmp_path / "unsure", rows=rows, label_min_score=45, allow_unsure_regions=True)
    assert "label_min_score" not in str(caught.value), "there are none at all"


def test_a_question_that_is_too_long_is_named(run, tmp_path, data):
    with pytest.raises(DataError, match=r"rows.csv, line 2, question: question and answer take \d+ tokens"):
        run(tmp_path / "run", max_length=30)


def test_a_question_with_a_control_token_is_named(run, tmp_path):
    rows = write_data(tmp_path / "data", images=4)
    rows.write_text(rows.read_text().replace("Where is the mass?", "Where is </s> the mass?"))
    with pytest.raises(DataError, match=r"rows\.csv, line 3, cannot be put to the model"):
        run(tmp_path / "run", rows=rows)


def test_more_heads_than_the_model_has_are_refused(run, tmp_path):
    with pytest.raises(ModelError, match="at most 12 heads"):
        run(tmp_path / "run", top_heads=13)
    assert RunFolder(tmp_path / "run").read()["status"] == "failed"


def launch(command, settings, tmp_path, rows, checkpoint, name):
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({**TINY, "dropout": 0.0, "max_steps": 2, **settings}))
    files = ["--config", tmp_path / f"{name}.yaml", "--out", tmp_path / name, "--data", rows, "--model", checkpoint]
    process = subprocess.run(
        [*command, str(LAUNCH), *map(str, files), "--device", "cpu"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stdout.count("Finished at step 2 of 2") == 1
    return weights(tmp_path / name / "adapter")


def test_two_processes_equal_one(tmp_path, data, tiny_checkpoint, run):
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
    launcher += [
        "--num_processes",
        "2",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        "0",
    ]
    two = launch(launcher, {"batch_size": 2}, tmp_path, data, tiny_checkpoint("llava"), "two")
    one = weights(run(tmp_path / "one", dropout=0.0, max_steps=2, batch_size=4).adapter)
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-6
    pair = [without_times(events(tmp_path / name, "validation")) for name in ("one", "two")]
    assert pair[0][0]["loss"] == pytest.approx(pair[1][0]["loss"], rel=1e-5)
    assert pair[0][0]["attention_mass"] == pytest.approx(pair[1][0]["attention_mass"], rel=1e-4)


def test_identity_travels_with_each_checkpoint(unbroken):
    record = json.loads((unbroken / "checkpoints/checkpoint-6/run_identity.json").read_text())
    assert record["step"] == 6
    assert record["config"]["seed"] == 4
    assert record["data"]["questions"] == 14


class Heard(TrainerCallback):
    """Remembers what a run logs."""

    def __init__(self):
        self.logs = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append((state.global_step, logs))


def test_callbacks_hear_of_every_step_and_validation_and_change_nothing(run, tmp_path, unbroken, data, tiny_checkpoint):
    heard, told = Heard(), []
    config = tiny_config(gradient_accumulation=2)
    source = str(tiny_checkpoint("llava"))
    progress = lambda what, share: told.append((what, share))  # noqa: E731
    summary = tune(config, data, tmp_path / "run", source, device="cpu", callbacks=[heard], on_progress=progress)
    steps = [(step, logs) for step, logs in heard.logs if "loss" in logs]
    assert [step for step, _ in steps] == [1, 2, 3, 4, 5, 6]
    assert {"cross_entropy", "alignment", "attention_mass", "learning_rate", "grad_norm"} <= set(steps[0][1])
    assert [step for step, logs in heard.logs if "eval_accuracy" in logs] == [3, 6]
    assert same(weights(summary.adapter), weights(unbroken / "adapter"))
    # What a log is told between steps, the first validation included.
    assert any(what.startswith("Validating: ") for what, share in told if share == 0)
    assert any(what.startswith("Validating: ") for what, share in told if share == 0.5)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd", "schedule": "cosine_with_restarts", "schedule_options": "num_cycles=2"},
        {"optimizer": "adafactor", "schedule": "polynomial", "schedule_options": "power=2"},
        {
            "schedule": "reduce_lr_on_plateau",
            "schedule_options": "patience=0,threshold=100,threshold_mode=abs",
            "evaluate_every": 2,
        },
        {"schedule": "greedy", "schedule_options": "patience=0,factor=0.5,min_lr=1e-5", "evaluate_every": 1},
        {"schedule": "cosine_warmup_with_min_lr", "schedule_options": "min_lr_rate=0.1,warmup_lr_rate=0.5"},
    ],
)
def test_optimizers_and_schedules_of_the_trainer_go_on_after_a_kill(run, kill, tmp_path, settings):
    whole = run(tmp_path / "whole", **settings)
    kill(5, tmp_path / "run", **settings)
    assert same(weights(run(tmp_path / "run", **settings).adapter), weights(whole.adapter))
    rates = [event["learning_rate"] for event in events(tmp_path / "run", "step")]
    assert rates == [event["learning_rate"] for event in events(tmp_path / "whole", "step")]
    assert len(set(rates)) > 1


def test_what_cannot_be_reported_to_is_refused_before_the_data_is_read(tmp_path, monkeypatch):
    with pytest.raises(RequestError, match="some of tensorboard, wandb, mlflow"):
        tune(tiny_config(), tmp_path / "none", tmp_path / "run", report_to=["comet"])
    monkeypatch.setitem(reporting.REPORTERS, "wandb", (lambda: False, "wandb"))
    with pytest.raises(RequestError, match=r"not installed. Expected the package wandb.*pip install wandb"):
        tune(tiny_config(), tmp_path / "none", tmp_path / "run", report_to=["wandb"])
    assert not (tmp_path / "run").exists()


def test_a_run_reports_to_tensorboard_in_its_own_folder(run, tmp_path, data, tiny_checkpoint):
    source = str(tiny_checkpoint("llava"))
    out = tmp_path / "run"
    tune(tiny_config(max_steps=2, evaluate_every=2), data, out, source, device="cpu", report_to=["tensorboard"])
    found = EventAccumulator(str(out / reporting.TENSORBOARD_NAME)).Reload()
    assert {"train/loss", "train/alignment", "train/grad_norm", "eval/accuracy"} <= set(found.Tags()["scalars"])
    losses = [event["loss"] for event in events(out, "step")]
    assert [scalar.value for scalar in found.Scalars("train/loss")] == pytest.approx(losses, rel=1e-5)


def test_what_cannot_be_reported_any_more_ends_the_run_by_name_and_it_goes_on_without(
    run, tmp_path, data, tiny_checkpoint, monkeypatch
):
    class Unreachable(TrainerCallback):
        def on_log(self, arguments, state, control, **options):
            if state.global_step == 3:
                raise OSError("no route to host")

    monkeypatch.setattr(reporting, "get_reporting_integration_callbacks", lambda names: [Unreachable])
    monkeypatch.setitem(reporting.REPORTERS, "mlflow", (lambda: True, "mlflow"))
    out, source = tmp_path / "run", str(tiny_checkpoint("llava"))
    with pytest.raises(RequestError, match=r"^mlflow does not: no route to host. .* or leave mlflow out"):
        tune(tiny_config(), data, out, source, device="cpu", report_to=["mlflow"])
    assert RunFolder(out).read()["status"] == "failed"
    assert tune(tiny_config(), data, out, source, device="cpu").status == "finished"
    assert same(weights(RunFolder(out).adapter), weights(run(tmp_path / "whole").adapter))
