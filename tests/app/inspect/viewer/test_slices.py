"""A walk through slices: what the server hears of it, and what a question right after it is about."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from a3tune.bundle import EXAMPLES


@pytest.fixture
def reader(visit):
    """A visitor with a volume on show, and some of its slices in the browser already."""
    visitor = visit()
    with visitor.page.expect_response(lambda response: "frames_ahead" in (response.request.post_data or "")):
        visitor.upload(EXAMPLES / "real_mr.nii.gz")
    visitor.page.locator(".stage").focus()
    return visitor


@pytest.fixture
def label(reader):
    return reader.page.locator("#viewer [data-part=imageLabel]")


def place(label) -> int:
    return int(re.search(r"(\d+) of \d+", label.inner_text())[1])


def step_down(reader, label) -> None:
    """Press a key until the next slice is drawn."""
    before = place(label)
    reader.page.keyboard.press("ArrowDown")
    expect(label).to_contain_text(f"{before + 1} of")


def test_the_server_hears_of_a_walk_when_it_rests(reader, label):
    page = reader.page
    walks: list[str] = []
    first = place(label)
    page.on("request", lambda request: walks.append(request.url) if _is_walk(request) else None)
    # Six keys between two frames of the browser: nothing rests meanwhile.
    page.evaluate("""() => {
        const stage = document.querySelector(".stage"), press = {key: "ArrowDown", bubbles: true};
        for (let i = 0; i < 6; i++) stage.dispatchEvent(new KeyboardEvent("keydown", press));
    }""")
    expect(label).to_contain_text(f"{first + 6} of")
    expect(page.locator("#frame input[type=number]")).to_have_value(str(first + 6))
    assert len(walks) == 1
    assert not reader.complaints


def _is_walk(request) -> bool:
    return "queue/join" in request.url and '"event_data":{"frame"' in (request.post_data or "")


def test_a_question_right_after_a_step_is_about_the_slice_on_show(reader, label):
    page = reader.page
    page.locator("#question textarea, #question input").first.fill("Is there a mass?")
    page.locator(".stage").focus()
    step_down(reader, label)
    there = label.inner_text()
    before = reader.result
    page.evaluate("document.querySelector('#ask').click()")  # no key and no pointer comes before it
    reader.finished(before)
    expect(label).to_have_text(there)
    expect(page.locator("#status")).not_to_contain_text("not answered")
    assert not reader.complaints


def test_a_slice_that_comes_ahead_is_shown_whatever_else_is_asked_for(reader, label):
    page = reader.page
    # Held, not broken off: Gradio loads the page anew two seconds after a request that failed.
    page.route("**/queue/join*", lambda route: None if _is_walk(route.request) else route.continue_())
    count = int(re.search(r"\d+ of (\d+)", label.inner_text())[1])
    first = place(label)
    far = count if first < count / 2 else 1
    page.locator("[data-part=slices]").fill(str(far - 1))  # further than what was fetched: the server is asked for it
    page.locator(".stage").focus()
    # The server does not answer; the neighbour's arrival brings the one that is gone back to.
    page.keyboard.press("ArrowUp" if far == count else "ArrowDown")
    expect(label).to_contain_text(f"{far - 1 if far == count else far + 1} of")
