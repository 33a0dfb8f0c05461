"""The settings of a tuning run: one flat, checked record, read from a preset or a YAML file."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from a3tune.attention.loss import FORMS, Combine, Form
from a3tune.errors import DataError
from a3tune.labels.scorers.templates import TEMPLATE_SETS
from a3tune.models.precision import Quantization
from a3tune.wording import brief, listed

Method = Literal["a3", "lora", "lora+align", "a3moe"]
HeadChoice = Literal["dynamic", "fixed"]
AlignedRows = Literal["text", "answer"]
Schedule = Literal[
    "cosine",
    "linear",
    "constant",
    "constant_with_warmup",
    "cosine_with_restarts",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "polynomial",
    "inverse_sqrt",
    "warmup_stable_decay",
    "reduce_lr_on_plateau",
    "greedy",
]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
TargetUse = Literal["auto", "truth", "weak"]


def _setting(default: object, *, least: float | None = None, most: float | None = None, above: float | None = None,
             below: float | None = None) -> Any:  # fmt: skip
    """A field with its range: ``least`` and ``most`` belong to it, ``above`` and ``below`` do not."""
    bounds = {"least": least, "most": most, "above": above, "below": below}
    return field(default=default, metadata={name: bound for name, bound in bounds.items() if bound is not None})


@dataclass(frozen=True)
class TuneConfig:
    """Every setting of a tuning run.

    The defaults are the settings that all runs of the paper share ("Focus on What Matters: Enhancing Medical
    Vision-Language Models with Automatic Attention Alignment Tuning", ACL 2025, and its released scripts); presets
    hold what differs from data set to data set.

    Attributes:
        method: "a3" (A3MoE experts and alignment), "lora" (plain LoRA), "lora+align", "a3moe" (experts without
            alignment).
        no_alignment, no_query_experts, no_key_experts, no_head_selection: the paper's ablations, one flag each.
        alignment: the alignment loss: "mass", as in the paper, or another name in `a3tune.attention.loss.FORMS`.
        masks: "union" of an image's masks, or "each" on its own, summed, as in the paper's code.
        ratio: weight of the alignment loss beside cross-entropy, from 0.
        balance: weight of the balance loss of the key experts, from 0.
        align_rows: whose attention is aligned: that of every "text" token after the image, as in the paper, or that of
            the tokens at which the "answer" is written: what comes before the question is over cannot know the place.
        align_negative_answers: whether a question whose answer says that nothing is there ("no", "none", "zero") is
            aligned with the regions that were found for it, as in the paper's code; what the data itself marks counts
            either way.
        head_choice: "dynamic": critical heads chosen anew for every sample and step; "fixed": once, before.
        top_heads: how many heads are aligned; None for as many as one layer has.
        query_experts, key_experts: number of experts; 1 is a plain LoRA layer.
        key_top_k: key experts that one image token uses.
        expert_rank, expert_alpha: rank and scale of one expert.
        lora_rank, lora_alpha: rank and scale of plain LoRA.
        dropout: probability with which adapter inputs are dropped while training, 0 to below 1.
        learning_rate, weight_decay: of the optimizer.
        optimizer: AdamW of torch, or another name that the Trainer of transformers has for ``optim``.
        optimizer_options: further options of the optimizer, as the Trainer's ``optim_args``
            ("beta1=0.9,beta2=0.95"); options that change nothing are refused.
        schedule: of the learning rate after warm-up, by the Trainer's names; "constant" is warmed up too unless
            warmup_ratio is 0, "reduce_lr_on_plateau" and "greedy" go by the validation loss.
        schedule_options: options of the schedule ("num_cycles=2"), as the Trainer's ``lr_scheduler_kwargs``.
        warmup_ratio: share of the steps in which the learning rate rises, 0 to below 1.
        gradient_clip: largest norm of the gradient; 0 for no limit.
        batch_size: samples that one process takes through the model at once.
        gradient_accumulation: batches whose gradients are summed for one step.
        epochs: times through the training data; ``max_steps`` counts instead when it is given.
        max_steps: optimiser steps; None for ``epochs``.
        precision: of the computation; "auto" for bf16 where the device has it, else fp32; on a processor bf16 for a
            model that is too large for the machine in fp32.
        quantization: of the frozen language model's matrices, "8bit" or "4bit" (NF4, as in QLoRA); "none" keeps them
            in ``precision``. The adapter's own weights are never quantized.
        gradient_checkpointing: compute activations twice to save memory.
        seed: of weights, order and dropout.
        evaluate_every: steps between validations; None for the end only.
        early_stopping: end after so many validations without a better one; None for never.
        save_every: steps between checkpoints; None for the end only.
        keep: checkpoints kept besides the best.
        max_length: longest prompt with image and answer in tokens.
        validation_share: share of the images validated on when the data has no validation, 0 to below 1.
        targets: where attention should go: "truth", the data's own masks and boxes; "weak", weak labels whatever the
            data marks, as the paper has it; "auto", the data's own marks where a question has them and weak labels
            elsewhere.
        validation_targets: the same for the held-out questions, on which attention is measured; None for ``targets``.
        allow_shared_images: whether images may be in train and in another split, as VQA-RAD was published; they are
            then counted in a warning.
        label_segmenter: name of the segmenter of the weak labels; "data" says the same as ``targets: truth``.
        label_scorer: name of the scorer of the weak labels.
        label_template: set of prompt templates (a name in `a3tune.labels.scorers.templates.TEMPLATE_SETS`).
        label_min_score: regions with a lower score are no target, and a question without a better one is not aligned;
            in the scorer's own scale (100 x cosine). What a person chose counts whatever its score. None for no limit.
        allow_unsure_regions: whether the best regions count whatever their score where ``label_min_score`` would leave
            not one training question a region, which a note says; else such a run is refused.
        label_top_k: regions kept for a question; None for the number of the template set.
        label_minimum_side: regions whose box is this long or shorter are no target, in pixels of a 256 x 256 frame; 0
            keeps every small structure that was found. None for that of the labels beside the data, else 12 as
            published.
    """

    method: Method = "a3"
    no_alignment: bool = False
    no_query_experts: bool = False
    no_key_experts: bool = False
    no_head_selection: bool = False
    alignment: Form = "mass"
    masks: Combine = "each"
    ratio: float = _setting(0.06, least=0, most=1000)
    balance: float = _setting(0.0, least=0, most=1000)
    align_rows: AlignedRows = "text"
    align_negative_answers: bool = True
    head_choice: HeadChoice = "dynamic"
    top_heads: int | None = _setting(None, least=1, most=100_000)
    query_experts: int = _setting(8, least=1, most=256)
    key_experts: int = _setting(16, least=1, most=256)
    key_top_k: int = _setting(1, least=1, most=256)
    expert_rank: int = _setting(16, least=1, most=4096)
    expert_alpha: float = _setting(8.0, above=0, most=100_000)
    lora_rank: int = _setting(64, least=1, most=4096)
    lora_alpha: float = _setting(16.0, above=0, most=100_000)
    dropout: float = _setting(0.05, least=0, below=1)
    learning_rate: float = _setting(2e-4, above=0, most=1)
    weight_decay: float = _setting(0.0, least=0, most=1)
    optimizer: str = "adamw_torch"
    optimizer_options: str | None = None
    schedule: Schedule = "cosine"
    schedule_options: str | None = None
    warmup_ratio: float = _setting(0.03, least=0, below=1)
    gradient_clip: float = _setting(1.0, least=0, most=1_000_000)
    batch_size: int = _setting(1, least=1, most=4096)
    gradient_accumulation: int = _setting(32, least=1, most=100_000)
    epochs: float = _setting(3.0, above=0, most=10_000)
    max_steps: int | None = _setting(None, least=1, most=100_000_000)
    precision: Precision = "auto"
    quantization: Quantization = "none"
    gradient_checkpointing: bool = False
    seed: int = _setting(4, least=0, most=2**32 - 1)
    evaluate_every: int | None = _setting(500, least=1, most=100_000_000)
    early_stopping: int | None = _setting(None, least=1, most=100_000)
    save_every: int | None = _setting(500, least=1, most=100_000_000)
    keep: int = _setting(3, least=1, most=1000)
    max_length: int = _setting(1024, least=8, most=1_000_000)
    validation_share: float = _setting(0.1, least=0, below=1)
    targets: TargetUse = "auto"
    validation_targets: TargetUse | None = None
    allow_shared_images: bool = False
    label_segmenter: str = "auto"
    label_scorer: str = "auto"
    label_template: str = "plain"
    label_top_k: int | None = _setting(None, least=1, most=1000)
    label_min_score: float | None = _setting(None, least=-100, most=100)
    allow_unsure_regions: bool = False
    label_minimum_side: int | None = _setting(None, least=0, most=255)

    def __post_init__(self) -> None:
        faults = [fault for item in fields(self) if (fault := field_fault(item, getattr(self, item.name)))]
        if not faults:
            faults = self._conflicts()
        if faults:
            raise settings_error(faults)
        for item in fields(self):
            if str(item.type).startswith("float") and getattr(self, item.name) is not None:
                object.__setattr__(self, item.name, float(getattr(self, item.name)))

    def _conflicts(self) -> list[str]:
        """Settings that are fine alone and impossible together."""
        faults = []
        if self.key_top_k > self.key_experts:
            faults.append(f"key_top_k is {self.key_top_k}, expected at most key_experts, which is {self.key_experts}")
        if self.early_stopping is not None and self.evaluate_every is None:
            faults.append("early_stopping needs validations, but evaluate_every is null")
        if self.early_stopping is not None and self.validation_share == 0:
            faults.append("early_stopping needs validation data, but validation_share is 0")
        if self.label_template not in TEMPLATE_SETS:
            faults.append(
                f"label_template is {brief(self.label_template)}, expected {', '.join(TEMPLATE_SETS)}"
                + nearest(self.label_template, TEMPLATE_SETS)
            )
        return faults

    @property
    def aligns(self) -> bool:
        """Whether the alignment loss is part of this run."""
        return self.method in ("a3", "lora+align") and not self.no_alignment and self.ratio > 0

    @property
    def has_experts(self) -> bool:
        """Whether the adapter is A3MoE; else it is plain LoRA."""
        return self.method in ("a3", "a3moe")

    @property
    def query_expert_count(self) -> int:
        """Experts of a query layer after the ablations; 1 is a plain LoRA layer."""
        return self.query_experts if self.has_experts and not self.no_query_experts else 1

    @property
    def key_expert_count(self) -> int:
        """Experts of a key layer after the ablations; 1 is a plain LoRA layer."""
        return self.key_experts if self.has_experts and not self.no_key_experts else 1

    @property
    def key_experts_used(self) -> int:
        """Key experts that one image token uses after the ablations."""
        return min(self.key_top_k, self.key_expert_count)

    @property
    def balance_weight(self) -> float:
        """Weight of the balance loss after the ablations: without key experts there is nothing to balance."""
        return self.balance if self.key_expert_count > 1 else 0.0

    def effective_batch(self, processes: int = 1) -> int:
        """Samples of one optimiser step over all processes."""
        return self.batch_size * self.gradient_accumulation * processes


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of a message that names the closest of the known names; "" when none is close."""
    close = difflib.get_close_matches(name[:100], list(names), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


_CHOICES = {
    "Method": get_args(Method),
    "Form": FORMS,
    "Combine": get_args(Combine),
    "HeadChoice": get_args(HeadChoice),
    "AlignedRows": get_args(AlignedRows),
    "Schedule": get_args(Schedule),
    "Precision": get_args(Precision),
    "Quantization": get_args(Quantization),
    "TargetUse": get_args(TargetUse),
}


def field_fault(item: Field[Any], value: Any) -> str | None:
    """What is wrong with a value: field, value and what is expected; None when nothing is."""
    kind = str(item.type)
    expected = _expected(kind, item.metadata)
    if kind.endswith("| None"):
        if value is None:
            return None
        kind = kind.removesuffix(" | None")
    if kind in _CHOICES:
        good = isinstance(value, str) and value in _CHOICES[kind]
        near = "" if good else nearest(str(value), _CHOICES[kind])
        return None if good else f"{item.name} is {brief(value)}, expected {expected}{near}"
    if kind == "bool":
        good = isinstance(value, bool)
    elif kind == "str":
        good = isinstance(value, str) and bool(value.strip())
    else:
        number = isinstance(value, int if kind == "int" else (int, float)) and not isinstance(value, bool)
        # Neither infinities nor integers that no float can hold.
        good = number and -1e300 < value < 1e300 and _inside(value, item.metadata)
    return None if good else f"{item.name} is {brief(value)}, expected {expected}"


def _inside(value: float, bounds: Mapping[str, float]) -> bool:
    return (
        value >= bounds.get("least", -math.inf)
        and value <= bounds.get("most", math.inf)
        and value > bounds.get("above", -math.inf)
        and value < bounds.get("below", math.inf)
    )


def _expected(kind: str, bounds: Mapping[str, float]) -> str:
    """A field's kind and range in words."""
    optional = " or null" if kind.endswith("| None") else ""
    kind = kind.removesuffix(" | None")
    if kind in _CHOICES:
        return f"one of {', '.join(_CHOICES[kind])}{optional}"
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}[kind]
    names = {"least": "from", "above": "above", "most": "to", "below": "below"}
    given = [f"{names[name]} {bounds[name]:g}" for name in names if name in bounds]
    return " ".join([words, *given]) + optional


def settings_error(faults: list[str], source: str | Path | None = None) -> DataError:
    """All faults of settings as one error.

    Args:
        faults: what is wrong, setting by setting.
        source: the preset or file that they come from.
    """
    name = f" of {source}" if source is not None else ""
    number = f"{len(faults)} settings{name} are" if len(faults) > 1 else f"A setting{name} is"
    known = listed((item.name for item in fields(TuneConfig)), 100)
    unknown = any("is no setting" in fault for fault in faults)
    return DataError(
        got=f"{number} not right: {'; '.join(faults[:20])}" + ("; ..." if len(faults) > 20 else ""),
        expected=f"settings out of: {known}" if unknown else "settings in their ranges",
        remedy="Correct the configuration",
    )
