import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from transformers import LlavaForConditionalGeneration

from a3tune.adapters.a3moe import TokenSpans
from a3tune.adapters.switch import AdapterSet
from a3tune.errors import AdapterError

ROOT = Path(__file__).resolve().parents[2]
ROWS = [(3, 1, 4), (5, 1, 7)]


def without_masks(inputs):
    return {name: value for name, value in inputs.items() if not name.startswith("a3_")}


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


@pytest.fixture
def folders(tiny_llava, a3_model, tmp_path):
    torch.manual_seed(5)
    lora = get_peft_model(
        tiny_llava(),
        LoraConfig(
            r=3, use_dora=True, target_modules=r".*language_model.*\.(q_proj|v_proj|up_proj)", init_lora_weights=False,
            modules_to_save=["lm_head"],
        ),
    )  # fmt: skip
    lora.get_base_model().lm_head.modules_to_save["default"].weight.data.mul_(1.3)
    lora.save_pretrained(tmp_path / "lora")
    a3_model().save_pretrained(tmp_path / "a3")
    return {"lora": tmp_path / "lora", "a3": tmp_path / "a3"}


def expected_logits(tiny_llava, folders, inputs):
    found = {"base": logits(tiny_llava(), without_masks(inputs))}
    for name, folder in folders.items():
        alone = PeftModel.from_pretrained(tiny_llava(), folder)
        found[name] = logits(alone, inputs if name == "a3" else without_masks(inputs))
    return found


@pytest.mark.parametrize("order", [["lora", "a3"], ["a3", "lora"]])
def test_each_adapter_answers_as_if_alone(tiny_llava, folders, prompts, order):
    inputs = prompts(ROWS)
    expected = expected_logits(tiny_llava, folders, inputs)
    adapters = AdapterSet(tiny_llava(), {name: folders[name] for name in order})
    assert adapters.names == ("base", *order)
    for name in ("base", "a3", "lora", "a3", "base", "lora", "base"):
        model = adapters.activate(name)
        assert adapters.active == name
        found = logits(model, inputs if adapters.takes_masks(name) else without_masks(inputs))
        assert torch.equal(found, expected[name]), name
    assert len({float(value.sum()) for value in expected.values()}) == 3


def test_the_base_model_itself_follows_the_switch(tiny_llava, folders, prompts):
    inputs = prompts(ROWS)
    expected = expected_logits(tiny_llava, folders, inputs)
    base = tiny_llava()
    adapters = AdapterSet(base, folders)
    modules = dict(base.named_modules())
    for name in ("a3", "lora", "base"):
        adapters.activate(name)
        with TokenSpans(inputs["a3_question_mask"], inputs["a3_image_mask"], growing=True):
            assert torch.equal(logits(base, without_masks(inputs)), expected[name])
            answer = base.generate(**without_masks(prompts(ROWS, "left")), max_new_tokens=2, do_sample=False)
        assert answer.shape[0] == 2
    assert dict(base.named_modules()) == modules


def test_no_weight_is_copied(tiny_llava, folders):
    base = tiny_llava()
    weight = base.model.language_model.layers[0].self_attn.q_proj.weight
    adapters = AdapterSet(base, folders)
    for name in adapters.names:
        adapters.activate(name)
        layer = base.model.language_model.layers[0].self_attn.q_proj
        assert getattr(layer, "base_layer", layer).weight is weight


def test_using_brings_the_former_one_back(tiny_llava, folders):
    adapters = AdapterSet(tiny_llava(), folders)
    adapters.activate("lora")
    with adapters.using("a3"):
        assert adapters.active == "a3"
    assert adapters.active == "lora"
    with pytest.raises(AdapterError, match="no gate for this pass"), adapters.using("a3") as model:
        model.get_base_model()(input_ids=torch.tensor([[3, 4]]))
    assert adapters.active == "lora"


def test_adapters_are_kept_in_the_precision_of_their_base(tiny_llava, folders, prompts):
    """In float32 beside bfloat16 each adapted layer would cast its input and its output back."""
    inputs = prompts(ROWS)
    files = {name: (folder / "adapter_model.safetensors").read_bytes() for name, folder in folders.items()}
    adapters = AdapterSet(tiny_llava().to(torch.bfloat16), folders)
    half = {**inputs, "pixel_values": inputs["pixel_values"].bfloat16()}
    for name in ("lora", "a3"):
        model = adapters.activate(name)
        assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
        wide = PeftModel.from_pretrained(tiny_llava().to(torch.bfloat16), folders[name])
        assert {weight.dtype for key, weight in wide.named_parameters() if "lora_A" in key or "expert_A" in key} == {
            torch.float32
        }
        given = half if name == "a3" else without_masks(half)
        found, expected = logits(model, given).float(), logits(wide, given).float()
        assert (found - expected).norm() < 0.02 * expected.norm()
        assert not torch.equal(found, logits(adapters.activate("base"), without_masks(half)).float())
        assert (folders[name] / "adapter_model.safetensors").read_bytes() == files[name]
    in_full = AdapterSet(tiny_llava(), folders)
    assert {weight.dtype for weight in in_full.activate("lora").parameters()} == {torch.float32}


def test_an_adapter_can_be_added_and_removed_while_another_works(tiny_llava, folders, prompts):
    inputs = prompts(ROWS)
    expected = expected_logits(tiny_llava, folders, inputs)
    adapters = AdapterSet(tiny_llava(), {"lora": folders["lora"]})
    adapters.activate("lora")
    adapters.add("a3", folders["a3"])
    assert adapters.active == "lora"
    assert torch.equal(logits(adapters.model, without_masks(inputs)), expected["lora"])
    adapters.remove("lora")
    assert adapters.names == ("base", "a3")
    assert adapters.active == "base"
    assert torch.equal(logits(adapters.model, without_masks(inputs)), expected["base"])
    with pytest.raises(AdapterError, match="base model stays"):
        adapters.remove("base")


def test_generation_with_each_adapter(tiny_llava, folders, prompts):
    inputs = prompts(ROWS, "left")
    adapters = AdapterSet(tiny_llava(), folders)
    for name in ("a3", "lora", "base"):
        given = inputs if adapters.takes_masks(name) else without_masks(inputs)
        found = adapters.activate(name).generate(**given, max_new_tokens=4, do_sample=False)
        alone = tiny_llava() if name == "base" else PeftModel.from_pretrained(tiny_llava(), folders[name])
        assert torch.equal(found, alone.generate(**given, max_new_tokens=4, do_sample=False))


def test_names_are_checked(tiny_llava, folders):
    adapters = AdapterSet(tiny_llava(), folders)
    with pytest.raises(AdapterError, match="There is no adapter 'b'"):
        adapters.activate("b")
    for name in ("base", "a3", "", "a.b"):
        with pytest.raises(AdapterError, match="new adapter name"):
            adapters.add(name, folders["a3"])


@pytest.mark.parametrize("name", ["half", "values", "train", "requires_grad_", "weight", "my run, 2nd"])
def test_an_adapter_may_have_the_name_of_a_modules_own_attribute(tiny_llava, folders, prompts, name):
    inputs = prompts(ROWS)
    expected = expected_logits(tiny_llava, folders, inputs)
    for kind, given in (("lora", without_masks(inputs)), ("a3", inputs)):
        model = AdapterSet(tiny_llava(), {name: folders[kind]}).activate(name)
        assert torch.equal(logits(model, given), expected[kind])


def test_a_folder_without_an_adapter_is_refused(tiny_llava, tmp_path, folders):
    adapters = AdapterSet(tiny_llava())
    with pytest.raises(AdapterError, match=r"adapter_config\.json"):
        adapters.add("x", tmp_path / "missing")
    config = json.loads((folders["lora"] / "adapter_config.json").read_text())
    (folders["lora"] / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "NEWER"}))
    with pytest.raises(AdapterError, match="NEWER"):
        adapters.add("x", folders["lora"])
    (folders["a3"] / "adapter_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(AdapterError, match="cannot be read"):
        adapters.add("x", folders["a3"])
    assert adapters.names == ("base",)


def test_an_adapter_of_another_base_is_refused_and_leaves_no_trace(tiny_llava, folders, prompts):
    inputs = prompts(ROWS)
    base = tiny_llava()
    config = copy.deepcopy(base.config)
    config.text_config.intermediate_size = 40
    wider = LlavaForConditionalGeneration(config).eval()
    before = logits(wider, without_masks(inputs))
    adapters = AdapterSet(wider)
    for name in ("lora", "a3"):
        with pytest.raises(AdapterError, match="size mismatch"):
            adapters.add(name, folders[name])
    config = copy.deepcopy(base.config)
    config.text_config.num_hidden_layers = 1
    shallow = LlavaForConditionalGeneration(config).eval()
    for name in ("lora", "a3"):
        with pytest.raises(AdapterError, match="the base model has no module"):
            AdapterSet(shallow).add(name, folders[name])
    assert torch.equal(logits(wider, without_masks(inputs)), before)
    assert not hasattr(wider, "peft_config")
    assert not any("expert" in name or "lora" in name for name, _ in wider.named_modules())


def test_prompt_adapters_and_adapted_models_are_refused(tiny_llava, a3_model, tmp_path):
    PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2).save_pretrained(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(AdapterError, match="changes the prompt"):
        AdapterSet(tiny_llava(), {"x": tmp_path})
    with pytest.raises(AdapterError, match="without adapters"):
        AdapterSet(a3_model().get_base_model())


def test_peft_asking_by_a_former_name_is_not_worth_a_warning():
    # In a process of its own: pytest has filters of its own.
    text = "`is_gradient_checkpointing` is deprecated and will be removed"
    code = (
        f"import warnings, a3tune.adapters; warnings.warn({text!r}, FutureWarning);"
        "warnings.warn('other', FutureWarning)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "other" in done.stderr
    assert text not in done.stderr.replace(code, "")
