"""What whoever runs the server sees and says of it: health, numbers, log and end, put together."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, cast

from starlette.middleware import Middleware

from a3tune.errors import RequestError
from app.engine import background
from app.server.drain import Drain
from app.server.health import Disk, Health
from app.server.logs import Style, begin_log
from app.server.metrics import Metrics

log = logging.getLogger("a3tune.app")

LOG_VARIABLE, TOKEN_VARIABLE, DRAIN_VARIABLE = "A3TUNE_LOG", "A3TUNE_METRICS_TOKEN", "A3TUNE_DRAIN_SECONDS"


class Operation:
    """Health, numbers, log and end of one server.

    Args:
        variables: those of the environment: the style of the log ("text", "json"), what opens the numbers to other
            machines, and how long answers may take to be finished at the end.
        model: state of the model: "loading", "ready" or "failed".
        runs: how many tuning runs are at work.
        studio: where visitors' things are kept on the disk.

    Attributes:
        middleware: has to stand in front of all that serves the page.

    Raises:
        RequestError: a variable holds what it may not.
    """

    def __init__(
        self, variables: Mapping[str, str], model: Callable[[], str], runs: Callable[[], int], studio: Path
    ) -> None:
        begin_log(_style(variables))
        self._drain = Drain(_seconds(variables))
        self._metrics = Metrics(
            {
                "model_ready": ("Whether the model is loaded", lambda: model() == "ready"),
                "runs_at_work": ("Tuning runs that are being done", runs),
                "work_in_progress": ("Answers, regions, checks that somebody waits for", background.at_work),
                "streams_open": ("Browsers that wait for the end of something", lambda: self._drain.streams),
            }
        )
        background.observe(self.ended)
        disk = Disk(lambda: (studio, Path(tempfile.gettempdir())))
        token = variables.get(TOKEN_VARIABLE, "").strip()
        self.middleware = Middleware(Health, model, disk, self._metrics.text, self._drain, token)

    def ended(self, kind: str, outcome: str, seconds: float) -> None:
        """Take note of work that has ended."""
        self._metrics.count(kind, outcome, seconds)
        log.info("Work ended", extra={"facts": {"kind": kind, "outcome": outcome, "seconds": round(seconds, 3)}})

    def decoded(self, outcome: str, seconds: float) -> None:
        """Take note of a file that was decoded, or was not."""
        self.ended("decode", outcome, seconds)

    def serve(self, close: Callable[[], None]) -> NoReturn:
        """Wait until the server has to end and nothing is being answered any more, and end the process; called by the
        main thread.

        Args:
            close: called before.
        """
        self._drain.listen()
        log.info("The server is ready for visitors; the model loads")
        code = 0
        try:
            self._drain.wait()
        except KeyboardInterrupt:
            code = 128 + signal.SIGINT
        close()
        logging.shutdown()
        sys.stdout.flush()
        # Threads that compute for nobody any more would otherwise be torn down with the interpreter under them.
        os._exit(code)


def _style(variables: Mapping[str, str]) -> Style:
    style = variables.get(LOG_VARIABLE, "").strip() or "text"
    if style not in ("text", "json"):
        raise RequestError(expected=f"text or json for {LOG_VARIABLE}", got=f"It is {style}", remedy="Set one of them")
    return cast(Style, style)


def _seconds(variables: Mapping[str, str]) -> float:
    text = variables.get(DRAIN_VARIABLE, "").strip() or "120"
    if not text.replace(".", "", 1).isdecimal():
        raise RequestError(
            expected=f"seconds for {DRAIN_VARIABLE}", got=f"It is {text}", remedy="Set a number, or unset it"
        )
    return float(text)
