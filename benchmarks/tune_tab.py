"""How long a quick run takes through the page, how often the page is brought up to date, and what the page costs.

    python -m benchmarks.tune_tab

Serves the application, presses "Use the phantom sample" and "Start" in a headless Chromium, and notes when the page
shows each step. Then the very command of that run is started by itself, and the times between its first and last
step are compared. Prints Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_MS = 1_200_000
# Notes the time of every change that the page shows of the run.
WATCH = """() => {
    window.shown = [];
    const run = document.querySelector(".run");
    new MutationObserver(() => window.shown.push([Date.now() / 1000, Number(run.dataset.step), run.dataset.status]))
        .observe(run, {attributes: true, attributeFilter: ["data-step", "data-status"]});
}"""


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, help="steps of the run (default: the quick preset's)")
    steps = options.parse_args().steps
    with tempfile.TemporaryDirectory(prefix="a3tune-") as folder:
        begun, shown, run = through_the_page(Path(folder), steps)
        told = {event["step"]: event["time"] for event in events_of(run / "run") if event["event"] == "step"}
        seen = {step: moment for moment, step, _ in reversed(shown) if step in told}
        late = [seen[step] - told[step] for step in seen]
        page = span(run / "run")
        alone = by_itself(run, Path(folder))
    finished = next(moment for moment, _, status in shown if status == "finished")
    moments = [moment for moment, _, status in shown if status == "training"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    print(f"| Measured on {os.cpu_count()} cores | |\n| --- | --- |")
    print(f"| From the press of Start to finished | {finished - begun:.1f} s |")
    print(f"| Page brought up to date, median and longest gap | {statistics.median(gaps):.2f} s, {max(gaps):.2f} s |")
    print(f"| A step is on the page after, median and longest | {statistics.median(late):.2f} s, {max(late):.2f} s |")
    print(f"| First to last step, through the page | {page:.1f} s |")
    print(f"| First to last step, the same command by itself | {alone:.1f} s |")
    print(f"| Through the page against by itself | {100 * (page / alone - 1):+.1f} % |")


def through_the_page(folder: Path, steps: int | None) -> tuple[float, list[tuple[float, int, str]], Path]:
    """(time of the press, [time, step, status] of every change on the page, the job's folder)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "A3TUNE_STUDIO": str(folder / "studio"), "GRADIO_TEMP_DIR": str(folder / "uploads")}
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "app.py"), "--port", str(port)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        for line in server.stdout:
            if f"127.0.0.1:{port}" in line:
                break
        with sync_playwright() as playwright:
            path = os.environ.get("CHROMIUM") or shutil.which("chromium") or playwright.chromium.executable_path
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.goto(f"http://127.0.0.1:{port}")
            # What the server does by itself after its start is none of the run's time.
            page.wait_for_selector(".studio-head[data-state=ready]")
            begun = press(page, steps)
            page.wait_for_selector(".run[data-status=finished]")
            shown = [tuple(entry) for entry in page.evaluate("window.shown")]
            browser.close()
    finally:
        server.terminate()
        server.wait()
    (run,) = (folder / "studio").glob("*/runs/*")
    return begun, shown, run


def press(page: Page, steps: int | None) -> float:
    """Take the sample, start, and watch; the time of the press."""
    page.get_by_role("tab", name="Tune", exact=True).click()
    page.locator("#tune-sample").click()
    page.wait_for_selector(".report[data-errors='0']")
    if steps:
        page.locator("#tune-advanced button").first.click()
        page.locator("#tune-others textarea").fill(f"max_steps={steps}")
    begun = time.time()
    page.locator("#tune-start").click()
    page.wait_for_selector(".run:not([data-status=none])", state="attached")
    page.evaluate(WATCH)
    return begun


def by_itself(run: Path, folder: Path) -> float:
    """Seconds from the first to the last step of the same command without a page."""
    record = json.loads((run / "job.json").read_text())
    command = [str(folder / "alone") if part == str(run / "run") else part for part in record["command"]]
    subprocess.run(
        command, cwd=ROOT, env={**os.environ, **record["environment"]}, check=True, stdout=subprocess.DEVNULL
    )
    return span(folder / "alone")


def events_of(run: Path) -> list[dict]:
    """What a run told."""
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def span(run: Path) -> float:
    """Seconds from the first to the last step of a run."""
    times = [event["time"] for event in events_of(run) if event["event"] == "step"]
    return times[-1] - times[0]


if __name__ == "__main__":
    main()
