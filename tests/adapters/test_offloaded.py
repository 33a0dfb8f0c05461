"""Adapters on a model whose weights wait in the machine's memory between passes."""

import copy

import pytest
import torch
from accelerate import cpu_offload
from peft import LoraConfig, get_peft_model

from a3tune.adapters.a3moe import TokenSpans
from a3tune.adapters.switch import AdapterSet
from a3tune.errors import AdapterError
from a3tune.offloading import execution_device, is_offloaded

ROWS = [(3, 1, 4), (5, 1, 7)]
TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|up_proj)"


@pytest.fixture
def folders(tiny_llava, a3_model, tmp_path):
    torch.manual_seed(5)
    for name, options in {
        "lora": {},
        "dora": {"use_dora": True},
        "saved": {"modules_to_save": ["lm_head"]},
        "bias": {"bias": "all", "target_modules": ["fc1"]},
    }.items():
        config = LoraConfig(r=3, init_lora_weights=False, **{"target_modules": TARGETS, **options})
        model = get_peft_model(tiny_llava(), config)
        for key, weight in model.named_parameters():
            if key.endswith(".bias"):
                weight.data += 0.1
        model.save_pretrained(tmp_path / name)
    a3_model().save_pretrained(tmp_path / "a3")
    return {path.name: path for path in tmp_path.iterdir()}


def offloaded(model):
    """Every weight on no device between passes, as what does not fit on a GPU is."""
    cpu_offload(model, torch.device("cpu"))
    model.hf_device_map = {"": "cpu"}
    return model


def answers(adapters, inputs):
    found = {}
    plain = {name: value for name, value in inputs.items() if not name.startswith("a3_")}
    for name in ("base", "a3", "lora", "base"):
        with adapters.using(name), TokenSpans(inputs["a3_question_mask"], inputs["a3_image_mask"]), torch.no_grad():
            found.setdefault(name, []).append(adapters.base(**plain).logits)
    return found


def test_adapters_answer_on_an_offloaded_base_as_on_a_whole_one(tiny_llava, folders, prompts):
    inputs = prompts(ROWS)
    chosen = {name: folders[name] for name in ("lora", "a3")}
    expected = answers(AdapterSet(tiny_llava(), chosen), inputs)
    base = offloaded(tiny_llava())
    assert is_offloaded(base)
    places = copy.copy(base.hf_device_map)
    adapters = AdapterSet(base, chosen)
    assert all(weight.device.type == "meta" for weight in base.parameters())
    assert base.hf_device_map == places
    found = answers(adapters, inputs)
    for name, values in expected.items():
        assert all(torch.equal(*pair) for pair in zip(values, found[name], strict=True)), name
    assert not torch.equal(found["lora"][0], found["base"][0])
    with adapters.using("lora"):
        own = [weight for name, weight in base.named_parameters() if "lora_" in name]
        assert own
        assert all(weight.device.type == "cpu" for weight in own)


@pytest.mark.parametrize(("name", "why"), [("dora", "LORA"), ("saved", "LORA"), ("bias", "changes weights")])
def test_an_adapter_that_reads_or_changes_the_bases_weights_is_refused_by_name(tiny_llava, folders, prompts, name, why):
    inputs = prompts(ROWS)
    adapters = AdapterSet(offloaded(tiny_llava()), {key: folders[key] for key in ("lora", "a3")})
    before = answers(adapters, inputs)
    with pytest.raises(AdapterError, match=f"{why}.*without offloading"):
        adapters.add(name, folders[name])
    assert adapters.names == ("base", "lora", "a3")
    after = answers(adapters, inputs)
    assert all(torch.equal(a, b) for key in before for a, b in zip(before[key], after[key], strict=True))


def test_where_an_offloaded_module_computes_is_known(tiny_llava):
    whole = tiny_llava()
    assert not is_offloaded(whole)
    assert execution_device(whole.lm_head) == torch.device("cpu")
    assert execution_device(offloaded(whole).lm_head) == torch.device("cpu")
