"""Words of two answers side by side: which are the same, and which only one side has."""

from __future__ import annotations

import pytest

MODULE = "inspect/viewer/word_alignment.js"


def view(*tokens):
    """Tokens as (role, text), in the order of their rows."""
    return {
        "tokens": [
            {"row": row, "role": role, "text": text, "special": text == "</s>"}
            for row, (role, text) in enumerate(tokens)
        ]
    }


@pytest.mark.parametrize(
    ("one", "other", "pairs"),
    [
        ("a b c", "a b c", [[0, 0], [1, 1], [2, 2]]),
        ("a b c", "b c d", [[1, 0], [2, 1]]),
        ("a x b", "a b", [[0, 0], [2, 1]]),
        ("a", "b", []),
        ("a a", "a", [[0, 0]]),
    ],
)
def test_the_longest_run_of_equal_words_is_found(call_module, one, other, pairs):
    assert call_module(MODULE, "alignment", one.split(), other.split()) == pairs


def test_a_word_of_the_question_is_no_word_of_the_answer(call_module):
    one = view(("question", " left"), ("answer", " left"), ("answer", " lung"))
    other = view(("question", " left"), ("answer", "lung"))
    assert call_module(MODULE, "counterparts", one, other) == [[0, 0], [2, 1]]


def test_the_first_word_of_an_answer_is_no_token_of_the_prompt_whose_row_it_has(call_module):
    one, other = (view(("template", ":"), ("answer", word)) for word in ("left", "right"))
    for side in (one, other):
        side["tokens"][1]["row"] = side["tokens"][0]["row"]
    assert call_module(MODULE, "counterparts", one, other) == []
    assert call_module(MODULE, "counterparts", one, one) == [[0, 0]]


def test_words_that_only_one_answer_has_differ(call_module, module_page):
    one = view(("answer", "no"), ("answer", " mass"), ("answer", "</s>"))
    other = view(("answer", "a"), ("answer", " mass"))
    found = module_page.evaluate(
        f"""async (views) => (await import("/{MODULE}")).differingRows(views).map((rows) => [...rows])""", [one, other]
    )
    assert found == [[0], [0]]
