"""Many visitors of one server, started for it: whether all are answered, how long they wait, whether they get what
each gets alone, and what of them stays in memory.

    python -m benchmarks.visitors [--only mixed equal memory]

The server runs as for strangers (``--deployment space``) on the demo model. Prints a Markdown table;
docs/security.md has what was measured last.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image

from a3tune.phantom import make_phantom
from tests.attack.attack import API, Server, Visitor

_config: dict[str, dict[str, Any]] = {}
# How long after a visit's end the server gives its memory back, and some more, in seconds.
_GIVEN_BACK = 20.0
QUESTIONS = ("Is there a mass?", "Where is the liver?", "Which organ is this?", "Is there a stone in the kidney?")


class AskingVisitor(Visitor):
    """A visitor who asks."""

    def __init__(self, client: httpx.Client, config: dict[str, Any] | None) -> None:
        super().__init__(client, config)
        self.regions = ""

    def open(self, content: bytes) -> None:
        """Open a picture."""
        told = self.call("upload", "upload", upload=[self.file(content, "image.png")])
        self.regions = self._value(told, self.event("upload", "upload"))["session"]

    def ask(self, question: str) -> dict[str, Any]:
        """Ask the base model about it: its answer with all maps, as the viewer is given it."""
        self.call("ask", "click", question=question, adapters=["base"])
        reserve = self.event("ask", "click")
        event = next(event for event in self.config["dependencies"] if event.get("trigger_after") == reserve["id"])
        body = {"data": [], "fn_index": event["id"], "session_hash": self.page}
        self.client.post(f"{API}/queue/join", json=body).raise_for_status()
        with self.client.stream("GET", f"{API}/queue/data", params={"session_hash": self.page}) as lines:
            told = next(line for line in lines.iter_lines() if '"process_completed"' in line)
        (view,) = self._value(told, event)["result"]["views"]
        return view

    def find(self, prompt: str) -> dict[str, Any]:
        """Find regions in it."""
        request = {"session": self.regions, "prompt": prompt, "small": False}
        return self.ask_widget("viewer", "find_regions", request).json()

    def leave(self) -> None:
        """End the visit."""
        if "All of it is gone" not in self.call("forget-yes", "click"):
            raise RuntimeError("the visit did not end")

    def _value(self, told: str, event: dict[str, Any]) -> dict[str, Any]:
        """What the viewer was given last."""
        place = event["outputs"].index(self.part("viewer"))
        *_, line = (line for line in told.splitlines() if '"process_completed"' in line)
        value = json.loads(line[5:])["output"]["data"][place]
        if not isinstance(value, str):
            raise RuntimeError(f"the viewer was given nothing: {line[:600]}")
        return json.loads(value)


def picture(seed: int) -> bytes:
    """A phantom as PNG, another one for each seed."""
    stream = io.BytesIO()
    Image.fromarray(make_phantom(seed, ("abdomen", "chest", "brain")[seed % 3]).image.pixels).save(stream, "PNG")
    return stream.getvalue()


def mixed(server: Server, count: int, at_once: int) -> list[tuple[str, str]]:
    """Visitors who open a picture and ask about it; every second one finds regions too, every fifth takes data in."""
    waits: list[float] = []

    def visit(number: int) -> bool:
        with asking_visitor(server) as visitor:
            visitor.open(picture(number))
            begun = time.monotonic()
            view = visitor.ask(QUESTIONS[number % len(QUESTIONS)])
            waits.append(time.monotonic() - begun)
            good = bool(view["tokens"])
            if number % 2:
                good &= bool(visitor.find("Where is the liver?")["rows"])
            if number % 5 == 0:
                good &= "Looked through" in visitor.call("tune-sample", "click")
            visitor.leave()
            return good

    alone = timed_answer(server)
    begun = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        answered = sum(pool.map(visit, range(count)))
    seconds = time.monotonic() - begun
    middle, high = np.percentile(waits, (50, 95))
    return [
        (f"{count} visitors of mixed work, {at_once} at once: answered", f"{answered} of {count}, in {seconds:.0f} s"),
        ("from question to answer and map: median, 95th percentile", f"{middle:.1f} s, {high:.1f} s"),
        ("the same alone, and the 95th percentile in times of it", f"{alone:.2f} s, {high / alone:.1f}"),
    ]


def timed_answer(server: Server) -> float:
    """Seconds of one answer while nobody else asks: the median of five."""
    with asking_visitor(server) as visitor:
        visitor.open(picture(99))
        waits = []
        for number in range(5):
            begun = time.monotonic()
            visitor.ask(QUESTIONS[number % len(QUESTIONS)])
            waits.append(time.monotonic() - begun)
        visitor.leave()
    return float(np.median(waits))


def equal(server: Server, count: int) -> list[tuple[str, str]]:
    """Visitors who ask at the same moment, against each alone: answer, maps, numbers."""

    def visit(number: int) -> str:
        with asking_visitor(server) as visitor:
            visitor.open(picture(number))
            view = visitor.ask(QUESTIONS[number % len(QUESTIONS)])
            visitor.leave()
            return json.dumps(view, sort_keys=True)

    alone = [visit(number) for number in range(count)]
    with ThreadPoolExecutor(count) as pool:
        together = list(pool.map(visit, range(count)))
    same = sum(one == other for one, other in zip(alone, together, strict=True))
    return [(f"{count} at once, equal to the last bit to what each gets alone", f"{same} of {count}")]


def memory(server: Server, early: int, late: int) -> list[tuple[str, str]]:
    """The server's memory after so many visits that have ended, once it has given back what the last ones took; every
    tenth asks, every twentieth finds regions."""
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    at = {}
    for number in range(1, late + 1):
        # Before: a connection that waits for it on a busy machine is closed by the server.
        content = picture(number % 40)
        with asking_visitor(server) as visitor:
            visitor.open(content)
            if number % 10 == 0:
                visitor.ask(QUESTIONS[0])
            if number % 20 == 0:
                visitor.find("Where is the liver?")
            visitor.leave()
        if number in (early, late):
            time.sleep(_GIVEN_BACK)
        if number in (early, late) or number % 100 == 0:
            at[number] = process.memory_info().rss / 1e6
            print(f"{number} visits: {at[number]:.0f} MB", file=sys.stderr, flush=True)
    grown = at[late] / at[early] - 1
    return [
        (
            f"memory after {early} and {late:,} ended visits",
            f"{at[early]:.0f} MB, {at[late]:.0f} MB ({100 * grown:+.1f} %)",
        )
    ]


@contextmanager
def asking_visitor(server: Server) -> Iterator[AskingVisitor]:
    """A visitor with a page that is open."""
    with httpx.Client(base_url=server.url, timeout=600, trust_env=False) as client:
        visitor = AskingVisitor(client, _config.get(server.url))
        # The same for all: reading it again would be the most of a short visit.
        _config[server.url] = visitor.config
        yield visitor


def main(arguments: Sequence[str] | None = None) -> None:
    """Start a server, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=("mixed", "equal", "memory"), default=("mixed", "equal", "memory"))
    parser.add_argument("--visitors", type=int, default=50, help="of mixed work")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--equal", type=int, default=20)
    parser.add_argument("--visits", type=int, nargs=2, default=(50, 1000), help="between which memory is compared")
    parser.add_argument("--scorer", default="demo")
    options = parser.parse_args(arguments)
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="a3tune-visitors-") as folder:
        server = Server(Path(folder), options.scorer)
        server.start()
        try:
            if "mixed" in options.only:
                rows += mixed(server, options.visitors, options.at_once)
            if "equal" in options.only:
                rows += equal(server, options.equal)
            if "memory" in options.only:
                rows += memory(server, *options.visits)
        finally:
            server.end()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    command = " ".join(("python -m benchmarks.visitors", *(sys.argv[1:] if arguments is None else arguments)))
    lines = ["| What | Measured |", "| --- | --- |", *(f"| {what} | {measured} |" for what, measured in rows)]
    made = f"`{command}`, {time.strftime('%Y-%m-%d')}, {len(os.sched_getaffinity(0))} cores"
    lines += ["", f"{made}; the machine's load over 1, 5 and 15 minutes at the end: {load}."]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
