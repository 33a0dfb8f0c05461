"""What the page says of the examples that come with it."""

from app.inspect.opening.examples import DEMO_WORDS, read_examples


def test_examples_with_told_answers_say_what_is_known_of_such_answers():
    examples = read_examples()
    assert examples[0].about.endswith(DEMO_WORDS)
    assert {example.path.suffix for example in examples if DEMO_WORDS in example.about} == {".png"}
    assert all("Reference answer" in example.about for example in examples if DEMO_WORDS in example.about)


def test_a_question_of_an_example_goes_with_it_and_what_was_written_stays(module_page, call_module):
    def kept(question: str, example: str, viewer: str = '{"image": {}, "result": null}') -> str:
        return call_module("inspect/static/suggestions.js", "keptQuestion", question, example, viewer, ["Where is it?"])

    assert kept("Where is it?", "") == kept("Where is it?", "", "") == ""
    # It waited for the image, and was asked about it.
    assert kept("Where is it?", "", '{"image": {}, "result": {}}') == "Where is it?"
    assert kept("Where is it?", "", '{"written": {}}') == "Where is it?"
    assert kept("Where is it?", "chest") == "Where is it?"
    assert kept("Where is it?", '{"sent": 1}') == "", "an own image is no example"
    assert kept("Is there a mass?", "") == "Is there a mass?"
    module_page.evaluate(
        """() => {
            document.body.innerHTML = "<p id=question><input></p>";
            const field = document.querySelector("input");
            field.value = "Where is it?";
            field.dispatchEvent(new Event("input", {bubbles: true}));
        }"""
    )
    assert kept("Where is it?", "") == "Where is it?"

    def written(question: str) -> str:
        return call_module("inspect/static/suggestions.js", "writtenQuestion", question, ["Where is it?", "Which?"])

    assert [written(text) for text in ("Where is it?", "Which?", "And this?", "  ")] == [
        "Where is it?",
        "",
        "And this?",
        "",
    ]
