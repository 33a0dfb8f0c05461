"""A tuned adapter beside the base model on held-out questions."""

import json

import pytest

from a3tune.errors import AdapterError, DataError
from a3tune.training.comparison import compare_with_base, main
from a3tune.training.run_folder import RunFolder
from a3tune.training.tuning import tune
from tests.support.tuning_data import tiny_config, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("comparison"), images=7)


@pytest.fixture(scope="module")
def source(tiny_checkpoint):
    return str(tiny_checkpoint("llava"))


@pytest.fixture(scope="module", params=["a3", "lora"])
def finished(request, tmp_path_factory, data, source):
    """(configuration, run folder) of a finished run whose adapter is the one of its last validation."""
    config = tiny_config(method=request.param, max_steps=4, evaluate_every=4)
    out = tmp_path_factory.mktemp("run") / "run"
    tune(config, data, out, source, device="cpu")
    return config, out


def test_the_numbers_are_those_of_the_runs_own_validation(finished, data, source):
    config, out = finished
    told = []
    found = compare_with_base(
        config, data, out / "adapter", source, device="cpu", on_progress=lambda what, share: told.append(share)
    )
    (validation,) = [event for event in RunFolder(out).event_log.read() if event["event"] == "validation"]
    assert (found.split, found.questions) == ("validation", validation["questions"])
    for name, value in found.tuned.items():
        assert value == pytest.approx(validation[name], rel=1e-4), name
    # The base is not the tuned model, and it is the same base whatever was tuned.
    assert found.base["loss"] != pytest.approx(found.tuned["loss"], rel=1e-6)
    assert told[-1] == 1.0
    assert max(told) <= 1.0


def test_of_many_questions_a_share_is_asked(finished, data, source):
    config, out = finished
    found = compare_with_base(config, data, out / "adapter", source, device="cpu", most=1)
    assert found.questions == 1
    assert found.held_out > 1


def test_data_without_held_out_questions_and_adapters_that_do_not_fit_are_refused(finished, tmp_path, source):
    config, out = finished
    training = write_data(tmp_path / "data", images=2, validation=0)
    bare = tiny_config(method=config.method, validation_share=0.0)
    with pytest.raises(DataError, match="no validation and no test split"):
        compare_with_base(bare, training, out / "adapter", source, device="cpu")
    with pytest.raises(AdapterError):
        compare_with_base(config, write_data(tmp_path / "more", images=7), tmp_path, source, device="cpu")


def test_the_program_ends_with_one_line_of_its_result_or_of_the_reason(finished, data, source, capsys):
    _, out = finished
    arguments = ["--data", str(data), "--out", str(out), "--model", source, "--device", "cpu"]
    assert main([*arguments, "--adapter", str(out / "nothing")]) == 1
    assert "error" in json.loads(capsys.readouterr().out.splitlines()[-1])
