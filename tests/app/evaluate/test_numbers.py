"""Tables of the Evaluate tab that the browser makes of a report."""

from __future__ import annotations

SPREADS = """async (seeds) => {
    const table = document.createElement("table");
    (await import("/evaluate/static/numbers.js")).fillSpreads(table, seeds);
    return [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent));
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
    assert module_page.evaluate(SPREADS, seeds) == [
        ["", "a3 (3 seeds)", "lora (2 seeds)"],
        ["closed accuracy strict", "71.6 % ± 1.3 %", "71.6 % ± 0.6 %"],
        ["open recall strict", "29.4 % ± 7.6 %", "–"],
    ]
