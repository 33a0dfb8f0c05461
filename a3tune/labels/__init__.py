"""Prompt-aware weak labels: regions of an image, ranked for a text, and the targets made from them."""

from a3tune.labels.cache import RegionCache
from a3tune.labels.filters import PAPER_RULES, FilterRules, filter_boxes, filter_regions
from a3tune.labels.pipeline import LabelMaker
from a3tune.labels.proposals.proposals import Proposals
from a3tune.labels.scorers.open_clip import BIOMEDCLIP, RegionScorer, load_scorer
from a3tune.labels.scorers.templates import TEMPLATE_SETS, build_prompt
from a3tune.labels.segmenters.lite_medsam import LiteMedSamSegmenter
from a3tune.labels.segmenters.segment_anything import GridParameters, SegmentAnythingSegmenter
from a3tune.labels.segmenters.segmentation import Segmentation, Segmenter, mask_iou, region_from_mask
from a3tune.labels.store import LabelStore

__all__ = [
    "BIOMEDCLIP",
    "PAPER_RULES",
    "TEMPLATE_SETS",
    "FilterRules",
    "GridParameters",
    "LabelMaker",
    "LabelStore",
    "LiteMedSamSegmenter",
    "Proposals",
    "RegionCache",
    "RegionScorer",
    "SegmentAnythingSegmenter",
    "Segmentation",
    "Segmenter",
    "build_prompt",
    "filter_boxes",
    "filter_regions",
    "load_scorer",
    "mask_iou",
    "region_from_mask",
]
