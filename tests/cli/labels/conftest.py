"""The labels command with a scorer of the demo scorer's form with random weights, on pictures of its own."""

import numpy as np
import open_clip
import pytest
import torch

from a3tune.demo.scorer.training import build_tokenizer, model_config, save_scorer
from a3tune.labels.proposals.proposals import Proposals
from a3tune.labels.segmenters.lite_medsam import LiteMedSamSegmenter
from tests.support.label_command import body, save


@pytest.fixture(scope="session")
def scorer_folder(tmp_path_factory):
    torch.manual_seed(3)
    tokenizer = build_tokenizer(["where is the liver?"])
    config = model_config(len(tokenizer))
    folder = tmp_path_factory.mktemp("parts") / "scorer"
    save_scorer(open_clip.CLIP(**config).eval(), config, tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def quick_segmenter():
    return LiteMedSamSegmenter(device="cpu", refined=4, proposals=Proposals(maximum=12))


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    """Spares most tests the segmentation of pictures that another one used."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def parts(monkeypatch, shared_cache, scorer_folder, quick_segmenter):
    """The demo scorer is the random one, LiteMedSAM draws a few masks only, and nothing is kept after the tests."""
    monkeypatch.setattr("a3tune.labels.segmenters_and_scorers.DEMO_SCORER", scorer_folder)
    monkeypatch.setattr("a3tune.labels.segmenters_and_scorers.LiteMedSamSegmenter", lambda device: quick_segmenter)
    monkeypatch.setenv("A3TUNE_CACHE", str(shared_cache))


@pytest.fixture
def picture(tmp_path):
    return save(tmp_path / "picture.png", body())


@pytest.fixture
def folder(tmp_path):
    """Two good pictures, one deeper; a blank one, a cut one without a suffix, a text, a hidden file."""
    root = tmp_path / "pictures"
    save(root / "a.png", body(1))
    save(root / "deeper" / "b.png", body(2))
    (root / "cut").write_bytes((root / "a.png").read_bytes()[:60])
    save(root / "blank.png", np.full((40, 50), 90, np.uint8))
    (root / "readme.txt").write_text("nothing to see")
    (root / ".hidden.png").write_bytes(b"x")
    return root
