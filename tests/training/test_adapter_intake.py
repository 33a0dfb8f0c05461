"""Adapters given away and taken in again: the card, the archive, and all that is not let in."""

import io
import json
import shutil
import zipfile

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from a3tune.errors import AdapterError, DataError, RequestError
from a3tune.training.adapter_intake import check_fit, fetch_adapter, unpack_adapter
from a3tune.training.model_card import zip_adapter
from a3tune.training.publish import push_adapter
from a3tune.training.run_folder import RunFolder


@pytest.fixture
def archive(tmp_path):
    """files -> ZIP archive of them."""

    def pack(files):
        path = tmp_path / "adapter.zip"
        with zipfile.ZipFile(path, "w") as packed:
            for name, content in files.items():
                packed.writestr(name, content)
        return path

    return pack


def weights(**tensors):
    return {name: torch.zeros(shape) for name, shape in tensors.items()}


def packed_weights(tmp_path, tensors):
    save_file(tensors, tmp_path / "weights.safetensors")
    return (tmp_path / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("method", ["a3", "lora"])
def test_a_download_can_be_loaded_again(finished, tmp_path, tiny_checkpoint, method):
    run = finished(method)
    content = zip_adapter(run)
    assert content == zip_adapter(run)
    (tmp_path / "a.zip").write_bytes(content)
    folder = unpack_adapter(tmp_path / "a.zip", tmp_path / "adapter")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert (folder / "adapter_model.safetensors").read_bytes() == (
        run.adapter / "adapter_model.safetensors"
    ).read_bytes()
    check_fit(folder, str(tiny_checkpoint("llava")))
    with pytest.raises(AdapterError, match=r"It does not fit: .*q_proj|It does not fit: .*k_proj"):
        check_fit(folder, str(tiny_checkpoint("gemma3")))


def test_an_adapter_of_other_weights_of_the_same_shapes_is_refused(finished, tmp_path, tiny_checkpoint):
    (tmp_path / "a.zip").write_bytes(zip_adapter(finished("lora")))
    folder = unpack_adapter(tmp_path / "a.zip", tmp_path / "adapter")
    merged = tmp_path / "merged"
    shutil.copytree(tiny_checkpoint("llava"), merged)
    weights = load_file(merged / "model.safetensors")
    weights[sorted(weights)[0]] += 1
    save_file(weights, merged / "model.safetensors", {"format": "pt"})
    assert check_fit(folder, str(tiny_checkpoint("llava"))) == ""
    with pytest.raises(AdapterError, match=r"other weights .* than those of merged"):
        check_fit(folder, str(merged))
    assert check_fit(folder, str(merged), allow_other_base=True).startswith("WARNING: the adapter was made for other")


def test_the_card_is_filled_in_and_names_no_path(finished):
    with zipfile.ZipFile(io.BytesIO(zip_adapter(finished("a3")))) as packed:
        card = packed.read("README.md").decode()
        settings = json.loads(packed.read("adapter_config.json"))
    head = yaml.safe_load(card.split("---")[1])
    assert head["library_name"] == "peft"
    for words in (
        "For research only",
        "8 questions",
        "4 validation questions",
        "| Loss",
        "Steps made: 2 of 2",
        "seed: 4",
    ):
        assert words in card
    assert "Fewer than 100 validation questions" in card
    assert str(finished("a3").path.parent) not in card + json.dumps(settings)
    assert "/" not in settings["base_model_name_or_path"]


def test_a_run_without_an_adapter_gives_nothing(tmp_path):
    with pytest.raises(DataError, match="has none yet"):
        zip_adapter(RunFolder(tmp_path / "run"))


def test_adapters_in_a_folder_of_the_archive_are_found(finished, archive, tmp_path):
    with zipfile.ZipFile(io.BytesIO(zip_adapter(finished("lora")))) as packed:
        files = {f"my adapter/{name}": packed.read(name) for name in packed.namelist()}
    unpack_adapter(archive({**files, "../evil.txt": b"x", "my adapter/run.py": b"x"}), tmp_path / "adapter")
    assert not (tmp_path / "evil.txt").exists()
    assert not (tmp_path / "adapter/run.py").exists()


CONFIG = json.dumps({"peft_type": "LORA", "r": 2})


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"notes.txt": "x"}, "holds no adapter"),
        ({"a/adapter_config.json": CONFIG, "b/adapter_config.json": CONFIG}, "holds 2 adapters"),
        ({"adapter_config.json": CONFIG}, "adapter_model.safetensors is missing"),
        ({"adapter_config.json": CONFIG, "adapter_model.bin": "x"}, "can run any code"),
        ({"adapter_config.json": "{", "adapter_model.safetensors": "x"}, "adapter_config.json cannot be read"),
        ({"adapter_config.json": "{}", "adapter_model.safetensors": "x"}, "names no kind of adapter"),
        ({"adapter_config.json": CONFIG, "adapter_model.safetensors": "x"}, "It cannot be read"),
        ({"adapter_config.json": CONFIG, "adapter_model.safetensors": b"\xff" * 40}, "It cannot be read"),
        ({"adapter_config.json": CONFIG, "adapter_model.safetensors": b"\x02\0\0\0\0\0\0\0{}"}, "It cannot be read"),
    ],
)
def test_other_archives_are_refused(archive, tmp_path, files, words):
    with pytest.raises(AdapterError, match=words):
        unpack_adapter(archive(files), tmp_path / "adapter")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter.zip"]


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "adapter.zip").write_bytes(b"no archive")
    with pytest.raises(AdapterError, match="ZIP archive"):
        unpack_adapter(tmp_path / "adapter.zip", tmp_path / "adapter")


def test_an_adapter_of_another_base_is_named(archive, tmp_path, tiny_checkpoint):
    base = {"peft_type": "LORA", "base_model_name_or_path": "house/other-model"}
    name = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"
    for tensors, words in (
        ({name: torch.zeros(2, 48)}, "q_proj has 32 inputs in the base model, 48 in the adapter"),
        ({name.replace("layers.0", "layers.40"): torch.zeros(2, 32)}, r"no layer layers\.40\.self_attn\.q_proj"),
    ):
        files = {
            "adapter_config.json": json.dumps(base),
            "adapter_model.safetensors": packed_weights(tmp_path, tensors),
        }
        folder = unpack_adapter(archive(files), tmp_path / words[:6])
        with pytest.raises(AdapterError, match=words + ".*trained on other-model"):
            check_fit(folder, str(tiny_checkpoint("llava")))


def test_a_cut_weight_file_is_told(archive, tmp_path):
    content = packed_weights(tmp_path, {"a": torch.zeros(64, 64)})
    with pytest.raises(AdapterError, match="cut off"):
        unpack_adapter(
            archive({"adapter_config.json": CONFIG, "adapter_model.safetensors": content[:-100]}), tmp_path / "adapter"
        )


def test_an_adapter_whose_licence_is_not_accepted_says_where_to(fake_hub, tmp_path):
    fake_hub.repositories["house/adapter"] = tmp_path
    fake_hub.gated.add("house/adapter")
    with pytest.raises(AdapterError, match=r"asks for its licence.*huggingface\.co/house/adapter, and give a token"):
        fetch_adapter("house/adapter", tmp_path / "adapter")


def test_the_hub_out_of_reach_is_told_in_words(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(AdapterError, match="no connection, or it is switched off"):
        fetch_adapter("house/adapter", tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
    with pytest.raises(AdapterError, match="does not give"):
        fetch_adapter("no hub id at all/../x", tmp_path / "adapter")
    with pytest.raises(RequestError, match="the hub within reach") as caught:
        push_adapter(finished("lora"), "house/adapter", "hf_secret")
    assert "hf_secret" not in str(caught.value)
    with pytest.raises(RequestError, match="There is no token"):
        push_adapter(finished("lora"), "house/adapter", " ")
