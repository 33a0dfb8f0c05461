"""A comparison of an adapter with the base model as a table."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from a3tune.wording import counted

# Key, words, and whether it is a share, of which more is better; of the others less is.
_ROWS = (
    ("accuracy", "Answers exactly right", True),
    ("closed_accuracy", "of closed questions", True),
    ("open_accuracy", "of open questions", True),
    ("attention_mass", "Attention inside the regions", True),
    ("loss", "Loss of the answers' words", False),
)


def comparison_table(name: str, found: Mapping[str, Any]) -> str:
    """A comparison with the base model (the fields of `a3tune.training.comparison.Comparison`) as HTML."""
    rows = []
    for key, words, percent in _ROWS:
        if key in found["base"] and key in found["tuned"]:
            base, tuned = found["base"][key], found["tuned"][key]
            better = (tuned > base) == percent and tuned != base
            change = f"{100 * (tuned - base):+.1f}" if percent else f"{tuned - base:+.3f}"
            change = change.replace("-", "\N{MINUS SIGN}")
            numbers = [f"{100 * value:.1f} %" if percent else f"{value:.3f}" for value in (base, tuned)]
            tone = "same" if tuned == base else "better" if better else "worse"
            rows.append(
                f"<tr><th>{words}</th><td>{numbers[0]}</td><td>{numbers[1]}</td><td data-tone={tone}>{change}</td></tr>"
            )
    asked = counted(found["held_out"], "question")
    if found["held_out"] > found["questions"]:
        asked = f"{found['questions']:,} of {asked}"
    small = " So few tell little: a handful more or less right is chance." if found["questions"] < 100 else ""
    return (
        f'<table class="comparison" data-questions="{found["questions"]}"><thead><tr><th></th><th>base</th>'
        f"<th>{html.escape(name)}</th><th>change</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f'<p class="status">{asked} of the {html.escape(found["split"])} split, which '
        f"were not trained on; {found['with_target']:,} with a region to look at.{small}</p>"
    )
