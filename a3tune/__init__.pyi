"""The public names, each where it lives; ``import a3tune`` loads one when it is first asked for."""

from .adapters.a3moe.config import A3MoeConfig
from .adapters.a3moe.token_spans import TokenSpans
from .adapters.switch import AdapterSet
from .attention.capture import capture, prepare_capture
from .attention.critical_heads import critical_heads, head_set_map, visual_ratio
from .attention.loss import alignment_loss, batch_alignment_loss
from .attention.metrics import (
    attention_mass,
    intersection_over_union,
    measure_head_set,
    normalised_entropy,
    pointing_game,
    relative_mass,
)
from .attention.record import AttentionRecord
from .errors import A3TuneError
from .evaluation.questions import EvaluationData, read_evaluation_data
from .evaluation.report import Report, read_report
from .evaluation.run import EvaluationPlan, evaluate
from .figures.overlay import overlay
from .geometry.patch_grid import to_patches, to_source
from .images.load import image_from_array, load_image
from .inspection.image_set import ImageSetInspection, inspect_images
from .inspection.inspect import Inspection, inspect_each, inspect_image
from .inspection.passes import read_attention
from .inspection.record import write_image_set, write_inspection
from .inspection.views import AdapterView
from .labels.fuse import union_mask
from .labels.pipeline import LabelMaker
from .labels.segmenters_and_scorers import load_label_maker
from .models.encoded_prompt import EncodedBatch, EncodedPrompt
from .models.load import load_model
from .models.model import GeneratedAnswer, VisionLanguageModel
from .prefixes.cache import PrefixCache, PrefixStore
from .training.config import TuneConfig
from .training.config_file import load_config
from .training.methods import a3moe_config
from .training.run_summary import RunSummary
from .training.tuning import tune
from .types import AttentionMaps, Head, MedicalImage, PatchGrid, Region, ScoredRegion, Token, WeakLabels

__version__: str

__all__ = [
    "A3MoeConfig",
    "A3TuneError",
    "AdapterSet",
    "AdapterView",
    "AttentionMaps",
    "AttentionRecord",
    "EncodedBatch",
    "EncodedPrompt",
    "EvaluationData",
    "EvaluationPlan",
    "GeneratedAnswer",
    "Head",
    "ImageSetInspection",
    "Inspection",
    "LabelMaker",
    "MedicalImage",
    "PatchGrid",
    "PrefixCache",
    "PrefixStore",
    "Region",
    "Report",
    "RunSummary",
    "ScoredRegion",
    "Token",
    "TokenSpans",
    "TuneConfig",
    "VisionLanguageModel",
    "WeakLabels",
    "a3moe_config",
    "alignment_loss",
    "attention_mass",
    "batch_alignment_loss",
    "capture",
    "critical_heads",
    "evaluate",
    "head_set_map",
    "image_from_array",
    "inspect_each",
    "inspect_image",
    "inspect_images",
    "intersection_over_union",
    "load_config",
    "load_image",
    "load_label_maker",
    "load_model",
    "measure_head_set",
    "normalised_entropy",
    "overlay",
    "pointing_game",
    "prepare_capture",
    "read_attention",
    "read_evaluation_data",
    "read_report",
    "relative_mass",
    "to_patches",
    "to_source",
    "tune",
    "union_mask",
    "visual_ratio",
    "write_image_set",
    "write_inspection",
]
