"""What stands between a page and people who see little, or use no mouse: axe-core's rules, and a walk by Tab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import axe_playwright_python
from playwright.sync_api import Page

_AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
# A colour on its way to another one is neither.
_STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"
_FOUND = """async (options) => {
    const { violations } = await axe.run(document, { ...options, resultTypes: ["violations"] });
    return violations.flatMap(({ id, impact, nodes }) => nodes.map(({ html, any, all, none }) =>
        [impact, id, html, ...[any, all, none].flat().map(({ message }) => message)].join(" ")));
}"""
# From the top: Chromium goes on where the focus was, also where that is gone.
_TOP = """() => {
    const top = document.body.insertBefore(document.createElement("span"), document.body.firstChild);
    top.tabIndex = -1;
    top.focus();
    top.remove();
    window.reached = new Set();
}"""
# How an element and what is around it look, its own parts included.
_LOOKS = """(node) => {
    const looks = (of, depth) => of && depth ? ["", "::before", "::after"].map((part) => {
        const style = getComputedStyle(of, part || null);
        return [style.outlineStyle, style.outlineWidth, style.outlineColor, style.boxShadow, style.borderColor].join();
    }).join() + looks(of.parentElement, depth - 1) : "";
    return looks(node, 3);
}"""
_STEP = """(looks) => {
    const [here, look] = [document.activeElement, eval(looks)];
    if (here === document.body || window.reached.has(here)) return null;
    window.reached.add(here);
    window.looked = (window.looked || new Map()).set(here, look(here));
    const seen = here.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    return { html: here.outerHTML.slice(0, 160), seen };
}"""
# Those that a group's arrow keys reach from the one that Tab comes to, and a hidden copy of Gradio's rows of tabs.
_MISSED = """(looks) => {
    const look = eval(looks);
    document.activeElement.blur();
    const same = [...window.looked].filter(([node, before]) => node.isConnected && look(node) === before);
    const every = "button, input, select, textarea, a[href], summary, [tabindex], [role=button], [role=slider]";
    const inGroup = (node) => node.tabIndex < 0 || (node.type === "radio" && node.closest("fieldset"));
    const missed = [...document.querySelectorAll(every)].filter((node) =>
        node.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && !node.disabled &&
        !node.closest("[inert], .tab-container.visually-hidden") && !inGroup(node) && !window.reached.has(node));
    const named = (nodes) => nodes.map((node) => node.outerHTML.slice(0, 160));
    return { unmarked: named(same.map(([node]) => node)), missed: named(missed) };
}"""


def violations(page: Page) -> list[str]:
    """What axe-core finds against the page as it stands, in the light and in the dark; none should be."""
    page.add_style_tag(content=_STILL)
    page.evaluate(_AXE)
    found: list[str] = []
    dark = page.evaluate("document.body.classList.contains('dark')")
    for theme, options in ((dark, {}), (not dark, {"runOnly": ["color-contrast"]})):
        page.evaluate("(dark) => document.body.classList.toggle('dark', dark)", theme)
        found += [f"{'dark' if theme else 'light'} {one}" for one in page.evaluate(_FOUND, options)]
    page.evaluate("(dark) => document.body.classList.toggle('dark', dark)", dark)
    return found


def walk_by_keyboard(page: Page, most: int = 200) -> dict[str, list[str]]:
    """Press Tab from the page's top to its end.

    Returns:
        "unseen": what took the focus and cannot be seen, "unmarked": what looks the same with and without it, "missed":
        what can be used with a mouse and was never reached, "reached": all that was.
    """
    page.evaluate(_TOP)
    reached: list[dict[str, Any]] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        step = page.evaluate(_STEP, _LOOKS)
        if step is None:
            break
        reached.append(step)
    ends = page.evaluate(_MISSED, _LOOKS)
    return {
        "reached": [step["html"] for step in reached],
        "unseen": [step["html"] for step in reached if not step["seen"]],
        **ends,
    }
