import pytest
import torch

from a3tune.errors import ModelError, RequestError
from a3tune.models.conventions import stored_convention
from a3tune.models.load import load_model
from a3tune.types import MedicalImage


def test_rows_are_the_text_after_the_first_image_token(tiny_name, tiny_model, random_image):
    prompt = tiny_model(tiny_name).encode(random_image(), "What is it?", "A lung")
    rows = prompt.rows[0].nonzero().squeeze(1).tolist()
    first = prompt.images[0][0]
    assert rows == [token.position for token in prompt.tokens if token.role != "image" and token.position > first]
    assert prompt.columns[0].nonzero().squeeze(1).tolist() == list(prompt.images[0])
    assert set(prompt.question) | set(prompt.answer) <= set(rows)


def test_generated_ids_are_replayed_exactly(tiny_name, tiny_model, random_image):
    model = tiny_model(tiny_name)
    prompt = model.encode(random_image(), "What is it?")
    answer = model.generate(prompt, max_new_tokens=9)
    replay = model.encode(random_image(), "What is it?", answer.token_ids)
    assert replay.ids == prompt.ids + answer.token_ids
    assert tuple(replay.ids[position] for position in replay.answer) == answer.token_ids
    assert replay.inputs["input_ids"][0].tolist() == list(replay.ids)
    appended = model.append_answer(prompt, answer.token_ids)
    assert appended.ids == replay.ids
    assert all(torch.equal(appended.inputs[name], tensor) for name, tensor in replay.inputs.items())
    with torch.no_grad():  # each generated token is the likeliest one in the replay, image tokens aside
        logits = model.model(**replay.inputs, use_cache=False).logits[0, prompt.length - 1 : -1]
    chosen = logits[torch.arange(len(answer.token_ids)), torch.tensor(answer.token_ids)]
    better = (logits > chosen[:, None] + 1e-4).sum(1)
    assert (better <= 8).all()
    assert (better == 0).float().mean() > 0.5


def test_text_answers_are_tokenized_as_in_the_template(tiny_name, tiny_model, random_image):
    model = tiny_model(tiny_name)
    prompt = model.encode(random_image(), "Is there a mass?", "No, there is not.")
    assert "".join(prompt.tokens[position].text for position in prompt.answer).strip() == "No, there is not."
    assert model.decode([prompt.ids[position] for position in prompt.answer]) == "No, there is not."
    closed = model.encode(random_image(), "Is there a mass?", "No, there is not.", close=True)
    assert closed.ids == (*prompt.ids, model.end_token_id)
    assert closed.answer == (*prompt.answer, prompt.length)
    assert closed.writing == prompt.writing == tuple(position - 1 for position in prompt.answer)


def test_the_end_token_is_the_templates(tiny_name, tiny_model):
    expected = {"gemma3": "<end_of_turn>", "paligemma": "<eos>"}
    expected |= dict.fromkeys(("llava", "llava_mistral", "llava_next", "llava_next_video", "vipllava"), "</s>")
    expected |= dict.fromkeys(("llava_pixtral", "mistral3", "deepseek_vl", "janus"), "</s>")
    expected |= dict.fromkeys(("aya_vision", "cohere2_vision"), "<|END_OF_TURN_TOKEN|>")
    expected |= dict.fromkeys(("glm4v", "glm4v_moe", "glm46v"), "<|endoftext|>")
    expected |= {"gemma4": "<turn|>", "llama4": "<|eot|>"}
    expected |= dict.fromkeys(("idefics3", "smolvlm"), "<end_of_utterance>")
    model = tiny_model(tiny_name)
    assert model.tokenizer.convert_ids_to_tokens(model.end_token_id) == expected.get(tiny_name, "<|im_end|>")


@pytest.mark.parametrize("side", ["left", "right"])
def test_batches_give_the_logits_of_single_prompts(tiny_name, tiny_model, random_image, side):
    model = tiny_model(tiny_name)
    items = [
        (random_image(0, 40, 52), "Is there a mass in the left lung?", "No."),
        ([random_image(1, 30, 70), random_image(2, 64, 20)], "Compare.", "The liver and the right kidney"),
    ]
    batch = model.encode_batch(items, padding_side=side)
    with torch.no_grad():
        together = model.model(**batch.inputs, use_cache=False).logits
        for b, prompt in enumerate(batch.prompts):
            alone = model.model(**prompt.inputs, use_cache=False).logits[0]
            start = batch.starts[b]
            assert (together[b, start : start + prompt.length] - alone).abs().max() < 1e-3
    assert batch.inputs["input_ids"].shape == (2, batch.length)
    shorter = min((0, 1), key=lambda b: batch.prompts[b].length)
    assert (batch.starts[shorter] > 0) == (side == "left")


def test_batch_masks_follow_the_padding(tiny_model, random_image):
    model = tiny_model("llava")
    items = [(random_image(0), "Is it?", "Yes"), (random_image(1), "Is there a mass in the left lung?", "No, none")]
    batch = model.encode_batch(items, padding_side="left")
    start = batch.starts[0]
    assert start > 0
    assert batch.inputs["attention_mask"][0].tolist() == [0] * start + [1] * batch.prompts[0].length
    for b, prompt in enumerate(batch.prompts):
        begin = batch.starts[b]
        assert batch.rows[b, begin:].equal(prompt.rows[0])
        assert batch.columns[b, begin:].equal(prompt.columns[0])
        assert not batch.rows[b, :begin].any()
        assert (batch.question[b].nonzero().squeeze(1) - begin).tolist() == list(prompt.question)
        labels = batch.labels[b]
        assert labels[labels >= 0].tolist() == [prompt.ids[position] for position in prompt.answer]
        assert labels[-1] == model.end_token_id


def test_images_of_several_tile_counts_share_a_batch(tiny_model, random_image):
    batch = tiny_model("idefics3").encode_batch(
        [(random_image(0, 48, 48), "A?", None), (random_image(1, 12, 48), "B?", None)]
    )
    assert batch.inputs["pixel_values"].shape[:2] == (2, 5)
    assert batch.prompts[1].inputs["pixel_values"].shape[1] < 5


def test_an_over_long_question_is_refused(tiny_model, random_image):
    with pytest.raises(RequestError, match="at most 256 tokens"):
        tiny_model("llava").encode(random_image(), "mass " * 300)


def test_wrong_answers_are_refused(tiny_model, random_image):
    model = tiny_model("llava")
    with pytest.raises(RequestError, match="an empty one"):
        model.encode(random_image(), "What?", " ")
    with pytest.raises(RequestError, match="image token"):
        model.encode(random_image(), "What?", [5, model.config.image_token_id])
    with pytest.raises(RequestError, match="one that has it"):
        model.append_answer(model.encode(random_image(), "What?", "A lung"), "Again")
    with pytest.raises(RequestError, match="at least one image"):
        model.encode([], "What?")
    with pytest.raises(RequestError, match="at least one prompt"):
        model.collate([])


def test_templates_that_take_plain_strings_work(tiny_checkpoint, random_image):
    template = (
        "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    model = load_model(tiny_checkpoint("llava"), device="cpu", chat_template=template)
    prompt = model.encode([random_image(0), random_image(1)], "What is it?", "A lung")
    assert prompt.text == "[user] <image><image>\nWhat is it?\n[assistant]"
    assert [len(group) for group in prompt.images] == [16, 16]
    assert "".join(prompt.tokens[position].text for position in prompt.question) == "What is it?"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[0]['content'][1]['text'] }}", "image placeholder"),
        (
            "<image>\n{% for part in messages[0]['content'] %}{{ part['text'] }}{{ part['text'] }}{% endfor %}",
            "2 times",
        ),
        ("<image>\nWhat?", "0 times"),
    ],
)
def test_unusable_templates_are_named(tiny_checkpoint, random_image, template, message):
    model = load_model(tiny_checkpoint("llava"), device="cpu", chat_template=template)
    with pytest.raises(ModelError, match=message):
        model.encode(random_image(), "What is it?")


def test_a_start_token_in_the_template_is_not_doubled(tiny_model, random_image):
    for name in ("gemma3", "llava"):
        prompt = tiny_model(name).encode(random_image(), "What is it?")
        start = tiny_model(name).tokenizer.bos_token_id
        assert prompt.ids[0] == start
        assert prompt.ids.count(start) == 1


def test_the_model_is_given_the_picture_that_was_made_for_it(tiny_name, tiny_model, random_image):
    model = tiny_model(tiny_name)
    eye, other = random_image(0), random_image(1)
    given = model.encode(MedicalImage(eye.pixels, model_pixels=other.pixels), "What is it?").inputs
    assert given.keys() == model.encode(eye, "What is it?").inputs.keys()
    assert all(torch.equal(tensor, given[name]) for name, tensor in model.encode(other, "What is it?").inputs.items())
    assert not torch.equal(model.encode(eye, "What is it?").inputs["pixel_values"], given["pixel_values"])


def test_a_loaded_child_of_medgemma_knows_its_convention(tiny_medgemma, tiny_model):
    model = load_model(tiny_medgemma, device="cpu")
    assert model.convention == model.cpu_encoder().convention == "medgemma-ct"
    assert stored_convention(str(tiny_medgemma)) == "medgemma-ct"
    assert tiny_model("gemma3").convention is None
