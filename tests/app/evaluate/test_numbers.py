"""Tables of the Evaluate tab that the browser makes of a report."""

from __future__ import annotations

import pytest

from a3tune.evaluation.presentation import METRIC_TITLES, PLAIN_METRICS, SYSTEM_COLOURS

PRESENTATION = {"titles": METRIC_TITLES, "plain": PLAIN_METRICS, "colours": SYSTEM_COLOURS}
SPREADS = """async ([presentation, seeds]) => {
    const table = document.createElement("table");
    (await import("/evaluate/static/numbers.js")).createNumbers(presentation).fillSpreads(table, seeds);
    return [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent));
}"""
VERDICTS = """async ([presentation, comparisons]) => {
    const list = document.createElement("ul");
    (await import("/evaluate/static/numbers.js")).createNumbers(presentation).fillVerdicts(list, comparisons);
    return [...list.children].map((line) => [line.dataset.told, line.textContent]);
}"""


def test_runs_with_other_seeds_have_a_column_for_each_recipe(module_page):
    def entry(recipe, systems, name, mean, deviation):
        return {
            "recipe": recipe, "systems": systems, "name": name, "mode": "strict",
            "spread": {"mean": mean, "deviation": deviation, "runs": len(systems)},
        }  # fmt: skip

    a3, lora = ["a3-seed4", "a3-seed5", "a3-seed6"], ["lora-seed4", "lora-seed5"]
    seeds = [
        entry("a3", a3, "accuracy", 0.716, 0.013), entry("lora", lora, "accuracy", 0.7159, 0.006),
        entry("a3", a3, "recall", 0.294, 0.076),
    ]  # fmt: skip
    assert module_page.evaluate(SPREADS, [PRESENTATION, seeds]) == [
        ["", "a3 (3 seeds)", "lora (2 seeds)"],
        ["closed accuracy strict", "71.6 % ± 1.3 %", "71.6 % ± 0.6 %"],
        ["open recall strict", "29.4 % ± 7.6 %", "–"],
    ]


@pytest.mark.parametrize(("told", "shown"), [(True, "yes"), (False, "no")])
def test_a_verdict_stands_out_where_the_server_says_that_it_tells_the_two_apart(module_page, told, shown):
    # A small p alone does not: the interval may still hold none.
    entry = {
        "before": "base", "after": "a3", "name": "accuracy", "mode": "strict", "p_holm": 0.03, "verdict": "as told",
        "difference": {"value": 0.1, "low": -0.01, "high": 0.2}, "told": told,
    }  # fmt: skip
    assert module_page.evaluate(VERDICTS, [PRESENTATION, [entry]]) == [
        [shown, "base → a3, closed accuracy (strict): as told (p 0.030, Holm)"]
    ]
