"""Hugging Face's Trainer with attention alignment: the losses, validation, and checkpoints that hold everything."""

from __future__ import annotations

import inspect
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from torch.nn import functional
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME

from a3tune.adapters.a3moe import A3MoeConfig, record_experts
from a3tune.adapters.origin import write_origin
from a3tune.attention.capture import capture
from a3tune.errors import DataError, ModelError, is_lack_of_memory
from a3tune.progress import Progress, no_progress
from a3tune.training.adapter_weights import load_adapter_weights
from a3tune.training.batch_alignment import align
from a3tune.training.collate import Collator, Questions, QuestionStream, on_device
from a3tune.training.heartbeat import Heartbeat
from a3tune.training.methods import Objective
from a3tune.training.model_card import write_card
from a3tune.training.resources import resources_used
from a3tune.training.run_folder import IDENTITY_NAME, RunFolder
from a3tune.training.validation import Tally, answer_logits, validate
from a3tune.types import Head

# In what torch says when a file cannot be written; all else of its kind is about the device.
_WRITING = ("PytorchStreamWriter", "inline_container", "iostream", "No space left", "Disk quota")
_PARTS = ("cross_entropy", "alignment", "balance", "attention_mass")


class AlignmentTrainer(Trainer):
    """Trains an adapter on cross-entropy + ratio x alignment + balance x balance loss.

    The terms are normalised over the whole step, whatever it is cut into: cross-entropy by the answers' tokens,
    alignment by the questions that have a target, balance by all questions, of all accumulated batches of all
    processes.

    Args:
        model: the PEFT model; attention capture must be prepared on it.
        args: the training arguments; ``max_steps`` counts.
        stream: the training questions in their order.
        validation: the validation questions; None for no validation.
        objective: the losses.
        run: where events, checkpoints and the adapter go.
        identity: what every checkpoint says about its run, as plain JSON values.
        fixed_heads: the heads to align when they are chosen once; required for that selection.
        patience: end after so many validations without a better loss; None for never.
        keep: how many of the latest checkpoints are kept.
        callbacks: further callbacks.
        report: told what is done between steps, and the share of all steps that are made.

    Attributes:
        on_best: called on the main process with each validation that is the best so far, before its step is saved.
    """

    def __init__(
        self,
        model: PeftModel,
        args: TrainingArguments,
        stream: QuestionStream,
        validation: Questions | None,
        objective: Objective,
        run: RunFolder,
        identity: dict[str, Any],
        *,
        fixed_heads: Sequence[Head] | None = None,
        patience: int | None = None,
        keep: int = 1,
        callbacks: Iterable[TrainerCallback] = (),
        report: Progress = no_progress,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            data_collator=Collator(stream.questions.encoder),
            train_dataset=stream,
            eval_dataset=validation,
            callbacks=list(callbacks),
        )
        # The Trainer's own printer: progress is told through events.
        self.remove_callback(PrinterCallback)
        self.loss_is_scaled_for_ga = True
        self.stream, self.validation, self.objective, self.run = stream, validation, objective, run
        self.fixed_heads = None if fixed_heads is None else tuple(fixed_heads)
        self._identity, self._patience, self._keep = identity, patience, keep
        self._takes_masks = isinstance(model.peft_config[model.active_adapter], A3MoeConfig)
        base = model.get_base_model()
        self.keeps_logits = "logits_to_keep" in inspect.signature(base.forward).parameters
        # Added up in float64 on the CPU when a step is told: accelerators would be waited for, and not each knows it.
        self._parts: list[torch.Tensor] = []
        self._began: tuple[float, int] | None = None
        self._step_began: float | None = None
        self._passes = 0
        self.tally: Tally | None = None
        self.on_best: Callable[[Tally], None] | None = None
        self._report = report
        self._heartbeat = Heartbeat(run if self.is_world_process_zero() else None)

    # Data

    control: TrainerControl

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[Any]:
        # The stream is already in order, so the position in the data is the step alone.
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def get_train_dataloader(self) -> torch.utils.data.DataLoader[Any]:
        """Batches on the CPU, the next ones in preparation where a GPU computes: `to_device` moves what it has to."""
        if self.args.device.type != "cpu":
            batch = self.args.per_device_train_batch_size
            self.stream.prefetch(batch * self.args.gradient_accumulation_steps, batch, self.args.world_size)
        placing, self.accelerator.device_placement = self.accelerator.device_placement, False
        try:
            return super().get_train_dataloader()
        finally:
            self.accelerator.device_placement = placing

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor:
        """float64 [3]: answer tokens, questions with a target, questions, of one step over all processes."""
        counts = torch.zeros(3, dtype=torch.float64)
        for batch in batch_samples:
            aligned = sum(bool(target.any()) for target in batch["targets"])
            counts += torch.tensor([int((batch["labels"] != -100).sum()), aligned, len(batch["targets"])])
        # Not every accelerator knows float64; these counts are small.
        counts = counts.float().to(device, non_blocking=True)
        return self.accelerator.reduce(counts, "sum") if self.args.world_size > 1 else counts

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: adapters on frozen weights do not follow the Trainer's formula."""
        return 0

    # Losses

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """This batch's share of the step's loss, times the processes (whose gradients are averaged)."""
        self._tell_pass()
        counts = (
            self._get_num_items_in_batch([inputs], self.args.device)
            if num_items_in_batch is None
            else num_items_in_batch
        )
        tokens, aligned, questions = counts.clamp(min=1)
        objective = self.objective
        with ExitStack() as stack:
            record = experts = None
            if objective.aligns:
                # Only the totals of all heads; the chosen ones are computed with gradient afterwards.
                some = capture(inputs["rows"], inputs["columns"], [Head(0, 0)], share_of_all_heads=True)
                record = stack.enter_context(some)
            if objective.balance:
                experts = stack.enter_context(record_experts())
            logits, following = answer_logits(model, inputs, self.adapter_inputs(inputs), self.keeps_logits)
            answered = following != -100
            places = answered.flatten().nonzero().squeeze(1).to(logits.device, non_blocking=True)
            told, words = logits.flatten(0, 1).index_select(0, places), following[answered]
            words = words.to(logits.device, non_blocking=True)
            parts = [functional.cross_entropy(told.float(), words, reduction="sum") / tokens]
            zero = parts[0].new_zeros(())
            alignment, mass = align(record, inputs, objective, self.fixed_heads) if record is not None else (zero, zero)
            balance = experts.balance_losses(len(answered)).sum().to(zero) if experts is not None else zero
        parts += [alignment / aligned, balance / questions]
        self._parts.append(torch.stack([*parts, mass / aligned]).detach())
        loss = parts[0] + objective.ratio * parts[1] + objective.balance * parts[2]
        return loss * self.args.world_size

    def to_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch as the model takes it; see `on_device`."""
        return on_device(batch, self.args.device)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return self.to_device(inputs)

    def adapter_inputs(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """The token masks that A3MoE needs; nothing for LoRA."""
        if not self._takes_masks:
            return {}
        return {"a3_question_mask": batch["question"], "a3_image_mask": batch["columns"]}

    # Validation

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Loss, exact accuracy and attention mass on the validation questions; each process takes its share."""
        self.tally = self._validated(self.adapter_inputs)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self.tally.metrics().items()}
        self.state.log_history.append({**metrics, "step": self.state.global_step})
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def validate_base(self) -> None:
        """The same of the base model, kept in the run folder, and a "base_validation" event."""
        with self.model.disable_adapter():
            tally = self._validated(lambda batch: {})
        self._tell("base_validation", **tally.metrics(), questions=len(self.eval_dataset))
        if self.is_world_process_zero():
            tally.save(self.run.tally(None))

    def _validated(self, extra: Callable[[dict[str, Any]], dict[str, torch.Tensor]]) -> Tally:
        # Nobody comes here without validation questions.
        questions = cast(Questions, self.validation)
        training = self.model.training
        self.model.eval()
        indices = range(self.args.process_index, len(questions), self.args.world_size)
        tally = validate(
            # Outside of DDP's wrapper: processes may have different numbers of batches here.
            self.model,
            questions,
            indices,
            batch_size=self.args.per_device_eval_batch_size,
            to_device=self.to_device,
            extra=extra,
            keeps=self.keeps_logits,
            on_progress=lambda what, share: self.tell_work(what, round(share * len(indices)), len(indices)),
        )
        self.model.train(training)
        if self.args.world_size > 1:
            sums = self.accelerator.reduce(tally.table.to(self.args.device, torch.float32), "sum")
            tally.table.copy_(sums)
        return tally

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        best = super()._determine_best_metric(metrics, trial)
        names = {name.removeprefix("eval_"): value for name, value in metrics.items()}
        self._tell("validation", **names, best=best, questions=len(self.eval_dataset))
        since = [entry for entry in self.state.log_history if entry["step"] > (self.state.best_global_step or 0)]
        if best:
            self.control.should_save = True
            if self.is_world_process_zero() and self.tally is not None:
                self.tally.save(self.run.tally(self.state.global_step))
                if self.on_best is not None:
                    self.on_best(self.tally)
        elif self._patience is not None and len(since) >= self._patience:
            self._tell("early_stopping", best_step=self.state.best_global_step, validations=len(since))
            self.control.should_training_stop = self.control.should_save = True
        return best

    # Events

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """One "step" event with the loss and its parts, averaged since the last one; callbacks are told the same."""
        if "loss" in logs:
            logs = {**logs, **self._tell_step(logs)}
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def _tell_step(self, logs: dict[str, float]) -> dict[str, float]:
        self._passes = 0
        parts = torch.stack(self._parts).cpu().double().sum(dim=0).to(torch.float32)
        if self.args.world_size > 1:
            parts = self.accelerator.reduce(parts.to(self.args.device), "sum")
        means = dict(zip(_PARTS, (parts / self.args.logging_steps).tolist(), strict=True))
        self._parts.clear()
        step, last = self.state.global_step, self.state.max_steps
        if not all(math.isfinite(value) for value in [*means.values(), logs["loss"]]):
            told = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
            raise ModelError(
                expected="a finite loss",
                got=f"The loss of step {step} is {logs['loss']} ({told})",
                remedy="Lower learning_rate, or compute in fp32 or bf16; the last checkpoint is kept",
            )
        if not self.objective.aligns:
            del means["alignment"], means["attention_mass"]
        if not self.objective.balance:
            del means["balance"]
        now = time.monotonic()
        if self._began is None:
            self._began = (now, step)
        began, first = self._began
        each = (now - began) / (step - first) if step > first else None
        means["epoch"] = round(step * self.stream.per_step / len(self.stream.questions), 3)
        if self._step_began is not None:
            means["samples_per_second"] = round(self.stream.per_step / max(now - self._step_began, 1e-6), 3)
        self._step_began = None
        means |= resources_used(self.args.device)
        self._tell(
            "step",
            steps=last,
            loss=logs["loss"],
            **means,
            learning_rate=logs["learning_rate"],
            gradient_norm=logs.get("grad_norm"),
            seconds_left=None if each is None else round(each * (last - step), 1),
        )
        return means

    def training_step(self, *args: Any, **options: Any) -> torch.Tensor:
        """As of the Trainer; the first one of an optimiser step starts its clock."""
        self._step_began = time.monotonic() if self._step_began is None else self._step_began
        return super().training_step(*args, **options)

    def tell_work(self, what: str, done: int = 0, count: int = 0) -> None:
        """A sign of life while no step ends; see `a3tune.training.heartbeat.Heartbeat`."""
        self._heartbeat.beat(what, done, count, self.state.global_step)
        words = f"{what}: {done:,} of {count:,}" if count else what
        self._report(words, self.state.global_step / max(self.args.max_steps, 1))

    def _tell_pass(self) -> None:
        """A sign of life within a step of many passes; with one pass the step tells all."""
        count = self.args.gradient_accumulation_steps
        self._passes += 1
        if count > 1:
            self.tell_work("Batches of the next step", self._passes, count)

    def _tell(self, kind: str, **facts: Any) -> None:
        if self.is_world_process_zero():
            self.run.event_log.add(kind, step=self.state.global_step, **facts)
            self._heartbeat.rest()

    # Checkpoints

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if self.args.should_save:
            folder = output_dir or self.args.output_dir
            self.model.save_pretrained(folder, state_dict=state_dict, save_embedding_layers=False)
            # PEFT adds a model card to fill in; nobody fills it in here.
            with suppress(FileNotFoundError):
                (Path(folder) / "README.md").unlink()
            base = self._identity["model"]
            write_origin(Path(folder), base["source"], base["fingerprint"], base["convention"])

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Everything that the next step depends on, written beside its place and renamed into it when complete.

        Raises:
            DataError: it could not be written; earlier checkpoints are untouched.
        """
        step = self.state.global_step
        main = self.is_world_process_zero()
        part = self.run.checkpoints / f".checkpoint-{step}.part"
        self.tell_work("Saving a checkpoint")
        try:
            if main:
                self.run.part(step)
            self.accelerator.wait_for_everyone()
            self.save_model(str(part), _internal_call=True)
            self._save_optimizer_and_scheduler(str(part))
            self._save_scaler(str(part))
            self._save_rng_state(str(part))
            if main:
                self.state.save_to_json(str(part / TRAINER_STATE_NAME))
                (part / IDENTITY_NAME).write_text(json.dumps({"step": step, **self._identity}) + "\n")
            self.accelerator.wait_for_everyone()
            if main:
                self._place(part, step)
        # torch and safetensors report a full disk with errors of their own.
        except (OSError, RuntimeError, SafetensorError) as error:
            if is_lack_of_memory(error):
                raise
            saved = self.run.steps_saved()
            kept = f"the checkpoint of step {saved[-1]} is kept" if saved else "there was no earlier checkpoint"
            if isinstance(error, RuntimeError) and not any(word in str(error) for word in _WRITING):
                raise ModelError(
                    expected=f"a device that works while the checkpoint of step {step} is saved",
                    got=f"It failed ({str(error).split(chr(10))[0]}); {kept}",
                    remedy="Start the same command again: the run goes on from there",
                ) from error
            raise DataError(
                expected=f"room for the checkpoint of step {step} in {self.run.checkpoints}",
                got=f"It could not be written ({error}); {kept}",
                remedy="Free some space and start the same command again: the run goes on from there",
            ) from error

    def _place(self, part: Path, step: int) -> None:
        self.run.keep(part, step, self.state.best_global_step, self._keep)
        saved = self.run.steps_saved()
        best = self.state.best_global_step
        source = best if best in saved else step
        self.run.publish_adapter(source, (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME))
        self.run.update(step=step)
        write_card(self.run)
        self._tell("checkpoint", adapter_step=source)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_adapter_weights(model or self.model, Path(resume_from_checkpoint))
