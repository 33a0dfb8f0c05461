"""An adapter that its maker told where questions stand runs in code that knows nothing of it."""

import json

import pytest
import torch
from peft import PeftModel, get_peft_model
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    Trainer,
    TrainingArguments,
    pipeline,
)

from a3tune.adapters.switch import AdapterSet
from a3tune.bundle import DEMO, demo_adapters, model_source
from a3tune.errors import AdapterError
from a3tune.models.load import load_model
from a3tune.training.methods import a3moe_config

SIZES = {"r": 4, "expert_r": 2, "query_experts": 3, "key_experts": 4, "dropout": 0.0, "init_weights": False}
QUESTIONS = ("Is the heart enlarged?", "Where is it", "(B) or the other: which of these two is right?")


@pytest.fixture
def adapted(tiny_checkpoint):
    """name -> (the loaded tiny model, the same with an A3MoE adapter)."""

    def build(name, **options):
        model = load_model(tiny_checkpoint(name), device="cpu", name=name)
        torch.manual_seed(3)
        return model, get_peft_model(model.model, a3moe_config(model, **SIZES, **options)).eval()

    return build


@pytest.fixture
def adapter_folder(adapted, tiny_checkpoint, tmp_path):
    _, tuned = adapted("llava")
    tuned.peft_config["default"].base_model_name_or_path = str(tiny_checkpoint("llava"))
    tuned.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def masks(batch):
    return {"a3_question_mask": batch.question, "a3_image_mask": batch.columns}


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_question_that_is_found_is_the_one_that_was_asked(tiny_name, adapted, random_image, side):
    model, tuned = adapted(tiny_name)
    items = [(random_image(number), question, "Yes, it is.") for number, question in enumerate(QUESTIONS)]
    batch = model.encode_batch(items, padding_side=side)
    with torch.no_grad():
        told, found = tuned(**batch.inputs, **masks(batch)).logits, tuned(**batch.inputs).logits
        other = tuned(**batch.inputs, **masks(batch) | {"a3_question_mask": batch.answer}).logits
    assert torch.equal(found, told)
    assert (found - other).abs().max() > 1e-5


@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"num_beams": 2}])
def test_plain_generation_in_a_batch(adapted, random_image, options):
    model, tuned = adapted("llava")
    prompts = [model.encode(random_image(number), question) for number, question in enumerate(QUESTIONS)]
    batch = model.collate(prompts, padding_side="left")
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, **options}
    told = tuned.generate(**batch.inputs, **masks(batch), **settings)
    assert torch.equal(tuned.generate(**batch.inputs, **settings), told)


def conversation(image, *turns):
    roles = ("user", "assistant")
    messages = [
        {"role": roles[place % 2], "content": [{"type": "text", "text": turn}]} for place, turn in enumerate(turns)
    ]
    messages[0]["content"].insert(0, {"type": "image", "image": image})
    return messages


def test_several_turns_are_refused_unless_the_question_is_pointed_out(adapted, random_image):
    model, tuned = adapted("llava")
    image = Image.fromarray(random_image(0).pixels)
    text = model.processor.apply_chat_template(
        conversation(image, "Is it large?", "Yes", "Where is it?"), tokenize=False, add_generation_prompt=True
    )
    inputs = model.processor(text=[text], images=[image], return_tensors="pt")
    with pytest.raises(AdapterError, match=r"Row 0 holds 2.*a3_question_mask"):
        tuned.generate(**inputs, max_new_tokens=2)
    mask = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
    mask[:, -6:-3] = True
    assert tuned.generate(**inputs, a3_question_mask=mask, max_new_tokens=2).shape[0] == 1


def test_a_second_question_to_a_filled_cache_is_refused(adapted, random_image):
    model, tuned = adapted("llava")
    prompt = model.encode(random_image(0), "Is it large?")
    with torch.no_grad():
        cache = tuned(**prompt.inputs, use_cache=True).past_key_values
        following = model.tokenizer(" Yes USER: Where? ASSISTANT:", add_special_tokens=False, return_tensors="pt")
        with pytest.raises(AdapterError, match="a3_question_mask"):
            tuned(input_ids=following["input_ids"], past_key_values=cache)


def test_an_adapter_without_the_ids_names_the_argument(adapted, random_image):
    model, tuned = adapted("llava", question_before=None, question_after=None)
    prompt = model.encode(random_image(0), "Is it large?")
    with pytest.raises(AdapterError, match="a3_question_mask"):
        tuned.generate(**prompt.inputs, max_new_tokens=2)


def test_a_template_that_tells_no_ids_leaves_them_out(tiny_checkpoint):
    model = load_model(tiny_checkpoint("llava"), device="cpu")
    # Nothing stands after the question, so nothing says where it ends.
    model.processor.chat_template = (
        "{% for message in messages %}{% for part in message['content'] if part['type'] == 'image' %}<image>"
        "{% endfor %}{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
        "{% endfor %}"
    )
    assert a3moe_config(model).question_before is None


def test_pipelines_answer_as_generate_does(adapter_folder, tiny_checkpoint, random_image):
    folder = tiny_checkpoint("llava")
    image = Image.fromarray(random_image(0).pixels)
    processor = AutoProcessor.from_pretrained(folder)
    tuned = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(folder), adapter_folder)
    model = load_model(folder, device="cpu")
    prompt = model.encode(random_image(0), "Is it large?")
    told = {"a3_question_mask": torch.zeros_like(prompt.inputs["input_ids"], dtype=torch.bool)}
    told["a3_question_mask"][0, list(prompt.question)] = True
    settings = {"max_new_tokens": 6, "do_sample": False}
    expected = processor.decode(tuned.generate(**prompt.inputs, **told, **settings)[0, prompt.length :])
    plain = processor.decode(model.model.generate(**prompt.inputs, **settings)[0, prompt.length :])
    assert expected != plain
    # The folder alone goes the way of transformers' own adapters, without PEFT's model around it.
    for given in (tuned, str(adapter_folder)):
        ask = pipeline("image-text-to-text", model=given, processor=processor)
        answer = ask(
            text=conversation(image, "Is it large?"), generate_kwargs=settings, return_full_text=False,
            skip_special_tokens=False,
        )  # fmt: skip
        assert answer[0]["generated_text"] == expected


def test_the_plain_trainer_trains_the_routers(adapted, random_image, tmp_path):
    model, tuned = adapted("llava")
    rows = [(random_image(number), question, "Yes") for number, question in enumerate(QUESTIONS)]

    def collate(chosen):
        batch = model.encode_batch(chosen)
        return {**batch.inputs, "labels": batch.labels}

    before = {name: weight.clone() for name, weight in tuned.named_parameters() if "q_proj.expert_router" in name}
    arguments = TrainingArguments(
        tmp_path, max_steps=2, per_device_train_batch_size=3, learning_rate=0.01, report_to=[], use_cpu=True,
        remove_unused_columns=False, disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    Trainer(tuned, arguments, train_dataset=rows, data_collator=collate).train()
    assert before
    assert all((dict(tuned.named_parameters())[name] - weight).abs().max() > 0 for name, weight in before.items())


def test_what_is_saved_says_what_to_import(adapter_folder):
    settings = json.loads((adapter_folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert settings["needs_import"] == "a3tune"
    assert settings["question_before"]
    assert "import a3tune\n" in (adapter_folder / "README.md").read_text(encoding="utf-8")


def test_the_bundled_adapter_finds_its_question(random_image):
    model = load_model(model_source(DEMO), device="cpu")
    with AdapterSet(model.model, {"a3": demo_adapters()["a3"]}).using("a3") as tuned:
        prompt = model.encode(random_image(0), "Is there a mass in the liver?")
        mask = torch.zeros_like(prompt.inputs["input_ids"], dtype=torch.bool)
        mask[0, list(prompt.question)] = True
        with torch.no_grad():
            assert torch.equal(tuned(**prompt.inputs).logits, tuned(**prompt.inputs, a3_question_mask=mask).logits)
