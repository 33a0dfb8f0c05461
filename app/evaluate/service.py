"""Everything that the Evaluate tab does: reckoning, starting, following, reading and comparing evaluations.

Nothing here knows of Gradio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from a3tune.data.intake import check_room
from a3tune.errors import A3TuneError, RequestError
from a3tune.evaluation.tuning_run import has_aligned
from app.access.identity import require
from app.common.pictures import PictureQuestion
from app.common.status import explain
from app.engine import library
from app.engine.background import Step, Task, run
from app.engine.ids import AdapterName, JobId, OwnerId
from app.engine.model_slot import ModelSlot
from app.engine.private_adapters import allows_other_base
from app.engine.stop import StopEvents
from app.engine.subprocess_tasks import run_module
from app.evaluate.choice import ALIGNED, ALL_HEADS, BASE, EXPORTS, PHANTOM, EvaluationChoice
from app.evaluate.results import Evaluation, EvaluationReader, ItemFilter, results_value, with_told
from app.evaluate.view import EvaluationView, view_evaluation
from app.jobs.hardware import check_machine, devices
from app.jobs.job import RESERVE, TITLE_LENGTH, Job
from app.jobs.jobs import JobQueue
from app.jobs.sources import DataSource

_SECONDS = 1800.0


class Asked(NamedTuple):
    """One question of an evaluation, to be looked into.

    Attributes:
        question: the question about its image, with what the data says of the answer.
        adapters: the evaluation's adapters.
        trouble: why it cannot be told where the answer lies; "" where nothing is wrong.
    """

    question: PictureQuestion
    adapters: tuple[str, ...]
    trouble: str = ""


class EvaluateService:
    """The Evaluate tab's state.

    Args:
        slot: the base model, which is evaluated.
        jobs: the queue, which tuning runs wait in too.
        data_sources: what a visitor has to be evaluated on.
        own_adapters: a visitor's adapters by name.
    """

    def __init__(
        self,
        slot: ModelSlot,
        jobs: JobQueue,
        data_sources: Callable[[OwnerId], Sequence[DataSource]],
        own_adapters: Callable[[OwnerId], Mapping[AdapterName, Path]],
    ) -> None:
        self.slot, self.jobs = slot, jobs
        self._sources, self._own = data_sources, own_adapters
        self._reader = EvaluationReader()
        self._cancel = StopEvents()

    def forget(self, owner: OwnerId) -> None:
        """End what is being reckoned for a visitor, and drop what is known of their evaluations."""
        self._cancel.stop(owner)
        self._reader.forget(self.jobs.studio.root / owner)

    # ---- choosing ----------------------------------------------------------------------------

    def data_choices(self, owner: OwnerId) -> list[tuple[str, str]]:
        """(title, key) of all data: the benchmark, the visitor's sets, and these as their runs held them out."""
        own = [(source.title, source.key) for source in self._sources(owner)]
        return [("Phantom benchmark (bundled)", PHANTOM), *own]

    def adapter_choices(self, owner: OwnerId) -> list[str]:
        """Names of all adapters, the base first."""
        return list(self._folders(owner))

    def head_choices(self, owner: OwnerId) -> list[tuple[str, str]]:
        """(title, key) of sets of heads beside the critical ones: all, and what each of the visitor's runs aligned."""
        aligned = [name for name, folder in self._own(owner).items() if has_aligned(folder.parent)]
        return [("All heads", ALL_HEADS), *((f"Those that {name} aligned", f"{ALIGNED}:{name}") for name in aligned)]

    def first_choice(self) -> list[str]:
        """What is compared where a visitor has not chosen yet: the base, and the adapters that the model came with."""
        return [BASE, *self.slot.folders]

    def data_of_adapter(self, owner: OwnerId, name: AdapterName) -> str:
        """The key of the data that an adapter's run held out; that of the benchmark where it is not there."""
        folder = self._own(owner).get(name)
        run = "" if folder is None else folder.parent.parent.name
        return run if any(source.key == run for source in self._sources(owner)) else PHANTOM

    def _folders(self, owner: OwnerId) -> dict[str, Path | None]:
        own = {str(name): folder for name, folder in self._own(owner).items()}
        return {BASE: None, **self.slot.folders, **own}

    def _command(self, owner: OwnerId, choice: EvaluationChoice) -> tuple[list[str], Mapping[str, str], str]:
        """Arguments and variables of the command, and the data's title."""
        arguments, environment, title = ["--data", PHANTOM], {"TOKENIZERS_PARALLELISM": "false"}, "phantom benchmark"
        if choice.data != PHANTOM:
            source = next((source for source in self._sources(owner) if source.key == choice.data), None)
            if source is None:
                raise RequestError(expected="data of yours", got="It is gone", remedy="Choose other data")
            arguments, environment, title = list(source.arguments), dict(source.environment), source.title
        folders = self._folders(owner)
        command = choice.arguments(arguments, folders, self.slot.profile)
        chosen = (folders[name] for name in choice.adapters)
        if any(folder is not None and allows_other_base(folder) for folder in chosen):
            command.append("--allow-other-base")
        return command, environment, title

    # ---- running -----------------------------------------------------------------------------

    def estimate(self, owner: OwnerId, choice: EvaluationChoice) -> Iterator[Step | dict[str, Any]]:
        """What an evaluation takes on this machine, from one measured batch: the fields of
        `a3tune.evaluation.estimate.EvaluationEstimate`, and "busy": whether a run disturbed the measurement.

        Raises:
            A3TuneError: it cannot be done, with the reason.
            Cancelled: another measurement of this visitor began, or the page left.
        """
        require("tuner", "evaluate")
        check_machine()
        command, environment, _ = self._command(owner, choice)

        def work(task: Task) -> dict[str, Any]:
            task.progress("Starting", 0.0)
            busy = bool(self.jobs.busy())
            found = run_module("a3tune", ["eval", *command, "--estimate"], environment, task, _SECONDS)
            return {**found, "busy": busy}

        return run(work, self._cancel.renew(owner), kind="estimate")

    def stop_estimate(self, owner: OwnerId) -> None:
        """End a visitor's measurement."""
        self._cancel.stop(owner)

    def start(self, owner: OwnerId, choice: EvaluationChoice, title: str = "") -> Job:
        """Put an evaluation into the queue.

        Raises:
            RequestError: nothing to evaluate, the machine cannot, too many runs wait, or there is no room.
        """
        check_machine()
        command, environment, data = self._command(owner, choice)
        check_room(self.jobs.studio.root, RESERVE)
        self.jobs.studio.check_room(owner)
        facts = {
            "title": title.strip()[:TITLE_LENGTH] or f"{', '.join(choice.adapters)} on {data}"[:TITLE_LENGTH],
            "model": self.slot.profile,
        }
        return self.jobs.submit(
            owner,
            None,
            [*command, "--export", EXPORTS],
            command="eval",
            device=devices()[0].split(":")[0],
            facts=facts,
            environment=environment,
        )

    # ---- reading -----------------------------------------------------------------------------

    def views(self, owner: OwnerId, *, at_work: bool = False) -> tuple[EvaluationView, ...]:
        """All evaluations of a visitor, the newest first; ``at_work``: those that wait or are at work."""
        jobs = self.jobs.jobs(owner, "eval")
        return tuple(view_evaluation(job) for job in jobs if not at_work or job.state != "ended")

    def news(self, owner: OwnerId, name: JobId, known: bool) -> dict[str, Any]:
        """Where an evaluation stands ("head"), and once it is finished what it found ("results") unless the page knows
        that, and the visitor's other finished ones to compare with ("others")."""
        view = view_evaluation(self._job(owner, name))
        if view.status != "finished" or known:
            return {"head": view.head}
        others = [other for other in self.views(owner) if other.status == "finished" and other.job.id != name]
        return {
            "head": view.head,
            "results": results_value(self.finished(owner, name)),
            "others": [[other.job.title, other.job.id] for other in others],
        }

    def finished(self, owner: OwnerId, name: JobId) -> Evaluation:
        """What a visitor's evaluation found."""
        return self._reader.read(self._job(owner, name).run)

    def page(self, owner: OwnerId, name: JobId, chosen: ItemFilter, offset: int) -> dict[str, Any]:
        """The questions of an evaluation that a filter keeps, a page of them from an offset on.

        Raises:
            RequestError: the filter names what there is not.
        """
        return self._reader.page(self.finished(owner, name), chosen, offset)

    def compare(self, owner: OwnerId, before: JobId, after: JobId) -> dict[str, Any]:
        """Two finished evaluations beside each other, as plain JSON values: the fields of
        `a3tune.evaluation.scoring.FolderComparison`, with titles in the place of folders.

        Raises:
            A3TuneError: one is not finished, or they share no question.
        """
        jobs = [self._job(owner, name) for name in (before, after)]
        found = library.comparison_record(library.compare_folders(*(job.run for job in jobs)))
        comparisons = with_told(found["comparisons"])
        return {**found, "comparisons": comparisons, "before": jobs[0].title, "after": jobs[1].title}

    def question(self, owner: OwnerId, name: JobId, number: int) -> Asked:
        """One question of an evaluation.

        Raises:
            RequestError: there is no such question, or its image is gone.
        """
        found = self.finished(owner, name)
        for items in found.by_system.values():
            if number in items:
                adapters = dict.fromkeys(item[number].adapter for item in found.by_system.values() if number in item)
                item = items[number]
                question = PictureQuestion(item.question, self._reader.picture(found, item), item.answer)
                try:
                    mask = self._reader.reference_mask(found, item)
                except (A3TuneError, OSError) as error:
                    return Asked(question, tuple(adapters), f"Without a reference mask: {explain(error)}")
                return Asked(question._replace(mask=mask), tuple(adapters))
        raise RequestError(expected="a question of this evaluation", got=f"number {number}", remedy="Choose another")

    def _job(self, owner: OwnerId, name: JobId) -> Job:
        job = self.jobs.job(owner, name)
        if job.command != "eval":
            raise RequestError(expected="an evaluation", got="This is a tuning run", remedy="Choose one from the list")
        return job
