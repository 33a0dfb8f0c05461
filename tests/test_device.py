"""Device names, on machines with and without accelerators."""

import pytest
import torch

from a3tune.device import choose_device
from a3tune.errors import RequestError


@pytest.fixture
def machine(monkeypatch):
    def have(cuda=0, mps=False):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: cuda - 1)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return have


def test_auto_takes_the_best_that_is_there(machine):
    machine()
    assert choose_device("auto") == torch.device("cpu")
    machine(mps=True)
    assert choose_device("auto") == torch.device("mps")
    assert choose_device("auto", mps=False) == torch.device("cpu")
    machine(cuda=2, mps=True)
    assert choose_device("auto") == torch.device("cuda", 1)
    assert choose_device("cuda:0") == torch.device("cuda", 0)
    assert choose_device("cuda") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["nonsense", "cuda:2", "mps", "xpu", ""])
def test_what_this_machine_lacks_is_named(machine, name):
    machine(cuda=2)
    with pytest.raises(RequestError, match="device") as told:
        choose_device(name)
    assert repr(name) in str(told.value)
