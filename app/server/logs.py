"""The server's log: words for a terminal, or a line of JSON for each event.

Neither holds images, questions, answers, names or addresses: what this application logs is written so, and of other
libraries, whose messages may quote a file or a request, only where a message came from is kept.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Any, Literal

from gradio import queueing, routes

Style = Literal["text", "json"]
_OWN = "a3tune"


class JsonLines(logging.Formatter):
    """A record as one line: time (UTC), level, logger, message and the facts that came with it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if record.name.split(".")[0] == _OWN:
            line |= {"message": record.getMessage(), **getattr(record, "facts", {})}
        else:
            line |= {"module": record.module, "line": record.lineno}
            if record.exc_info and record.exc_info[0] is not None:
                line["error"] = record.exc_info[0].__name__
        return json.dumps(line, ensure_ascii=False)


def begin_log(style: Style) -> None:
    """Set up the process's log: JSON with every event, or (text) what is worth a person's attention."""
    for module in (queueing, routes):
        vars(module)["traceback"] = _Discreet()
    if style == "text":
        return
    handler = logging.StreamHandler(os.fdopen(os.dup(2), "w", encoding="utf-8"))
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_OWN).setLevel(logging.INFO)
    logging.captureWarnings(True)
    # They write to the terminal themselves; what they have to say goes the way of all others.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "transformers", "gradio", "httpx"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
    # Progress bars, and errors with what they quote, are printed past every log.
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.excepthook = _log_error
    threading.excepthook = lambda told: _log_error(told.exc_type, told.exc_value, told.exc_traceback)


class _Discreet:
    """Python's ``traceback`` for Gradio, which prints what it refuses in full: a value that is no choice, for one. Here
    it tells the error's type and place."""

    def print_exc(self) -> None:
        kind, error, place = sys.exc_info()
        if kind is not None:
            _log_error(kind, error, place)

    def __getattr__(self, name: str) -> Any:
        return getattr(traceback, name)


def _log_error(kind: type[BaseException], error: BaseException | None, place: TracebackType | None) -> None:
    """An error that nobody caught: its type and place; its message may quote a file."""
    frames = [
        f"{frame.name} in {os.path.basename(frame.filename)}:{frame.lineno}" for frame in traceback.extract_tb(place)
    ]
    logging.getLogger("a3tune.app").error("Unexpected %s", kind.__name__, extra={"facts": {"frames": frames}})
