"""How long a visitor waits, on the real page in a real browser: the demo model, this machine.

    python -m benchmarks.page_time [--repeats 7] [--write docs/page.md]

Prints a Markdown table: the start of the server until the page answers, a page until its first example is drawn with
its answers, an own image from the question to the answer, the maps and the regions, the same at five sizes of the
image, a change of the head on show, and what the page weighs beyond an empty page of Gradio.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from a3tune.phantom import make_phantom
from benchmarks.document import write_between
from benchmarks.region_memory import SIZES

ROOT = Path(__file__).resolve().parent.parent
START_LIMIT = 120.0
DRAWN = ".stage[data-result$=complete][data-shown$=ready]"
USABLE = "#viewer .drawer:not([hidden])"
BROWSER_OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
EMPTY_PAGE = """
import sys
import gradio as gr

with gr.Blocks(analytics_enabled=False) as page:
    gr.HTML("<p id='standing'></p>")
page.launch(server_port=int(sys.argv[1]), ssr_mode=False, quiet=True)
"""
# From a key to the drawn map, for so many heads, in milliseconds: measured in the page, drawing included.
HEAD_CHANGES = """async (count) => {
    const stage = document.querySelector(".stage");
    stage.focus();
    const times = [];
    for (let i = 0; i < count; i++) {
        const before = stage.dataset.shown;
        const began = performance.now();
        const key = i % 14 < 7 ? "ArrowRight" : "ArrowLeft";
        stage.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
        while (stage.dataset.shown === before && performance.now() - began < 200)
            await new Promise((done) => requestAnimationFrame(done));
        if (stage.dataset.shown !== before) times.push([performance.now() - began, Number(stage.dataset.tookMs)]);
    }
    return times;
}"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def seconds_until_answering(url: str, began: float) -> float:
    while time.perf_counter() - began < START_LIMIT:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return time.perf_counter() - began
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise SystemExit(f"The page did not answer within {START_LIMIT:.0f} s.")


@contextmanager
def serve(*command: str) -> Iterator[tuple[str, float]]:
    """A server in a process of its own: where it is, and how long it took until it answered."""
    port = free_port()
    began = time.perf_counter()
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    server = subprocess.Popen([sys.executable, *(part.format(port=port) for part in command)], env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        yield url, seconds_until_answering(url, began)
    finally:
        server.terminate()
        server.wait()


def open_page(browser: Browser, url: str) -> tuple[Page, float, float]:
    """A fresh page, and the seconds until its first example is drawn with all answers, and until it can be used."""
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.set_default_timeout(1000 * START_LIMIT)
    began = time.perf_counter()
    page.goto(url, wait_until="commit")
    wait_for(page, DRAWN)
    visible = time.perf_counter() - began
    # The opening picture gives way to the widgets, and the visit has begun.
    wait_for(page, "#initial-page", gone=True)
    wait_for(page, USABLE)
    return page, visible, time.perf_counter() - began


def wait_for(page: Page, selector: str, *, gone: bool = False) -> None:
    """Wait until an element is there (``gone``: no longer), looked for every 25 ms: a selector's own wait looks again
    only every half a second after the first moments, and would add as much."""
    there = "([what, gone]) => Boolean(document.querySelector(what)) !== gone"
    page.wait_for_function(there, arg=[selector, gone], polling=25)


def seconds_until_standing(browser: Browser, url: str, ready: str) -> float:
    """Seconds until a fresh page shows an element."""
    page = browser.new_context().new_page()
    page.set_default_timeout(1000 * START_LIMIT)
    began = time.perf_counter()
    page.goto(url, wait_until="commit")
    wait_for(page, ready)
    seconds = time.perf_counter() - began
    page.context.close()
    return seconds


def page_bytes(browser: Browser, url: str, ready: str) -> int:
    """Bytes that a first visit receives, over the wire."""
    page = browser.new_context().new_page()
    page.set_default_timeout(1000 * START_LIMIT)
    received = [0]
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    network.on("Network.dataReceived", lambda event: received.__setitem__(0, received[0] + event["encodedDataLength"]))
    page.goto(url)
    wait_for(page, ready)
    page.wait_for_timeout(1500)
    page.context.close()
    return received[0]


def open_image(page: Page, image: Path) -> float:
    """Open an own image; seconds until it is drawn."""
    began = time.perf_counter()
    page.set_input_files("#upload input[type=file]", str(image))
    wait_for(page, ".stage[data-shown$='image'][data-regions^=none]")
    return time.perf_counter() - began


def ask(page: Page) -> tuple[float, float, float]:
    """Ask about the image on show; seconds from the click to the first answer, to all maps, and to the regions."""
    page.locator("#question textarea, #question input").first.fill("Where is the mass?")
    began = time.perf_counter()
    page.locator("#ask").click()
    wait_for(page, ".stage[data-result]:not([data-result=''])")
    answered = time.perf_counter() - began
    wait_for(page, DRAWN)
    mapped = time.perf_counter() - began
    wait_for(page, ".stage[data-regions^=ready]")
    return answered, mapped, time.perf_counter() - began


def size_waits(page: Page, size: str, folder: Path, repeats: int = 3) -> list[tuple[float, float]]:
    """Drawn images of so many megapixels, a new one each time: seconds from the upload until it is drawn, and from all
    maps on the page until the regions are."""
    height, width = SIZES[size]
    waits = []
    for number in range(repeats):
        path = folder / f"{size}.png"
        drawn = make_phantom(950 + number, "chest").image.pixels
        cv2.imwrite(str(path), cv2.resize(drawn, (width, height), interpolation=cv2.INTER_CUBIC))
        opened = open_image(page, path)
        _, mapped, regions = ask(page)
        waits.append((opened, regions - mapped))
    return waits


def measure(repeats: int) -> list[tuple[str, str, str, str]]:
    """Rows of what, median, most, and what is wanted."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        path = os.environ.get("CHROMIUM") or shutil.which("chromium") or playwright.chromium.executable_path
        browser = playwright.chromium.launch(executable_path=path, args=list(BROWSER_OPTIONS))
        with serve("-c", EMPTY_PAGE, "{port}") as (url, _):
            empty = page_bytes(browser, url, "#standing")
            standing = [seconds_until_standing(browser, url, "#standing") for _ in range(repeats)]
        with serve(str(ROOT / "app.py"), "--port", "{port}") as (url, started):
            page, _, first = open_page(browser, url)
            # The examples are answered in the background first; then a visitor has the machine alone.
            wait_for(page, ".stage[data-regions^=ready]")
            page.wait_for_timeout(8000)
            opened = []
            for _ in range(repeats):
                other, *seconds = open_page(browser, url)
                opened.append(seconds)
                other.context.close()
            waits = []
            for number in range(repeats + 1):
                image = Path(folder) / f"{number}.png"
                Image.fromarray(np.asarray(make_phantom(900 + number, "chest").image.pixels)).save(image)
                open_image(page, image)
                waits.append(ask(page))
            sizes = {name: size_waits(page, name, Path(folder)) for name in SIZES}
            heads = page.evaluate(HEAD_CHANGES, 32)
            weight = page_bytes(browser, url, USABLE) - empty
        browser.close()
    answers, maps, regions = zip(*waits[1:], strict=True)
    changed, drawn = zip(*heads, strict=True)

    def row(what: str, values: list[float] | tuple[float, ...], unit: str, wanted: str) -> tuple[str, str, str, str]:
        digits = 0 if unit == "ms" else 2
        return what, f"{statistics.median(values):.{digits}f} {unit}", f"{max(values):.{digits}f} {unit}", wanted

    return [
        row("start of the server until the page answers (once)", [started], "s", "10 s"),
        row("first page after the start, until it can be used (once)", [first], "s", ""),
        row(f"an empty page of Gradio until it stands, for comparison ({repeats})", standing, "s", ""),
        row(
            f"page until the first example is drawn with its answers ({repeats})",
            [visible for visible, _ in opened],
            "s",
            "1 s",
        ),
        row(f"page until its widgets can be used ({repeats})", [usable for _, usable in opened], "s", ""),
        row(f"own image: question to the first answer ({repeats})", answers, "s", "1.5 s"),
        row(f"own image: question to the maps of all adapters ({repeats})", maps, "s", "2.5 s"),
        row(f"own image: question to the ranked regions ({repeats})", regions, "s", "when ready"),
        *(
            line
            for name, found in sizes.items()
            for line in (
                row(
                    f"own image of {name} megapixels: upload until it is drawn (3)", [one for one, _ in found], "s", ""
                ),
                row(
                    "the same: maps to the ranked regions, its first labels (3)", [one for _, one in found], "s", "4 s"
                ),
            )
        ),
        row(f"another head: key to drawn map ({len(heads)})", changed, "ms", "50 ms"),
        row(f"another head: drawing alone ({len(heads)})", drawn, "ms", ""),
        ("page beyond an empty page of Gradio (once)", f"{weight / 1e6:.2f} MB", f"{weight / 1e6:.2f} MB", "2 MB"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="how often each wait is timed (default 7)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this file's figures section")
    options = parser.parse_args()
    rows = measure(options.repeats)
    load = os.getloadavg()[0]
    machine = (
        f"Measured on {platform.machine()} with {os.cpu_count()} cores and no GPU, Python {platform.python_version()}, "
        f"at a load of {load:.1f}."
    )
    table = ["| what | median | most | wanted |", "| --- | ---: | ---: | ---: |"]
    table += [f"| {' | '.join(row)} |" for row in rows]
    text = "\n".join([machine, "", *table]) + "\n"
    print(text)
    if options.write is not None:
        write_between(options.write, text)


if __name__ == "__main__":
    main()
