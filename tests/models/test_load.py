import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from a3tune.errors import ModelError, RequestError
from a3tune.models import load, memory, precision
from a3tune.models.load import load_model


@pytest.fixture
def folder(tiny_checkpoint, tmp_path):
    """A copy of the tiny LLaVA checkpoint, to be damaged."""
    return shutil.copytree(tiny_checkpoint("llava"), tmp_path / "llava")


def edit_json(path, **changes):
    content = json.loads(path.read_text())
    for key, value in changes.items():
        if value is None:
            content.pop(key)
        else:
            content[key] = value
    path.write_text(json.dumps(content))


def test_every_class_loads_with_its_weights(tiny_name, tiny_checkpoint, tiny_model):
    model = tiny_model(tiny_name)
    stored = load_file(tiny_checkpoint(tiny_name) / "model.safetensors")
    embeddings = next(tensor for name, tensor in stored.items() if "embed_tokens" in name)
    assert torch.equal(model.model.get_input_embeddings().weight, embeddings)
    hybrid = model.layers < model.text_config.num_hidden_layers
    assert len(model.notes) == (1 if hybrid else 0)  # what its layer numbers mean


def test_half_precision_files_are_widened_on_the_cpu(folder):
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor.half() for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    edit_json(folder / "config.json", dtype="float16")
    assert load_model(folder, device="cpu").dtype == torch.float32
    assert load_model(folder, device="cpu", dtype="bfloat16").dtype == torch.bfloat16
    assert load_model(folder, device="cpu", dtype=torch.float16).dtype == torch.float16


def test_what_would_never_fit_in_32_bit_is_loaded_in_16_and_says_so(folder, monkeypatch):
    room = memory.memory_needed(load.count_weights(folder), "float32") - 1
    for module in (load, precision):
        monkeypatch.setattr(module, "total_memory", lambda device: room)
    model = load_model(folder, device="cpu")
    assert model.dtype == torch.bfloat16
    (note,) = model.notes
    assert note.startswith("Kept and computed in bfloat16: in float32 it would take ")
    chosen = load_model(folder, device="cpu", dtype="float32")
    assert (chosen.dtype, chosen.notes) == (torch.float32, ())


def test_names(folder):
    assert load_model(str(folder), device="cpu").name == "llava"
    assert load_model(folder, device="cpu", name="Demo").name == "Demo"


def test_sharded_checkpoints_load_and_a_missing_shard_is_named(tiny_model, tmp_path):
    tiny_model("llava").model.save_pretrained(tmp_path, max_shard_size="100KB")
    tiny_model("llava").processor.save_pretrained(tmp_path)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert load_model(tmp_path, device="cpu").layers == 3
    shards[1].unlink()
    with pytest.raises(ModelError, match=shards[1].name):
        load_model(tmp_path, device="cpu")


def test_folders_that_are_no_models(tmp_path):
    with pytest.raises(ModelError, match="no folder at"):
        load_model(tmp_path / "absent")
    with pytest.raises(ModelError, match=r"no folder at '\./absent'"):
        load_model("./absent")
    with pytest.raises(ModelError, match=r"No config.*config\.json.*save_pretrained"):
        load_model(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ModelError, match="Name the folder"):
        load_model(file)


def test_unknown_and_wrong_kinds(folder, tmp_path):
    text_model = tmp_path / "text"
    LlamaForCausalLM(
        LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    ).save_pretrained(text_model)
    with pytest.raises(ModelError, match="a model of type llama"):
        load_model(text_model)
    edit_json(folder / "config.json", model_type="llava_unheard")
    with pytest.raises(ModelError, match="llava_unheard"):
        load_model(folder)
    edit_json(folder / "config.json", auto_map={"AutoModel": "modeling.Own"})
    with pytest.raises(ModelError, match="own code, which is never run"):
        load_model(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model_type": 3}', "\x00\x01"])
def test_damaged_configurations(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json"):
        load_model(folder)


def test_pickled_weights_are_refused_unopened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin.*run any code"):
        load_model(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="without weights"):
        load_model(folder)


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "header"])
def test_damaged_weights_are_named(folder, damage):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-1000], "empty": b"", "noise": b"\xff" * 4000, "header": whole[:40]}[damage])
    with pytest.raises(ModelError, match=r"model\.safetensors.*Fetch the file again"):
        load_model(folder)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_prefixes_of_wrappers_are_left_out(folder, tiny_model, prefix):
    path = folder / "model.safetensors"
    save_file({prefix + name: value for name, value in load_file(path).items()}, path, {"format": "pt"})
    found = load_model(folder, device="cpu").model.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in tiny_model("llava").model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_weights_in_8_bit_are_refused_by_name(folder, dtype):
    path = folder / "model.safetensors"
    state = load_file(path)
    name = next(name for name in state if "q_proj" in name)
    save_file({**state, name: state[name].to(dtype)}, path, {"format": "pt"})
    with pytest.raises(ModelError, match=f"{re.escape(name)}.* is stored as .*not quantized"):
        load_model(folder, device="cpu")


def test_a_quantized_checkpoint_is_refused_by_its_method(folder):
    edit_json(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ModelError, match=r"they are quantized \(gptq\)"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "processor_config.json", "generation_config.json"]
)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "a pointer of Git LFS"),
        ("<!DOCTYPE html>\n<html lang='en'></html>", "a saved web page"),
    ],
)
def test_pointers_and_web_pages_are_named(folder, name, text, said):
    assert (folder / name).is_file()
    (folder / name).write_text(text)
    with pytest.raises(ModelError, match=rf"{said}.*[Rr]un|{said}.*[Uu]se") as caught:
        load_model(folder, device="cpu")
    assert name in str(caught.value)


def test_weights_in_two_forms_must_be_the_same(folder, tiny_model):
    state = load_file(folder / "model.safetensors")
    torch.save(state, folder / "pytorch_model.bin")
    assert load_model(folder, device="cpu").layers == 3
    name = next(name for name in state if "k_proj" in name)
    torch.save({**state, name: state[name] + 1}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=rf"model\.safetensors and pytorch_model\.bin differ: {re.escape(name)} has"):
        load_model(folder, device="cpu")
    (folder / "pytorch_model.bin").unlink()
    tiny_model("llava").model.save_pretrained(folder / "shards", max_shard_size="100KB")
    for path in (folder / "shards").glob("model*"):
        shutil.copy(path, folder)
    assert load_model(folder, device="cpu").layers == 3
    save_file({**state, name: state[name] + 1}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"model\.safetensors and model-00001-of-\d+\.safetensors differ"):
        load_model(folder, device="cpu")


def test_a_damaged_index_is_named(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="weight_map"):
        load_model(folder)


def test_incomplete_weights_are_never_filled_at_random(folder, capfd):
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if "layers.1.self_attn.k_proj" in name and "vision" not in name)
    weights.pop(gone)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"1 are missing.*k_proj"):
        load_model(folder, device="cpu")
    assert "REPORT" not in capfd.readouterr().err


def test_weights_of_another_shape_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "layers.1.self_attn.k_proj" in name and "vision" not in name)
    weights[name] = torch.zeros(16, 32)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"another shape.*k_proj"):
        load_model(folder, device="cpu")


def test_weights_without_a_place_are_refused_or_noted(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.language_model.layers.9.extra.weight"] = torch.zeros(2)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"1 that do not.*layers\.9"):
        load_model(folder, device="cpu")
    model = load_model(folder, device="cpu", allow_unused_weights=True)
    assert "layers.9" in model.notes[0]


def test_missing_processor_files(folder):
    for path in folder.glob("*processor*"):
        path.unlink()
    with pytest.raises(ModelError, match="processor"):
        load_model(folder, device="cpu")


def test_missing_tokenizer_files(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="processor"):
        load_model(folder, device="cpu")


def test_llava_without_a_chat_template_says_which_one_is_used(folder, random_image):
    (folder / "chat_template.jinja").unlink()
    model = load_model(folder, device="cpu")
    assert "no chat template" in model.notes[0]
    assert model.encode(random_image(), "What is it?").text == "USER: <image>\nWhat is it? ASSISTANT:"


def test_others_without_a_chat_template_are_refused(tiny_checkpoint, tmp_path, random_image):
    folder = shutil.copytree(tiny_checkpoint("gemma3"), tmp_path / "gemma3")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="Gemma3Processor without one"):
        load_model(folder, device="cpu")
    model = load_model(folder, device="cpu", chat_template=template)
    assert model.notes == ()
    assert model.encode(random_image(), "What is it?").question


def test_llava_processors_that_do_not_know_their_patch_size(folder, tiny_model, random_image):
    edit_json(folder / "processor_config.json", patch_size=None)
    model = load_model(folder, device="cpu")
    assert "patch size" in model.notes[0]
    assert model.encode(random_image(), "What?").ids == tiny_model("llava").encode(random_image(), "What?").ids


@pytest.mark.parametrize("device", ["toaster", "cuda:77", "meta"])
def test_unknown_devices(folder, device):
    with pytest.raises(RequestError, match=device):
        load_model(folder, device=device)


def test_unknown_data_types(folder):
    with pytest.raises(RequestError, match="int3"):
        load_model(folder, device="cpu", dtype="int3")
    with pytest.raises(RequestError, match=r"float64.*Choose one"):
        load_model(folder, device="cpu", dtype=torch.float64)


def test_a_model_larger_than_the_memory_is_refused_before_it_is_read(folder, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda device: 1_000_000)
    with pytest.raises(ModelError, match=r"0\.0 GB are free.*GB of free memory on cpu.*float32.*smaller model"):
        load_model(folder, device="cpu")


def test_what_needs_a_gpu_says_so(folder):
    with pytest.raises(RequestError, match="NVIDIA GPU"):
        load_model(folder, device="cpu", offload=True)
    with pytest.raises(RequestError, match=r"the device mps.*8 and 4 bit"):
        load._placement(torch.device("mps"), torch.float16, "8bit", False)


def test_an_unknown_quantization(folder):
    with pytest.raises(RequestError, match="3bit"):
        load_model(folder, device="cpu", quantization="3bit")


def test_bits_need_their_package(folder, monkeypatch):
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install bitsandbytes"):
        load._placement(gpu, torch.bfloat16, "4bit", False)
    with pytest.raises(ModelError, match="pip install bitsandbytes"):
        load_model(folder, device="cpu", quantization="8bit")
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda name: "there")
    settings = load._placement(gpu, torch.bfloat16, "4bit", False)["quantization_config"]
    assert settings.load_in_4bit
    assert settings.bnb_4bit_compute_dtype == torch.bfloat16
    assert load._placement(gpu, torch.bfloat16, "8bit", False)["device_map"] == {"": gpu}


def test_offloading_fills_the_gpu_first(monkeypatch):
    free = {"cuda": 10_000, "cpu": 50_000}
    monkeypatch.setattr(load, "available_memory", lambda device: free[device.type])
    placement = load._placement(torch.device("cuda", 0), torch.bfloat16, "none", True)
    assert placement == {"device_map": "auto", "max_memory": {0: 8500, "cpu": 1 << 62}}
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda name: "there")
    bits = load._placement(torch.device("cuda", 1), torch.bfloat16, "4bit", True)
    assert bits["device_map"] == {"": torch.device("cuda", 1)}


@pytest.mark.parametrize("quantization", ["none", "8bit"])
def test_offloading_never_reaches_for_a_disk(folder, monkeypatch, quantization):
    """Whatever the free memory of GPU and machine cannot hold is refused with both figures."""
    monkeypatch.setattr(load, "choose_device", lambda device: torch.device("cuda", 0))
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda name: "there")
    for module in (memory, load):
        monkeypatch.setattr(module, "available_memory", lambda device: int(2e8))
    with pytest.raises(ModelError, match=r"0\.[24] GB are free") as told:
        load_model(folder, device="cuda", dtype="bfloat16", offload=True, quantization=quantization)
    assert "Fetch" not in str(told.value)
    assert ("never left on a disk" in str(told.value)) == (quantization == "none")
