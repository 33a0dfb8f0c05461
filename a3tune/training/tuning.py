"""One tuning run from data to adapter: checks, labels, training, and going on where an earlier start ended."""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback, set_seed

from a3tune.attention.capture import prepare_capture
from a3tune.bundle import model_source
from a3tune.data.dataset import Dataset, TrainingItem
from a3tune.data.hub import dataset_place
from a3tune.data.read import read_dataset, split_dataset
from a3tune.device import beside
from a3tune.errors import A3TuneError, Cancelled, DataError, FirstBatchShown
from a3tune.lack_of_memory import memory_for
from a3tune.memory_advice import to_make_a_step
from a3tune.models.conventions import stored_convention
from a3tune.models.fingerprint import weights_fingerprint
from a3tune.models.model import VisionLanguageModel
from a3tune.models.prompt import PromptEncoder
from a3tune.progress import Progress, no_progress, part_of
from a3tune.training.arguments import TIMEOUT, check_optimizer, runs_on_processor, training_arguments
from a3tune.training.attention_targets import PatchTargets, label_source, make_targets, plan_digest, target_plan
from a3tune.training.attention_watch import AttentionWatch
from a3tune.training.base_model import load_base
from a3tune.training.batch_alignment import check_alignment
from a3tune.training.collate import Questions, QuestionStream
from a3tune.training.config import TuneConfig
from a3tune.training.fingerprints import data_fingerprint, former_model_fingerprint
from a3tune.training.first_batch import write_first_batch
from a3tune.training.fixed_heads import agreed_heads
from a3tune.training.heartbeat import Heartbeat
from a3tune.training.launch import check_launch
from a3tune.training.methods import add_adapter, objective_of, trainable_count
from a3tune.training.model_card import write_card
from a3tune.training.reporting import check_reporters, reporting_callbacks
from a3tune.training.run_folder import RunFolder
from a3tune.training.run_identity import RunIdentity
from a3tune.training.run_summary import RunSummary, StepReporter, last_validation, run_notes, versions
from a3tune.training.stop import StopRequested, StopSwitch
from a3tune.training.token_lengths import TokenCounter
from a3tune.training.trainer import AlignmentTrainer
from a3tune.training.validation import Tally
from a3tune.training.validation_examples import ValidationExamples
from a3tune.training.verdict import verdict_of


def tune(
    config: TuneConfig,
    data: str | Path,
    out: str | Path,
    model: str = "demo",
    *,
    device: str = "auto",
    layout: str = "auto",
    images: str | Path | None = None,
    resume: bool = False,
    show_batch: bool = False,
    report_to: Sequence[str] = (),
    callbacks: Sequence[TrainerCallback] = (),
    on_progress: Progress = no_progress,
    should_stop: Callable[[], bool] | None = None,
) -> RunSummary:
    """Tune an adapter, or go on with an unfinished run of the same model, data and configuration in ``out``.

    Works alone and as one of several processes started by ``accelerate launch``; each of them calls it.

    Args:
        config: the settings.
        data: the data set (see `a3tune.data.read.read_dataset` for layouts), or the hub id of a public one.
        out: the run folder.
        model: "demo", a checkpoint folder or a hub id.
        device: "auto", "cpu", "cuda" (the first that is visible) or "mps".
        layout, images: as in `read_dataset`.
        resume: insist on an unfinished run being there.
        show_batch: end before the first step, with `FirstBatchShown`, once the first batch is in the run folder.
        report_to: where else the run reports to: "tensorboard", "wandb", "mlflow" (see `a3tune.training.reporting`).
        callbacks: callbacks of the Trainer of transformers, called beside the run's own.
        on_progress: called with what is being done and the share done, 0 to 1; the run's events say more.
        should_stop: asked between steps; True saves a checkpoint and ends the work.

    Raises:
        DataError: bad data, too little of it, a run folder that is taken, or a disk that is full.
        ModelError, LabelError, RequestError: a part cannot be loaded or does not fit; a launch with FSDP or DeepSpeed.
        NotEnoughMemoryError: a step takes more memory than there is.
    """
    check_launch(device)
    check_reporters(report_to)
    check_optimizer(config)
    cpu = runs_on_processor(device)
    state = PartialState(cpu=cpu, timeout=TIMEOUT)
    run = RunFolder(out)
    if state.is_main_process:
        run.forget_stop_request()
    with StopSwitch(run, should_stop) as stop:
        tuning = _Tuning(config, run, model, cpu, state, stop, on_progress)
        tuning.callbacks, tuning.show_batch = [*callbacks, *reporting_callbacks(report_to, run)], show_batch
        return tuning.work(Path(data), device, layout, images, resume)


class _Tuning:
    """The steps of one start of a run, on one process."""

    def __init__(
        self,
        config: TuneConfig,
        run: RunFolder,
        source: str,
        cpu: bool,
        state: PartialState,
        stop: StopSwitch,
        on_progress: Progress,
    ) -> None:
        self.config, self.run, self.source, self.cpu = run.as_begun(config), run, source, cpu
        self.state, self.stop = state, stop
        self.main = state.is_main_process
        self._report = on_progress if self.main else no_progress
        self._told = 0.0
        self._heartbeat = Heartbeat(run if self.main else None)
        self._started = False
        self.notes: list[str] = []
        self.callbacks: list[TrainerCallback] = []
        self.show_batch = False

    def work(self, data: Path, device: str, layout: str, images: str | Path | None, resume: bool) -> RunSummary:
        began = time.perf_counter()
        try:
            dataset = self._read(data, layout, images)
            identity = self._identity(data, dataset)
            waiting = self._agree(identity, resume, dataset)
            with memory_for("a step of this run", to_make_a_step(self.config)):
                summary = self._tune(dataset, identity, device, waiting, began)
        except Cancelled:
            self._end("stopped")
            raise
        except A3TuneError as error:
            self._end("failed", error=str(error))
            raise
        return summary

    # Before the model

    def _read(self, data: Path, layout: str, images: str | Path | None) -> Dataset:
        # The main process opens every image; the others take its word for it.
        with self.state.main_process_first():
            dataset = read_dataset(
                dataset_place(data, self._report, with_images=images is None),
                layout,
                images=images,
                check_images=self.main,
                allow_shared_images=self.config.allow_shared_images,
                several_images=True,
                unpack_to=self.run.path.with_name(self.run.path.name + "-images"),
                on_progress=self._report,
                should_stop=self.stop if self.state.num_processes == 1 else None,
            )
        dataset.raise_for_faults()
        dataset = split_dataset(dataset, self.config.validation_share, self.config.seed)
        if not dataset.of("train"):
            there = ", ".join(f"{count} {name}" for name, count in dataset.counts.splits.items())
            raise DataError(
                expected="at least one question to train on",
                got=f"The data has none ({there})",
                remedy='Give rows the split "train"',
            )
        return dataset

    def _identity(self, data: Path, dataset: Dataset) -> RunIdentity:
        # The main process reads the weights once, and the others what it kept.
        with self.state.main_process_first():
            fingerprint = weights_fingerprint(self.source, self._report)
        return RunIdentity(
            model={
                "source": self.source,
                "fingerprint": fingerprint,
                "convention": stored_convention(model_source(self.source)),
            },
            data={"path": data.name, "fingerprint": data_fingerprint(dataset), "questions": len(dataset.items)},
            config={**asdict(self.config), "processes": self.state.num_processes},
            former_fingerprint=former_model_fingerprint(model_source(self.source)),
        )

    def _agree(self, identity: RunIdentity, resume: bool, dataset: Dataset) -> bool:
        """Whether an unfinished run is continued; all processes look before the main one writes."""
        waiting = self.run.check(identity, resume=resume)
        if resume and not waiting:
            raise DataError(
                expected="an unfinished run to go on with",
                got=f"There is none in {self.run.path}",
                remedy="Check the folder's name, or leave out --resume to start a new run",
            )
        self.state.wait_for_everyone()
        if self.main:
            facts = {
                "process": os.getpid(),
                "host": platform.node(),
                "versions": versions(),
                "counts": {"splits": dataset.counts.splits, "images": dataset.counts.images},
            }
            self.run.start(identity, facts)
        self._started = True
        self.state.wait_for_everyone()
        return waiting

    # The run

    def _tune(self, dataset: Dataset, identity: RunIdentity, device: str, waiting: bool, began: float) -> RunSummary:
        config = self.config
        self._proceed("Loading the model")
        # "auto" is the process's own device, which accelerate has made current.
        model = load_base(config, self.source, "cpu" if self.cpu else device)
        encoder = model.cpu_encoder()
        dataset = self._check_lengths(dataset, model, encoder.limit)
        training, validation = dataset.of("train"), dataset.of("validation")
        targets = self._targets(model, encoder, training, validation, dataset.root, identity)
        questions = Questions(training, encoder, targets.part(0, len(training)))
        held_out = Questions(validation, encoder, targets.part(len(training), len(targets))) if validation else None
        objective = objective_of(config, model)
        counts, held = questions.targets.counts, held_out.targets.counts if held_out else None
        unsure = (self.run.read() or {}).get("unsure_regions") is True
        for note in run_notes(config, counts, held, objective.aligns, dataset.counts.several, unsure=unsure):
            self._note(note)
        set_seed(config.seed)
        tuned = add_adapter(model, config, self.source)
        prepare_capture(tuned)
        model.model = tuned
        processes = self.state.num_processes
        arguments = training_arguments(
            config,
            self.run.checkpoints,
            model,
            questions=len(questions),
            validates=held_out is not None,
            processes=processes,
            name=self.run.path.resolve().name,
        )
        per_step = config.effective_batch(processes)
        stream = QuestionStream(questions, steps=arguments.max_steps, per_step=per_step, seed=config.seed)
        check_alignment(questions, objective, model, config)
        start = self.run.last_step(identity) if waiting else None
        if self.main and (start is None or not self.run.batch.is_dir()):
            write_first_batch(self.run, model, stream, config.batch_size)
        if self.show_batch:
            self.state.wait_for_everyone()
            raise FirstBatchShown
        fixed = None
        if objective.selection == "fixed":
            known = (self.run.read() or {}).get("fixed_heads")
            if not known:
                self._proceed("Choosing heads")
            fixed = agreed_heads(model, stream, objective.head_count, config, known, self.state)
        stopper = StopRequested(self.stop)
        trainer = AlignmentTrainer(
            tuned,
            arguments,
            stream,
            held_out,
            objective,
            self.run,
            {**identity.record(), "label_settings": (self.run.read() or {}).get("label_settings")},
            fixed_heads=fixed,
            patience=config.early_stopping,
            keep=config.keep,
            callbacks=[stopper, StepReporter(self._report), *self.callbacks],
            report=self._report,
        )
        trainer.add_callback(AttentionWatch(model, trainer, held_out or questions))
        if held_out is not None:
            trainer.on_best = ValidationExamples(model, trainer, held_out).write
        if self.main and waiting:
            self.run.event_log.forget_after(start or 0)
        if held_out is not None and (start is None or Tally.load(self.run.tally(None), held_out) is None):
            self._proceed("Validating the base model")
            trainer.validate_base()
        if self.main:
            self.run.update(
                status="training",
                steps=arguments.max_steps,
                trainable_parameters=trainable_count(tuned),
                fixed_heads=None if fixed is None else [list(head) for head in fixed],
                targets=counts,
            )
            self.run.event_log.add(
                "training", step=start or 0, steps=arguments.max_steps, resumed=start is not None, targets=counts
            )
        with warnings.catch_warnings():
            # DDP remarks on the strides of tensors with a single expert, where strides mean nothing.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
            trainer.train(resume_from_checkpoint=str(self.run.checkpoint(start)) if start is not None else None)
        status = "stopped" if stopper.stopped else "finished"
        metrics = last_validation(trainer.state.log_history)
        best = trainer.state.best_global_step
        verdict = verdict_of(self.run, held_out, best) if held_out is not None and status == "finished" else None
        told = None if verdict is None else verdict.record()
        self._end(status, step=trainer.state.global_step, best_step=best, metrics=metrics, verdict=told)
        return RunSummary(
            self.run.path,
            status,
            trainer.state.global_step,
            arguments.max_steps,
            best,
            metrics,
            self.run.adapter if self.run.adapter.is_dir() else None,
            time.perf_counter() - began,
            counts,
            (*model.notes, *self.notes),
            verdict,
        )

    def _check_lengths(self, dataset: Dataset, model: VisionLanguageModel, limit: int) -> Dataset:
        def counted(what: str, share: float) -> None:
            self._report(what, share)
            self._heartbeat.beat(what, round(share * len(dataset.items)), len(dataset.items))

        most = min(self.config.max_length, limit)
        checked = dataset.check_lengths(TokenCounter(model, most), most, on_progress=counted)
        checked.raise_for_faults()
        return checked

    def _targets(
        self,
        model: VisionLanguageModel,
        encoder: PromptEncoder,
        training: tuple[TrainingItem, ...],
        validation: tuple[TrainingItem, ...],
        root: Path,
        identity: RunIdentity,
    ) -> PatchTargets:
        plans = [target_plan(self.config, validation=held_out) for held_out in (False, True)]
        digest = plan_digest(plans[0], vars(plans[1]), identity.record())
        if self.main:
            found = PatchTargets.load(self.run.targets, digest)
            if found is None:
                # Without alignment labels only measure, which is not worth hours of making them.
                device = beside(model.device)
                source = label_source(self.config, root, self.source, device, make=self.config.aligns)
                labelled = self._labelled(len(training) + len(validation))
                cut = len(training) / (len(training) + len(validation))
                told = part_of(labelled, 0, cut), part_of(labelled, cut, 1)
                parts, grid = (training, validation), model.patch_grid
                made, unsure = make_targets(self.config, encoder, grid, source, parts, told, self.stop)
                self.run.update(unsure_regions=unsure)
                if source is not None:
                    self.run.update(label_settings=source.settings)
                    if source.faults:
                        number = len(source.faults)
                        self._note(f"{number} could not be labelled, the first with: {source.faults[0]}")
                made.save(self.run.targets, digest)
        self.state.wait_for_everyone()
        targets = PatchTargets.load(self.run.targets, digest)
        if targets is None:
            raise DataError(
                expected=f"the targets that the main process wrote to {self.run.targets}",
                got="They are not there",
                remedy="Put the run folder where all processes can read it",
            )
        return targets

    def _labelled(self, count: int) -> Progress:
        """Progress through ``count`` questions, also told as events, one a second at most."""

        def labelled(what: str, share: float) -> None:
            self._report(what, share)
            now = time.monotonic()
            if share == 1 or now - self._told > 1:
                self._told = now
                self.run.event_log.add("labels", done=round(share * count), count=count)

        return labelled

    def _note(self, note: str) -> None:
        self.notes.append(note)
        if self.main:
            self.run.event_log.add("note", text=note)

    def _proceed(self, what: str) -> None:
        if self.state.num_processes == 1 and self.stop():
            raise Cancelled
        self._report(what, 0.0)
        if self.main:
            self.run.event_log.add("progress", text=what)

    def _end(self, status: str, **facts: Any) -> None:
        """Write down how it ended; a disk too full for this is already being reported."""
        if self.main and self._started:
            with suppress(OSError):
                self.run.update(status=status, **facts)
                write_card(self.run)
            with suppress(OSError):
                self.run.event_log.add(status, **facts)
