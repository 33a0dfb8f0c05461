"""Small pictures, a small Segment Anything, and a small model of BiomedCLIP's architecture: no file, no network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import open_clip
import pytest
import torch
from segment_anything.modeling import Sam
from transformers import BertConfig, BertTokenizer

from a3tune.labels.proposals.proposals import Proposals
from a3tune.labels.segmenters.lite_medsam import LiteMedSamSegmenter
from a3tune.types import MedicalImage, Region
from tests.support.small_sam import build_small_sam

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "is",
    "there",
    "a",
    "liver",
    "kidney",
    "nodule",
    "where",
    "?",
    ".",
]


def region_of(mask: np.ndarray) -> Region:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return Region(mask.astype(bool), (x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1))


@pytest.fixture(scope="session")
def make_region() -> Callable[[np.ndarray], Region]:
    return region_of


@pytest.fixture(scope="session")
def organs() -> tuple[MedicalImage, dict[str, np.ndarray]]:
    """A body with a large bright organ, a dark one and a small spot; 240 x 300 pixels."""
    masks = {}
    for name, centre, axes in (
        ("liver", (90, 110), (50, 60)),
        ("lung", (210, 110), (35, 70)),
        ("spot", (210, 95), (9, 9)),
    ):
        canvas = np.zeros((240, 300), dtype=np.uint8)
        cv2.ellipse(canvas, centre, axes, 0, 0, 360, 1, cv2.FILLED)
        masks[name] = canvas > 0
    body = np.zeros((240, 300), dtype=np.uint8)
    cv2.ellipse(body, (150, 120), (140, 110), 0, 0, 360, 1, cv2.FILLED)
    grey = np.where(body > 0, 110, 5).astype(np.float32)
    grey[masks["liver"]], grey[masks["lung"]], grey[masks["spot"]] = 180, 40, 220
    grey = cv2.GaussianBlur(grey, (0, 0), 0.8) + np.random.default_rng(0).normal(0, 3, grey.shape)
    pixels = np.repeat(grey.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    masks["lung"] = masks["lung"] & ~masks["spot"]
    return MedicalImage(pixels), masks


@pytest.fixture(scope="session")
def lite_medsam() -> LiteMedSamSegmenter:
    return LiteMedSamSegmenter(device="cpu", refined=10, proposals=Proposals(maximum=24))


@pytest.fixture(scope="session")
def small_sam() -> Sam:
    return build_small_sam()


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like BiomedCLIP's repository, read-only for tests: timm ViT, BERT without a config.json."""
    folder = tmp_path_factory.mktemp("biomedclip")
    text_model = tmp_path_factory.mktemp("bert")
    BertConfig(
        vocab_size=len(WORDS),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=128,
        max_position_embeddings=64,
    ).save_pretrained(text_model)
    vision = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160}
    text = {
        "hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
        "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 24,
    }
    torch.manual_seed(1)
    model = open_clip.CustomTextCLIP(
        embed_dim=48,
        vision_cfg=vision,
        text_cfg={**text, "hf_model_name": str(text_model), "hf_model_pretrained": False},
    )
    config = {
        "model_cfg": {"embed_dim": 48, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    (text_model / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    BertTokenizer(str(text_model / "vocab.txt")).save_pretrained(folder)
    return folder
