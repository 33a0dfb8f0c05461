"""Seconds from a click to what it shows, on the real page in a real browser: the demo model, this machine.

    python benchmarks/page_time.py [--repeats 7]

Prints a Markdown table: the start of the server until the page answers (once), the first question after it, and
the median over the examples of a question from the click to the answer and to the drawn map.
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
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
START_LIMIT = 120.0
BROWSER_OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


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


def ask(page: Page, example: int) -> tuple[float, float]:
    """Open an example and click its first suggestion; seconds to the answer and to the drawn map."""
    page.locator(".example").nth(example).click()
    page.wait_for_selector(".stage[data-shown$='image']")
    suggestion = page.locator(".suggestion").first
    suggestion.wait_for()
    began = time.perf_counter()
    suggestion.click()
    page.wait_for_function("document.querySelector('#status').innerText.startsWith('Answer in')")
    answered = time.perf_counter() - began
    page.wait_for_selector(".stage[data-shown$='ready']")
    return answered, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="questions to time, after the first (default 7)")
    repeats = parser.parse_args().repeats
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    began = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "app.py"), "--port", str(port)],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
    )
    try:
        started = seconds_until_answering(url, began)
        with sync_playwright() as playwright:
            path = os.environ.get("CHROMIUM") or shutil.which("chromium") or playwright.chromium.executable_path
            browser = playwright.chromium.launch(executable_path=path, args=list(BROWSER_OPTIONS))
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(1000 * START_LIMIT)
            page.goto(url)
            page.wait_for_selector(".example")
            examples = page.locator(".example").count()
            first = ask(page, 0)
            later = [ask(page, 1 + number % (examples - 1)) for number in range(repeats)]
            browser.close()
    finally:
        server.terminate()
        server.wait()
    answers, maps = zip(*later, strict=True)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; seconds\n")
    print("| what | median | most |\n| --- | --- | --- |")
    print(f"| start of the server until the page answers (once) | {started:.2f} | {started:.2f} |")
    print(f"| first question after the start, to the drawn map (once) | {first[1]:.2f} | {first[1]:.2f} |")
    print(f"| example question to the answer ({repeats}) | {statistics.median(answers):.2f} | {max(answers):.2f} |")
    print(f"| example question to the drawn map ({repeats}) | {statistics.median(maps):.2f} | {max(maps):.2f} |")


if __name__ == "__main__":
    main()
