"""A3MoE as a PEFT method: importing this package makes it known to PEFT."""

from peft.auto import MODEL_TYPE_TO_PEFT_MODEL_MAPPING
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from a3tune.adapters.a3moe.config import A3MoeConfig, A3PeftType, A3TaskType
from a3tune.adapters.a3moe.layer import ExpertLayer, ExpertLinear
from a3tune.adapters.a3moe.model import A3MoeModel, A3MoePeftModel
from a3tune.adapters.a3moe.questions import question_spans
from a3tune.adapters.a3moe.record import ExpertUse, record_experts
from a3tune.adapters.a3moe.token_spans import TokenSpans

__all__ = [
    "A3MoeConfig",
    "A3MoeModel",
    "A3MoePeftModel",
    "ExpertLayer",
    "ExpertLinear",
    "ExpertUse",
    "TokenSpans",
    "question_spans",
    "record_experts",
    "register",
]


def register() -> None:
    """Enter the method into PEFT's mappings; calling it again changes nothing.

    PEFT's own registration insists on a member of its closed enum, but its mappings are keyed by plain strings.
    """
    PEFT_TYPE_TO_CONFIG_MAPPING[A3PeftType.A3MOE] = A3MoeConfig
    PEFT_TYPE_TO_TUNER_MAPPING[A3PeftType.A3MOE] = A3MoeModel
    PEFT_TYPE_TO_PREFIX_MAPPING[A3PeftType.A3MOE] = A3MoeModel.prefix
    MODEL_TYPE_TO_PEFT_MODEL_MAPPING[A3TaskType.A3_IMAGE_TEXT_TO_TEXT] = A3MoePeftModel


register()
