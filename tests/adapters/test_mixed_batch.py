"""Base, LoRA and A3MoE as rows of one batch: each is what it is alone, or is not mixed, with the reason."""

from contextlib import nullcontext
from itertools import pairwise

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model

from a3tune.adapters import batched_linear
from a3tune.adapters.a3moe import TokenSpans, record_experts
from a3tune.adapters.mixed_batch import mixed_rows, reason_against_mixing
from a3tune.adapters.switch import BASE, AdapterSet, name_in_layers
from a3tune.errors import AdapterError

ROWS = [(3, 1, 4), (5, 1, 7)]
TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|up_proj)"


@pytest.fixture
def adapters(tiny_llava, a3_model, tmp_path):
    """Those that can be mixed: LoRA, A3MoE, another A3MoE with other numbers of experts."""
    torch.manual_seed(5)
    get_peft_model(tiny_llava(), LoraConfig(r=3, target_modules=TARGETS, init_lora_weights=False)).save_pretrained(
        tmp_path / "lora"
    )
    a3_model().save_pretrained(tmp_path / "a3")
    a3_model(4, query_experts=2, key_experts=5, key_top_k=2).save_pretrained(tmp_path / "other")
    return AdapterSet(tiny_llava(), {name: tmp_path / name for name in ("lora", "a3", "other")})


def passes(adapters, inputs, rows=None):
    """Logits of the prompt and of a next token behind it, and the experts; with ``rows`` mixed."""
    plain = {name: part for name, part in inputs.items() if not name.startswith("a3_")}
    spans = TokenSpans(inputs["a3_question_mask"], inputs["a3_image_mask"], growing=True)
    batch = len(inputs["input_ids"])
    mixed = nullcontext() if rows is None else mixed_rows(adapters, rows)
    with mixed, spans, record_experts() as use, torch.no_grad():
        prompt = adapters.base(**plain, use_cache=True)
        mask = torch.cat([plain["attention_mask"], torch.ones(batch, 1, dtype=torch.long)], dim=1)
        step = adapters.base(
            input_ids=torch.full((batch, 1), 7), attention_mask=mask, past_key_values=prompt.past_key_values
        )
    return prompt.logits, step.logits, use


@pytest.mark.parametrize("library", ["PyTorch's", "oneDNN"])
def test_each_row_is_what_it_is_alone(library, adapters, prompts, monkeypatch):
    if library == "oneDNN":
        monkeypatch.setattr(batched_linear, "SMALLEST_WEIGHT", 1)
    inputs = prompts(ROWS, padding="left")
    names = ("a3", BASE, "lora", "other")
    rows = {name: slice(2 * place, 2 * place + 2) for place, name in enumerate(names)}
    repeated = {name: part.repeat(len(names), *[1] * (part.ndim - 1)) for name, part in inputs.items()}
    adapters.activate("lora")
    prompt, step, use = passes(adapters, repeated, rows)
    assert adapters.active == "lora"
    base, found = adapters.base, []
    for name in names:
        with adapters.using(name):
            expected, next_expected, alone = passes(adapters, inputs)
        seen = inputs["attention_mask"].bool()
        torch.testing.assert_close(prompt[rows[name]][seen], expected[seen], rtol=0, atol=1e-4)
        torch.testing.assert_close(step[rows[name]], next_expected, rtol=0, atol=1e-4)
        found.append(expected)
        if name in ("a3", "other"):
            inner = name_in_layers(name)
            for row in range(2):
                assert (use.key_choice(row, inner) == alone.key_choice(row, inner)).all()
                torch.testing.assert_close(
                    torch.tensor(use.query_gates(row, inner)), torch.tensor(alone.query_gates(row, inner))
                )
    assert all((one - other).abs().max() > 1e-2 for one, other in pairwise(found))
    # Nothing of the batch is left on the base.
    assert not any(isinstance(module, batched_linear.BatchedLinear) for module in base.modules())


def test_all_linear_layers_of_the_language_model_compute_the_rows_at_once(adapters):
    base = adapters.base
    with mixed_rows(adapters, {BASE: slice(0, 1), "lora": slice(1, 2)}):
        inside = {name for name, module in base.named_modules() if isinstance(module, batched_linear.BatchedLinear)}
    plain = {name for name, module in base.named_modules() if type(module) is torch.nn.Linear}
    assert inside == {name for name in plain if "vision" not in name and "projector" not in name}
    assert "lm_head" in inside


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (LoraConfig(r=2, target_modules=TARGETS, use_dora=True), "more than plain LoRA"),
        (LoraConfig(r=2, target_modules=TARGETS, modules_to_save=["lm_head"]), "changes more of the base"),
        (LoraConfig(r=2, target_modules=TARGETS, bias="all"), "changes more of the base"),
        (LoraConfig(r=2, target_modules=["q_proj"]), "outside the attention and MLP layers"),
        (LoraConfig(r=2, target_modules=["lm_head"]), "outside the attention and MLP layers"),
        (IA3Config(target_modules=TARGETS, feedforward_modules=[]), "of the kind IA3"),
    ],
)
def test_what_cannot_share_a_batch_is_named(config, why, adapters, tiny_llava, tmp_path):
    model = get_peft_model(tiny_llava(), config)
    for name, weight in model.named_parameters():
        if name.endswith(".bias"):
            weight.data += 0.1
    model.save_pretrained(tmp_path / "strange", save_embedding_layers=False)
    adapters.add("strange", tmp_path / "strange")
    reason = reason_against_mixing(adapters, ("base", "a3", "strange"))
    assert reason.startswith("strange ")
    assert why in reason
    assert reason_against_mixing(adapters, ("base", "a3", "lora")) == ""
    with pytest.raises(AdapterError, match=why), mixed_rows(adapters, {"strange": slice(0, 1)}):
        pass


def test_a_name_twice_and_a_quantized_model_are_not_mixed(adapters):
    assert "twice" in reason_against_mixing(adapters, ("lora", "lora"))
    adapters.base.is_quantized = True
    assert "quantized" in reason_against_mixing(adapters, ("base", "lora"))
    with pytest.raises(AdapterError, match="no adapter"):
        reason_against_mixing(AdapterSet(adapters.base), ("none",))


def test_a_pass_over_another_number_of_rows_is_refused(adapters, prompts):
    with pytest.raises(AdapterError, match="one adapter to each"):
        passes(adapters, prompts(ROWS), {"base": slice(0, 1), "lora": slice(1, 3)})
