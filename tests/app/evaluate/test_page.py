"""The Evaluate tab in a real browser: an evaluation started, found again by another server, read and compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.studio_server import PATIENCE_MS, Server, wide_window


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    with wide_window(browser) as context:
        page = context.new_page()
        page.goto(server.url)
        opened(page)
        yield page


def opened(page: Page) -> None:
    page.get_by_role("tab", name="Evaluate", exact=True).click()
    page.wait_for_selector("#evaluate-data input")
    page.wait_for_function("localStorage.getItem('a3tune-visitor') !== null")
    expect(page.locator("#evaluate-adapters label")).to_have_count(3, timeout=PATIENCE_MS)


def reaches(page: Page, *states: str) -> None:
    page.wait_for_selector(", ".join(f".evaluation[data-status={state}]" for state in states))


def report_of(server: Server) -> dict:
    (job,) = server.runs()
    return json.loads((job / "run" / "report.json").read_text())


def test_from_the_start_over_a_new_server_to_tables_questions_and_files(page, server, tmp_path):
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    # Untouched, it compares the base with the adapters that came with the model, on all questions.
    expect(page.locator("#evaluate-limit input")).to_have_value("0")
    expect(page.locator("#evaluate-adapters input:checked")).to_have_count(3)
    page.locator("#evaluate-limit input").fill("6")
    page.locator("#evaluate-adapters").get_by_label("lora", exact=True).uncheck()
    page.get_by_role("button", name="Decoding, controls and heads").click()
    page.locator("#evaluate-heads").get_by_label("All heads", exact=True).check()
    page.locator("#evaluate-head-count input").fill("3")

    # What it takes is told before anything starts.
    page.locator("#evaluate-measure").click()
    expect(page.locator("#evaluate-status")).to_contain_text("6 questions of the test split", timeout=PATIENCE_MS)
    expect(page.locator("#evaluate-status")).to_contain_text("2 systems (base, a3), 12 answers")

    page.locator("#evaluate-start").click()
    reaches(page, "preparing", "asking")
    # The server goes while it works, and another one finds it.
    server.kill()
    server.start()
    page.goto(server.url)
    opened(page)
    reaches(page, "finished")
    page.wait_for_selector(".evaluation:not([data-shown=''])")

    # The page's numbers are the report's.
    report = report_of(server)
    accuracy = {metric["system"]: metric["interval"]["value"] for metric in report["metrics"]
                if (metric["name"], metric["mode"], metric["group"]) == ("accuracy", "strict", "")}  # fmt: skip
    cells = page.locator(".numbers tr[data-metric='accuracy|strict'] td")
    assert [float(cell.get_attribute("data-value")) for cell in cells.all()] == pytest.approx(list(accuracy.values()))
    for heads in ("all heads", "3 critical heads"):
        values = [
            metric["interval"]["value"]
            for metric in report["metrics"]
            if (metric["name"], metric["mode"], metric["group"]) == ("attention_mass", f"given answer, {heads}", "")
        ]
        cells = page.locator(f".numbers tr[data-metric='attention_mass|given answer, {heads}'] td")
        assert len(values) == 2
        assert [float(cell.get_attribute("data-value")) for cell in cells.all()] == pytest.approx(values)
    expect(page.locator(".verdicts li").first).to_contain_text(report["comparisons"][0]["verdict"])
    assert page.locator(".groups .dot").count() > 0
    (table,) = [table for table in report["reasons"] if table["system"] == "a3"]
    shown = page.locator(".cells tr[data-system=a3] button")
    assert [int(button.text_content()) for button in shown.all()] == list(table["counts"].values())
    page.locator(".reasons input").fill("0")
    lowest = dict(table["sweep"][0][1])
    assert [int(button.text_content()) for button in shown.all()] == list(lowest.values())
    page.locator(".reasons input").fill("2")

    # A cell and a band open their questions, and a filter leaves others out.
    items = page.locator(".items")
    expect(items).to_have_attribute("data-count", "6")
    page.locator(".groups .value").first.click()
    expect(items).to_have_attribute("data-kind", "group")
    first = next(
        metric for metric in report["metrics"] if (metric["group"], metric["name"]) == ("answer_type", "accuracy")
    )
    expect(items).to_have_attribute("data-count", str(first["interval"]["questions"]))
    cell, count = next((cell, count) for cell, count in table["counts"].items() if count)
    page.locator(f".cells tr[data-system=a3] button[data-cell='{cell}']").click()
    expect(items).to_have_attribute("data-kind", "cell")
    expect(items).to_have_attribute("data-count", str(count))
    assert items.locator("canvas").count() == 2 * count
    flow = report["transitions"][0]["flows"][0]
    page.locator(".alluvial .band").filter(has_text=f"{flow[0]} → {flow[1]}").press("Enter")
    expect(items).to_have_attribute("data-kind", "flow")
    expect(items).to_have_attribute("data-count", str(flow[2]))
    page.locator(".filters .kind").select_option("fixed")
    expect(items).to_have_attribute("data-kind", "fixed")
    fixed = next(one["fixed"] for one in report["comparisons"] if one["name"] == "accuracy")
    assert int(items.get_attribute("data-count")) >= len(fixed)
    page.screenshot(path=tmp_path / "evaluate.png", full_page=True)

    for name in ("report.tex", "items.jsonl", "figures.zip"):
        with page.expect_download() as caught:
            page.locator(f".downloads button[data-file='{name}']").click()
        assert Path(caught.value.path()).stat().st_size > 0

    # One press opens a question in Inspect, with the adapters that answered it.
    page.locator(".filters .kind").select_option("all")
    expect(items).to_have_attribute("data-count", "6")
    lines = (server.runs()[0] / "run" / "items.jsonl").read_text().splitlines()
    # Words are searched for as they are typed.
    asked = {one["number"]: one["question"] for one in map(json.loads, lines)}
    page.locator(".filters .text").press_sequentially(asked[0])
    expect(items).to_have_attribute("data-count", str(sum(asked[0] in question for question in asked.values())))
    page.locator(".filters .text").fill("")
    expect(items).to_have_attribute("data-count", "6")
    base = sorted((one for one in map(json.loads, lines) if one["system"] == "base"), key=lambda one: one["number"])
    place, mass = next(
        (place, one["attention"]["generated"]["attention_mass"])
        for place, one in enumerate(base)
        if one["attention"].get("generated", {}).get("attention_mass") is not None
    )
    question = items.locator(".question").nth(place).text_content()
    items.locator("button.inspect").nth(place).click()
    expect(page.locator("#question textarea, #question input").first).to_have_value(question, timeout=PATIENCE_MS)
    expect(page.locator("#adapters input:checked")).to_have_count(2)
    # The data's mask is drawn there, with the evaluation's own number.
    inside = page.locator(".answer-of", has_text="inside the reference mask").first
    expect(inside).to_contain_text(f"{100 * mass:.1f} % of its attention", timeout=PATIENCE_MS)
    expect(page.locator("[data-part=caption]")).to_contain_text("reference mask")
    # So is the data's answer told, by which each side's is right or wrong.
    expect(page.locator(".answer-of .verdict")).to_have_count(2)
    right = base[place]["answer"]
    for side in page.locator(".answer-of").all():
        said = side.locator(".answer").inner_text().strip().lower()
        told = "✓ the reference answer" if said == right.lower() else f"✗ the reference answer is “{right}”"
        expect(side.locator(".verdict")).to_have_text(told)

    # What is written there and was not asked stays.
    field, stage = page.locator("#question textarea, #question input").first, page.locator(".stage")
    shown = stage.get_attribute("data-result")
    field.fill("Is there a fracture?")
    page.get_by_role("tab", name="Evaluate", exact=True).click()
    items.locator("button.inspect").nth(place).click()
    expect(stage).not_to_have_attribute("data-result", shown)
    page.wait_for_selector(".stage[data-result$=complete]")
    expect(inside).to_contain_text(f"{100 * mass:.1f} % of its attention", timeout=PATIENCE_MS)
    expect(field).to_have_value("Is there a fracture?")

    # Two evaluations stand beside each other with what differs.
    page.get_by_role("tab", name="Evaluate", exact=True).click()
    (first,) = server.runs()
    shutil.copytree(first, first.with_name("0" * 12))
    page.goto(server.url)
    opened(page)
    page.wait_for_selector(".evaluation:not([data-shown=''])")
    page.locator(".other").select_option(index=1)
    expect(page.locator(".against")).to_contain_text("6 questions in both")
    expect(page.locator(".against")).to_contain_text("the same on every one")
    assert complaints == []

    page.locator("#evaluate-delete").click()
    page.locator("#evaluate-delete-yes").click()
    expect(page.locator("#evaluate-delete-status")).to_contain_text("Deleted")
