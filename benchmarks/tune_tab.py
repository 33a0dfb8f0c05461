"""How long a quick run takes through the page, how often the page is brought up to date, and what the page costs.

    python -m benchmarks.tune_tab --write docs/tune_tab.md

Serves the application, presses "Use the phantom sample", "Start" and at the end "Before and after" in a headless
Chromium, and notes when the page shows each step. Then short runs are made in turns, several times over: the very
command of that run by itself with the server stood still, through the page with the browser looking on, and through
the page with the browser closed after the press of Start. Each pair of times between the first and the last step gives
a ratio; the median is told. The runs are held to be the same: settings, data, and the weights that come out. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.document import write_between
from benchmarks.tune_tab_table import Through, Timed, Turn, describe

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_MS = 1_200_000
# The short runs: enough steps to time, few enough for several turns in some minutes.
SHORT, TURNS = 40, 3
# Processor time of the server in a second from which on it counts as resting.
RESTING = 0.1
MOST_WAITS = 20
# Notes the time of every change that the page shows of the run.
WATCH = """() => {
    window.shown = [];
    const run = document.querySelector(".run");
    const note = () => window.shown.push([Date.now() / 1000, Number(run.dataset.step), run.dataset.status]);
    new MutationObserver(note)
        .observe(run, {attributes: true, attributeFilter: ["data-step", "data-status", "data-words"]});
}"""

# The base model, or with it one adapter, answered, and a map is on show.
COMPARED = """count => {
    const {result, shown} = document.querySelector(".stage")?.dataset || {};
    const options = document.querySelectorAll("[data-control=sideA] option");
    return result?.endsWith("complete") && shown.endsWith("ready") && options.length >= count;
}"""


def main() -> None:
    """Measure and print, or write the table into a document."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, help="steps of the first run (default: the quick preset's)")
    options.add_argument("--short", type=int, default=SHORT, help=f"steps of the runs in turns (default {SHORT})")
    options.add_argument("--turns", type=int, default=TURNS, help=f"how often they take turns (default {TURNS})")
    options.add_argument("--write", type=Path, metavar="FILE", help="put the table between the marks of this document")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="a3tune-") as folder, served(Path(folder)) as server:
        with visiting(server) as (_, page):
            through = through_the_page(server, page, chosen.steps)
        turns = take_turns(server, chosen.short, chosen.turns)
    table = describe(through, turns, chosen.short)
    print(table)
    if chosen.write is not None:
        write_between(chosen.write, table)


@dataclass(frozen=True)
class Server:
    """The application in a process of its own.

    Attributes:
        process: the process.
        url: where it answers.
        folder: a folder for this measurement; ``studio`` in it holds the runs.
    """

    process: psutil.Process
    url: str
    folder: Path

    @property
    def jobs(self) -> set[Path]:
        """The folders of all runs so far."""
        return set((self.folder / "studio").glob("*/runs/*"))


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    """The application, as long as it is needed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "A3TUNE_STUDIO": str(folder / "studio"), "GRADIO_TEMP_DIR": str(folder / "uploads")}
    with subprocess.Popen(
        [sys.executable, str(ROOT / "app.py"), "--port", str(port)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            for line in process.stdout:
                if f"127.0.0.1:{port}" in line:
                    break
            yield Server(psutil.Process(process.pid), f"http://127.0.0.1:{port}", folder)
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()


@contextmanager
def visiting(server: Server) -> Iterator[tuple[Browser, Page]]:
    """A browser on the Tune tab with the sample taken, once the server rests."""
    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM") or shutil.which("chromium") or playwright.chromium.executable_path
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(server.url)
        # What the server does by itself after its start, and for a page that comes, is none of the run's time.
        page.wait_for_selector(".studio-head[data-state=ready]")
        page.wait_for_function(COMPARED, arg=1)
        page.get_by_role("tab", name="Tune", exact=True).click()
        page.locator("#tune-sample").click()
        page.wait_for_selector(".report[data-errors='0']")
        for _ in range(MOST_WAITS):
            if used(server.process, 3.0) < 3 * RESTING:
                break
        yield browser, page
        if browser.is_connected():
            browser.close()


def used(process: psutil.Process, seconds: float) -> float:
    """Processor seconds that a process takes in so many seconds."""
    before = processor_time([process])
    time.sleep(seconds)
    return processor_time([process]) - before


def processor_time(processes: list[psutil.Process]) -> float:
    """Processor seconds of living processes so far."""
    total = 0.0
    for process in processes:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def browser_processes(server: Server) -> list[psutil.Process]:
    """The browser's processes and the program that drives it."""
    children = psutil.Process().children(recursive=True)
    of_server = {server.process, *server.process.children(recursive=True)}
    return [process for process in children if process not in of_server]


def through_the_page(server: Server, page: Page, steps: int | None) -> Through:
    """Start a run on the page, watch it, and look at its adapter beside the base."""
    load = os.getloadavg()[0]
    known = server.jobs
    begun = press(page, steps)
    page.evaluate(WATCH)
    page.wait_for_selector(".run[data-status=finished]")
    page.locator("#tune-run-inspect:not([disabled])").click()
    page.wait_for_function(COMPARED, arg=2)
    answered = time.time()
    shown = [tuple(entry) for entry in page.evaluate("window.shown")]
    run = ended(server, known)
    told = {event["step"]: event["time"] for event in events_of(run / "run") if event["event"] == "step"}
    return Through(begun, answered, shown, told, load)


def press(page: Page, steps: int | None) -> float:
    """Start, and wait until the run is on the page; the time of the press."""
    if steps:
        page.locator("#tune-advanced button").first.click()
        page.locator("#tune-others textarea").fill(f"max_steps={steps}")
    begun = time.time()
    page.locator("#tune-start").click()
    page.wait_for_selector(".run:not([data-status=none]):not([data-status=finished])", state="attached")
    return begun


def take_turns(server: Server, steps: int, count: int) -> list[Turn]:
    """The same run through the page with the browser looking on, with it closed, and by itself, several times over;
    in another order each time, since a machine grows warm."""
    turns, known = [], None
    for number in range(count):
        timed, folders = {}, []
        ways = ["watched", "closed", "alone"]
        for way in ways[number % 3 :] + ways[: number % 3]:
            if way == "alone":
                # Stood still, the server is as good as not there, and has not to be started again.
                server.process.suspend()
                try:
                    timed[way], folder = by_itself(known, server.folder / f"alone-{number}")
                finally:
                    server.process.resume()
            else:
                timed[way], known = timed_on_the_page(server, steps, leave=way == "closed")
                folder = known / "run"
            folders.append(folder)
        turns.append(Turn(**timed, weights=len({weights_of(folder) for folder in folders})))
        hold_the_same(folders)
    return turns


def timed_on_the_page(server: Server, steps: int, *, leave: bool) -> tuple[Timed, Path]:
    """(times, the job's folder) of a run that is started on the page.

    Args:
        leave: close the browser after the press of Start.
    """
    known = server.jobs
    with visiting(server) as (browser, page):
        press(page, steps)
        others = browser_processes(server)
        if leave:
            browser.close()
        (run,) = server.jobs - known
        wait_for_step(run)
        before = processor_time([server.process]), processor_time(others)
        while not (run / "exit.json").is_file():
            time.sleep(0.2)
        after = processor_time([server.process]), processor_time(others)
    processor = json.loads((run / "exit.json").read_text())["processor_seconds"]
    took = [later - earlier for earlier, later in zip(before, after, strict=True)]
    return Timed(span(run / "run"), processor, took[0], 0.0 if leave else took[1]), run


def wait_for_step(run: Path) -> None:
    """Wait for the first step of a run."""
    while not (run / "exit.json").is_file():
        events = events_of(run / "run") if (run / "run" / "events.jsonl").is_file() else []
        if any(event["event"] == "step" for event in events):
            return
        time.sleep(0.2)


def ended(server: Server, known: set[Path]) -> Path:
    """The folder of the one run that came since, once it has ended."""
    (run,) = server.jobs - known
    while not (run / "exit.json").is_file():
        time.sleep(0.1)
    return run


def by_itself(run: Path, out: Path) -> tuple[Timed, Path]:
    """(times, run folder) of the same command without a page."""
    record = json.loads((run / "job.json").read_text())
    command = [str(out) if part == str(run / "run") else part for part in record["command"]]
    with out.with_suffix(".txt").open("w") as log:
        environment = {**os.environ, **record["environment"]}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        _, status, took = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"The command ended with {process.returncode}: {out.with_suffix('.txt').read_text()[-500:]}")
    return Timed(span(out), took.ru_utime + took.ru_stime), out


def hold_the_same(folders: list[Path]) -> None:
    """End unless all runs had the same model, data and settings."""
    records = [json.loads((folder / "run.json").read_text()) for folder in folders]
    for part in ("model", "data", "config"):
        if any(record[part] != records[0][part] for record in records):
            sys.exit(f"Not the same {part} in {', '.join(map(str, folders))}")


def weights_of(folder: Path) -> str:
    """What names the weights of a run's last checkpoint."""
    return hashlib.sha256((folder / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()


def events_of(run: Path) -> list[dict]:
    """What a run told; a line that is still being written is left out."""
    found = []
    for line in (run / "events.jsonl").read_text().splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def span(run: Path) -> float:
    """Seconds from the first to the last step of a run."""
    times = [event["time"] for event in events_of(run) if event["event"] == "step"]
    return times[-1] - times[0]


if __name__ == "__main__":
    main()
