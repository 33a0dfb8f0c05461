import json
import pickle
import shutil

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn import functional

from a3tune.errors import LabelError
from a3tune.labels.scorers.crops import crop
from a3tune.labels.scorers.open_clip import BIOMEDCLIP, load_scorer
from a3tune.types import Region


@pytest.fixture(scope="module")
def scorer(clip_folder):
    return load_scorer(clip_folder, device="cpu")


@pytest.fixture(scope="module")
def regions(organs, make_region):
    return tuple(make_region(mask) for mask in organs[1].values())


@pytest.fixture
def copied(clip_folder, tmp_path):
    return shutil.copytree(clip_folder, tmp_path / "copy")


def test_scores_equal_the_formula(scorer, organs, regions):
    image, _ = organs
    prompts = ["is there a liver ?", "where is a nodule ?"]
    ranked = scorer.score(image, regions, prompts)
    with torch.inference_mode():
        pixels = torch.stack([scorer._preprocess(Image.fromarray(crop(image, region))) for region in regions])
        crops = functional.normalize(scorer._model.encode_image(pixels), dim=-1)
        texts = scorer._model.encode_text(scorer._tokenizer(prompts))
        expected = 100 * (crops @ functional.normalize(texts.mean(dim=0), dim=0)).numpy()
    by_region = {id(entry.region): entry for entry in ranked}
    scores = [by_region[id(region)].score for region in regions]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
    assert [entry.score for entry in ranked] == sorted(scores, reverse=True)
    assert [entry.rank for entry in ranked] == [1, 2, 3]
    weights = np.exp(expected - expected.max())
    np.testing.assert_allclose(
        [by_region[id(region)].weight for region in regions], weights / weights.sum(), rtol=1e-3, atol=1e-6
    )
    best = (crops @ functional.normalize(texts, dim=-1).T).argmax(dim=1)
    assert [by_region[id(region)].phrase for region in regions] == [prompts[index] for index in best]


def test_equal_scores_keep_the_given_order(scorer, organs, regions):
    image, _ = organs
    twins = (regions[0], Region(regions[0].mask, regions[0].box), Region(regions[0].mask, regions[0].box))
    ranked = scorer.score(image, twins, "liver")
    assert [entry.region for entry in ranked] == list(twins)


def test_a_second_question_costs_the_text_only(clip_folder, organs, regions, monkeypatch):
    scorer = load_scorer(clip_folder, device="cpu")
    seen = []
    original = scorer._model.encode_image
    monkeypatch.setattr(scorer._model, "encode_image", lambda pixels: seen.append(len(pixels)) or original(pixels))
    scorer.score(organs[0], regions[:2], "liver")
    scorer.score(organs[0], regions[:2], "kidney")
    scorer.score(organs[0], regions, "kidney")
    assert seen == [2, 1], "two crops, then only the new one"


def test_one_pixel_regions_are_scored(scorer, organs):
    mask = np.zeros((240, 300), dtype=bool)
    mask[100, 100] = True
    [entry] = scorer.score(organs[0], [Region(mask, (100, 100, 1, 1))], "liver")
    assert entry.weight == 1.0
    assert np.isfinite(entry.score)


@pytest.mark.parametrize("prompt", ["", "  \n", [], ["liver", ""]])
def test_empty_prompts(scorer, organs, regions, prompt):
    with pytest.raises(LabelError, match="prompt is empty"):
        scorer.score(organs[0], regions, prompt)


def test_long_prompt_names_both_lengths(scorer, organs, regions):
    assert scorer.count_tokens("is there a liver ?") == 7
    with pytest.raises(LabelError, match=r"has 32 tokens.*at most 24 tokens"):
        scorer.score(organs[0], regions, "liver " * 30)


def test_unusable_regions(scorer, organs, regions):
    image, _ = organs
    with pytest.raises(LabelError, match="There is none"):
        scorer.score(image, (), "liver")
    with pytest.raises(LabelError, match="region is empty"):
        scorer.score(image, [Region(np.zeros((240, 300), dtype=bool), (0, 0, 0, 0))], "liver")
    with pytest.raises(LabelError, match="300 x 240"):
        scorer.score(image, [Region(np.ones((4, 4), dtype=bool), (0, 0, 4, 4))], "liver")


def test_prefix_and_plain_folder_are_the_same(clip_folder, scorer, organs, regions):
    other = load_scorer(f"local-dir:{clip_folder}", device="cpu")
    first, second = (one.score(organs[0], regions, "liver") for one in (scorer, other))
    assert [entry.score for entry in first] == [entry.score for entry in second]


def test_text_configuration_in_the_folder_is_used(copied, organs, regions, scorer):
    (copied / "config.json").write_text(
        json.dumps(
            {
                "model_type": "bert",
                "vocab_size": 14,
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 1,
                "intermediate_size": 128,
                "max_position_embeddings": 64,
            }
        )
    )
    other = load_scorer(copied, device="cpu")
    first, second = (one.score(organs[0], regions, "liver") for one in (scorer, other))
    assert [entry.score for entry in first] == [entry.score for entry in second]


@pytest.mark.parametrize(
    ("name", "said"), [("open_clip_config.json", "describes the scorer"), ("open_clip_pytorch_model.bin", "weights")]
)
def test_missing_files_are_named(copied, name, said):
    (copied / name).unlink()
    with pytest.raises(LabelError, match=name) as caught:
        load_scorer(copied)
    assert said in str(caught.value)
    assert "assets/demo/scorer" in str(caught.value)


def test_the_configuration_names_the_crop_style(copied, scorer, organs, regions):
    path = copied / "open_clip_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "a3tune_crop": "surroundings"}))
    other = load_scorer(copied, device="cpu")
    assert (scorer.crop_style, other.crop_style) == ("region", "surroundings")
    assert other.digest == f"{scorer.digest}-surroundings", "labels made with other crops are other labels"
    first, second = (one.embed_regions(organs[0], regions) for one in (scorer, other))
    assert not torch.allclose(first, second)
    path.write_text(json.dumps({**config, "a3tune_crop": "no such"}))
    with pytest.raises(LabelError, match="region, surroundings"):
        load_scorer(copied)


@pytest.mark.parametrize("text", ["{", "[]", '{"model_cfg": {}}', '{"model_cfg": {"text_cfg": 1, "vision_cfg": 2}}'])
def test_broken_configuration(copied, text):
    (copied / "open_clip_config.json").write_text(text)
    with pytest.raises(LabelError, match="configuration"):
        load_scorer(copied)


class Hostile:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return (open, (str(self.victim), "w"))


def test_hostile_weights_do_not_run(copied, tmp_path):
    victim = tmp_path / "victim"
    (copied / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps({"a": Hostile(victim)}))
    with pytest.raises(LabelError, match="was not executed"):
        load_scorer(copied)
    assert not victim.exists()


def test_weights_of_another_model(copied):
    state = torch.load(copied / "open_clip_pytorch_model.bin", weights_only=True)
    state.pop("logit_scale")
    torch.save(state, copied / "open_clip_pytorch_model.bin")
    with pytest.raises(LabelError, match="does not load"):
        load_scorer(copied)


def test_hub_out_of_reach(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(LabelError, match="hf download microsoft/BiomedCLIP") as caught:
        load_scorer(BIOMEDCLIP)
    for part in ("open_clip_pytorch_model.bin", "score how well a region fits", "assets/demo/scorer"):
        assert part in str(caught.value)


def test_simple_tokenizer_counts_its_marks(clip_folder, scorer):
    tokenizer = open_clip.SimpleTokenizer(context_length=24)
    other = type(scorer)(scorer._model, scorer._preprocess, tokenizer, name="x", device="cpu")
    assert other.count_tokens("a liver") == 4
