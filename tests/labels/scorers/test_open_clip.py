import json
import pickle
import shutil

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional
from transformers import BertTokenizer

from a3tune.errors import LabelError
from a3tune.labels.scorers.crops import crop
from a3tune.labels.scorers.open_clip import BIOMEDCLIP, load_scorer
from a3tune.types import Region
from tests.labels.conftest import WORDS


@pytest.fixture(scope="module")
def scorer(clip_folder):
    return load_scorer(clip_folder, device="cpu")


@pytest.fixture(scope="module")
def regions(organs, make_region):
    return tuple(make_region(mask) for mask in organs[1].values())


@pytest.fixture
def copied(clip_folder, tmp_path):
    return shutil.copytree(clip_folder, tmp_path / "copy")


def configure(folder, part, setting, value):
    """Change one setting in a part of a scorer's open_clip_config.json."""
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    (config[part] if part in config else config["model_cfg"][part])[setting] = value
    path.write_text(json.dumps(config))


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


@pytest.mark.parametrize("part", ["preprocess_cfg", "text_cfg", "tokenizer"])
def test_what_is_set_beside_the_weights_makes_labels_others(copied, scorer, part):
    path = copied / "open_clip_config.json"
    config = json.loads(path.read_text())
    assert load_scorer(copied, device="cpu").digest == scorer.digest
    if part == "preprocess_cfg":
        config[part] = {**config.get(part, {}), "mean": [0.4, 0.4, 0.4]}
    elif part == "text_cfg":
        config["model_cfg"][part]["context_length"] = 20
    else:
        tokenizer = copied / "tokenizer.json"
        tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text()), indent=1))
    path.write_text(json.dumps(config))
    assert load_scorer(copied, device="cpu").digest != scorer.digest


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


FOREIGN_TEXT = {
    "another model": {"model_type": "gpt2", "n_embd": 8},
    "no model": {"architectures": ["CLIPModel"]},
    "unheard": {"model_type": "biomed_clip", "auto_map": {"AutoConfig": "configuration.Own"}},
    "CLIP as a whole": {"model_type": "clip", "text_config": {"hidden_size": 8}},
    "another size": {"model_type": "bert", "vocab_size": 99, "hidden_size": 64, "num_attention_heads": 1},
    "more layers": {
        "model_type": "bert", "vocab_size": 14, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 1,
        "intermediate_size": 128, "max_position_embeddings": 64,
    },
    # The same names and shapes, but its positions begin behind the padding's.
    "roberta of its size": {
        "model_type": "roberta", "vocab_size": 14, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1,
        "intermediate_size": 128, "max_position_embeddings": 64,
    },
    "impossible": {"model_type": "bert", "hidden_size": 63, "num_attention_heads": 7},
}  # fmt: skip


@pytest.mark.parametrize("name", [*FOREIGN_TEXT, "damaged"])
def test_another_models_configuration_of_the_text_is_not_taken(copied, organs, regions, scorer, name):
    text = json.dumps(FOREIGN_TEXT[name]) if name in FOREIGN_TEXT else "{"
    (copied / "config.json").write_text(text)
    first, second = (one.score(organs[0], regions, "liver") for one in (scorer, load_scorer(copied, device="cpu")))
    assert [entry.score for entry in first] == [entry.score for entry in second]


def test_weights_in_two_forms_must_be_the_same(copied, organs, regions, scorer):
    state = torch.load(copied / "open_clip_pytorch_model.bin", weights_only=True)
    save_file({f"_orig_mod.{name}": value for name, value in state.items()}, copied / "open_clip_model.safetensors")
    first, second = (one.score(organs[0], regions, "liver") for one in (scorer, load_scorer(copied, device="cpu")))
    assert [entry.score for entry in first] == [entry.score for entry in second]
    save_file({**state, "logit_scale": state["logit_scale"] + 1}, copied / "open_clip_model.safetensors")
    with pytest.raises(
        LabelError, match=r"open_clip_model\.safetensors and open_clip_pytorch_model\.bin differ: logit"
    ):
        load_scorer(copied)


def native_folder(folder, **vision):
    """A folder of open_clip's own classes: images of 64 pixels, texts of 77 tokens."""
    parts = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "patch_size": 16, "width": 32, "head_width": 16, "layers": 2, **vision},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    torch.manual_seed(0)
    torch.save(open_clip.CLIP(**parts).state_dict(), folder / "open_clip_pytorch_model.bin")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": parts, "preprocess_cfg": {}}))
    return folder


def test_open_clips_own_classes(tmp_path, organs, regions):
    scorer = load_scorer(native_folder(tmp_path), device="cpu")
    kept = torch.load(tmp_path / "open_clip_pytorch_model.bin", weights_only=True)
    assert all(torch.equal(value, kept[name]) for name, value in scorer._model.state_dict().items())
    assert len(scorer.score(organs[0], regions, "liver")) == len(regions)


@pytest.mark.parametrize(
    ("part", "setting", "value", "said"),
    [
        (
            "text_cfg",
            "context_length",
            248,
            r"positional_embedding has the shape \(77, 32\).*\(248, 32\).*context_length",
        ),
        ("text_cfg", "context_length", 60, "context_length"),
        ("text_cfg", "vocab_size", 50000, "vocab_size"),
        (
            "vision_cfg",
            "image_size",
            96,
            r"visual\.positional_embedding has the shape \(17, 32\).*\(37, 32\).*image_size",
        ),
        ("preprocess_cfg", "size", 96, "images of 96 pixels, its model sees 64"),
        ("preprocess_cfg", "size", [96, 64], "its model sees 64"),
    ],
)
def test_a_configuration_that_disagrees_with_the_weights_is_refused(tmp_path, part, setting, value, said):
    configure(native_folder(tmp_path), part, setting, value)
    with pytest.raises(LabelError, match=said):
        load_scorer(tmp_path)


@pytest.mark.parametrize("size", [96, 224, [160, 96]])
def test_another_image_size_than_an_encoder_of_timm_was_trained_with_is_refused(copied, size):
    configure(copied, "vision_cfg", "image_size", size)
    with pytest.raises(LabelError, match=r"image encoder has places for \(160, 160\)"):
        load_scorer(copied)


@pytest.mark.parametrize("length", [0, -1, 24.0, "24", None, True])
def test_a_length_of_texts_that_is_no_number_of_tokens_is_refused(copied, length):
    configure(copied, "text_cfg", "context_length", length)
    with pytest.raises(LabelError, match=r"context_length is .*, not a number of tokens"):
        load_scorer(copied)


def test_a_model_that_fails_at_its_own_sizes_is_refused_when_it_is_loaded(copied, monkeypatch):
    def fail(self, image):
        raise AssertionError("Input height (160) doesn't match model (224)")

    monkeypatch.setattr(open_clip.CustomTextCLIP, "encode_image", fail)
    with pytest.raises(LabelError, match=r"does not load \(.Input height"):
        load_scorer(copied)


def test_weights_that_are_missing_or_left_over_are_named(copied):
    path = copied / "open_clip_pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    torch.save({**state, "visual.extra": torch.zeros(2)}, path)
    with pytest.raises(LabelError, match=r"1 weights are none of the configuration's \(first: visual\.extra\)"):
        load_scorer(copied)
    state.pop("logit_scale")
    torch.save(state, path)
    with pytest.raises(LabelError, match=r"1 weights that the configuration asks for are missing \(first: logit_scale"):
        load_scorer(copied)


def test_texts_longer_than_berts_positions_are_refused(copied):
    configure(copied, "text_cfg", "context_length", 248)
    with pytest.raises(LabelError, match="context_length is 248, its text encoder has 64 positions"):
        load_scorer(copied)


def test_a_tokenizer_with_more_words_than_the_weights_is_refused(copied):
    BertTokenizer({word: place for place, word in enumerate([*WORDS, "heart"])}).save_pretrained(copied)
    with pytest.raises(LabelError, match="tokenizer knows 15 words, its text encoder 14"):
        load_scorer(copied)


@pytest.mark.parametrize("name", ["open_clip_config.json", "open_clip_pytorch_model.bin", "tokenizer_config.json"])
def test_pointers_and_web_pages_are_named(copied, name):
    (copied / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n")
    with pytest.raises(LabelError, match=f"{name} is .*a pointer of Git LFS"):
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


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [("layers", 2**63, "names the number"), ("layers", 3000, "over 256 layers"), ("head_width", 0, "does not load")],
)
def test_impossible_numbers_of_a_configuration_are_refused(tmp_path, setting, value, said):
    configure(native_folder(tmp_path), "vision_cfg", setting, value)
    with pytest.raises(LabelError, match=said):
        load_scorer(tmp_path)
