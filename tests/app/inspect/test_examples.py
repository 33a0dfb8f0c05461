"""What the page says of the examples that come with it."""

from app.inspect.examples import DEMO_WORDS, read_examples


def test_examples_with_told_answers_say_what_is_known_of_such_answers():
    examples = read_examples()
    assert examples[0].about.endswith(DEMO_WORDS)
    assert {example.path.suffix for example in examples if DEMO_WORDS in example.about} == {".png"}
    assert all("Reference answer" in example.about for example in examples if DEMO_WORDS in example.about)
