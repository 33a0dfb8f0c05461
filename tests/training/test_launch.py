"""Ways of launching a run that would not train what was asked for."""

import pytest

from a3tune.errors import NotEnoughMemoryError, RequestError
from a3tune.training import batch_alignment
from a3tune.training.estimate import estimate_run
from a3tune.training.launch import check_launch
from a3tune.training.tuning import tune
from tests.support.tuning_data import tiny_config, write_data


@pytest.mark.parametrize(
    ("variable", "name"), [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")]
)
def test_sharded_training_is_refused_by_name(tmp_path, monkeypatch, variable, name):
    monkeypatch.setenv(variable, "true")
    with pytest.raises(RequestError, match=f"{name}.*Launch without it"):
        tune(tiny_config(), tmp_path / "rows.csv", tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv(variable, "false")
    check_launch("cpu")


@pytest.mark.parametrize("work", [lambda path: tune(tiny_config(), path, path, device="cuda:1"),
                                  lambda path: estimate_run(tiny_config(), path, device="cuda:1")])  # fmt: skip
def test_a_run_does_not_quietly_take_another_gpu(tmp_path, work):
    with pytest.raises(RequestError, match=r"first GPU.*CUDA_VISIBLE_DEVICES=1"):
        work(tmp_path / "rows.csv")
    for device in ("auto", "cpu", "cuda", "cuda:0", "mps"):
        check_launch(device)


def test_more_heads_than_fit_beside_the_model_are_refused_before_the_first_step(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_alignment, "available_memory", lambda device: 100_000)
    data, model = write_data(tmp_path / "data"), str(tiny_checkpoint("llava"))
    config = tiny_config(method="lora+align", no_head_selection=True, batch_size=4)
    with pytest.raises(
        NotEnoughMemoryError, match=r"0\.0 GB are free on cpu.*12 heads in a batch of 4.*batch_size to 2"
    ):
        tune(config, data, tmp_path / "run", model, device="cpu")
    found = estimate_run(config, data, model, device="cpu")
    assert not found.fits
    assert "batch_size to 2" in found.remedy
