"""Adapters from outside: no pattern of theirs is matched, nothing is made of a size that their tensors do not have."""

import json
import re
import time
import tracemalloc
from contextlib import suppress

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file, save_file

from a3tune.adapters import target_modules
from a3tune.adapters.stored import read_adapter
from a3tune.adapters.switch import AdapterSet
from a3tune.adapters.target_modules import CHEAP, check_bounded, exact_config
from a3tune.errors import AdapterError

TOKENS = "base_model.model.model.embed_tokens.trainable_tokens_delta"
QUERY = "base_model.model.model.language_model.layers.0.self_attn.q_proj"
VERA = {"base_model.vera_A": torch.zeros(2, 2), f"{QUERY}.vera_lambda_d": torch.zeros(8)}
MASK = [True] * 8 + [False] * 8_992
SECONDS = 5
HOSTILE = "(([a-z_.0-9]+)+)+!"


def lora_tensors(rank=8, name=QUERY):
    return {f"{name}.lora_A.weight": torch.zeros(rank, 32), f"{name}.lora_B.weight": torch.zeros(32, rank)}


@pytest.fixture
def adapter(tmp_path):
    """A LoRA adapter's folder with some settings and tensors of one's own."""

    def write(tensors=None, **settings):
        config = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": ["q_proj"], **settings}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        save_file(lora_tensors() if tensors is None else tensors, tmp_path / "adapter_model.safetensors")
        return tmp_path

    return write


@pytest.fixture
def bounded(monkeypatch):
    """Ends the test where a pattern from outside reaches the regular expressions of PEFT."""

    def refuse(pattern, *arguments, **options):
        assert HOSTILE not in str(pattern), "a pattern from outside is matched"
        return original(pattern, *arguments, **options)

    original = re._compile
    monkeypatch.setattr(re, "_compile", refuse)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": HOSTILE},
        {"rank_pattern": {HOSTILE: 4}},
        {"alpha_pattern": {HOSTILE: 4}},
        {"layers_pattern": HOSTILE, "layers_to_transform": [0]},
        {"layers_pattern": [HOSTILE], "layers_to_transform": [0]},
        {"exclude_modules": HOSTILE},
        {"exclude_modules": [HOSTILE]},
        {"modules_to_save": [HOSTILE]},
        {"target_modules": [HOSTILE]},
        {"target_parameters": [HOSTILE]},
        {"trainable_token_indices": {HOSTILE: [1]}},
        {"peft_type": "IA3", "feedforward_modules": HOSTILE, "target_modules": HOSTILE},
        {"peft_type": "LOHA", "rank_pattern": {HOSTILE: 8}},
        {"peft_type": "LOKR", "alpha_pattern": {HOSTILE: 8}},
        {"peft_type": "OSF", "rank_pattern": {HOSTILE: 8}, "target_modules": HOSTILE},
        {"peft_type": "ADALORA", "init_r": 8, "rank_pattern": {HOSTILE: [True] * 8}},
        {"peft_type": "FOURIERFT", "n_frequency_pattern": {HOSTILE: 8}},
        {"peft_type": "C3A", "block_size_pattern": {HOSTILE: 8}},
        {"peft_type": "A3MOE", "target_modules": HOSTILE, "exclude_modules": HOSTILE},
    ],
    ids=str,
)
def test_no_pattern_of_a_file_is_matched(tiny_llava, adapter, bounded, settings):
    base = tiny_llava()
    # Names of layers that a backtracking matcher would need years for.
    long = f"{QUERY.removesuffix('q_proj')}{'a_projection_of_a_long_name' * 12}"
    folder = adapter({**lora_tensors(), **(lora_tensors(name=long) if settings.get("peft_type") else {})}, **settings)
    began = time.perf_counter()
    with suppress(AdapterError):
        check_bounded(read_adapter(folder))
    with suppress(AdapterError):
        AdapterSet(base, {"x": folder})
    assert time.perf_counter() - began < SECONDS


def test_a_pattern_gives_way_to_the_names_of_the_tensors(tiny_llava, tmp_path):
    pattern = r".*language_model.*\.(q_proj|v_proj|up_proj)"
    settings = {"r": 3, "target_modules": pattern, "rank_pattern": {r".*\.0\..*q_proj": 2}, "init_lora_weights": False}
    tuned = get_peft_model(
        tiny_llava(), LoraConfig(**settings, alpha_pattern={r"^model\.language_model.layers.1.mlp.up_proj$": 7})
    )
    tuned.get_base_model().config._name_or_path = "house/model"
    tuned.peft_config["default"].base_model_name_or_path = None
    state = {name: weight for name, weight in tuned.state_dict().items() if "lora_" in name}
    tuned.save_pretrained(tmp_path, save_embedding_layers=False)
    base = tiny_llava()
    config = exact_config(read_adapter(tmp_path), base)
    assert sorted(config.target_modules) == sorted(
        {name.split(".lora_")[0].removeprefix("base_model.model.") for name in state}
    )
    assert list(config.rank_pattern.values()) == [2]
    assert list(config.alpha_pattern.values()) == [7]
    ids = torch.arange(3, 20)[None]
    adapters = AdapterSet(base, {"x": tmp_path})
    with torch.no_grad(), adapters.using("x") as adapted:
        expected = PeftModel.from_pretrained(tiny_llava(), tmp_path)(input_ids=ids).logits
        assert torch.equal(adapted(input_ids=ids).logits, expected)


@pytest.mark.parametrize("old", ["language_model.model.", "model."])
def test_layers_are_found_under_the_names_of_former_versions(tiny_llava, adapter, old):
    name = f"base_model.model.{old}layers.0.self_attn.q_proj"
    config = exact_config(read_adapter(adapter(lora_tensors(name=name), target_modules=HOSTILE)), tiny_llava())
    assert list(config.target_modules) == ["model.language_model.layers.0.self_attn.q_proj"]


def test_a_name_that_ends_another_is_written_in_full(adapter):
    base = torch.nn.ModuleDict(
        {"q": torch.nn.Linear(32, 32), "deep": torch.nn.ModuleDict({"q": torch.nn.Linear(32, 32)})}
    )
    config = exact_config(read_adapter(adapter(lora_tensors(name="base_model.model.q"))), base)
    assert [name for name, _ in base.named_modules() if re.fullmatch(config.target_modules, name)] == ["q"]


def test_of_names_that_end_a_modules_name_the_first_in_the_settings_counts(adapter):
    for pattern in ({"self_attn.q_proj": 4, "q_proj": 8}, {"^q_proj$": 4, "x": 8}):
        stored = read_adapter(
            adapter({f"{QUERY}.hada_w1_a": torch.zeros(32, 4)}, peft_type="LOHA", r=2, rank_pattern=pattern)
        )
        check_bounded(stored)
    stored = read_adapter(
        adapter({f"{QUERY}.hada_w1_a": torch.zeros(32, 4)}, peft_type="LOHA", r=2, rank_pattern={"q_proj": 8})
    )
    with pytest.raises(AdapterError, match="says r 8"):
        check_bounded(stored)


def test_names_of_the_settings_are_not_held_against_each_tensor_one_by_one(adapter, monkeypatch):
    read = []
    plain_name = target_modules._plain_name
    monkeypatch.setattr(target_modules, "_plain_name", lambda *given: read.append(given) or plain_name(*given))
    crowd = {f"base_model.model.layers.{number}.q.hada_w1_a": torch.zeros(1, 1) for number in range(2_000)}
    names = {f"k{number}": 1 for number in range(256)}
    check_bounded(read_adapter(adapter(crowd, peft_type="LOHA", r=1, rank_pattern=names)))
    assert len(read) == len(names)


@pytest.mark.parametrize(
    ("settings", "tensors", "words"),
    [
        ({"r": 20_000}, lora_tensors(), "rank 20000 .* its tensors have 8"),
        ({"r": 8, "rank_pattern": {"k_proj": 20_000}}, {f"{QUERY}.lora_B.weight": torch.zeros(32, 8)}, "have none"),
        ({"peft_type": "ADALORA", "init_r": 20_000}, lora_tensors(), "20000"),
        ({"peft_type": "ADALORA", "init_r": 9_000, "rank_pattern": {"q": MASK}}, lora_tensors(), "rank"),
        ({"peft_type": "LOHA", "r": 20_000}, {f"{QUERY}.hada_w1_a": torch.zeros(32, 8)}, "r 20000"),
        ({"peft_type": "HRA", "r": 20_000}, {f"{QUERY}.hra_u": torch.zeros(32, 8)}, "r 20000"),
        ({"peft_type": "OFT", "r": 0, "oft_block_size": 4096}, {f"{QUERY}.oft_R.weight": torch.zeros(8, 6)}, "have 6"),
        ({"peft_type": "VERA", "r": 20_000}, VERA, "r 20000"),
        ({"peft_type": "C3A", "block_size": 1}, {f"{QUERY}.c3a_kernel": torch.zeros(2, 2, 16)}, "block_size 1"),
        ({"peft_type": "A3MOE", "query_experts": 9_000}, {f"{QUERY}.expert_A": torch.zeros(2, 16, 32)}, "experts 9"),
        ({"trainable_token_indices": list(range(9_000))}, lora_tensors(), "tokens 9000"),
        ({"peft_type": "TRAINABLE_TOKENS", "token_indices": [*range(900)]}, {TOKENS: torch.zeros(2, 32)}, "tokens 9"),
        ({"peft_type": "FROD"}, lora_tensors(), "FROD adapters"),
        ({}, {"a": torch.zeros(2)}, "no tensors of its kind"),
        ({"init_lora_weights": "pissa_niter_4"}, lora_tensors(), "a start with pissa"),
        ({"target_modules": [], "target_parameters": ["q_proj.weight"]}, lora_tensors(), "target_parameters"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_sizes_are_held_against_the_tensors_before_anything_is_made(adapter, settings, tensors, words):
    stored = read_adapter(adapter(tensors, **settings))
    tracemalloc.start()
    with pytest.raises(AdapterError, match=words):
        check_bounded(stored)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"auto_mapping": "text"}, "gives \"text\" for auto_mapping"),
        ({"auto_mapping": {"parent_library": "house.code"}}, "asks for the library house.code"),
        ({"auto_mapping": {"parent_library": 3}}, "asks for the library 3"),
        ({"loftq_config": "text"}, "for loftq_config"),
        ({"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}, "init_lora_weights='loftq'"),
        ({"init_lora_weights": "CorDA"}, "init_lora_weights"),
        ({"r": "8"}, "for r"),
        ({"r": True}, "for r"),
        ({"lora_alpha": float("nan")}, "NaN for lora_alpha"),
        ({"lora_alpha": [1]}, "for lora_alpha"),
        ({"bias": "some"}, "for bias"),
        ({"target_modules": {"a": 1}}, "for target_modules"),
        ({"target_modules": [["q_proj"]]}, "for target_modules"),
        ({"target_modules": ["x"] * 6_000}, "6,000 names"),
        ({"rank_pattern": {f"a{place}": 2 for place in range(3_000)}}, "3,000 entries"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "megatron_config"),
        ({"layer_replication": [[0, 2]] * 50}, "layer_replication"),
        ({"peft_type": ["LORA"]}, "names no kind"),
        ({"peft_type": "NEWER"}, "names 'NEWER'"),
        ({"task_type": "EVERYTHING"}, "task type"),
    ],
    ids=str,
)  # fmt: skip
def test_odd_settings_are_refused_in_words(tiny_llava, adapter, settings, words):
    with pytest.raises(AdapterError, match=words) as caught:
        AdapterSet(tiny_llava(), {"x": adapter(**settings)})
    assert len(str(caught.value)) < 600


def test_settings_of_a_later_peft_are_left_out(tiny_llava, adapter):
    AdapterSet(tiny_llava(), {"x": adapter(of_a_later_version={"a": 1}, runtime_config={"x": 1})})


def test_a_module_that_is_not_in_the_file_is_not_copied(tiny_llava, adapter):
    with pytest.raises(AdapterError, match="the file lacks"):
        AdapterSet(tiny_llava(), {"x": adapter(modules_to_save=["language_model"])})


def test_a_wrong_shape_is_one_sentence(tiny_llava, adapter):
    tensors = {}
    for layer in range(2):
        for name in ("q_proj", "k_proj", "v_proj"):
            place = f"base_model.model.model.language_model.layers.{layer}.self_attn.{name}"
            tensors |= {f"{place}.lora_A.weight": torch.zeros(8, 48), f"{place}.lora_B.weight": torch.zeros(48, 8)}
    with pytest.raises(AdapterError, match=r"size mismatch for .*\(and 11 more\)") as caught:
        AdapterSet(tiny_llava(), {"x": adapter(tensors)})
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("method", sorted(CHEAP & {"LORA", "LOHA", "IA3", "HRA", "DELORA", "HIRA"}))
def test_honest_adapters_pass(tiny_llava, tmp_path, method):
    extra = {"IA3": {"feedforward_modules": ["up_proj"]}}.get(method, {"r": 2})
    config = PEFT_TYPE_TO_CONFIG_MAPPING[method](target_modules=["q_proj", "up_proj"], **extra)
    get_peft_model(tiny_llava(), config).save_pretrained(tmp_path, save_embedding_layers=False)
    assert load_file(tmp_path / "adapter_model.safetensors")
    check_bounded(read_adapter(tmp_path))


@pytest.mark.parametrize(
    "change", [lambda name: f"module.{name}", lambda name: name.replace("l.model", "l._orig_mod.model", 1)]
)
def test_an_adapter_saved_from_a_wrapped_model_is_the_same(adapter, tiny_llava, change):
    tensors = {f"{QUERY}.lora_A.weight": torch.randn(8, 32), f"{QUERY}.lora_B.weight": torch.randn(32, 8)}
    with torch.no_grad():
        inputs = {"input_ids": torch.tensor([[1, 5, 9]])}
        plain, wrapped = AdapterSet(tiny_llava()), AdapterSet(tiny_llava())
        plain.add("one", adapter(tensors))
        renamed = {change(name): value for name, value in tensors.items()}
        assert set(renamed) != set(tensors)
        wrapped.add("one", adapter(renamed))
        results = [parts.activate("one")(**inputs).logits for parts in (plain, wrapped)]
        assert torch.equal(*results)
        assert not torch.equal(results[0], plain.activate("base")(**inputs).logits)


def test_adapters_in_8_bit_are_refused_by_name(adapter):
    tensors = lora_tensors()
    name = f"{QUERY}.lora_B.weight"
    with pytest.raises(AdapterError, match=f"{re.escape(name)} is stored as I8, quantized"):
        read_adapter(adapter({**tensors, name: tensors[name].to(torch.int8)}))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "a pointer of Git LFS"),
        ("<!DOCTYPE html>\n<html lang='en'></html>", "a saved web page"),
    ],
)
def test_pointers_and_web_pages_are_named(adapter, name, text, said):
    folder = adapter()
    (folder / name).write_text(text)
    with pytest.raises(AdapterError, match=said) as caught:
        read_adapter(folder)
    assert name in str(caught.value)


def test_weights_in_two_forms_must_be_the_same(adapter):
    folder = adapter()
    tensors = load_file(folder / "adapter_model.safetensors")
    torch.save(tensors, folder / "adapter_model.bin")
    assert read_adapter(folder).kind == "LORA"
    torch.save({name: value + 1 for name, value in tensors.items()}, folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors and adapter_model\.bin differ"):
        read_adapter(folder)
    (folder / "adapter_model.bin").write_bytes(b"\x80\x02c__main__\nx\n.")
    with pytest.raises(AdapterError, match=r"adapter_model\.bin beside .* cannot be compared"):
        read_adapter(folder)


@pytest.mark.parametrize("value", [10**400, float("inf"), float("nan"), -(10**30)])
def test_numbers_beyond_all_measure_are_refused(adapter, value):
    with pytest.raises(AdapterError, match="for lora_alpha, which PEFT does not take"):
        read_adapter(adapter(lora_alpha=value))
