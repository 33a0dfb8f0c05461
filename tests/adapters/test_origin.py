"""An adapter on other weights than its own is refused or said, also where all shapes agree."""

from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file

from a3tune.adapters.origin import write_origin
from a3tune.adapters.switch import AdapterSet
from a3tune.bundle import DEMO_ADAPTERS
from a3tune.errors import AdapterError
from a3tune.models.fingerprint import weights_fingerprint


def stored(source="house/model", fingerprint="f" * 64, convention=None):
    return SimpleNamespace(source=source, fingerprint=lambda: fingerprint, convention=convention)


@pytest.fixture
def folder(tiny_llava, tmp_path):
    tuned = get_peft_model(tiny_llava(), LoraConfig(r=2, target_modules=["q_proj"]))
    tuned.peft_config["default"].base_model_name_or_path = "/srv/models/model"
    tuned.save_pretrained(tmp_path, save_embedding_layers=False)
    return tmp_path


def test_the_same_weights_need_no_word(tiny_llava, folder):
    write_origin(folder, "house/model", "f" * 64)
    adapters = AdapterSet(tiny_llava(), {"x": folder}, identity=stored("elsewhere/copy"))
    assert (adapters.origin("x"), adapters.origin("base")) == ("", "")


def test_other_weights_are_refused_unless_told(tiny_llava, folder):
    write_origin(folder, "/srv/models/model", "f" * 64)
    other = stored("/data/fine-tune", "e" * 64)
    with pytest.raises(
        AdapterError, match=r"other weights \(model\) than those of fine-tune.*--allow-other-base"
    ) as caught:
        AdapterSet(tiny_llava(), {"x": folder}, identity=other)
    assert "/srv" not in str(caught.value)
    adapters = AdapterSet(tiny_llava(), {"x": folder}, identity=other, allow_other_base=True)
    assert adapters.origin("x").startswith("WARNING: the adapter was made for other weights (model)")


@pytest.mark.parametrize(
    ("tuned", "here", "words"),
    [
        (
            "medgemma-ct",
            None,
            "tuned on computed tomography given by the convention medgemma-ct; here it is given as it",
        ),
        (None, "medgemma-ct", "given as it is shown; here it is given by the convention medgemma-ct"),
        ("medgemma-ct", "medgemma-ct", ""),
        (None, None, ""),
    ],
)
def test_another_way_of_seeing_computed_tomography_is_said(tiny_llava, folder, tuned, here, words):
    write_origin(folder, "house/model", "f" * 64, tuned)
    origin = AdapterSet(tiny_llava(), {"x": folder}, identity=stored(convention=here)).origin("x")
    assert words in origin
    assert origin.startswith("WARNING" if words else "")
    assert bool(origin) == bool(words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/mnt/Model", "name model as its base, which is the name of the base model here"),
        ("house/another", "name model as its base, and the base model here is house/another"),
    ],
)
def test_without_a_fingerprint_the_names_are_compared(tiny_llava, folder, name, words):
    assert words in AdapterSet(tiny_llava(), {"x": folder}, identity=stored(name)).origin("x")


def test_what_is_written_troubles_no_reader(tiny_llava, folder):
    before = load_file(folder / "adapter_model.safetensors")
    write_origin(folder, "house/model", "f" * 64)
    write_origin(folder, "house/model", "e" * 64)
    after = load_file(folder / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with safe_open(folder / "adapter_model.safetensors", "pt") as opened:
        assert opened.metadata() == {
            "format": "pt",
            "a3tune_base": "house/model",
            "a3tune_base_fingerprint": "e" * 64,
            "a3tune_convention": "",
        }
    PeftModel.from_pretrained(tiny_llava(), folder)


def test_the_demo_adapters_name_the_demo_weights():
    for name in ("a3", "lora"):
        with safe_open(DEMO_ADAPTERS / name / "adapter_model.safetensors", "pt") as opened:
            assert opened.metadata()["a3tune_base_fingerprint"] == weights_fingerprint("demo")
