import threading

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import Gemma2Config, Gemma2ForCausalLM

import a3tune.attention.attention_call as call_module
import a3tune.attention.capture as capture_module
import a3tune.attention.record as record_module
from a3tune.attention.capture import IMPLEMENTATION, attention_modules, capture, prepare_capture
from a3tune.attention.record import ReadPrefix
from a3tune.errors import ModelError, RequestError
from a3tune.models.load import load_model
from a3tune.types import Head
from tests.support.checkpointing import recompute_activations
from tests.support.pretend_cuda import GPU, pretend_cuda, to_gpu

TOLERANCE = 1e-5
# How far torch's fused kernels and eager attention round apart depends on the processor.
FUSED, FUSED_TOLERANCE = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH], 1e-4


@pytest.fixture(autouse=True)
def plain_kernel():
    """What a layer is given comes from the same arithmetic as with eager attention: a difference is capture's own."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


@pytest.fixture(scope="module")
def batches(tiny_model, random_image):
    """(name, padding side) -> three sequences of different lengths and image shapes, with answers."""

    def build(name, side):
        items = [
            (random_image(0, 40, 52), "Is there a mass in the left lung?", "No."),
            (random_image(1, 30, 70), "Which organ?", "The liver and the right kidney"),
            ([random_image(2, 40, 52), random_image(3, 50, 44)], "Compare the two images.", None),
        ]
        return tiny_model(name).encode_batch(items, padding_side=side)

    return build


@pytest.fixture
def fresh(tiny_checkpoint):
    """name -> a model of its own, to be changed."""
    return lambda name: load_model(tiny_checkpoint(name), device="cpu", name=name)


def eager_attentions(model, inputs):
    model.set_attn_implementation("eager")
    attentions = model(**inputs, output_attentions=True, use_cache=False).attentions
    model.set_attn_implementation("sdpa")
    return attentions


def expected_maps(attentions, batch, b):
    rows, columns = batch.rows[b].nonzero().squeeze(1), batch.columns[b].nonzero().squeeze(1)
    return torch.stack([layer[b][:, rows][:, :, columns] for layer in attentions])


@pytest.mark.parametrize("side", ["left", "right"])
def test_equals_eager_in_padded_batches(tiny_name, side, fresh, batches):
    model, batch = fresh(tiny_name).model, batches(tiny_name, side)
    with torch.no_grad():
        eager = eager_attentions(model, batch.inputs)
        plain = model(**batch.inputs, use_cache=False).logits
        with sdpa_kernel(FUSED):
            plain_fused = model(**batch.inputs, use_cache=False).logits
        prepare_capture(model)
        with capture(batch.rows, batch.columns) as record:
            logits = model(**batch.inputs, use_cache=False).logits
        with sdpa_kernel(FUSED), capture(batch.rows, batch.columns) as fused:
            logits_fused = model(**batch.inputs, use_cache=False).logits
    assert torch.equal(logits, plain)
    assert torch.equal(logits_fused, plain_fused)
    for b in range(3):
        expected = expected_maps(eager, batch, b)
        assert record.weights(b).shape == expected.shape
        assert (record.weights(b) - expected).abs().max() < TOLERANCE
        assert (record.image_share(b) - expected.sum(-1)).abs().max() < TOLERANCE
        assert (fused.weights(b) - expected).abs().max() < FUSED_TOLERANCE
        assert expected.std() > 1e-3  # attention is not uniform, so equality says something


def test_maps_are_numpy_and_name_their_rows(tiny_model, random_image):
    model = tiny_model("llava")
    prompt = model.encode(random_image(), "Where is the heart?", "In the middle")
    prepare_capture(model.model)
    with torch.no_grad(), capture(prompt.rows, prompt.columns) as record:
        model.model(**prompt.inputs)
    maps = record.maps(0)
    assert maps.weights.shape == (model.layers, model.heads, len(maps.rows), 16)
    assert maps.weights.dtype == np.float32
    assert maps.rows.tolist() == [token.position for token in prompt.tokens if prompt.rows[0, token.position]]
    assert np.allclose(maps.image_share, maps.weights.sum(-1))
    assert record.layers == 3


def gradients(model):
    return {
        name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None and "q_proj.weight" in name
    }


def test_gradients_equal_eagers(tiny_name, fresh, batches):
    model, batch = fresh(tiny_name).model, batches(tiny_name, "right")
    torch.manual_seed(0)
    attentions = eager_attentions(model, batch.inputs)
    expected = [expected_maps(attentions, batch, b) for b in range(3)]
    targets = [torch.rand_like(maps) for maps in expected]
    sum(((maps - target) ** 2).sum() for maps, target in zip(expected, targets, strict=True)).backward()
    wanted = gradients(model.get_decoder())
    model.zero_grad()
    prepare_capture(model)
    with capture(batch.rows, batch.columns) as record:
        model(**batch.inputs, use_cache=False)
    sum(((record.weights(b) - target) ** 2).sum() for b, target in enumerate(targets)).backward()
    found = gradients(model.get_decoder())
    assert set(found) == set(wanted)
    assert len(wanted) == len(attention_modules(model))
    for name, gradient in wanted.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max())), name


@pytest.mark.parametrize("inside", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(fresh, batches, inside):
    def run(checkpointing):
        model, batch = fresh("llava_mistral").model, batches("llava_mistral", "left")
        prepare_capture(model)
        model.train()
        if checkpointing:
            recompute_activations(model, reentrant=False)
        with capture(batch.rows, batch.columns) as record:
            output = model(**batch.inputs, labels=batch.labels, use_cache=False)
            loss = output.loss + sum(record.weights(b)[..., 0].sum() for b in range(2))
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        return loss.item(), gradients(model.get_decoder())

    loss, plain = run(False)
    checkpointed_loss, checkpointed = run(True)
    assert checkpointed_loss == pytest.approx(loss, abs=1e-6)
    assert set(plain) == set(checkpointed)
    assert all(torch.allclose(plain[name], checkpointed[name], atol=1e-6) for name in plain)


def test_reentrant_checkpointing_is_refused(fresh, batches):
    model, batch = fresh("llava").model, batches("llava", "right")
    prepare_capture(model)
    model.train()
    recompute_activations(model, reentrant=True)
    model.enable_input_require_grads()
    with capture(batch.rows, batch.columns), pytest.raises(ModelError, match="use_reentrant"):
        model(**batch.inputs, use_cache=False)


@pytest.mark.parametrize("with_gradient", [True, False])
@pytest.mark.parametrize("name", ["llava_mistral", "gemma3"])
def test_chosen_heads_equal_those_of_a_full_capture(tiny_model, batches, name, with_gradient):
    model, batch = tiny_model(name).model, batches(name, "left")
    prepare_capture(model)
    heads = [Head(2, 3), Head(0, 1), Head(2, 0)]
    with torch.set_grad_enabled(with_gradient):
        with capture(batch.rows, batch.columns) as every:
            model(**batch.inputs, use_cache=False)
        with capture(batch.rows, batch.columns, heads, share_of_all_heads=True) as chosen:
            model(**batch.inputs, use_cache=False)
        with capture(batch.rows, batch.columns, heads) as alone:
            model(**batch.inputs, use_cache=False)
        for b in range(3):
            expected = torch.stack([every.weights(b)[layer, head] for layer, head in heads])
            assert torch.allclose(chosen.weights(b), expected, atol=1e-7)
            assert torch.allclose(every.select(b, heads), expected, atol=1e-7)
            assert torch.allclose(chosen.select(b, heads[::-1]), expected.flip(0), atol=1e-7)
            assert torch.allclose(chosen.image_share(b), every.image_share(b), atol=1e-6)
            assert torch.allclose(alone.image_share(b), expected.sum(-1), atol=1e-6)
            assert chosen.weights(b).requires_grad == with_gradient
            assert not chosen.image_share(b).requires_grad


def test_heads_may_be_chosen_after_a_pass_with_gradients(tiny_model, batches):
    model, batch = tiny_model("llava_mistral").model, batches("llava_mistral", "right")
    prepare_capture(model)
    with capture(batch.rows, batch.columns, [Head(0, 0)], share_of_all_heads=True) as record:
        model(**batch.inputs, use_cache=False)
    best = int(record.image_share(0).mean(-1).argmax())
    head = Head(best // 4, best % 4)
    weights = record.select(0, [head])
    assert weights.requires_grad
    assert torch.allclose(weights[0].sum(-1), record.image_share(0)[head.layer, head.head], atol=1e-6)


def test_heads_that_were_not_captured_are_refused(tiny_model, batches):
    model, batch = tiny_model("llava").model, batches("llava", "right")
    prepare_capture(model)
    with torch.no_grad(), capture(batch.rows, batch.columns, [Head(0, 0)]) as record:
        model(**batch.inputs, use_cache=False)
    with pytest.raises(RequestError, match="layer 1"):
        record.select(0, [Head(1, 0)])
    with pytest.raises(RequestError, match="3 layers x 4 heads"):
        record.select(0, [Head(0, 4)])
    with pytest.raises(RequestError, match="all heads"):
        record.maps(0)


def test_reading_maps_first_leaves_the_gradient_alone(tiny_model, batches):
    model, batch = tiny_model("llava").model, batches("llava", "right")
    prepare_capture(model)
    with capture(batch.rows, batch.columns) as record:
        model(**batch.inputs, use_cache=False)
    assert record.maps(0).weights.shape[0] == 3
    assert record.weights(0).requires_grad


def test_threads_on_one_model_do_not_mix(tiny_model, random_image):
    model = tiny_model("llava")
    prepare_capture(model.model)
    prompts = [model.encode(random_image(seed), f"Is number {'x' * (1 + 3 * seed)} there?") for seed in range(4)]

    def run(prompt):
        with torch.no_grad(), capture(prompt.rows, prompt.columns) as record:
            meeting.wait(timeout=30)
            model.model(**prompt.inputs, use_cache=False)
            meeting.wait(timeout=30)
        return record.weights(0)

    meeting = threading.Barrier(1)
    alone = [run(prompt) for prompt in prompts]
    meeting = threading.Barrier(4)
    together = [None] * 4

    def work(index):
        together[index] = run(prompts[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert all(torch.equal(first, second) for first, second in zip(alone, together, strict=True))


def test_a_thread_without_a_capture_records_nothing(tiny_model, random_image):
    model = tiny_model("gemma3")
    prepare_capture(model.model)
    prompt = model.encode(random_image(), "What is it?")
    with torch.no_grad(), capture(prompt.rows, prompt.columns) as record:
        thread = threading.Thread(target=lambda: model.model(**prompt.inputs, use_cache=False))
        thread.start()
        thread.join(timeout=60)
    with pytest.raises(ModelError, match="no layer ran"):
        record.weights(0)


def test_an_unprepared_model_is_named(fresh, random_image):
    model = fresh("llava")
    prompt = model.encode(random_image(), "What is it?")
    with torch.no_grad(), capture(prompt.rows, prompt.columns) as record:
        model.model(**prompt.inputs)
    with pytest.raises(ModelError, match=r"prepare_capture\(model\)"):
        record.maps(0)


def test_one_pass_per_capture_over_whole_sequences(tiny_model, random_image):
    model = tiny_model("llava")
    prepare_capture(model.model)
    prompt = model.encode(random_image(), "What is it?")
    with torch.no_grad(), capture(prompt.rows, prompt.columns):
        model.model(**prompt.inputs)
        with pytest.raises(RequestError, match="second time"):
            model.model(**prompt.inputs)
    with (
        torch.no_grad(),
        capture(prompt.rows[:, :-1], prompt.columns[:, :-1]),
        pytest.raises(RequestError, match="keys"),
    ):
        model.model(**prompt.inputs)


def test_masks_must_fit():
    rows = torch.tensor([[False, True]])
    for wrong in (rows.int(), rows[0], torch.tensor([[False, True, True]])):
        with pytest.raises(RequestError, match="bool"), capture(rows, wrong):
            pass
    with pytest.raises(RequestError, match="without one"), capture(rows, ~(rows | True)):
        pass
    with pytest.raises(RequestError, match="head"), capture(rows, ~rows, []):
        pass


def test_prepare_leaves_the_vision_tower_alone_and_may_be_repeated(tiny_name, fresh):
    model = fresh(tiny_name).model
    prepare_capture(model)
    prepare_capture(model)
    assert {module.config._attn_implementation for module in attention_modules(model)} == {IMPLEMENTATION}
    assert model.config.vision_config._attn_implementation == "sdpa"
    assert IMPLEMENTATION not in model.config.to_json_string()


@pytest.mark.parametrize("prepare_first", [True, False])
def test_works_under_peft(fresh, batches, prepare_first):
    model, batch = fresh("llava").model, batches("llava", "right")
    if prepare_first:
        prepare_capture(model)
    # Drawn from a seed, whatever ran before; wide enough to move the maps, not so wide that rounding grows with them.
    torch.manual_seed(0)
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=r".*language_model.*\.(q_proj|k_proj)"))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    prepare_capture(wrapped)
    with torch.no_grad():
        with capture(batch.rows, batch.columns) as adapted:
            wrapped(**batch.inputs)
        with wrapped.disable_adapter(), capture(batch.rows, batch.columns) as base:
            wrapped(**batch.inputs)
        expected = expected_maps(eager_attentions(model, batch.inputs), batch, 0)
    assert (adapted.weights(0) - expected).abs().max() < TOLERANCE
    assert (base.weights(0) - expected).abs().max() > 1e-2


def test_layers_without_softmax_attention_are_refused(fresh):
    model = fresh("llava").model
    model.get_decoder().layers[1].self_attn = torch.nn.Identity()
    with pytest.raises(ModelError, match="in 2 layers"):
        prepare_capture(model)


def test_only_a_growing_capture_of_all_heads_goes_on_behind_a_prefix():
    rows, columns = torch.tensor([[False, True]]), torch.tensor([[True, False]])
    one, longer = ReadPrefix(1, ()), ReadPrefix(2, ())
    growing = {"growing": True}
    for behind, options in (
        ([one], {}),
        ([one], {**growing, "heads": [Head(0, 0)]}),
        ([one, one], growing),
        ([one, longer], growing),
    ):
        count = 2 if longer in behind else 1
        masks = rows.repeat(count, 1), columns.repeat(count, 1)
        with pytest.raises(RequestError, match="behind"), capture(*masks, behind=behind, **options):
            pass


def test_chunks_give_the_same_weights(tiny_model, batches, monkeypatch):
    model, batch = tiny_model("llava_mistral").model, batches("llava_mistral", "left")
    prepare_capture(model)
    results = []
    for budget in (1 << 24, 700, 1):
        monkeypatch.setattr(call_module, "_SCORE_BUDGET", budget)
        with torch.no_grad(), capture(batch.rows, batch.columns) as record:
            model(**batch.inputs, use_cache=False)
        results.append(record.weights(2))
    assert torch.allclose(results[0], results[1], atol=1e-6)
    assert torch.allclose(results[0], results[2], atol=1e-6)


def test_weights_stay_in_float32_under_autocast(tiny_model, batches):
    model, batch = tiny_model("llava").model, batches("llava", "right")
    prepare_capture(model)
    with torch.no_grad():
        with capture(batch.rows, batch.columns, [Head(0, 0)]) as full:
            model(**batch.inputs, use_cache=False)
        with torch.autocast("cpu", torch.bfloat16), capture(batch.rows, batch.columns, [Head(0, 0)]) as half:
            model(**batch.inputs, use_cache=False)
    share = half.weights(0).sum(-1)
    assert half.weights(0).dtype == torch.float32
    assert (half.weights(0) - full.weights(0)).abs().max() < 0.15
    assert not torch.equal(share, share.to(torch.bfloat16).float())


def test_additive_masks_count(tiny_model, batches):
    model, batch = tiny_model("llava").model, batches("llava", "right")
    prepare_capture(model)
    length = batch.length
    seen = (
        torch.ones(length, length, dtype=torch.bool).tril()[None, None]
        & batch.inputs["attention_mask"].bool()[:, None, None]
    )
    additive = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    with torch.no_grad():
        with capture(batch.rows, batch.columns) as usual:
            model(**batch.inputs, use_cache=False)
        with capture(batch.rows, batch.columns) as given:
            model(**{**batch.inputs, "attention_mask": additive}, use_cache=False)
    # Positions count from the mask's sum in the first pass only when padding is on the left; here both agree.
    assert (given.weights(0) - usual.weights(0)).abs().max() < TOLERANCE


def test_capped_scores_equal_eager():
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, head_dim=8,
        num_key_value_heads=2, attn_logit_softcapping=0.7, sliding_window=6, query_pre_attn_scalar=8, pad_token_id=0,
    )  # fmt: skip
    model = Gemma2ForCausalLM(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.randint(1, 50, (2, 12))
    columns = torch.zeros(2, 12, dtype=torch.bool)
    columns[:, 2:6] = True
    rows = torch.zeros(2, 12, dtype=torch.bool)
    rows[:, 6:] = True
    with torch.no_grad():
        model.set_attn_implementation("eager")
        eager = model(ids, output_attentions=True)
        prepare_capture(model)
        with capture(rows, columns) as record:
            logits = model(ids).logits
    expected = torch.stack([layer[1][:, 6:, 2:6] for layer in eager.attentions])
    assert (record.weights(1) - expected).abs().max() < TOLERANCE
    assert torch.allclose(logits, eager.logits, atol=1e-5)


def test_extra_scores_are_refused(fresh):
    module = attention_modules(fresh("llava").model)[0]
    query = torch.rand(1, 4, 3, 8)
    mask = torch.tensor([[False, True, True]])
    with capture(mask, ~mask), pytest.raises(ModelError, match="s_aux"):
        capture_module._attention(module, query, query, query, None, s_aux=torch.zeros(4))


@pytest.mark.parametrize("name", ["llava", "llava_mistral", "gemma3", "qwen2_5_vl", "llama4"])
@pytest.mark.parametrize("heads", [None, [Head(1, 3), Head(0, 1), Head(1, 0)]])
def test_a_growing_capture_of_a_batch_equals_a_pass_over_prompts_and_answers(tiny_model, random_image, name, heads):
    model = tiny_model(name)
    items = [(random_image(0, 40, 52), "Is there a mass in the left lung?", None), (random_image(1), "Which?", None)]
    batch = model.encode_batch(items, padding_side="left")
    prepare_capture(model.model)
    config = model.generation_config_for(4)
    config.update(min_new_tokens=4)
    with torch.no_grad():
        with capture(batch.rows, batch.columns, heads, share_of_all_heads=True, growing=True) as record:
            whole = model.model.generate(**batch.inputs, generation_config=config)
        for b, prompt in enumerate(batch.prompts):
            ids = whole[b, batch.length : -1].tolist()  # the last is written, not read
            answered = model.append_answer(prompt, ids)
            with capture(answered.rows, answered.columns, heads, share_of_all_heads=True) as expected:
                model.model(**answered.inputs, use_cache=False)
            assert record.rows(b).tolist() == (expected.rows(0) + batch.starts[b]).tolist()
            assert torch.allclose(record.weights(b), expected.weights(0), atol=TOLERANCE)
            assert torch.allclose(record.image_share(b), expected.image_share(0), atol=TOLERANCE)
            if heads is not None:
                assert torch.equal(record.select(b, heads[::-1]), record.weights(b).flip(0))


def test_a_growing_capture_refuses_beams(tiny_model, random_image):
    model = tiny_model("llava")
    prompt = model.encode(random_image(0), "What is it?")
    prepare_capture(model.model)
    config = model.generation_config_for(3)
    config.update(num_beams=2)
    with (
        torch.no_grad(),
        capture(prompt.rows, prompt.columns, growing=True),
        pytest.raises(RequestError, match="without beams"),
    ):
        model.model.generate(**prompt.inputs, generation_config=config)


def test_a_prompt_read_in_pieces_gives_the_same_rows(tiny_model, random_image):
    model = tiny_model("llava_mistral")
    prompt = model.encode(random_image(0), "Is there a mass in the left lung?")
    prepare_capture(model.model)
    config = model.generation_config_for(2)
    records = []
    for size in (None, 7):
        config.update(prefill_chunk_size=size)
        with torch.no_grad(), capture(prompt.rows, prompt.columns, growing=True) as record:
            model.model.generate(**prompt.inputs, generation_config=config)
        records.append(record.maps(0))
    whole, pieces = records
    assert whole.rows.tolist() == pieces.rows.tolist()
    np.testing.assert_allclose(pieces.weights, whole.weights, atol=TOLERANCE)


@pytest.mark.parametrize("heads", [None, [Head(1, 3), Head(0, 1)]])
def test_words_wait_on_a_device_only_until_they_are_many(fresh, batches, heads, monkeypatch):
    model, batch = fresh("llava").model, batches("llava", "left")
    prepare_capture(model)
    words = torch.randint(5, 20, (4, 3, 1), generator=torch.Generator().manual_seed(0))

    def read(device):
        with (
            torch.no_grad(),
            capture(batch.rows, batch.columns, heads, share_of_all_heads=True, growing=True) as record,
        ):
            state = model(**{name: part.to(device) for name, part in batch.inputs.items()}, use_cache=True)
            mask = batch.inputs["attention_mask"]
            for word in words:
                mask = torch.cat([mask, torch.ones(3, 1, dtype=mask.dtype)], dim=1)
                state = model(
                    input_ids=word.to(device), attention_mask=mask.to(device), past_key_values=state.past_key_values
                )
        return record

    def waiting(record):
        parts = [part for of in (record._weights, record._shares) for several in of.values() for part in several]
        return sum(part.nbytes for part in parts if part.device == GPU)

    expected = read("cpu")
    most = []
    with pretend_cuda():
        to_gpu(model)
        for budget in (1 << 28, 2000):
            monkeypatch.setattr(record_module, "_WAITING_BUDGET", budget)
            found = []
            add = record_module.AttentionRecord.add

            def watched(record, *call, found=found, add=add):
                add(record, *call)
                found.append(waiting(record))

            with monkeypatch.context() as patch:
                patch.setattr(record_module.AttentionRecord, "add", watched)
                record = read(GPU)
            most.append(max(found))
            for b in range(3):
                torch.testing.assert_close(record.weights(b), expected.weights(b), rtol=0, atol=TOLERANCE)
                torch.testing.assert_close(record.image_share(b), expected.image_share(b), rtol=0, atol=TOLERANCE)
    assert most[1] <= budget < most[0]
