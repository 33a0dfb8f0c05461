"""The opening picture: there with the page itself, true, out of the way in time, and nothing else is touched."""

from __future__ import annotations

import asyncio
import gzip
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import expect

from app.access.headers import NONCE
from app.common.initial_page import InitialPage
from tests.app.conftest import PATIENCE_MS

DRAWN = ".stage[data-result$=complete][data-shown$=ready]"
# Where the picture, its caption and the words are, and the colour of what is chosen.
PLACES = """() => [".stage", "[data-part=caption]", ".words-panel"].flatMap((name) => {
    const box = document.querySelector(name).getBoundingClientRect();
    return [box.x, box.y, box.width, box.height];
})"""
# Notes of each drawing whether the canvas has as many pixels as it has room, before anything else is done.
NOTES_OF_DRAWINGS = """
window.drawings = [];
new MutationObserver((changes) => {
    const canvas = changes[0].target.querySelector("canvas.picture");
    const { width, height } = canvas.getBoundingClientRect();
    window.drawings.push(canvas.width === Math.round(width) && canvas.height === Math.round(height));
}).observe(document, { subtree: true, attributeFilter: ["data-took-ms"] });
"""
ACCENT = "() => getComputedStyle(document.querySelector('.word'), '::after').backgroundColor"


@pytest.fixture(scope="module")
def prepared(served, browser):
    """The application with the first example's answers in its page."""
    page = browser.new_page()
    page.goto(served.url + "/theme.css")
    assert page.evaluate(
        r"""async (most) => {
            const end = performance.now() + most;
            while (performance.now() < end) {
                if ((await (await fetch("/")).text()).includes('"complete":true')) return true;
                await new Promise((done) => setTimeout(done, 300));
            }
        }""",
        PATIENCE_MS,
    ), "the first example was not answered"
    page.close()
    return served


@pytest.mark.parametrize(
    "options",
    [
        {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
        {"viewport": {"width": 820, "height": 1180}, "color_scheme": "dark"},
    ],
)
def test_the_first_example_is_drawn_with_its_answers_before_any_widget_stands(prepared, browser, visit, options):
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.route("**/assets/index-*.js", lambda route: route.abort())
    page.goto(prepared.url)
    page.wait_for_selector(DRAWN)
    assert not [url for url in asked if "gradio_api" in url or url.startswith("blob:")], "the page alone is enough"
    expect(page.locator(".model")).to_contain_text("Opening the page")
    assert page.locator("#initial-page").get_attribute("inert") is not None
    answers = page.locator(".answer").all_inner_texts()
    caption = page.locator("[data-part=caption]").inner_text()
    places, accent = page.evaluate(PLACES), page.evaluate(ACCENT)
    assert "base against B: a3" in caption
    context.close()

    visitor = visit(**options)
    assert visitor.page.locator("#initial-page").count() == 0
    assert visitor.page.locator(".answer").all_inner_texts() == answers
    assert visitor.page.locator("[data-part=caption]").inner_text() == caption
    # The picture stays where it was when the widgets take over.
    assert visitor.page.evaluate(PLACES) == pytest.approx(places, abs=4)
    assert visitor.page.evaluate(ACCENT) == accent
    assert not visitor.complaints


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (820, 1180), (390, 844)])
def test_the_picture_is_drawn_once_into_the_room_that_it_has(prepared, browser, width, height):
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(NOTES_OF_DRAWINGS)
    page = context.new_page()
    page.route("**/assets/index-*.js", lambda route: route.abort())
    page.goto(prepared.url)
    page.wait_for_selector(DRAWN)
    # A second one would come with the next frame, as soon as the observer of sizes is told.
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate("window.drawings") == [True]
    context.close()


def test_what_is_chosen_before_the_visit_has_begun_stays(prepared, browser):
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    held = []
    page.route(re.compile("queue/join"), lambda route: held.append(route))
    page.goto(prepared.url)
    page.wait_for_selector("#viewer " + DRAWN)
    expect(page.locator("#initial-page")).to_have_count(0)
    word = page.locator(".word[data-role=question][data-row]:visible").nth(1)
    row = word.get_attribute("data-row")
    word.click()
    page.wait_for_selector(f".stage[data-shown$='{row} ready']")
    result = page.locator(".stage").get_attribute("data-result")
    assert page.locator(".drawer").is_hidden()
    # The server does not know yet which image a question would be about: none can be asked, by hand or by key.
    expect(page.locator("#status")).to_contain_text("Opening the page …")
    box = page.locator("#ask").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator("#question textarea, #question input").first.evaluate("box => box.focus()")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('#inputs')") is None
    for route in held:
        route.continue_()
    page.unroute(re.compile("queue/join"))
    page.wait_for_selector(".drawer:not([hidden])")
    expect(word).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".stage")).to_have_attribute("data-result", result)
    page.wait_for_selector(".stage[data-regions^=ready]")
    page.get_by_role("tab", name="History").click()
    assert page.locator(".history li").count() == 0
    # From now on one can be asked, and it is the only one.
    expect(page.locator("#status")).to_contain_text("Synthetic chest")
    page.locator("#question textarea, #question input").first.fill("Is there a mass?")
    page.keyboard.press("Enter")
    expect(page.locator(".history li")).to_have_count(2)
    assert page.locator("#status [role=alert]").count() == 0
    context.close()


def serve(
    body: bytes, path: str = "/", status: int = 200, accept: bytes = b"", nonce: str = ""
) -> tuple[dict[bytes, bytes], bytes]:
    """What a page of these bytes, sent in two parts, becomes."""
    sent = []

    async def page(scope, receive, send):
        headers = [(b"content-length", str(len(body)).encode()), (b"content-type", b"text/html")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body[:5], "more_body": True})
        await send({"type": "http.response.body", "body": body[5:]})

    async def send(message):
        sent.append(message)

    look = InitialPage(page, lambda: '{"</script>": 1}', lambda: ":root {}", ("One & two", "Three"), "a < b?", "b > a")
    scope = {"type": "http", "method": "GET", "path": path, "headers": [(b"accept-encoding", accept)]}
    if nonce:
        scope[NONCE] = nonce
    # In a thread of its own: the browser's loop may be running in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, look(scope, None, send)).result()
    return dict(sent[0]["headers"]), b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("accept", [b"", b"gzip, br"])
def test_only_the_page_itself_is_changed(accept):
    page = b"<html><head><script></script></head><body><gradio-app></gradio-app></body></html>"
    headers, body = serve(page, accept=accept)
    assert int(headers[b"content-length"]) == len(body)
    text = (gzip.decompress(body) if accept else body).decode()
    assert text.startswith("<html><head><script></script></head><body><style>:root {}")
    assert text.endswith("<gradio-app></gradio-app></body></html>")
    assert "<span>One &amp; two</span><span>Three</span>" in text
    assert "a &lt; b?" in text
    assert text.count("</script>") == 5, "a value ends no script"
    assert serve(page, path="/config", accept=accept)[1] == page
    assert serve(b"words without a place", accept=b"")[1] == b"words without a place"
    assert serve(page, status=401)[1] == page


def test_a_packed_page_is_the_same_text_with_a_nonce_of_its_own():
    page = b"<html><script>1</script><body>\xc3\xa4<gradio-app></gradio-app><script>2</script></body></html>"
    for nonce in ("0a1b" * 8, "ffee" * 8, ""):
        plain = serve(page, nonce=nonce)[1]
        headers, body = serve(page, accept=b"br, gzip", nonce=nonce)
        assert gzip.decompress(body) == plain
        assert headers[b"content-encoding"] == b"gzip"
        assert plain.count(b"<script") == plain.count(f"<script nonce={nonce}".encode() if nonce else b"<script") > 4
