"""A comparison with the base model as a table."""

from app.tune.adapters.comparison import comparison_table


def test_a_comparison_is_told_as_a_table():
    found = {
        "split": "validation", "questions": 57, "held_out": 57, "with_target": 40,
        "base": {"accuracy": 0.5, "attention_mass": 0.1, "loss": 1.0},
        "tuned": {"accuracy": 0.75, "attention_mass": 0.05, "loss": 0.5},
    }  # fmt: skip
    text = comparison_table("<mine>", found)
    assert "&lt;mine&gt;" in text
    assert "<td data-tone=better>+25.0</td>" in text
    assert "<td data-tone=worse>\N{MINUS SIGN}5.0</td>" in text
    assert "<td data-tone=better>\N{MINUS SIGN}0.500</td>" in text
    assert "57 questions of the validation split" in text
    assert "So few tell little" in text
