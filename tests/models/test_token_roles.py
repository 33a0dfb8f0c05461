import pytest

from a3tune.errors import ModelError, RequestError
from a3tune.models import token_roles as roles

QUESTIONS = [
    "Is there a mass in the left lung?",
    "the the the the",
    "USER",  # stands in LLaVA's template too
    "user assistant system",
    "ASSISTANT: ASSISTANT:",
    "?",
    "Is  there\n\ntwo\tspaces?",
    "Größe der Läsion, 病変 🫁?",
    "image",
    "\x00 odd \ufeff",
]


def words_of(model, prompt):
    return "".join(prompt.tokens[position].text for position in prompt.question)


@pytest.mark.parametrize("question", QUESTIONS)
def test_question_span_holds_the_question_and_nothing_else(tiny_name, tiny_model, random_image, question):
    model = tiny_model(tiny_name)
    prompt = model.encode(random_image(), question)
    assert words_of(model, prompt).strip(" \n") == question.strip(" \n")
    assert prompt.question == tuple(range(prompt.question[0], prompt.question[-1] + 1))
    before = "".join(token.text for token in prompt.tokens[: prompt.question[0]])
    after = "".join(token.text for token in prompt.tokens[prompt.question[-1] + 1 :])
    assert before + words_of(model, prompt) + after == model.tokenizer.decode(prompt.ids)
    # What stands after the question is the template's own text, the same for every question.
    other = model.encode(random_image(), "Anything else, Sir")
    assert after.strip() == "".join(token.text for token in other.tokens[other.question[-1] + 1 :]).strip()


def test_spans_by_difference_agree_with_spans_by_offsets(tiny_name, tiny_model, random_image):
    model = tiny_model(tiny_name)
    prompt = model.encode(random_image(), "Which organ is enlarged?")
    prefix, _, suffix = prompt.text.partition("Which organ is enlarged?")

    def expand(text):
        return model.encode(random_image(), text[len(prefix) : len(text) - len(suffix)]).ids

    slow = type("Slow", (), {"is_fast": False})()
    found = roles.question_positions(prompt.ids, prefix, "Which organ is enlarged?", suffix, slow, True, expand)
    assert found == prompt.question


def test_a_question_that_cannot_be_found_is_an_error():
    slow = type("Slow", (), {"is_fast": False})()
    with pytest.raises(ModelError, match="not found among 3"):
        roles.question_positions([1, 2, 3], "a", "b", "c", slow, True, lambda text: [1, 2, 3])


def test_image_tokens_are_the_ids_of_the_configuration(tiny_name, tiny_model, random_image):
    model = tiny_model(tiny_name)
    prompt = model.encode(random_image(), "What is it?")
    image_id = model.config.image_token_id
    assert [position for position, token in enumerate(prompt.ids) if token == image_id] == list(prompt.images[0])
    assert {prompt.tokens[position].role for position in prompt.images[0]} == {"image"}
    assert [token.role for token in prompt.tokens].count("question") == len(prompt.question)


def test_image_token_counts_match_the_vision_features(tiny_model, random_image):
    expected = {"llava": 16, "gemma3": 16, "qwen2_5_vl": 30, "idefics3": 5 * 9, "internvl": 5 * 4}
    for name, count in expected.items():
        prompt = tiny_model(name).encode(random_image(0, 40, 52), "What is it?")
        assert len(prompt.images[0]) == count, name


def test_tiled_images_are_one_image_with_gaps(tiny_model, random_image):
    prompt = tiny_model("idefics3").encode([random_image(0), random_image(1, 20, 70)], "Compare.")
    first, second = prompt.images
    assert len(first) == 45
    assert len(second) % 9 == 0
    assert first[-1] < second[0]
    gaps = [position for position in range(first[0], first[-1]) if position not in set(first)]
    assert {prompt.tokens[position].role for position in gaps} == {"template"}
    assert "<row_1_col_2>" in {prompt.tokens[position].text for position in gaps}
    assert prompt.rows[0, gaps].all()


def test_several_images_without_anything_between_them():
    counts = {0: 3, 1: 2}
    assert roles.split_images([4, 5, 6, 7, 8], 2, counts.get) == ((4, 5, 6), (7, 8))


def test_images_that_take_fewer_tokens_in_company_are_told_apart_by_their_runs():
    assert roles.split_images([4, 5, 9, 10, 11], 2, lambda index: 40) == ((4, 5), (9, 10, 11))


def test_images_that_cannot_be_told_apart_are_an_error():
    with pytest.raises(ModelError, match="one image at a time"):
        roles.split_images([4, 5, 6], 2, lambda index: 40)
    with pytest.raises(ModelError, match="one token per patch"):
        roles.split_images([4], 1, lambda index: 1)


def test_token_texts_join_to_the_decoded_text(tiny_name, tiny_model):
    tokenizer = tiny_model(tiny_name).tokenizer
    for text in QUESTIONS:
        ids = tokenizer(text)["input_ids"]
        assert "".join(roles.token_texts(tokenizer, ids)) == tokenizer.decode(ids)


def test_token_texts_of_any_ids_join_to_the_decoded_text(tiny_name, tiny_model):
    tokenizer = tiny_model(tiny_name).tokenizer
    ids = [(37 * number * number + 11) % len(tokenizer) for number in range(200)]
    texts = roles.token_texts(tokenizer, ids)
    assert len(texts) == len(ids)
    assert "".join(texts) == tokenizer.decode(ids)


def test_a_character_of_several_tokens_reads_at_its_last(tiny_name, tiny_model):
    tokenizer = tiny_model(tiny_name).tokenizer
    ids = tokenizer("é", add_special_tokens=False)["input_ids"]
    texts = roles.token_texts(tokenizer, ids)
    assert texts[-1] == "é"
    assert set(texts[:-1]) <= {"", " "}


def test_control_tokens_in_a_question_are_refused(tiny_name, tiny_model, random_image):
    model = tiny_model(tiny_name)
    markers = roles.image_markers(model.config, model.processor)
    assert markers
    for marker in [*markers, model.tokenizer.eos_token]:
        with pytest.raises(RequestError, match="control token"):
            model.encode(random_image(), f"What is {marker} here?")


@pytest.mark.parametrize("question", ["", "  \n\t "])
def test_empty_questions_are_refused(tiny_model, random_image, question):
    with pytest.raises(RequestError, match="Expected a question"):
        tiny_model("llava").encode(random_image(), question)


def test_a_model_without_image_tokens_is_named():
    config, processor = type("BlipConfig", (), {})(), type("BlipProcessor", (), {})()
    with pytest.raises(ModelError, match="BlipConfig names no image token"):
        roles.image_token_id(config, processor)
