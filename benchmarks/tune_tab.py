"""How long a quick run takes through the page, how often the page is brought up to date, and what the page costs.

    python -m benchmarks.tune_tab --write docs/tune_tab.md

Serves the application, presses "Use the phantom sample", "Start" and at the end "Before and after" in a headless
Chromium, and notes when the page shows each step. Then the very command of that run is started by itself, and the
times between its first and last step, and the processor times of both processes, are compared. Prints Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

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

# Base and one adapter answered, and a map is on show.
COMPARED = """() => {
    const {result, shown} = document.querySelector(".stage")?.dataset || {};
    const options = document.querySelectorAll("[data-control=sideA] option");
    return result?.endsWith("complete") && shown.endsWith("ready") && options.length === 2;
}"""
BEGIN, END = "<!-- tune_tab: begin -->", "<!-- tune_tab: end -->"


def main() -> None:
    """Measure and print, or write the table into a document."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, help="steps of the run (default: the quick preset's)")
    options.add_argument("--write", type=Path, metavar="FILE", help="put the table between the marks of this document")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="a3tune-") as folder:
        through = through_the_page(Path(folder), chosen.steps)
        alone = by_itself(through.run, Path(folder))
    table = describe(through, alone)
    print(table)
    if chosen.write is not None:
        before, _, rest = chosen.write.read_text(encoding="utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        if not end:
            sys.exit(f"{chosen.write} has no marks {BEGIN} and {END}")
        chosen.write.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


@dataclass(frozen=True)
class Through:
    """A run that was started on the page.

    Attributes:
        begun, answered: when Start was pressed, and when base and adapter were on show in Inspect.
        shown: (time, step, status) of every change that the page showed.
        told: step -> when the run wrote it.
        span: seconds from the first to the last step.
        processor: processor time of the run's process, in seconds.
        load: the machine's load average when Start was pressed.
        run: the job's folder.
    """

    begun: float
    answered: float
    shown: list[tuple[float, int, str]]
    told: dict[int, float]
    span: float
    processor: float
    load: float
    run: Path


def describe(through: Through, alone: tuple[float, float]) -> str:
    """The figures as a Markdown table."""
    # Of a step the page may show its place in the queue of updates twice; the first time counts.
    seen = {step: moment for moment, step, _ in reversed(through.shown) if step in through.told}
    late = [seen[step] - through.told[step] for step in seen]
    finished = next(moment for moment, _, status in through.shown if status == "finished")
    moments = [moment for moment, _, status in through.shown if status == "training"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    first = min(through.told.values())
    span, processor = alone
    threads = os.environ.get("OMP_NUM_THREADS")
    machine = f"{os.cpu_count()} cores, {'a' if shutil.which('nvidia-smi') else 'no'} GPU" + (
        f", {threads} thread a process" if threads else ""
    )
    rows = [
        (f"Measured {time.strftime('%Y-%m-%d')}: {machine}", f"load before the start {through.load:.1f}", "asked"),
        ("---", "---", "---"),
        (
            "From the press of Start to base and adapter in Inspect",
            f"{through.answered - through.begun:.1f} s",
            "at most 180 s",
        ),
        ("of which before the first step (loading, reading, labels)", f"{first - through.begun:.1f} s", ""),
        ("of which steps, validations and looks", f"{finished - first:.1f} s", ""),
        ("of which the two answers with their maps", f"{through.answered - finished:.1f} s", ""),
        ("Steps", f"{len(through.told)}", ""),
        (
            "While it trains the page changes every, median and longest",
            f"{median(gaps):.2f} s, {max(gaps):.2f} s",
            "at most 2 s",
        ),
        ("A step is on the page after, median and longest", f"{median(late):.2f} s, {max(late):.2f} s", ""),
        ("First to last step, through the page", f"{through.span:.1f} s", ""),
        ("First to last step, the same command by itself", f"{span:.1f} s", ""),
        ("Through the page against by itself, wall clock", f"{100 * (through.span / span - 1):+.1f} %", "within 3 %"),
        ("Processor time of the run, through the page", f"{through.processor:.1f} s", ""),
        ("Processor time of the run, the same command by itself", f"{processor:.1f} s", ""),
        (
            "Through the page against by itself, processor time",
            f"{100 * (through.processor / processor - 1):+.1f} %",
            "within 3 %",
        ),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def through_the_page(folder: Path, steps: int | None) -> Through:
    """Start a run on the page, watch it, and look at its adapter beside the base."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "A3TUNE_STUDIO": str(folder / "studio"), "GRADIO_TEMP_DIR": str(folder / "uploads")}
    with subprocess.Popen(
        [sys.executable, str(ROOT / "app.py"), "--port", str(port)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
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
                load = os.getloadavg()[0]
                begun = press(page, steps)
                page.wait_for_selector(".run[data-status=finished]")
                page.locator("#tune-run-inspect").click()
                page.wait_for_function(COMPARED)
                answered = time.time()
                shown = [tuple(entry) for entry in page.evaluate("window.shown")]
                browser.close()
            (run,) = (folder / "studio").glob("*/runs/*")
            while not (run / "exit.json").is_file():
                time.sleep(0.1)
        finally:
            server.terminate()
    processor = json.loads((run / "exit.json").read_text())["processor_seconds"]
    told = {event["step"]: event["time"] for event in events_of(run / "run") if event["event"] == "step"}
    return Through(begun, answered, shown, told, span(run / "run"), processor, load, run)


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


def by_itself(run: Path, folder: Path) -> tuple[float, float]:
    """(seconds from the first to the last step, processor seconds) of the same command without a page."""
    record = json.loads((run / "job.json").read_text())
    command = [str(folder / "alone") if part == str(run / "run") else part for part in record["command"]]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (folder / "alone.txt").open("w") as log:
        environment = {**os.environ, **record["environment"]}
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=log, stderr=log)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return span(folder / "alone"), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def events_of(run: Path) -> list[dict]:
    """What a run told."""
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def span(run: Path) -> float:
    """Seconds from the first to the last step of a run."""
    times = [event["time"] for event in events_of(run) if event["event"] == "step"]
    return times[-1] - times[0]


if __name__ == "__main__":
    main()
