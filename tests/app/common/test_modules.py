"""The browser's modules: served whole and for ever under an address of their content, and nothing else is."""

from __future__ import annotations

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.common.modules import ModuleFiles, bundled_script, mount_script

APP = Path(__file__).resolve().parents[3] / "app"
VIEWER = re.search(r'"(modules/\w+/inspect/viewer/viewer\.js)"', mount_script("inspect/viewer/viewer.js"))[1]
VERSION = VIEWER.split("/")[1]


def get(path: str, root_path: str = "", method: str = "GET"):
    """Status, headers and body of a request; None where it was left to the rest of the application."""
    sent, left = [], []

    async def rest(scope, receive, send):
        left.append(scope["path"])

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "root_path": root_path, "headers": []}
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, ModuleFiles(rest)(scope, None, send)).result()
    if left:
        return None
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


@pytest.mark.parametrize(
    ("path", "root"), [("/", ""), ("/studio/", "/studio"), ("/", "/studio"), ("/", "https://there/studio")]
)
def test_a_module_is_served_for_ever_under_any_root(path, root):
    status, headers, body = get(path + VIEWER, root)
    assert status == 200
    assert headers[b"content-type"].startswith(b"text/javascript")
    assert b"immutable" in headers[b"cache-control"]
    assert body == (APP / "inspect/viewer/viewer.js").read_bytes()


@pytest.mark.parametrize(
    "inside",
    [
        "../../app.py",
        "..%2f..%2fapp.py",
        "/etc/passwd",
        "inspect/viewer/../viewer/viewer.js",
        "inspect/viewer/viewer.css",
        "inspect/tab.py",
        "inspect/viewer/",
        "",
    ],
)
def test_nothing_but_a_modules_own_name_is_found(inside):
    status, headers, _ = get(f"/modules/{VERSION}/{inside}")
    assert status == 404
    assert b"cache-control" not in headers


def test_another_version_is_not_taken_for_this_one_and_other_pages_are_left_alone():
    assert get(f"/{VIEWER}".replace(VERSION, "0" * 16))[0] == 404
    assert get("/config") is None
    assert get(f"/{VIEWER}", method="POST") is None


def brought(html: str) -> dict[str, str]:
    """The modules that a page brings, by their addresses."""
    return json.loads(re.search(r'id="modules">(.*?)</script>', html)[1])


def test_the_page_brings_all_that_the_viewer_imports():
    modules = brought(bundled_script({"viewer": "inspect/viewer/viewer.js"}, ""))
    names = {address.removeprefix(f"modules/{VERSION}/"): text for address, text in modules.items()}
    assert {"inspect/viewer/viewer.js", "inspect/viewer/layout.js", "common/static/patches.js"} <= names.keys()
    assert not any(name.startswith(("tune/", "models/")) for name in names)
    for name, text in names.items():
        assert text == (APP / name).read_text(encoding="utf-8")
        for path in re.findall(r'from "([^"]+)"', text):
            assert ((APP / name).parent / path).resolve().relative_to(APP).as_posix() in names


@pytest.mark.parametrize("address", ["http://modules.test/", "http://modules.test/studio/"])
def test_modules_that_the_page_brings_are_not_asked_for(browser, address):
    asked = []
    page = browser.new_page()
    script = bundled_script(
        {"words": "inspect/viewer/comparison.js"}, 'document.title = words.changeWords("1 %", "3 %");'
    )
    html = f"<html><head>{script}</head></html>"

    def answer(route):
        asked.append(route.request.url)
        route.fulfill(body=html, content_type="text/html")

    page.route("**/*", answer)
    page.goto(address)
    assert page.title() == "+2.0 points"
    # What Gradio imports later is the same.
    module = address + VIEWER.replace("viewer.js", "comparison.js")
    assert page.evaluate(f"""async () => (await import("{module}")).changeWords("1 %", "5 %")""") == "+4.0 points"
    assert asked == [address]
    page.close()


def test_a_widget_is_mounted_by_one_import_that_names_its_events():
    script = mount_script("inspect/viewer/viewer.js", colours={"a": "b"})
    assert script.count("import(") == 1
    assert '"reopen"' in script
    with pytest.raises(KeyError):
        mount_script("inspect/viewer/absent.js")
