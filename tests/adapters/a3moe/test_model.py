import copy
import threading

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForImageTextToText, DynamicCache

from a3tune.adapters.a3moe import A3MoeConfig, ExpertLinear, TokenSpans, record_experts
from a3tune.decoder_layers import attention_layers
from a3tune.errors import AdapterError
from tests.support.checkpointing import recompute_activations
from tests.support.tiny_models import BUILDERS

ROWS = [(3, 1, 4), (5, 1, 7), (2, 1, 3)]


def logits(model, inputs, **options):
    with torch.no_grad():
        return model(**inputs, **options).logits


def without_masks(inputs):
    return {name: value for name, value in inputs.items() if not name.startswith("a3_")}


def one_row(inputs, row):
    keep = inputs["attention_mask"][row].bool()
    cut = {name: value[row : row + 1][:, keep] for name, value in inputs.items() if name != "pixel_values"}
    return {**cut, "pixel_values": inputs["pixel_values"][row : row + 1]}


def test_only_the_decoder_is_adapted(a3_model):
    model = a3_model()
    adapted = [name for name, module in model.named_modules() if isinstance(module, ExpertLinear)]
    assert len(adapted) == 2 * 7
    assert all("language_model.layers" in name for name in adapted)
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trainable
    assert all("expert_" in name for name in trainable)


def test_a_fresh_adapter_changes_nothing(tiny_llava, prompts, a3_config):
    inputs = prompts(ROWS)
    expected = logits(tiny_llava(), without_masks(inputs))
    model = get_peft_model(tiny_llava(), a3_config(init_weights=True)).eval()
    torch.testing.assert_close(logits(model, inputs), expected, atol=1e-6, rtol=0)


def test_disabled_is_the_base_bit_for_bit(tiny_llava, a3_model, prompts):
    inputs = prompts(ROWS)
    expected = logits(tiny_llava(), without_masks(inputs))
    model = a3_model()
    assert (logits(model, inputs) - expected).abs().max() > 1e-2
    with model.disable_adapter():
        assert torch.equal(logits(model, inputs), expected)
        assert torch.equal(logits(model, without_masks(inputs)), expected)


@pytest.mark.parametrize("padding", ["left", "right"])
def test_a_batch_equals_its_rows(a3_model, prompts, padding):
    model = a3_model()
    inputs = prompts(ROWS, padding)
    together = logits(model, inputs)
    for row in range(len(ROWS)):
        keep = inputs["attention_mask"][row].bool()
        torch.testing.assert_close(together[row, keep], logits(model, one_row(inputs, row))[0], atol=2e-5, rtol=1e-4)


def test_each_row_has_its_own_question_gate(a3_model, prompts):
    model, inputs = a3_model(), prompts(ROWS)
    with record_experts() as use:
        logits(model, inputs)
    gates = [use.query_gates(row) for row in range(3)]
    assert gates[0].shape == (2, 3)
    assert abs(gates[0].sum(axis=1) - 1).max() < 1e-6
    assert abs(gates[0] - gates[1]).max() > 1e-4


def test_several_images_in_one_prompt(a3_model, prompts):
    model = a3_model(key_top_k=2)
    inputs = prompts([(3, 2, 4), (5, 2, 7)])
    with record_experts() as use:
        logits(model, inputs)
    assert use.key_choice(1).shape == (2, 32, 2)


def test_the_image_mask_is_found_from_the_tokens(a3_model, prompts):
    model, inputs = a3_model(), prompts(ROWS)
    expected = logits(model, inputs)
    inputs.pop("a3_image_mask")
    assert torch.equal(logits(model, inputs), expected)


@pytest.mark.parametrize("options", [{}, {"key_top_k": 2}, {"key_gate": "probability"}, {"query_experts": 1}])
def test_cached_generation_equals_uncached(a3_model, prompts, options):
    model = a3_model(**options)
    inputs = prompts(ROWS, "left")
    settings = {"max_new_tokens": 8, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    cached = model.generate(**inputs, **settings, use_cache=True)
    uncached = model.generate(**inputs, **settings, use_cache=False)
    assert torch.equal(cached.sequences, uncached.sequences)
    torch.testing.assert_close(torch.stack(cached.logits), torch.stack(uncached.logits), atol=3e-5, rtol=1e-4)
    base = model.get_base_model()
    with model.disable_adapter():
        plain = base.generate(**without_masks(inputs), **settings)
    assert (cached.logits[0] - plain.logits[0]).abs().max() > 1e-3


def test_generation_needs_no_image_mask_of_the_new_tokens(a3_model, prompts):
    model = a3_model()
    inputs = prompts(ROWS[:1])
    answer = model.generate(**inputs, max_new_tokens=5, min_new_tokens=5, do_sample=False)
    length = answer.shape[1] - inputs["input_ids"].shape[1]
    longer = {
        name: torch.nn.functional.pad(inputs[name], (0, length)) for name in ("a3_question_mask", "a3_image_mask")
    }
    scores = logits(model, {"input_ids": answer, "pixel_values": inputs["pixel_values"], **longer})
    start = inputs["input_ids"].shape[1]
    assert torch.equal(scores[0, start - 1 : -1].argmax(-1), answer[0, start:])


@pytest.mark.parametrize("use_cache", [True, False])
def test_beam_search_gives_each_prompt_its_own_gates(a3_model, prompts, use_cache):
    model = a3_model()
    inputs = prompts(ROWS, "left")
    settings = {"max_new_tokens": 6, "num_beams": 3, "do_sample": False, "use_cache": use_cache}
    together = model.generate(**inputs, **settings)
    start = inputs["input_ids"].shape[1]
    for row in range(len(ROWS)):
        alone = model.generate(**one_row(inputs, row), **settings)
        begin = int(inputs["attention_mask"][row].sum())
        answer = alone[0, begin:]
        assert torch.equal(together[row, start : start + len(answer)], answer)


def test_a_loop_with_its_own_cache(a3_model, prompts):
    model = a3_model()
    inputs = prompts(ROWS[:1])
    other = prompts([(3, 1, 4)], seed=9)
    expected = model.generate(**inputs, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    cache, stream = DynamicCache(config=model.config.text_config), DynamicCache(config=model.config.text_config)
    with torch.no_grad():
        scores = model(**inputs, past_key_values=cache).logits
        # A second stream with another question must not disturb the first.
        model(**other, past_key_values=stream)
        for position in range(inputs["input_ids"].shape[1], expected.shape[1]):
            token = scores[:, -1:].argmax(-1)
            assert int(token) == int(expected[0, position])
            scores = model(input_ids=token, past_key_values=cache).logits
        copied = copy.deepcopy(cache)
        cache.crop(-1)
        again = model(input_ids=token, past_key_values=cache).logits
    torch.testing.assert_close(again, scores, atol=1e-5, rtol=1e-4)
    assert copied.a3_gates.keys() == cache.a3_gates.keys()


def test_a_step_without_a_filled_cache_is_refused(a3_model, prompts):
    model = a3_model()
    inputs = prompts(ROWS[:1])
    with pytest.raises(AdapterError, match="no gate for this pass"):
        model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"])
    with pytest.raises(AdapterError, match="no gate for this pass"):
        model.get_base_model()(**without_masks(inputs))
    with pytest.raises(AdapterError, match="without token masks"):
        model.get_base_model().model(**without_masks(inputs))


def test_a_base_model_runs_inside_token_spans(a3_model, prompts):
    model, inputs = a3_model(), prompts(ROWS)
    expected = logits(model, inputs)
    with TokenSpans(inputs["a3_question_mask"], inputs["a3_image_mask"]):
        assert torch.equal(logits(model.get_base_model(), without_masks(inputs)), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a3_question_mask": torch.zeros(1, 27)}, "It is float32"),
        ({"a3_question_mask": torch.zeros(1, 25, dtype=torch.bool)}, "Row 0 has none"),
        ({"a3_question_mask": torch.ones(1, 20, dtype=torch.bool)}, r"a3_question_mask is \[1, 20\]"),
        (
            {
                "a3_question_mask": torch.ones(1, 20, dtype=torch.bool),
                "a3_image_mask": torch.ones(1, 20, dtype=torch.bool),
            },
            "The masks describe 20 tokens",
        ),
        (
            {
                "a3_question_mask": torch.ones(3, 25, dtype=torch.bool),
                "a3_image_mask": torch.ones(3, 25, dtype=torch.bool),
            },
            "The masks describe 3 rows",
        ),
    ],
)
def test_masks_that_do_not_fit_are_refused(a3_model, prompts, change, message):
    inputs = prompts(ROWS[:1])
    assert inputs["input_ids"].shape == (1, 25)
    with pytest.raises(AdapterError, match=message):
        a3_model()(**{**inputs, **change})


def gradients(model, inputs):
    model.zero_grad()
    loss = model(**inputs, labels=inputs["input_ids"]).loss
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(a3_model, prompts, reentrant):
    plain, checkpointed = a3_model(key_top_k=2).train(), a3_model(key_top_k=2).train()
    checkpointed.enable_input_require_grads()
    recompute_activations(checkpointed, reentrant=reentrant)
    first, second = prompts(ROWS), prompts(ROWS[::-1], seed=5)
    expected = gradients(plain, first)
    assert any("expert_router" in name and "k_proj" in name for name in expected)
    runs = []
    query = checkpointed.get_base_model().model.language_model.layers[0].self_attn.q_proj
    handle = query.register_forward_hook(lambda *_: runs.append(1))
    found = gradients(checkpointed, first)
    handle.remove()
    assert len(runs) == 2
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-4)
    # Two forward passes before one backward pass: each recomputation must see its own question.
    plain.zero_grad()
    checkpointed.zero_grad()
    for model in (plain, checkpointed):
        (model(**first, labels=first["input_ids"]).loss + model(**second, labels=second["input_ids"]).loss).backward()
    for (name, one), (_, two) in zip(plain.named_parameters(), checkpointed.named_parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(two.grad, one.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_every_adapter_parameter_gets_gradient(a3_model, prompts):
    model = a3_model(key_top_k=2).train()
    found = gradients(model, prompts(ROWS))
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert found.keys() == trainable
    assert all(gradient.abs().max() > 0 for name, gradient in found.items() if "router" in name)


@pytest.mark.parametrize("reentrant", [True, False])
def test_balance_loss_reaches_the_routers(a3_model, prompts, reentrant):
    model = a3_model().train()
    if reentrant:
        model.enable_input_require_grads()
        recompute_activations(model, reentrant=True)
    with record_experts() as use:
        model(**prompts(ROWS))
    if reentrant:
        with pytest.raises(AdapterError, match="use_reentrant"):
            use.balance_losses(len(ROWS))
        return
    losses = use.balance_losses(len(ROWS))
    assert losses.shape == (len(ROWS),)
    assert 1 <= losses.mean().item() <= 4
    losses.sum().backward()
    routers = [p for n, p in model.named_parameters() if "k_proj.expert_router" in n and n.endswith("weight")]
    assert len(routers) == 2
    assert all(router.grad.abs().max() > 0 for router in routers)


def test_bfloat16_base_runs_and_trains(tiny_llava, a3_config, prompts):
    model = get_peft_model(tiny_llava().to(torch.bfloat16), a3_config()).train()
    inputs = prompts(ROWS)
    inputs["pixel_values"] = inputs["pixel_values"].to(torch.bfloat16)
    assert all(p.dtype == torch.float32 for n, p in model.named_parameters() if "expert_" in n)
    output = model(**inputs, labels=inputs["input_ids"])
    assert output.logits.dtype == torch.bfloat16
    output.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    model.to(torch.bfloat16).eval()
    answer = model.generate(**prompts(ROWS[:1]) | {"pixel_values": inputs["pixel_values"][:1]}, max_new_tokens=3)
    assert answer.shape[0] == 1


def test_autocast(a3_model, prompts):
    model, inputs = a3_model(), prompts(ROWS)
    with torch.autocast("cpu", torch.bfloat16):
        half = logits(model, inputs)
    torch.testing.assert_close(half.float(), logits(model, inputs), atol=0.15, rtol=0.1)


def test_saved_and_loaded_under_another_name(tiny_llava, a3_model, prompts, tmp_path):
    model, inputs = a3_model(), prompts(ROWS)
    expected = logits(model, inputs)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny_llava(), tmp_path, adapter_name="a3")
    assert torch.equal(logits(loaded, inputs), expected)
    assert not loaded.training
    own = {n.replace(".default", ""): p for n, p in model.named_parameters() if "expert_" in n}
    other = {n.replace(".a3", ""): p for n, p in loaded.named_parameters() if "expert_" in n}
    assert own.keys() == other.keys()
    assert sum("router" in name for name in own) == 2 * 2 * 2
    assert all(torch.equal(own[name], other[name]) for name in own)


def test_two_adapters_on_one_base(tiny_llava, a3_model, a3_config, prompts, tmp_path):
    inputs = prompts(ROWS)
    first, second = a3_model(0), a3_model(0, query_experts=2, key_experts=1, expert_r=3)
    for parameter in second.parameters():
        if parameter.requires_grad:
            parameter.data.mul_(1.5)
    expected = [logits(first, inputs), logits(second, inputs)]
    first.save_pretrained(tmp_path / "first")
    second.save_pretrained(tmp_path / "second")
    both = PeftModel.from_pretrained(tiny_llava(), tmp_path / "first", adapter_name="a3")
    both.load_adapter(tmp_path / "second", adapter_name="other")
    assert torch.equal(logits(both, inputs), expected[0])
    both.set_adapter("other")
    assert torch.equal(logits(both, inputs), expected[1])
    both.set_adapter("a3")
    assert torch.equal(logits(both, inputs), expected[0])
    both.save_pretrained(tmp_path / "again", selected_adapters=["other"])
    again = PeftModel.from_pretrained(tiny_llava(), tmp_path / "again" / "other")
    assert torch.equal(logits(again, inputs), expected[1])
    with pytest.warns(UserWarning, match="Setting active adapter to other"):
        both.delete_adapter("a3")
    assert torch.equal(logits(both, inputs), expected[1])


def test_training_goes_on_from_a_saved_adapter(tiny_llava, a3_model, prompts, tmp_path):
    a3_model().save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny_llava(), tmp_path, is_trainable=True).train()
    found = gradients(loaded, prompts(ROWS))
    assert any("expert_router" in name for name in found)


@pytest.mark.parametrize("call", ["merge_adapter", "merge_and_unload"])
def test_merging_is_refused_with_the_reason(a3_model, call):
    with pytest.raises(AdapterError, match="cannot be merged"):
        getattr(a3_model(), call)()


def test_unloading_gives_the_base_back(tiny_llava, a3_model, prompts):
    inputs = without_masks(prompts(ROWS))
    model = a3_model().unload()
    assert not any(isinstance(module, ExpertLinear) for module in model.modules())
    assert torch.equal(logits(model, inputs), logits(tiny_llava(), inputs))


def test_a_model_without_such_layers_is_refused(tiny_llava, a3_config):
    with pytest.raises(AdapterError, match="linear layer for the query experts"):
        get_peft_model(tiny_llava(), a3_config(query_modules=["Wq"]))


def test_the_ablations_hold_plain_lora(a3_model, prompts):
    model = a3_model(query_experts=1, key_experts=1)
    assert not any("router" in name for name, _ in model.named_parameters())
    inputs = without_masks(prompts(ROWS))
    assert torch.isfinite(logits(model, inputs)).all()


def test_two_threads_do_not_share_their_spans(a3_model, prompts):
    model = a3_model()
    batches = [prompts(ROWS, seed=seed) for seed in range(2)]
    expected = [logits(model, batch) for batch in batches]
    found: list[list[torch.Tensor]] = [[], []]
    start = threading.Barrier(2)

    def work(index):
        start.wait()
        for _ in range(4):
            found[index].append(logits(model, batches[index]))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(2):
        assert len(found[index]) == 4
        assert all(torch.equal(one, expected[index]) for one in found[index])


def test_expert_use_of_nothing_is_refused():
    with record_experts() as use:
        pass
    assert use.balance_losses(2).tolist() == [0, 0]
    with pytest.raises(AdapterError, match="No routing"):
        use.query_gates()


def test_config_with_default_sizes_has_the_paper_shapes(tiny_llava):
    model = get_peft_model(tiny_llava(), A3MoeConfig())
    shapes = {
        name.partition("layers.0.")[2]: tuple(p.shape) for name, p in model.named_parameters() if "expert_" in name
    }
    assert shapes["self_attn.q_proj.expert_A.default"] == (8, 16, 32)
    assert shapes["self_attn.k_proj.expert_B.default"] == (16, 16, 16)
    assert shapes["mlp.down_proj.expert_A.default"] == (1, 64, 48)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_the_default_targets_fit_each_supported_model(name, tiny_checkpoint, a3_config):
    base = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint(name)).eval()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 40, (2, 9), generator=generator)
    expected = logits(base, {"input_ids": ids})
    model = get_peft_model(base, a3_config()).eval()
    layers = len(attention_layers(base.config.get_text_config()))
    adapted = [key for key, module in model.named_modules() if isinstance(module, ExpertLinear)]
    # GLM keeps gate and up in one matrix, mixtures of experts theirs in one tensor for all: neither is a target. Nor
    # are LFM2's feed-forward layers; linear attention is none, the feed-forward layers beside it are.
    others = {"glm4v": 2 * 5, "glm46v": 2 * 5, "qwen3_vl_moe": 7 + 4, "lfm2_vl": 2 * 3}
    others |= {"qwen3_5": 2 * 7 + 2 * 3, "qwen3_5_moe": 2 * 7 + 2 * 3}
    assert len(adapted) == others.get(name, layers * 7)
    assert not any("vision" in key or "visual" in key for key in adapted)
    question = torch.zeros(2, 9, dtype=torch.bool)
    question[:, 3:6] = True
    # Marking text as image patches is enough to set every expert to work.
    image = torch.zeros_like(question)
    image[:, :3] = True
    inputs = {"input_ids": ids, "a3_question_mask": question, "a3_image_mask": image}
    if name == "paligemma":  # its prompt sees itself both ways, and is told apart from the answer by this
        inputs["token_type_ids"] = torch.zeros_like(ids)
    with record_experts() as use:
        assert (logits(model, inputs) - expected).abs().max() > 1e-4
    assert use.query_gates(1).shape == (layers, 3)
    assert use.key_choice(1).shape == (layers, 3, 1)
    settings = {"max_new_tokens": 4, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    cached = model.generate(**inputs, **settings, use_cache=True)
    uncached = model.generate(**inputs, **settings, use_cache=False)
    # Qwen3.5's linear attention goes by chunks, or with a cache token by token: in the base model alone that differs by
    # up to 1.4e-4.
    rounding = 5e-4 if name.startswith("qwen3_5") else 3e-5
    torch.testing.assert_close(torch.stack(cached.logits), torch.stack(uncached.logits), atol=rounding, rtol=1e-4)
