"""Where the application runs, and what that allows: one table of every limit, by deployment.

``local`` is a person's own machine, ``space`` a public Hugging Face Space before strangers, ``server`` a machine that
several people of one house share. Each limit has a variable of its own by which whoever runs the server changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from a3tune.errors import RequestError

NAMES = ("local", "space", "server")


def _limit(words: str, unit: str = "") -> Any:
    """A limit with what it is of, in words, and its unit."""
    return field(metadata={"words": words, "unit": unit})


@dataclass(frozen=True)
class Deployment:
    """Every limit of one deployment; None where there is none.

    Attributes:
        name: "local", "space" or "server".
        keeps: whether data sets, runs and adapters outlive the visit and a restart as they are.
        idle_minutes: a visit ends so long after its last page was closed.
        pages, pages_each: pages open at once.
        results_mb: what all visitors' results may hold in memory; of each page the newest stays.
        upload_file_mb, upload_each_mb, upload_all_mb: uploads that were not taken in yet.
        request_mb: what a request that is no upload may hold.
        stored_each_mb, stored_all_mb: data sets, runs and adapters on the disk.
        data_sets, adapters: of one visitor.
        data_files: files of one data set.
        runs_each, runs_all: runs that wait.
        run_steps, run_minutes: of one run.
        turn_minutes: a run makes room after so long when somebody else's waits; it goes on later.
        batch_images: images that one question is asked about at once.
        batch_each_mb, batch_all_mb: files of such images, which stay in memory until their table goes.
        model_changes: how often in ten minutes what all visitors share may be changed.
        login_hours, login_idle_minutes: how long a login holds at most, and after the last request.
        login_tries: how often a login may fail in ten minutes, from one address and under one name.
    """

    name: str
    keeps: bool
    idle_minutes: float | None = _limit("Idle time after a visit's last page was closed", "minutes")
    pages: float | None = _limit("Open pages of all visitors")
    pages_each: float | None = _limit("Open pages of one visitor")
    results_mb: float | None = _limit("Memory of all visitors' results", "MB")
    upload_file_mb: float | None = _limit("One uploaded file", "MB")
    upload_each_mb: float | None = _limit("One visitor's uploads that were not taken in yet", "MB")
    upload_all_mb: float | None = _limit("All visitors' uploads that were not taken in yet", "MB")
    request_mb: float | None = _limit("One request that is no upload", "MB")
    stored_each_mb: float | None = _limit("One visitor's data sets, runs and adapters on the disk", "MB")
    stored_all_mb: float | None = _limit("All visitors' data sets, runs and adapters on the disk", "MB")
    data_sets: float | None = _limit("One visitor's data sets")
    data_files: float | None = _limit("One data set's files")
    adapters: float | None = _limit("One visitor's loaded adapters")
    runs_each: float | None = _limit("One visitor's waiting runs")
    runs_all: float | None = _limit("All visitors' waiting runs")
    run_steps: float | None = _limit("One run's steps")
    run_minutes: float | None = _limit("One run's time at work", "minutes")
    turn_minutes: float | None = _limit("One run's time at work while somebody else's run waits", "minutes")
    batch_images: float | None = _limit("One table's images")
    batch_each_mb: float | None = _limit("Files of one table's images in memory", "MB")
    batch_all_mb: float | None = _limit("Files of all tables' images in memory", "MB")
    model_changes: float | None = _limit("Changes of what all visitors share, in ten minutes")
    login_hours: float | None = _limit("One login", "hours")
    login_idle_minutes: float | None = _limit("Time without a request after which a login ends", "minutes")
    login_tries: float | None = _limit("Logins that fail, in ten minutes, from one address or under one name")

    def refusal(self, limit: str, got: str, remedy: str = "") -> RequestError:
        """What is told when a limit is reached: which it is, and who can raise it.

        Args:
            limit: the name of its field.
            got: what came.
            remedy: what the visitor can do.
        """
        item = next(item for item in limits() if item.name == limit)
        words, unit = item.metadata["words"], item.metadata["unit"]
        raised = self.who_raises(limit)
        most = f"{getattr(self, limit):,g} {unit}".strip()
        return RequestError(
            expected=f"at most {most} ({words[0].lower()}{words[1:]})",
            got=got,
            remedy=f"{remedy}, or {raised}" if remedy else raised[0].upper() + raised[1:],
        )

    def who_raises(self, limit: str) -> str:
        """What a visitor can do to have a limit raised, as the end of a sentence."""
        if self.name == "local":
            return f"start the application with a higher {variable(limit)}"
        return f"ask whoever runs this {'Space' if self.name == 'space' else 'server'} to raise {variable(limit)}"

    def check(self, limit: str, number: float, got: str, remedy: str = "") -> None:
        """Raises:
        RequestError: the number is above the limit.
        """
        most = getattr(self, limit)
        if most is not None and number > most:
            raise self.refusal(limit, got, remedy)


_LOCAL = Deployment(
    name="local",
    keeps=True,
    idle_minutes=None,
    pages=200,
    pages_each=100,
    results_mb=8000,
    upload_file_mb=256,
    upload_each_mb=20_000,
    upload_all_mb=20_000,
    request_mb=32,
    stored_each_mb=None,
    stored_all_mb=None,
    data_sets=20,
    data_files=100_000,
    adapters=100,
    runs_each=5,
    runs_all=50,
    run_steps=1_000_000,
    run_minutes=None,
    turn_minutes=60,
    batch_images=1000,
    batch_each_mb=4000,
    batch_all_mb=8000,
    model_changes=60,
    login_hours=12,
    login_idle_minutes=60,
    login_tries=10,
)
_SPACE = Deployment(
    name="space",
    keeps=False,
    idle_minutes=10,
    pages=100,
    pages_each=8,
    results_mb=2000,
    upload_file_mb=256,
    upload_each_mb=512,
    upload_all_mb=4000,
    request_mb=8,
    stored_each_mb=1000,
    stored_all_mb=10_000,
    data_sets=5,
    data_files=20_000,
    adapters=5,
    runs_each=2,
    runs_all=20,
    run_steps=2000,
    run_minutes=20,
    turn_minutes=5,
    batch_images=24,
    batch_each_mb=128,
    batch_all_mb=1000,
    model_changes=2,
    login_hours=12,
    login_idle_minutes=60,
    login_tries=10,
)
_SERVER = Deployment(
    name="server",
    keeps=False,
    idle_minutes=60,
    pages=400,
    pages_each=20,
    results_mb=8000,
    upload_file_mb=256,
    upload_each_mb=4000,
    upload_all_mb=40_000,
    request_mb=32,
    stored_each_mb=20_000,
    stored_all_mb=400_000,
    data_sets=20,
    data_files=100_000,
    adapters=20,
    runs_each=5,
    runs_all=50,
    run_steps=200_000,
    run_minutes=1440,
    turn_minutes=60,
    batch_images=200,
    batch_each_mb=1000,
    batch_all_mb=8000,
    model_changes=6,
    login_hours=12,
    login_idle_minutes=60,
    login_tries=10,
)
LOCAL = _LOCAL
"""A person's own machine."""
DEPLOYMENTS = {deployment.name: deployment for deployment in (_LOCAL, _SPACE, _SERVER)}
"""Each deployment by its name."""


def limits() -> list[Any]:
    """The fields of :class:`Deployment` that are limits."""
    return [item for item in fields(Deployment) if "words" in item.metadata]


def variable(limit: str) -> str:
    """The variable that changes a limit."""
    return f"A3TUNE_{limit.upper()}"


def read_deployment(name: str, environment: Mapping[str, str]) -> Deployment:
    """A deployment with the limits that variables change; "none" takes one away.

    Raises:
        RequestError: there is no such deployment, or a variable holds no number above 0.
    """
    if name not in DEPLOYMENTS:
        raise RequestError(expected=f"one of {', '.join(NAMES)}", got=f"the deployment {name!r}", remedy="Choose one")
    changed: dict[str, float | None] = {}
    for item in limits():
        text = environment.get(variable(item.name), "").strip()
        if text:
            changed[item.name] = None if text.lower() == "none" else _number(variable(item.name), text)
    return replace(DEPLOYMENTS[name], **changed)  # type: ignore[arg-type]


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise RequestError(expected="a number above 0, or none", got=f"{name}={text}", remedy="Correct the variable")
    return number


def limits_table() -> str:
    """Every limit as a table in Markdown."""
    rows = ["| What | Variable | local | space | server |", "| --- | --- | ---: | ---: | ---: |"]
    for item in limits():
        unit = f", {item.metadata['unit']}" if item.metadata["unit"] else ""
        cells = [_cell(getattr(deployment, item.name)) for deployment in DEPLOYMENTS.values()]
        rows.append(f"| {item.metadata['words']}{unit} | `{variable(item.name)}` | {' | '.join(cells)} |")
    kept = [
        "yes" if deployment.keeps else "with `A3TUNE_KEEP`" if deployment.name == "server" else "no"
        for deployment in DEPLOYMENTS.values()
    ]
    rows.append(f"| Data sets, runs and adapters outlive the visit and a restart | | {' | '.join(kept)} |")
    return "\n".join(rows)


def _cell(value: float | None) -> str:
    return "none" if value is None else f"{value:,g}"
