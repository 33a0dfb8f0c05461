"""The Models tab in a real browser: another model, who is told, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect


@pytest.fixture(scope="module")
def folder(tiny_checkpoint):
    return tiny_checkpoint("llava")


@pytest.fixture(scope="module")
def served(serve, folder) -> Iterator[object]:
    """A page of its own, whose model may be replaced."""
    with serve("--models", f"demo,{folder},medgemma-4b,medsam") as server:
        yield server


def manager(visitor):
    """The tab, opened."""
    visitor.page.get_by_role("tab", name="Models").click()
    visitor.page.wait_for_selector(".manager[data-state=ready]")
    return visitor.page.locator(".manager")


def choose(manager, title: str) -> None:
    manager.locator(".item", has_text=title).click()
    expect(manager.locator(".title")).to_have_text(title)


def test_another_model_is_loaded_and_everybody_is_told(visit, folder):
    reader = visit(color_scheme="dark")
    # The first visitor after a start, whose answers came one by one, sees the base and the adapter side by side.
    expect(reader.page.locator(".stage")).to_have_attribute("data-compare", "side")
    expect(reader.page.locator("[data-part=paneB]")).to_contain_text("B · a3")
    operator = visit(color_scheme="light")
    first = reader.result
    answer = reader.page.locator("[data-part=answer]").inner_text()

    tab = manager(operator)
    expect(tab.locator(".badge")).to_have_text("in use")
    operator.screenshot("models_light")
    choose(tab, "MedGemma 4B")
    expect(tab.locator(".gate")).to_be_visible()
    expect(tab.locator(".obstacles")).to_contain_text("pip install bitsandbytes")
    tab.locator(".load").click()
    expect(tab.locator(".outcome[role=alert]")).to_contain_text("hub is out of reach")
    expect(tab.locator(".remedy")).to_contain_text("hf download google/medgemma-4b-it")
    tab.locator(".own input").fill("owner/unknown")
    tab.locator(".own button").click()
    expect(tab.locator(".outcome[role=alert]")).to_contain_text("A hub id of your own, 'owner/unknown'")
    expect(tab.locator(".remedy")).to_contain_text("--any-model")
    tab.locator(".own input").fill("medgemma 4b")
    tab.locator(".own button").click()
    expect(tab.locator(".title")).to_have_text("MedGemma 4B")
    tab.locator(".own input").fill("hub:owner/name/vit_b.pth")
    tab.locator(".own button").click()
    expect(tab.locator(".own select")).to_have_value("segmenter")
    expect(tab.locator(".outcome[role=alert]")).to_contain_text("hub:owner/name/vit_b.pth")

    choose(tab, folder.name)
    tab.locator(".load").click()
    expect(tab.locator(".outcome[role=status]")).to_contain_text("answers the questions from now on")
    expect(tab.locator(".badge")).to_have_text("in use")

    page = reader.page
    expect(page.locator(".changed")).to_contain_text(f"{folder.name} answers from now on")
    expect(page.locator(".model .name")).to_have_text(folder.name)
    expect(page.locator(".notice")).not_to_contain_text("phantoms")
    expect(page.locator("#adapters")).to_have_count(0)
    assert (reader.result, page.locator("[data-part=answer]").inner_text()) == (first, answer)
    page.locator(".cell").last.click()
    reader.shown("ready")
    reader.ask("Is there a mass?")
    reader.screenshot("model_replaced_dark")
    page.get_by_role("tab", name="History").click()
    assert page.locator(".history li").count() == 2

    choose(tab, "Phantom demo")
    tab.locator(".load").click()
    expect(tab.locator(".outcome[role=status]")).to_contain_text("Phantom demo answers the questions")
    expect(page.locator(".changed")).to_contain_text("Phantom demo")
    expect(page.locator(".notice")).to_contain_text("phantoms")
    expect(page.locator("#adapters input")).not_to_have_count(0)
    assert not operator.complaints
    assert not reader.complaints
