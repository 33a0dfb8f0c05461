"""Who did what and when, on a server that several people share: a line of JSON for each act, which is only added to.

There are no questions, answers, images, titles or file names in it. What cannot be noted is not done.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from a3tune.errors import RequestError

log = logging.getLogger("a3tune.app")

# Facts are keys and names of places: no sentence gets in by a name that somebody makes up.
_UNUSUAL = re.compile(r"[^\w./:@+-]")
_LONGEST = 300

AUDIT_VARIABLE = "A3TUNE_AUDIT"

ACTS = {
    "sign-in": "somebody signed in",
    "sign-in-refused": "a login failed; `why` is state, issuer, provider, token, groups or password",
    "sign-out": "somebody signed out",
    "image-open": "files of their own were opened; `files` is how many",
    "result-export": "a result was taken as a file; `form`, the `run` of an evaluation, and of DICOM whether "
    "patient and study are in it (`identity`)",
    "archive-search": "studies were looked for in the DICOM archive",
    "archive-fetch": "a series was fetched from it",
    "archive-store": "exported objects were stored in it; `objects` is how many",
    "data-add": "a data set was taken in; `data`",
    "data-delete": "it was deleted; for a minute it can come back",
    "data-restore": "it was taken back",
    "run-start": "a run was begun; `run`, and the kind of its `command`",
    "run-add": "a run that was made elsewhere was taken in; `run`",
    "run-resume": "it was begun again",
    "run-stop": "it was asked to end at a checkpoint",
    "run-cancel": "it was ended at once",
    "run-delete": "it was deleted; for a minute it can come back",
    "run-restore": "it was taken back",
    "adapter-load": "an adapter was taken in; `adapter`, and `hub` where it came from there",
    "adapter-export": "an adapter was taken as a file; `adapter`, of a run its name",
    "adapter-push": "an adapter was put on the hub; `adapter`, `repository`",
    "adapter-delete": "it was deleted; for a minute it can come back",
    "adapter-restore": "it was taken back",
    "model-download": "files of a model or part were fetched; `kind`, `source`",
    "model-load": "what all share was replaced; `kind`, `source`",
    "model-cancel": "a download was stopped",
    "forget": "somebody had everything of theirs removed",
}
"""Every act that is noted, with what it means and which facts come with it."""


class AuditLog:
    """The file with what was done.

    Args:
        path: the file; made when it is not there, readable by this user alone. It may be moved away at any time.

    Raises:
        RequestError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(self._open())
        except OSError as error:
            raise self._refused(error) from None

    def note(
        self, who: Mapping[str, str], role: str, visit: str, act: str, facts: Mapping[str, str | int | bool]
    ) -> None:
        """Add a line, and have it on the disk before this returns.

        Args:
            who: ``issuer`` and ``subject``; empty where nobody is known.
            role: what they may do.
            visit: names their visit; "" for none.
            act: one of ``ACTS``.
            facts: of what.

        Raises:
            RequestError: it cannot be written.
        """
        if act not in ACTS:
            raise KeyError(act)
        moment = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
        line: dict[str, Any] = {"time": f"{stamp}.{int(moment % 1 * 1000):03d}Z", "act": act}
        line |= {"who": dict(who), "role": role, "visit": visit[:12]}
        for name, fact in facts.items():
            line[name] = _UNUSUAL.sub("?", fact)[:_LONGEST] if isinstance(fact, str) else fact
        text = json.dumps(line, ensure_ascii=True) + "\n"
        try:
            with self._guard:
                self._add(text.encode())
        except OSError as error:
            log.error("The audit cannot be written (%s): what should be noted is refused", error.strerror)
            raise self._refused(error) from None

    def _add(self, line: bytes) -> None:
        file = self._open()
        try:
            # What a full disk left half of stands on a line of its own.
            end = os.fstat(file).st_size
            torn = end > 0 and os.pread(file, 1, end - 1) != b"\n"
            content = b"\n" + line if torn else line
            if os.write(file, content) != len(content):
                raise OSError(28, "No space left on device")
            os.fsync(file)
        finally:
            os.close(file)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def _refused(self, error: OSError) -> RequestError:
        return RequestError(
            expected="an audit that can be written, since this server notes what is done",
            got=f"It cannot be ({error.strerror})",
            remedy=f"Ask whoever runs this server to make room, or to correct {AUDIT_VARIABLE}",
        )


def audit_path(text: str, deployment: str, studio: Path) -> Path | None:
    """Where the audit lies: in the studio's folder of a ``server`` where nothing is said; None for no audit."""
    if text.strip().lower() == "none" or (not text.strip() and deployment != "server"):
        return None
    return Path(text.strip()).expanduser() if text.strip() else studio / "audit.jsonl"


def acts_table() -> str:
    """Every act as a table in Markdown."""
    rows = [f"| `{act}` | {why} |" for act, why in ACTS.items()]
    return "\n".join(["| Act | What was done |", "| --- | --- |", *rows])
