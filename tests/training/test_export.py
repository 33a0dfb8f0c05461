"""Merged models that answer as base and adapter do, or none at all."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from a3tune.adapters.a3moe import A3MoeConfig
from a3tune.adapters.switch import AdapterSet
from a3tune.cli.main import main
from a3tune.errors import AdapterError, DataError, RequestError
from a3tune.models.load import load_model
from a3tune.training import export
from a3tune.training.export import export_adapter, export_merged


@pytest.fixture(scope="session")
def adapters(tiny_checkpoint, tmp_path_factory):
    """Folders of a LoRA and an A3MoE adapter of the tiny LLaVA that change every layer."""
    folders = {}
    for name, config in {
        "lora": LoraConfig(r=2, lora_alpha=4, target_modules=r".*language_model.*\.(q_proj|v_proj|up_proj)"),
        "a3": A3MoeConfig(r=2, alpha=4, expert_r=2, expert_alpha=4, query_experts=2, key_experts=2),
    }.items():
        torch.manual_seed(3)
        tuned = get_peft_model(load_model(tiny_checkpoint("llava"), device="cpu").model, config)
        for key, weight in tuned.named_parameters():
            if weight.requires_grad and "_B" in key:
                torch.nn.init.normal_(weight, std=0.3)
        folders[name] = tmp_path_factory.mktemp("adapter") / name
        tuned.save_pretrained(folders[name], save_embedding_layers=False)
    return folders


def logits(model, random_image):
    prompt = model.encode(random_image(5), "What is shown?")
    with torch.no_grad():
        return model.model(**prompt.inputs).logits


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_merged_model_answers_as_base_and_adapter(adapters, tiny_checkpoint, tmp_path, random_image, strength):
    source = str(tiny_checkpoint("llava"))
    done = export_merged(
        adapters["lora"], tmp_path / "out", source, strength=strength, device="cpu", images=[random_image(1)]
    )
    assert done.checks == 3
    assert done.error < 1e-4
    base = load_model(source, device="cpu")
    plain = logits(base, random_image)
    settings = json.loads((adapters["lora"] / "adapter_config.json").read_text())
    export_adapter(adapters["lora"], tmp_path / "scaled", strength=strength)
    scaled = json.loads((tmp_path / "scaled/adapter_config.json").read_text())
    assert scaled["lora_alpha"] == strength * settings["lora_alpha"]
    base.model = AdapterSet(base.model, {"tuned": tmp_path / "scaled"}).activate("tuned")
    wanted = logits(base, random_image)
    found = logits(load_model(tmp_path / "out", device="cpu"), random_image)
    assert torch.allclose(found, wanted, atol=1e-4)
    assert not torch.allclose(found, plain, atol=1e-2)
    assert "answers are those of base and adapter" in (tmp_path / "out/README.md").read_text()


def test_experts_cannot_be_merged_but_given_away(adapters, tmp_path, capsys):
    with pytest.raises(AdapterError, match=r"A3MOE: its experts are mixed anew.*--as adapter.*after import a3tune"):
        export_merged(adapters["a3"], tmp_path / "out")
    assert main(["export", "--adapter", str(adapters["a3"]), "--out", str(tmp_path / "out"), "--as", "adapter",
                 "--strength", "0.5"]) == 0  # fmt: skip
    assert "Adapter:" in capsys.readouterr().out
    pair = (adapters["a3"], tmp_path / "out")
    before, after = (json.loads((folder / "adapter_config.json").read_text()) for folder in pair)
    assert (after["alpha"], after["expert_alpha"]) == (before["alpha"] / 2, before["expert_alpha"] / 2)
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in pair)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert "/" not in after["base_model_name_or_path"]


def test_a_model_that_answers_otherwise_is_not_exported(adapters, tiny_checkpoint, tmp_path, random_image, monkeypatch):
    real = export.load_model

    def broken(source, **options):
        loaded = real(source, **options)
        if "part" in str(source):
            with torch.no_grad():
                next(p for name, p in loaded.model.named_parameters() if "up_proj" in name).mul_(1.1)
        return loaded

    monkeypatch.setattr(export, "load_model", broken)
    with pytest.raises(AdapterError, match="its logits differ by"):
        export_merged(
            adapters["lora"], tmp_path / "out", str(tiny_checkpoint("llava")), device="cpu", images=[random_image(1)]
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("setting", "value"), [("use_dora", True), ("bias", "all"), ("modules_to_save", ["lm_head"])])
def test_what_no_scale_reaches_has_no_other_strength(adapters, tmp_path, setting, value):
    folder = tmp_path / "adapter"
    shutil.copytree(adapters["lora"], folder)
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, setting: value}))
    for make in (export_merged, export_adapter):
        with pytest.raises(AdapterError, match=rf"changes more than that: {setting}"):
            make(folder, tmp_path / "out", strength=0.5)
    assert not (tmp_path / "out").exists()
    export_adapter(folder, tmp_path / "out")
    assert json.loads((tmp_path / "out/adapter_config.json").read_text())[setting] == value


def test_taken_folders_and_strengths_out_of_range_are_refused(adapters, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").write_text("mine")
    for make in (export_merged, export_adapter):
        with pytest.raises(DataError, match="is taken"):
            make(adapters["lora"], tmp_path / "taken")
        for strength in (0, -1, 2.5, float("nan")):
            with pytest.raises(RequestError, match="a strength above 0, at most 2"):
                make(adapters["lora"], tmp_path / "out", strength=strength)
