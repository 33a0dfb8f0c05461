"""The estimate of a run from a step that is really made."""

import json

import pytest

import a3tune.training.estimate as estimate
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
    assert found.seconds == pytest.approx(3 * found.step_seconds, abs=0.06)
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


def test_the_program_prints_one_line_and_tells_faults(tmp_path, tiny_checkpoint, capsys):
    options = ["--out", "x", "--model", str(tiny_checkpoint("llava")), "--device", "cpu", "--data"]
    assert estimate.main([*options, str(tmp_path / "none")]) == 1
    assert "does not exist" in json.loads(capsys.readouterr().out)["error"]
