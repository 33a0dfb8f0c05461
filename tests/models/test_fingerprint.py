"""A fingerprint tells weights apart, and nothing else: not files, not their names, not how they are loaded."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from a3tune.errors import ModelError
from a3tune.models import fingerprint
from a3tune.models.fingerprint import weights_fingerprint
from a3tune.models.load import load_model
from tests.support.original_llava import write_original


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("A3TUNE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def copy(tiny_checkpoint, tmp_path):
    """A copy of the tiny LLaVA's folder with its tensors changed."""

    def make(name, change=lambda tensors: tensors):
        folder = tmp_path / name
        shutil.copytree(tiny_checkpoint("llava"), folder)
        save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})
        return folder

    return make


def test_files_and_their_form_make_no_difference(copy, tmp_path):
    base = copy("base")
    found = weights_fingerprint(base)
    assert len(found) == 64
    model = load_model(base, device="cpu").model
    tensors = load_file(base / "model.safetensors")
    sharded = copy("sharded")
    (sharded / "model.safetensors").unlink()
    names = sorted(tensors, reverse=True)
    parts = {"a.safetensors": names[::2], "z.safetensors": names[1::2]}
    for file, chosen in parts.items():
        save_file({name: tensors[name] for name in chosen}, sharded / file)
    places = {name: file for file, chosen in parts.items() for name in chosen}
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    pickled = copy("pickled")
    (pickled / "model.safetensors").unlink()
    torch.save(tensors, pickled / "pytorch_model.bin")
    assert {weights_fingerprint(sharded), weights_fingerprint(pickled)} == {found}
    assert weights_fingerprint(str(base)) == found
    assert model.config.model_type == "llava"


def last_bit(tensors):
    name = sorted(tensors)[len(tensors) // 2]
    tensors[name].view(torch.int32).view(-1)[-1] ^= 1
    return tensors


def swapped(tensors):
    first, second = [name for name in tensors if name.endswith("q_proj.weight") and "language" in name][:2]
    tensors[first], tensors[second] = tensors[second].clone(), tensors[first].clone()
    return tensors


def reshaped(tensors):
    name = next(name for name in tensors if tensors[name].ndim == 2)
    tensors[name] = tensors[name].T.contiguous().reshape(tensors[name].T.shape)
    return tensors


def halved(tensors):
    return {name: tensor.half() for name, tensor in tensors.items()}


def one_less(tensors):
    tensors.pop(sorted(tensors)[0])
    return tensors


@pytest.mark.parametrize("change", [last_bit, swapped, reshaped, halved, one_less])
def test_every_difference_of_the_weights_is_told(copy, change):
    assert weights_fingerprint(copy("base")) != weights_fingerprint(copy("other", change))


def test_it_is_kept_and_made_anew_when_a_file_changes(copy, monkeypatch):
    base = copy("base")
    found = weights_fingerprint(base)
    read = []
    original = fingerprint._blocks
    monkeypatch.setattr(fingerprint, "_blocks", lambda *given: read.append(given) or original(*given))
    assert weights_fingerprint(base) == found
    assert read == []
    save_file(last_bit(load_file(base / "model.safetensors")), base / "model.safetensors")
    assert weights_fingerprint(base) != found
    assert read


def test_an_original_checkpoint_is_known_by_its_own_tensors(tmp_path):
    original = tmp_path / "original"
    write_original(original)
    found = weights_fingerprint(original)
    model = load_model(original, device="cpu")
    assert model.fingerprint() == found
    assert model.source == str(original)


def test_a_cut_file_is_told(copy):
    base = copy("base")
    content = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(content[:-9])
    with pytest.raises(ModelError, match="cut off"):
        weights_fingerprint(base)
