"""Regions on the page in a real browser: outlines, list, prompt, drawn boxes, the target's numbers and its files."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from a3tune.bundle import EXAMPLES
from tests.app.conftest import Visitor
from tests.support.shared_visit import SharedVisit

PHANTOM = EXAMPLES / "chest_mass.png"
CHECKED = ".regions tbody input:checked"


def wait_for(visitor, state):
    visitor.page.wait_for_selector(f".stage[data-regions^='{state} ']")


def rows(visitor):
    return visitor.page.locator(".regions tbody tr")


def numbers(visitor):
    return visitor.page.locator("[data-part=regionNumbers]").inner_text()


def changed(visitor, selector, before):
    """Wait until an element reads otherwise than before."""
    visitor.page.wait_for_function(
        "([selector, before]) => document.querySelector(selector).innerText !== before", arg=[selector, before]
    )


def drag(visitor, start, end):
    stage = visitor.box(".stage")
    mouse = visitor.page.mouse
    for place, (x, y) in enumerate((start, end)):
        mouse.move(stage["x"] + x * stage["width"], stage["y"] + y * stage["height"], steps=3)
        if place == 0:
            mouse.down()
    return mouse


@pytest.fixture(scope="module")
def shared(browser, served):
    def begin():
        visitor = Visitor(browser, served.url, color_scheme="dark", accept_downloads=True)
        visitor.example(4)
        visitor.ask("Where is the liver?")
        visitor.page.locator("[data-compare=a]").click()
        wait_for(visitor, "ready")
        return visitor

    visit = SharedVisit(begin)
    yield visit
    visit.end()


@pytest.fixture
def asked(shared):
    """A visitor with an answer about a phantom of the abdomen and its regions on the page."""
    return shared.put_back()


@pytest.fixture(scope="module")
def anybody(browser, served):
    """One visitor for all tests that begin by giving an image."""
    visitor = Visitor(browser, served.url, color_scheme="light")
    yield visitor
    visitor.context.close()


def test_regions_come_with_ranks_and_switching_one_changes_numbers_and_picture(asked):
    page = asked.page
    assert rows(asked).count() == 8
    assert page.locator(CHECKED).count() == 4
    assert page.locator("[data-control=prompt]").input_value() == "Where is the liver?"
    expect(page.locator("[data-part=regionNotes]")).to_contain_text("regions kept")
    expect(page.locator("[data-part=regionNotes]")).to_contain_text("Found by LiteMedSAM")
    expect(page.locator("[data-part=targetNote]")).to_contain_text("in the regions of ranks 1, 2, 3 and 4 together")
    four, picture = numbers(asked), asked.picture()
    assert "Attention inside" in four
    page.locator(CHECKED).first.focus()
    page.keyboard.press("Space")
    expect(page.locator("[data-part=targetNote]")).to_contain_text("in the regions of ranks 2, 3 and 4 together")
    for box in page.locator(CHECKED).all()[::-1]:
        box.uncheck()
    expect(page.locator("[data-part=targetNote]")).to_contain_text("No region is switched on")
    expect(page.locator("[data-part=regionNumbers]")).to_be_empty()
    expect(page.locator("[data-action=keep]")).to_be_disabled()
    assert asked.picture() != picture

    # One region by itself: the target is as large as the list says of it, and its numbers are others.
    smallest = min(rows(asked).all(), key=lambda row: float(row.locator("td").nth(4).inner_text().split()[0]))
    share = float(smallest.locator("td").nth(4).inner_text().split()[0])
    smallest.locator("input").check()
    expect(page.locator("[data-part=regionNumbers]")).to_contain_text("Area of the image")
    area = page.locator("[data-part=regionNumbers] dd").last.inner_text().split()[0]
    assert float(area) == pytest.approx(share, abs=0.06)
    assert numbers(asked) != four
    outlined = asked.picture()
    page.locator("[data-control=outlines]").uncheck()
    page.wait_for_function("before => document.querySelector('canvas.picture').toDataURL() !== before", arg=outlined)
    assert not asked.complaints


def test_another_prompt_changes_the_ranking_and_keeps_the_answer(asked):
    page = asked.page
    answer = page.locator("[data-part=answer]").inner_text()
    prompt = page.locator("[data-control=prompt]")
    prompt.fill("Is there a stone in the kidney?")
    ranking = page.locator(".regions tbody").inner_text()
    prompt.press("Enter")
    changed(asked, ".regions tbody", ranking)
    wait_for(asked, "ready")
    assert page.locator("[data-part=answer]").inner_text() == answer
    prompt.fill("   ")
    page.locator("#question textarea, #question input").first.fill("")
    prompt.press("Enter")
    expect(page.locator("[data-part=regionSaid]")).to_contain_text("The prompt is empty")
    assert rows(asked).count() == 8
    prompt.fill("liver " * 150)
    prompt.press("Enter")
    expect(page.locator("[data-part=regionSaid]")).to_contain_text("tokens")


def test_small_structures_come_with_a_switch_and_go_with_it(anybody, tmp_path):
    visitor = anybody
    page = visitor.page
    grey = np.full((256, 256), 90, np.uint8)
    grey[60:150, 60:150] = 150
    grey[200:211, 30:41] = grey[200:211, 190:201] = 220
    Image.fromarray(grey).save(tmp_path / "small.png")
    visitor.upload(tmp_path / "small.png")
    visitor.ask("Where is the stone?")
    wait_for(visitor, "ready")
    small = rows(visitor).filter(has_text="found, small")
    assert small.count() == 0
    page.locator("[data-control=small]").check()
    expect(small).not_to_have_count(0)
    wait_for(visitor, "ready")
    small.first.locator("input").check()
    page.locator("[data-action=keep]").click()
    expect(page.locator("[data-part=kept]")).to_contain_text("Kept")
    page.locator("[data-control=small]").uncheck()
    expect(small).to_have_count(0)
    assert not visitor.complaints


def test_a_region_under_the_pointer_is_named_and_a_kept_target_is_downloaded(asked, tmp_path):
    page = asked.page
    page.locator(".regions tbody tr").first.hover()
    expect(page.locator(".regions tbody tr").first).to_have_class("hovered")
    with_hover = asked.picture()
    page.locator("#question textarea, #question input").first.hover()
    page.wait_for_function("before => document.querySelector('canvas.picture').toDataURL() !== before", arg=with_hover)

    page.locator("[data-action=keep]").click()
    expect(page.locator("[data-part=kept]")).to_contain_text("Kept: 4 regions")
    with page.expect_download() as download:
        page.locator("[data-part=download]").click()
    path = tmp_path / "target.zip"
    download.value.save_as(path)
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == ["labels.json", "masks.npz", "regions.png"]


def test_a_drawn_box_adds_a_region_and_escape_draws_none(asked):
    page = asked.page
    button = page.locator("[data-action=box]")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    drag(asked, (0.3, 0.3), (0.4, 0.4))
    page.keyboard.press("Escape")
    page.mouse.up()
    expect(button).to_have_attribute("aria-pressed", "false")
    assert rows(asked).count() == 8

    button.click()
    drag(asked, (0.45, 0.55), (0.58, 0.75)).up()
    expect(page.locator(".regions tbody")).to_contain_text("drawn box")
    expect(page.locator("[data-part=targetNote]")).to_contain_text("in the regions of ranks 1, 2, 3, 4 and ")
    asked.screenshot("regions_dark")


def test_a_blank_image_is_told_in_words_and_the_page_goes_on(anybody, tmp_path):
    visitor = anybody
    page = visitor.page
    blank = tmp_path / "blank.png"
    Image.fromarray(np.full((90, 120), 40, np.uint8)).save(blank)
    visitor.upload(blank)
    visitor.ask("Is there a mass?")
    wait_for(visitor, "said")
    expect(page.locator("[data-part=regionSaid]")).to_contain_text("same value")
    assert page.locator("[data-part=answer]").inner_text().strip()
    visitor.example(0)
    expect(page.locator("[data-part=regionSaid]")).to_be_hidden()
    visitor.ask("Where is the mass?")
    wait_for(visitor, "ready")
    assert not visitor.complaints


def test_a_box_needs_no_answer_and_the_pointer_names_its_region(anybody):
    visitor = anybody
    page = visitor.page
    visitor.upload(PHANTOM)
    page.locator("[data-action=box]").click()
    drag(visitor, (0.3, 0.35), (0.4, 0.6)).up()
    wait_for(visitor, "ready")
    expect(page.locator("[data-part=targetNote]")).to_contain_text("Ask a question")
    page.locator(".regions tbody tr", has_text="drawn box").locator("input").focus()
    where = visitor.page.evaluate(
        """() => {
            const box = document.querySelector(".stage").getBoundingClientRect();
            return [box.x + 0.35 * box.width, box.y + 0.45 * box.height];
        }"""
    )
    page.mouse.move(*where)
    expect(page.locator(".tip")).to_contain_text("score")
    visitor.screenshot("regions_light")
