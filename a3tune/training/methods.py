"""What each method trains: the adapter on the language model, and which losses it is trained with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import nn

from a3tune.adapters.a3moe import A3MoeConfig, question_spans
from a3tune.attention.loss import Combine, Form
from a3tune.errors import ModelError
from a3tune.models.model import VisionLanguageModel
from a3tune.target_layers import DEFAULT_TARGETS
from a3tune.training.config import AlignedRows, TuneConfig

Selection = Literal["dynamic", "fixed", "all"]
"""Heads chosen anew for each sample and step, chosen once before, or not chosen at all (every head is aligned)."""


@dataclass(frozen=True)
class Objective:
    """The loss of a run: cross-entropy + ratio x alignment + balance x balance loss.

    Attributes:
        ratio: weight of the alignment loss; 0 leaves it out.
        balance: weight of the balance loss of the key experts; 0 leaves it out.
        form: of the alignment loss, a name in `a3tune.attention.loss.FORMS`.
        combine: "union" or "each" of a sample's masks.
        selection: which heads are aligned.
        head_count: K, how many critical heads.
        rows: whose attention is aligned: every "text" token's after the image, or only where the "answer" is written.
    """

    ratio: float
    balance: float
    form: Form
    combine: Combine
    selection: Selection
    head_count: int
    rows: AlignedRows = "text"

    @property
    def aligns(self) -> bool:
        return self.ratio > 0


def objective_of(config: TuneConfig, model: VisionLanguageModel) -> Objective:
    """The losses that a configuration asks for, on this model.

    Raises:
        ModelError: more heads are asked for than the model has.
    """
    count = config.top_heads or model.heads
    if count > model.layers * model.heads:
        raise ModelError(
            expected=f"at most {model.layers * model.heads} heads ({model.layers} layers of {model.heads})",
            got=f"top_heads is {count}",
            remedy="Lower top_heads, or leave it out for the number of heads in one layer",
        )
    return Objective(
        ratio=config.ratio if config.aligns else 0.0,
        balance=config.balance_weight,
        form=config.alignment,
        combine=config.masks,
        selection="all" if config.no_head_selection else config.head_choice,
        head_count=count,
        rows=config.align_rows,
    )


def a3moe_config(model: VisionLanguageModel | None = None, **settings: Any) -> A3MoeConfig:
    """Settings of a fresh A3MoE adapter that finds the questions in this model's prompts by itself.

    Args:
        model: the base model, as `load_model` gives it; None for an adapter that is told where the question stands.
        settings: of `A3MoeConfig`, those that differ from its own.

    Returns:
        The settings, for `peft.get_peft_model`. Where the model's chat template does not tell for certain where a
        question stands, its ids are left out, and calls need ``a3_question_mask``.

    Raises:
        AdapterError: a setting is outside its range.
    """
    template = None if model is None else model.question_template()
    if template is not None and all(
        [(span.start, span.stop) for span in question_spans(prompt.ids, template.before, template.after, image)]
        == [(prompt.question[0], prompt.question[-1] + 1)]
        for prompt in template.examples
        for image in [prompt.ids[prompt.images[0][0]]]
    ):
        ids = {"question_before": template.before, "question_after": template.after}
        settings = {**{name: [list(run) for run in runs] for name, runs in ids.items()}, **settings}
    return A3MoeConfig(**settings)


def adapter_config(config: TuneConfig, model: VisionLanguageModel | None = None) -> PeftConfig:
    """PEFT's settings of a run's adapter: A3MoE, or LoRA on every linear layer of the language model.

    Args:
        config: the run's.
        model: whose questions the experts are to find by themselves.
    """
    if config.has_experts:
        return a3moe_config(
            model,
            r=config.lora_rank,
            alpha=config.lora_alpha,
            expert_r=config.expert_rank,
            expert_alpha=config.expert_alpha,
            query_experts=config.query_expert_count,
            key_experts=config.key_expert_count,
            key_top_k=config.key_experts_used,
            dropout=config.dropout,
        )
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.dropout,
        target_modules=DEFAULT_TARGETS,
        bias="none",
    )


def add_adapter(model: VisionLanguageModel, config: TuneConfig, source: str) -> PeftModel:
    """Freeze the model and put a fresh adapter on its language model, in float32 whatever the base is in.

    Args:
        source: how the user names the base model; goes into the adapter's own record.

    Raises:
        ModelError: the language model has no linear layers of the usual names.
    """
    settings = adapter_config(config, model)
    model.model.requires_grad_(False)
    try:
        tuned = get_peft_model(model.model, settings)
    except ValueError as error:
        raise ModelError(
            expected="a language model with q_proj, k_proj, v_proj, ... as linear layers",
            got=f"{model.name} has no such layers ({error})",
            remedy="Choose a model of a Llama, Mistral, Qwen or Gemma kind",
        ) from error
    tuned.peft_config["default"].base_model_name_or_path = source
    outside = [name for name, weight in tuned.named_parameters() if weight.requires_grad and _is_vision(name)]
    if outside:
        raise ModelError(
            expected="adapters on the language model only",
            got=f"{model.name} would be tuned at {outside[0]}",
            remedy="Report this model: its layers have unusual names",
        )
    return tuned


def trainable_count(model: nn.Module) -> int:
    """How many numbers are being trained."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def parameter_count(model: nn.Module) -> int:
    """How many numbers a model holds; in 4 bit, two of them share a byte."""
    return sum(weight.numel() * (2 if type(weight).__name__ == "Params4bit" else 1) for weight in model.parameters())


def _is_vision(name: str) -> bool:
    return any(part in name for part in ("vision_tower", "vision_model", ".visual."))
