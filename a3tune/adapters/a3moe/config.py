"""The settings of one A3MoE adapter, checked when they are made."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from peft import PeftConfig

from a3tune.errors import AdapterError
from a3tune.target_layers import DEFAULT_TARGETS

KEY_GATES = ("straight_through", "probability")
# Far more than any model needs: each name is looked for in each layer, each run of ids in each prompt.
_MOST_NAMES, _MOST_IDS = 64, 4096

Role = str
"""What one layer of an adapter is: "query", "key" or "plain"."""


class A3PeftType(str, enum.Enum):
    """The method's name in ``adapter_config.json``; PEFT's own enum is closed, its mappings take any string."""

    A3MOE = "A3MOE"


class A3TaskType(str, enum.Enum):
    """The task that makes PEFT wrap the base in `A3MoePeftModel`, which takes the token masks."""

    A3_IMAGE_TEXT_TO_TEXT = "A3_IMAGE_TEXT_TO_TEXT"


@dataclass
class A3MoeConfig(PeftConfig):
    """Settings of an A3MoE adapter ("Focus on What Matters", ACL 2025, section on attention-tuned experts).

    Query layers mix ``query_experts`` low-rank experts with one softmax gate per sequence, made from the mean
    of its question tokens. Key layers send each image token to ``key_top_k`` of ``key_experts`` experts and
    leave other tokens as they are. Every other target is plain LoRA.

    Args:
        r, alpha: rank and scale of plain LoRA (its output is multiplied by ``alpha / r``).
        expert_r, expert_alpha: the same for each expert.
        query_experts, key_experts: number of experts; 1 makes that layer plain LoRA of rank ``expert_r`` on
            every token (the ablations without query or key experts).
        key_top_k: how many experts an image token uses, 1 to ``key_experts``.
        key_gate: "straight_through": the chosen experts' weights sum to 1 in the forward pass and the router
            gets the gradient of its softmax probabilities; "probability": the output is multiplied by these.
        dropout: probability with which an expert's inputs are dropped while training, 0 to below 1.
        target_modules: regular expression of (or list of suffixes of) the linear layers to adapt.
        query_modules, key_modules: last name of the targets that get the query and the key module.
        exclude_modules: regular expression or list of suffixes of targets to leave out.
        modules_to_save: other modules to train in full and to save with the adapter.
        init_weights: True starts B at zero, so that a fresh adapter changes nothing.
        question_before, question_after: the token ids that stand right before and right after a question in the base
            model's chat template, several runs where it can be cut into tokens in several ways; before a question,
            at most the last image token and what follows it. With them the adapter finds each row's question by
            itself; without, every call needs ``a3_question_mask``. `a3tune.a3moe_config` fills them in for a model.
        needs_import: what to import before PEFT can load the adapter; stands in its file for those who read it.
        reference: the arithmetic of the published code, for parity: the key router's choice is applied without
            a gate (so that the router gets no gradient) and a single key expert acts on image tokens only.

    Raises:
        AdapterError: a value is outside its range; the message names field and value.
    """

    r: int = field(default=64, metadata={"help": "Rank of plain LoRA."})
    alpha: float = field(default=16.0, metadata={"help": "Scale of plain LoRA: alpha / r."})
    expert_r: int = field(default=16, metadata={"help": "Rank of one expert."})
    expert_alpha: float = field(default=8.0, metadata={"help": "Scale of an expert: expert_alpha / expert_r."})
    query_experts: int = field(default=8, metadata={"help": "Experts of a query layer; 1 is plain LoRA."})
    key_experts: int = field(default=16, metadata={"help": "Experts of a key layer; 1 is plain LoRA."})
    key_top_k: int = field(default=1, metadata={"help": "Experts that one image token uses."})
    key_gate: str = field(default="straight_through", metadata={"help": f"One of {KEY_GATES}."})
    dropout: float = field(default=0.05, metadata={"help": "Dropout on the experts' input while training."})
    target_modules: list[str] | set[str] | str | None = field(
        default=DEFAULT_TARGETS, metadata={"help": "Linear layers to adapt: a regular expression or suffixes."}
    )
    query_modules: list[str] = field(default_factory=lambda: ["q_proj"], metadata={"help": "Query projections."})
    key_modules: list[str] = field(default_factory=lambda: ["k_proj"], metadata={"help": "Key projections."})
    exclude_modules: list[str] | set[str] | str | None = field(default=None, metadata={"help": "Targets to leave out."})
    modules_to_save: list[str] | None = field(default=None, metadata={"help": "Modules to train in full."})
    init_weights: bool = field(default=True, metadata={"help": "Start with B at zero."})
    question_before: list[list[int]] | None = field(
        default=None, metadata={"help": "Token ids right before a question; None: a3_question_mask is needed."}
    )
    question_after: list[list[int]] | None = field(default=None, metadata={"help": "Token ids right after a question."})
    needs_import: str = field(default="a3tune", metadata={"help": "Import this before loading the adapter with PEFT."})
    reference: bool = field(default=False, metadata={"help": "Arithmetic of the published code."})

    def __post_init__(self) -> None:
        given: str | None = vars(self)["task_type"]
        if given not in (None, A3TaskType.A3_IMAGE_TEXT_TO_TEXT):
            raise _fault("task_type", given, "None: the method sets its own")
        # PEFT only lets its own task names through, so its check runs before ours is put in.
        self.task_type = None
        super().__post_init__()
        self.task_type = A3TaskType.A3_IMAGE_TEXT_TO_TEXT
        self.peft_type = A3PeftType.A3MOE
        for name in ("r", "expert_r", "query_experts", "key_experts", "key_top_k"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise _fault(name, value, "a whole number of at least 1")
        for name in ("alpha", "expert_alpha"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise _fault(name, value, "a number above 0")
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, (int, float)) or not 0 <= self.dropout < 1:
            raise _fault("dropout", self.dropout, "a probability from 0 to below 1")
        if self.key_top_k > self.key_experts:
            raise _fault("key_top_k", self.key_top_k, f"at most key_experts={self.key_experts}")
        if self.key_gate not in KEY_GATES:
            raise _fault("key_gate", self.key_gate, " or ".join(repr(gate) for gate in KEY_GATES))
        if self.reference and self.key_top_k != 1:
            raise _fault("key_top_k", self.key_top_k, "1 together with reference=True")
        if not self.target_modules:
            raise _fault("target_modules", self.target_modules, "a regular expression or a list of suffixes")
        for name in ("query_modules", "key_modules"):
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(item, str) and item for item in value):
                raise _fault(name, value, "a list of module names")
            if len(value) > _MOST_NAMES:
                raise _fault(name, value, f"at most {_MOST_NAMES} module names")
        if (self.question_before is None) != (self.question_after is None):
            raise _fault("question_after", self.question_after, "given if, and only if, question_before is")
        for name in ("question_before", "question_after"):
            if not _are_patterns(getattr(self, name)):
                raise _fault(name, getattr(self, name), "None or a list of lists of token ids, none of them empty")
            if sum(map(len, getattr(self, name) or ())) > _MOST_IDS:
                raise _fault(name, getattr(self, name), f"at most {_MOST_IDS:,} token ids")
        both = sorted(set(self.query_modules) & set(self.key_modules))
        if both:
            raise _fault("key_modules", self.key_modules, f"names that query_modules does not hold ({both[0]})")
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
        if isinstance(self.exclude_modules, list):
            self.exclude_modules = set(self.exclude_modules)

    def role(self, module_name: str) -> Role:
        """What the adapter puts on the target with this (dotted) name: "query", "key" or "plain"."""
        last = module_name.rpartition(".")[2]
        if last in self.query_modules:
            return "query" if self.query_experts > 1 else "plain"
        if last in self.key_modules:
            return "key" if self.key_experts > 1 or self.reference else "plain"
        return "plain"

    def shape(self, module_name: str) -> tuple[int, int, float]:
        """(experts, rank, scaling) on the target with this name."""
        last = module_name.rpartition(".")[2]
        if last in self.query_modules:
            return self.query_experts, self.expert_r, self.expert_alpha / self.expert_r
        if last in self.key_modules:
            return self.key_experts, self.expert_r, self.expert_alpha / self.expert_r
        return 1, self.r, self.alpha / self.r


def _are_patterns(value: object) -> bool:
    return value is None or (
        isinstance(value, (list, tuple))
        and bool(value)
        and all(isinstance(run, (list, tuple)) and run for run in value)
        and all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for run in value for item in run)
    )


def _fault(name: str, value: object, expected: str) -> AdapterError:
    return AdapterError(
        expected=f"{name} to be {expected}",
        got=f"A3MoeConfig has {name}={repr(value)[:200]}",
        remedy=f"Change {name} in the configuration",
    )
