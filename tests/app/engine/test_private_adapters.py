"""Adapters of single visitors beside the shared model: used by their owner, known to nobody else."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image

from a3tune.adapters.origin import write_origin
from a3tune.errors import AdapterError, RequestError
from a3tune.models.load import load_model
from a3tune.storage import write_json
from app.engine import private_adapters as private_adapters
from app.engine.model_slot import ModelSlot
from app.inspect.export_request import command_line
from app.inspect.service import InspectService
from app.inspect.viewer.values import result_value

TARGETS = r".*language_model.*\.(q|v)_proj"


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    return str(tiny_checkpoint("llava"))


@pytest.fixture(scope="module")
def slot(checkpoint):
    slot = ModelSlot(checkpoint, device="cpu")
    slot.start()
    slot.wait(None)
    return slot


@pytest.fixture
def adapter(checkpoint, tmp_path):
    """(name, seed) -> a folder with a LoRA of random weights."""

    def make(name, seed=0):
        base = load_model(checkpoint, device="cpu").model
        torch.manual_seed(seed)
        config = LoraConfig(r=2, lora_alpha=32, target_modules=TARGETS, init_lora_weights=False)
        get_peft_model(base, config).save_pretrained(tmp_path / name, save_embedding_layers=False)
        return tmp_path / name

    return make


@pytest.fixture
def service(slot, tmp_path):
    service = InspectService(slot)
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    for visit in ("one", "other"):
        service.sessions.open_file(visit, tmp_path / "a.png", remove=False)
    return service


def ask(service, visit, adapters, own=None):
    service.questions.reserve(visit)
    return list(service.questions.ask(visit, "Is there a mass?", adapters, own or {}))[-1]


def weights(finished, adapter):
    return finished.inspection.view(adapter).maps.weights


def test_an_own_adapter_answers_its_owner_and_is_no_choice_of_others(service, adapter):
    before = weights(ask(service, "other", ["base"]), "base")
    own = {"mine": adapter("mine")}
    finished = ask(service, "one", ["base", "mine"], own)
    assert [view.adapter for view in finished.inspection.views] == ["base", "mine"]
    assert not np.allclose(weights(finished, "mine"), weights(finished, "base"))
    assert service.slot.adapters == ("base",)
    with pytest.raises(AdapterError, match="no adapter"):
        ask(service, "other", ["mine"])
    np.testing.assert_array_equal(weights(ask(service, "other", ["base"]), "base"), before)


def test_two_visitors_may_call_their_adapters_the_same(service, adapter):
    one = ask(service, "one", ["mine"], {"mine": adapter("first", 1)})
    other = ask(service, "other", ["mine"], {"mine": adapter("second", 2)})
    assert not np.allclose(weights(one, "mine"), weights(other, "mine"))


def test_an_adapter_that_was_written_anew_is_read_anew(service, adapter):
    folder = adapter("mine", 1)
    first = ask(service, "one", ["mine"], {"mine": folder})
    newer = adapter("newer", 2)
    shutil.copy(newer / "adapter_model.safetensors", folder)
    os.utime(folder / "adapter_model.safetensors", (1, 1))
    second = ask(service, "one", ["mine"], {"mine": folder})
    assert not np.allclose(weights(first, "mine"), weights(second, "mine"))
    shutil.rmtree(folder)
    with pytest.raises(AdapterError, match="was removed from the server"):
        ask(service, "one", ["mine"], {"mine": folder})


def test_other_weights_are_refused_unless_their_owner_allows_it(service, adapter):
    folder = adapter("mine")
    write_origin(folder, "house/other", "f" * 64)
    with pytest.raises(AdapterError, match="made for other weights"):
        ask(service, "one", ["mine"], {"mine": folder})
    write_json(folder / private_adapters.LOADED, {"allow_other_base": True})
    os.utime(folder / "adapter_model.safetensors", (1, 1))
    finished = ask(service, "one", ["base", "mine"], {"mine": folder})
    base, mine = result_value(finished)["views"]
    assert mine["warning"].startswith("mine: WARNING: the adapter was made for other weights")
    assert base["warning"] == ""


def test_named_adapters_of_other_weights_need_the_servers_word(checkpoint, adapter):
    folder = adapter("mine")
    write_origin(folder, "house/other", "f" * 64)
    slot = ModelSlot(checkpoint, {"mine": folder}, device="cpu")
    slot.start()
    with pytest.raises(AdapterError, match="made for other weights"):
        slot.wait(None)
    slot = ModelSlot(checkpoint, {"mine": folder}, device="cpu", allow_other_base=True)
    slot.start()
    slot.wait(None)
    assert slot.adapter_set.origin("mine").startswith("WARNING")


def test_only_so_many_stay_in_memory(service, adapter, monkeypatch):
    monkeypatch.setattr(private_adapters, "MOST_MOUNTED", 1)
    own = {"mine": adapter("mine"), "second": adapter("second", 2)}
    first = ask(service, "one", ["mine"], own)
    ask(service, "one", ["second"], own)
    (mounted,) = service.private_adapters._mounted.values()
    assert [adapters.names for adapters in mounted.values()] == [("base", "second")]
    again = ask(service, "one", ["mine"], own)
    np.testing.assert_array_equal(weights(first, "mine"), weights(again, "mine"))


def test_a_map_of_an_own_adapter_is_checked_and_taken_away(service, adapter):
    finished = ask(service, "one", ["mine"], {"mine": adapter("mine")})
    job = service.faithfulness.start(finished.id, "mine", "control", "critical", [0])
    outcome = None
    while outcome is None:
        _, outcome = service.faithfulness.follow(job)
    kept = service.results.get(finished.id)
    command = command_line(kept, ["base", "mine"])
    assert "--adapters base,mine=ADAPTER_FOLDER" in command
    with pytest.raises(RequestError, match="has no adapter 'base'"):
        service.faithfulness.start(finished.id, "base", "control", "critical", [0])
