"""The estimate of a run from a step that is really made."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import a3tune.training.estimate as estimate
from a3tune.cli.main import main
from a3tune.data.dataset import TrainingItem
from a3tune.memory_advice import to_make_a_step
from tests.support.tuning_data import tiny_config, write_data


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("estimate"), images=5)


def test_an_estimate_names_what_a_run_takes(rows, tiny_checkpoint):
    config = tiny_config(max_steps=None, epochs=4.0, gradient_accumulation=4)
    found = estimate.estimate_run(config, rows, str(tiny_checkpoint("llava")), device="cpu")
    assert found.steps == 3, "6 questions, 4 times, 8 in a step"
    assert 0 < found.trainable < found.parameters
    assert found.validations == 2, "of the base model and after the last step: fewer than 500 are made"
    assert found.validation_seconds > 0
    assert found.seconds == pytest.approx(3 * found.step_seconds + found.validation_seconds, abs=0.11)
    assert found.label_seconds == 0, "the data has masks of its own"
    assert 50 << 20 < found.peak_bytes < found.free_bytes
    assert (found.fits, found.remedy) == (True, "")


def test_too_little_memory_is_refused_before_the_model_is_loaded(rows, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(estimate, "available_memory", lambda device: 1000)
    monkeypatch.setattr(estimate, "load_base", None)
    found = estimate.estimate_run(tiny_config(batch_size=4), rows, str(tiny_checkpoint("llava")), device="cpu")
    assert not found.fits
    for words in ("quantization to 4bit", "smaller base model"):
        assert words in found.remedy
    assert "batch_size" not in found.remedy, "the weights alone are too large"
    quarter = estimate.estimate_run(tiny_config(quantization="4bit"), rows, str(tiny_checkpoint("llava")), device="cpu")
    assert 0 < quarter.peak_bytes < 0.2 * found.peak_bytes, "fp32 files in 4 bit"
    assert "4bit" not in quarter.remedy


def test_a_step_too_large_names_the_least_harmful_remedy_first():
    found = to_make_a_step(tiny_config(batch_size=4, precision="fp32"))
    words = (
        "batch_size to 2 and gradient_accumulation to 2",
        "gradient_checkpointing",
        "precision to bf16",
        "quantization to 4bit",
        "smaller base model",
    )
    places = [found.index(each) for each in words]
    assert places == sorted(places)


def test_the_command_tells_it_in_words_and_writes_nothing(rows, tiny_checkpoint, tmp_path, monkeypatch, capsys):
    given = ["tune", "--data", str(rows), "--out", str(tmp_path / "run"), "--model", str(tiny_checkpoint("llava"))]
    given += ["--device", "cpu", "--estimate", "--set", "max_steps=4"]
    monkeypatch.setattr(estimate, "estimate_run", lambda *_, **__: estimate.Estimate(
        40, 1000, 100_000, 0.5, 30.0, 3, 10.0, 60.0, 1 << 30, 2 << 30, True, ""))  # fmt: skip
    assert main(given) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "About 1 min 0 s: 30 s to find regions, 40 steps of 0.50 s, 10 s for 3 validations. "
        "Trains 1,000 numbers, 1.0% of the model. Takes 1.0 GiB of 2.0 GiB free memory."
    )
    monkeypatch.undo()
    monkeypatch.setattr(estimate, "available_memory", lambda device: 1000)
    assert main(given) == 1
    assert "This does not fit: it takes" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(given) == 2
    assert "--estimate was launched with 2" in capsys.readouterr().err


def test_labels_that_are_there_are_not_counted(monkeypatch):
    """Of five images two have labels."""
    known = {"0.png", "3.png"}

    class Source:
        has_store, labeller = False, SimpleNamespace(rank=lambda image, prompts: clock.append(clock[-1] + 2.0))

        def find(self, image, wanted):
            return wanted if image in known else {}

    clock = [0.0]
    monkeypatch.setattr(estimate, "label_source", lambda *_: Source())
    monkeypatch.setattr(estimate, "load_image", lambda path: path.name)
    monkeypatch.setattr(estimate, "item_prompt", lambda item, template: item.question)
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: clock[-1]))
    images = [TrainingItem(Path(f"{n}.png"), "Where?", "left", "open", "train", "d.csv", n) for n in range(5)]
    data = SimpleNamespace(root=None, of=lambda split: images if split == "train" else [])
    assert estimate._label_seconds(tiny_config(), data, "demo", "cpu") == pytest.approx(3 * 2.0)


def test_the_program_prints_one_line_and_tells_faults(tmp_path, tiny_checkpoint, capsys):
    options = ["--out", "x", "--model", str(tiny_checkpoint("llava")), "--device", "cpu", "--data"]
    assert estimate.main([*options, str(tmp_path / "none")]) == 1
    assert "does not exist" in json.loads(capsys.readouterr().out)["error"]
