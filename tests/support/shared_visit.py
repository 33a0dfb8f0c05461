"""One visit of the Inspect tab for several tests: before each, its page is put back to how it was at first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from playwright.sync_api import TimeoutError

if TYPE_CHECKING:
    from tests.app.conftest import Visitor

# All that can be seen or chosen around the picture, and the picture itself; not how long it took to draw, what lies
# under the pointer, nor checks that were made: these stay as long as the result.
TOLD = """() => {
    const left = ["readout", "tip", "curves", "control", "faithfulnessSaid", "faithfulnessWhat"];
    const all = (selector, tell) => [...document.querySelectorAll("#viewer " + selector)].map(tell);
    const {tookMs, session, tool = "", ...stage} = document.querySelector(".stage").dataset;
    return JSON.stringify({
        stage,
        tool,
        scrolled: window.scrollY,
        picture: document.querySelector("canvas.picture").toDataURL(),
        controls: all("[data-control]", (box) =>
            [box.dataset.control, box.type === "checkbox" ? box.checked : box.value]),
        pressed: all("[aria-pressed]", (button) => button.getAttribute("aria-pressed")),
        tabs: all("[role=tab]", (tab) => tab.getAttribute("aria-selected")),
        rows: all(".regions tbody tr", (row) => [row.innerText, row.querySelector("input").checked]),
        cells: all(".cell", (cell) => cell.title),
        words: all("[data-part]", (part) =>
            left.includes(part.dataset.part) || !part.checkVisibility() ? "" : part.textContent),
        question: document.querySelector("#question textarea, #question input").value,
    });
}"""

_PUT_BACK = """(first) => {
    const {controls, pressed, tabs, rows, question} = JSON.parse(first);
    const viewer = document.getElementById("viewer");
    const stage = viewer.querySelector(".stage");
    const press = (key) => stage.dispatchEvent(new KeyboardEvent("keydown", {key}));
    const click = (selector) => viewer.querySelector(selector)?.click();
    viewer.querySelectorAll("[data-action][aria-pressed=true]").forEach((tool) => tool.click());
    click("[data-action=clearPlace]");
    click("[data-action=clearMeasures]");
    const wanted = new Map(controls);
    const set = (name) => {
        const box = viewer.querySelector(`[data-control=${name}]`);
        const kind = box.type === "checkbox" ? "checked" : "value";
        if (box[kind] === wanted.get(name)) return;
        box[kind] = wanted.get(name);
        ["input", "change"].forEach((event) => box.dispatchEvent(new Event(event, {bubbles: true})));
        if (name === "prompt") click("[data-action=rank]");
    };
    ["sideA", "sideB"].forEach(set);
    // The handle of the wipe stands in the middle.
    click("[data-compare=wipe]");
    for (let i = 0; i < 20; i++) press("[");
    for (let i = 0; i < 10; i++) press("]");
    click("[data-heads=critical]");
    click("[data-words=answer]");
    controls.forEach(([name]) => set(name));
    press("0");
    const buttons = [...viewer.querySelectorAll("[data-compare]")];
    const places = [...viewer.querySelectorAll("[aria-pressed]")];
    buttons.find((button) => pressed[places.indexOf(button)] === "true")?.click();
    const boxes = [...viewer.querySelectorAll(".regions tbody input")];
    boxes.forEach((box, place) => box.checked !== rows[place]?.[1] && box.click());
    // What was kept is told until another region is switched on or off.
    if (viewer.querySelector("[data-part=kept]").textContent) [boxes[0], boxes[0]].forEach((box) => box.click());
    viewer.querySelectorAll("[role=tab]")[tabs.indexOf("true")].click();
    const field = document.querySelector("#question textarea, #question input");
    if (field.value !== question) {
        field.value = question;
        field.dispatchEvent(new Event("input", {bubbles: true}));
    }
    document.activeElement?.blur();
    window.scrollTo({top: 0, behavior: "instant"});
}"""

# Numbers of regions come from the server; what is not back by then is opened anew, which takes longer.
_PATIENCE_MS = 30_000
_SIZE: Any = {"width": 1280, "height": 800}


class SharedVisit:
    """A visit that several tests go on with.

    Args:
        begin: opens a page and brings it to where every test begins.
    """

    def __init__(self, begin: Callable[[], Visitor]) -> None:
        self._begin = begin
        self._visitor: Visitor | None = None
        self._first = ""

    def put_back(self) -> Visitor:
        """The visitor with its page as it was at first, to the last pixel; on a new page where that cannot be had."""
        if self._visitor is None or not self._is_back(self._visitor):
            self.end()
            self._visitor = self._begin()
            self._visitor.page.mouse.move(1, 1)
            self._visitor.page.evaluate("window.scrollTo({top: 0, behavior: 'instant'})")
            self._visitor.picture()
            self._first = self._visitor.page.evaluate(TOLD)
        self._visitor.complaints.clear()
        return self._visitor

    def _is_back(self, visitor: Visitor) -> bool:
        page = visitor.page
        page.mouse.move(1, 1)
        page.set_viewport_size(_SIZE)
        page.evaluate(_PUT_BACK, self._first)
        try:
            page.wait_for_function(f"first => ({TOLD})() === first", arg=self._first, timeout=_PATIENCE_MS, polling=100)
        except TimeoutError:
            return False
        return True

    def end(self) -> None:
        """Close the page."""
        if self._visitor is not None:
            self._visitor.context.close()
            self._visitor = None
