"""Whatever an adapter changes, base and other adapters answer bit for bit as before: every method that PEFT has."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import PeftType
from safetensors.torch import save_file
from torch import nn

from a3tune.adapters.isolation import taken_back
from a3tune.adapters.switch import AdapterSet
from a3tune.bundle import DEMO_ADAPTERS, EXAMPLES, model_source
from a3tune.errors import AdapterError
from a3tune.images import load_image
from a3tune.models.load import load_model

SEQUENCE = TaskType.CAUSAL_LM
TARGETS = ["language_model.layers.0.self_attn.q_proj", "language_model.layers.1.mlp.up_proj"]
SQUARE = ["language_model.layers.0.self_attn.q_proj", "language_model.layers.1.self_attn.q_proj"]
BIASED = ["vision_tower.encoder.layers.0.self_attn.v_proj"]
NORMS = ["language_model.norm"]
TOKENS = list(range(3, 60, 2))

# Settings of one adapter of each method that replaces layers.
METHODS = {
    "ADALORA": {"init_r": 4, "target_r": 2, "total_step": 10},
    "ADAMSS": {"r": 4, "num_subspaces": 2, "subspace_rank": 1},
    "BEFT": {"target_modules": BIASED},
    "BOFT": {"boft_block_size": 4},
    "C3A": {"block_size": 16, "target_modules": SQUARE},
    "DEFT": {"r": 2},
    "DELORA": {"r": 2},
    "FOURIERFT": {"n_frequency": 20},
    "FROD": {},
    "GLORA": {"r": 2},
    "GRALORA": {"r": 4, "gralora_k": 2},
    "HIRA": {"r": 2},
    "HRA": {"r": 2},
    "IA3": {"feedforward_modules": [TARGETS[1]]},
    "LILY": {"r": 2, "stride_A": 1, "num_B": 2, "target_modules": SQUARE},
    "LN_TUNING": {"target_modules": NORMS},
    "LOHA": {"r": 2},
    "LOKR": {"r": 2},
    "LORA": {"r": 2},
    "MISS": {"r": 4},
    "OFT": {"oft_block_size": 4, "r": 0},
    "OSF": {"effective_rank": 4},
    "PEANUT": {"r": 2},
    "PSOFT": {"r": 4},
    "PVERA": {"r": 2, "target_modules": SQUARE},
    "RANDLORA": {"r": 4, "target_modules": SQUARE},
    "ROAD": {"group_size": 8},
    "SHIRA": {"r": 1},
    "SUPERTUNING": {},
    "TINYLORA": {"r": 2, "u": 4},
    "TRAINABLE_TOKENS": {"token_indices": TOKENS, "target_modules": ["embed_tokens"]},
    "UNILORA": {"r": 2, "theta_d_length": 16},
    "VBLORA": {"r": 2, "num_vectors": 8, "vector_length": 16, "topk": 2, "target_modules": SQUARE},
    "VERA": {"r": 2, "target_modules": SQUARE},
    "WAVEFT": {"n_frequency": 20},
}
# Options of LoRA and others that reach beyond their own layers.
OPTIONS = {
    "lora bias all": ("LORA", {"bias": "all"}),
    "lora bias lora_only": ("LORA", {"bias": "lora_only", "target_modules": BIASED}),
    "lora_bias": ("LORA", {"lora_bias": True, "target_modules": BIASED}),
    "dora": ("LORA", {"use_dora": True}),
    "rslora": ("LORA", {"use_rslora": True}),
    "saved head": ("LORA", {"modules_to_save": ["lm_head"]}),
    "saved embeddings": ("LORA", {"modules_to_save": ["embed_tokens"]}),
    "saved projector": ("LORA", {"modules_to_save": ["multi_modal_projector"]}),
    "token indices": ("LORA", {"trainable_token_indices": TOKENS}),
    "embedding layer": ("LORA", {"target_modules": ["embed_tokens"]}),
    "target parameters": ("LORA", {"target_modules": [], "target_parameters": ["self_attn.q_proj.weight"]}),
    "norms": ("LORA", {"modules_to_save": ["language_model.norm"]}),
    "boft bias": ("BOFT", {"boft_block_size": 4, "bias": "all"}),
    "oft bias": ("OFT", {"oft_block_size": 4, "r": 0, "bias": "all"}),
    "vera bias": ("VERA", {"r": 2, "target_modules": SQUARE, "bias": "all"}),
    "pissa": ("LORA", {"r": 2, "init_lora_weights": "pissa"}),
    "olora": ("LORA", {"r": 2, "init_lora_weights": "olora"}),
    "ia3 saved": ("IA3", {"feedforward_modules": [TARGETS[1]], "modules_to_save": ["lm_head"]}),
}
CASES = {**{name.lower(): (name, settings) for name, settings in METHODS.items()}, **OPTIONS}


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


def shake(module: nn.Module, names) -> None:
    """Give every trained number another value."""
    generator = torch.Generator().manual_seed(9)
    for name, weight in module.named_parameters():
        if name in names:
            weight.data.add_(0.2 * torch.randn(weight.shape, generator=generator))


@pytest.fixture
def inputs(prompts):
    return {name: value for name, value in prompts([(3, 1, 4)]).items() if not name.startswith("a3_")}


# PEFT remarks on layers and on tied weights while adapters are made and loaded.
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("case", CASES)
def test_base_and_others_stay_bit_equal(tiny_llava, a3_model, inputs, prompts, tmp_path, case, tied):
    def base():
        model = tiny_llava()
        if tied:
            model.lm_head.weight = model.get_input_embeddings().weight
            model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = True
        return model

    kind, settings = CASES[case]
    torch.manual_seed(2)
    config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)](**{"target_modules": TARGETS, **settings})
    made = get_peft_model(base(), config).eval()
    shake(made, {name for name, weight in made.named_parameters() if weight.requires_grad})
    made.save_pretrained(tmp_path / "x")
    torch.manual_seed(3)
    other = get_peft_model(base(), LoraConfig(r=2, target_modules=TARGETS, init_lora_weights=False))
    other.save_pretrained(tmp_path / "other")

    model = base()
    before = logits(model, inputs)
    state = {name: weight.clone() for name, weight in model.state_dict().items()}
    adapters = AdapterSet(model, {"other": tmp_path / "other"})
    found = {}
    with adapters.using("other") as adapted:
        other_before = logits(adapted, inputs)
    adapters.add("x", tmp_path / "x")
    for name in ("x", "base", "other", "x", "base"):
        with adapters.using(name) as adapted:
            found[name] = logits(adapted, inputs)
        assert name == "x" or torch.equal(found[name], before if name == "base" else other_before)
    assert torch.equal(found["x"], logits(PeftModel.from_pretrained(base(), tmp_path / "x").eval(), inputs))
    assert not torch.equal(found["x"], before)
    adapters.remove("x")
    assert torch.equal(logits(model, inputs), before)
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(weight, state[name]) for name, weight in model.state_dict().items())


@pytest.mark.filterwarnings("ignore:No value was provided")
@pytest.mark.parametrize("kind", sorted(set(PEFT_TYPE_TO_CONFIG_MAPPING) - set(METHODS) - {"A3MOE"}))
def test_every_other_method_is_refused_by_name(tiny_llava, tmp_path, kind):
    kind = str(getattr(kind, "value", kind))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": kind, "task_type": "CAUSAL_LM"}))
    save_file({"a": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    model = tiny_llava()
    with pytest.raises(AdapterError, match=f"holds a {kind} adapter"):
        AdapterSet(model, {"x": tmp_path})
    assert not any("peft" in type(module).__module__ for module in model.modules())


@pytest.mark.filterwarnings("ignore:Could not find a config file")
def test_trained_biases_of_the_demo_model_stay_with_their_adapter(tmp_path):
    model = load_model(model_source("demo"), device="cpu")
    inputs = model.encode(load_image(EXAMPLES / "chest_nodule.png"), "Where is the nodule?").inputs
    tuned = get_peft_model(
        load_model(model_source("demo"), device="cpu").model, LoraConfig(r=4, target_modules=["q_proj"], bias="all")
    )
    shake(tuned, {name for name, _ in tuned.named_parameters() if name.endswith("bias")})
    tuned.save_pretrained(tmp_path)
    before = logits(model.model, inputs)
    adapters = AdapterSet(model.model, {"biased": tmp_path, "lora": DEMO_ADAPTERS / "lora"})
    found = {}
    for name in ("biased", "lora", "base"):
        with adapters.using(name) as adapted:
            found[name] = logits(adapted, inputs)
    assert torch.equal(found["base"], before)
    assert float((found["biased"] - before).abs().max()) > 0.01
    with AdapterSet(load_model(model_source("demo"), device="cpu").model, {"lora": DEMO_ADAPTERS / "lora"}).using(
        "lora"
    ) as alone:
        assert torch.equal(logits(alone, inputs), found["lora"])


class Box(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(6.0).reshape(2, 3))
        self.register_buffer("table", torch.zeros(3))
        self.child = nn.Linear(3, 3)
        self.shared = self.child


def written_in_place(box):
    box.weight.data.mul_(2)


def written_by_views(box):
    box.weight.data[0].t().add_(1)


def written_as_output(box):
    torch.add(box.weight.data, 1, out=box.weight.data)


def written_by_loading(box):
    box.load_state_dict({"weight": torch.ones(2, 3)}, strict=False)


def data_replaced(box):
    box.weight.data = torch.ones(2, 3)


def weight_replaced(box):
    box.weight = nn.Parameter(torch.ones(5))


def weight_removed(box):
    del box.weight


def buffer_written(box):
    box.table.fill_(4)


def child_replaced(box):
    box.child = nn.Identity()


def shared_weight_written(box):
    with torch.no_grad():
        box.child.weight.zero_()


def hook_registered(box):
    box.child.register_forward_hook(lambda module, arguments, output: output + 1)


def attribute_set(box):
    box.forward = lambda given: given


@pytest.mark.parametrize(
    "change",
    [
        written_in_place, written_by_views, written_as_output, written_by_loading, data_replaced, weight_replaced,
        weight_removed, buffer_written, child_replaced, shared_weight_written, hook_registered, attribute_set,
    ],
)  # fmt: skip
def test_every_kind_of_change_is_taken_back_and_can_be_put_again(change):
    def facts(module):
        return {
            "state": {name: tensor.clone() for name, tensor in module.state_dict().items()},
            "weights": {name: id(weight) for name, weight in module.named_parameters(remove_duplicate=False)},
            "modules": dict(module.named_modules(remove_duplicate=False)),
            "hooks": [len(part._forward_hooks) for part in module.modules()],
            "own": set(vars(module)),
        }

    def same(one, other):
        return all(one[key] == other[key] for key in ("weights", "modules", "hooks", "own")) and all(
            torch.equal(tensor, other["state"][name]) for name, tensor in one["state"].items()
        )

    box, changed = Box(), Box()
    changed.load_state_dict(box.state_dict())
    before = facts(box)
    with taken_back(box) as changes:
        change(box)
    change(changed)
    assert same(before, facts(box))
    assert changes
    for part in changes:
        part.put(adapted=True)
    assert {name: tensor.tolist() for name, tensor in box.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in changed.state_dict().items()
    }
    assert vars(box).keys() == vars(changed).keys()
    for part in changes:
        part.put(adapted=False)
    assert same(before, facts(box))


def test_a_failed_change_is_taken_back():
    box = Box()
    before = box.weight.data.clone()

    def half_done():
        with taken_back(box):
            box.weight.data.mul_(3)
            raise RuntimeError("half done")

    with pytest.raises(RuntimeError, match="half"):
        half_done()
    assert torch.equal(box.weight, before)


def test_a_write_of_the_same_values_needs_no_copy():
    box = Box()
    with taken_back(box) as changes:
        box.load_state_dict(box.state_dict())
    assert changes == []
