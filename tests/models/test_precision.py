import pytest
import torch

from a3tune.models import precision
from a3tune.models.memory import BYTES_PER_WEIGHT, memory_needed
from a3tune.models.precision import list_precisions, offload_obstacle, usual_precision


def obstacles(device):
    return {choice.key: choice.obstacle for choice in list_precisions(torch.device(device))}


def test_every_precision_has_a_size_and_they_get_smaller():
    keys = [choice.key for choice in list_precisions(torch.device("cpu"))]
    assert set(keys) == set(BYTES_PER_WEIGHT)
    sizes = [BYTES_PER_WEIGHT[key] for key in keys]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("installed", [False, True])
def test_a_processor_needs_the_package_for_bits_and_a_gpu_for_offloading(monkeypatch, installed):
    monkeypatch.setattr(precision.importlib.util, "find_spec", lambda name: "there" if installed else None)
    found = obstacles("cpu")
    assert not any(found[key] for key in ("float32", "bfloat16", "float16"))
    assert all(("pip install bitsandbytes" in found[key]) != installed for key in precision.BITS)
    assert all("Apple" in obstacles("mps")[key] for key in precision.BITS)
    assert "no GPU" in offload_obstacle(torch.device("cpu"))
    assert usual_precision(torch.device("cpu")) == "float32"


@pytest.mark.parametrize("installed", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_on_a_gpu_the_package_and_the_hardware_count(monkeypatch, installed, half):
    monkeypatch.setattr(precision.importlib.util, "find_spec", lambda name: "there" if installed else None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8 if half else 7, 5))
    found = obstacles("cuda")
    assert all(("pip install bitsandbytes" in found[key]) != installed for key in precision.BITS)
    assert (found["bfloat16"] == "") == half
    assert offload_obstacle(torch.device("cuda")) == ""
    assert usual_precision(torch.device("cuda")) == ("bfloat16" if half else "float16")
    assert usual_precision(torch.device("mps")) == "float16"


def test_the_card_that_is_asked_for_counts_and_not_what_it_emulates(monkeypatch):
    # A T4 says that it supports bf16, which it only emulates; the A100 beside it is the current device.
    cards = {0: (8, 0), 1: (7, 5)}
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *args, **options: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: cards[device.index if device else 0])
    for index, usual in ((0, "bfloat16"), (1, "float16")):
        assert usual_precision(torch.device("cuda", index)) == usual
        assert ("choose fp16" in obstacles(f"cuda:{index}")["bfloat16"]) == (usual == "float16")


def test_a_model_that_would_never_fit_in_32_bit_is_kept_in_16(monkeypatch):
    monkeypatch.setattr(precision, "total_memory", lambda device: memory_needed(1_000_000, "float32"))
    cpu = torch.device("cpu")
    assert [usual_precision(cpu, weights) for weights in (0, 1_000_000, 1_000_001)] == [
        "float32",
        "float32",
        "bfloat16",
    ]
    assert usual_precision(torch.device("mps"), 1_000_001) == "float16"
