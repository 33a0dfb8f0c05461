import json

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from a3tune.demo.scorer.data import make_example, make_examples
from a3tune.demo.scorer.training import _PREPROCESS, Recipe, _augmented, _query_loss, draw_examples, train_scorer
from a3tune.labels.scorers.crops import VIEW_SIDE
from a3tune.labels.scorers.open_clip import load_scorer
from a3tune.labels.segmenters.segmentation import region_from_mask
from a3tune.phantom import TRAINING_SEEDS, make_phantom

SHORT = Recipe(steps=2, closing_steps=1)


def transform():
    """What open_clip makes of the settings that are saved with the scorer."""
    return image_transform_v2(PreprocessCfg(size=(VIEW_SIDE, VIEW_SIDE), **_PREPROCESS), is_train=False)


@pytest.fixture(scope="module")
def examples():
    return list(make_examples(TRAINING_SEEDS[:9]))


@pytest.fixture(scope="module")
def folder(examples, tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "scorer"
    heard = []
    train_scorer(out, recipe=SHORT, examples=examples, on_progress=lambda what, share: heard.append(share))
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    return out


def test_examples_pair_questions_with_crops_that_show_their_targets(examples):
    for example in examples:
        assert example.crops.dtype == np.uint8
        assert example.crops.shape[1:] == (64, 64, 3)
        assert len(example.crops) == example.overlaps.shape[1] <= 56
        assert example.queries
        for query in example.queries:
            assert query.text.strip()
            assert query.targets
            assert (example.overlaps[list(query.targets)].max(axis=1) >= 0.5).all()
    shares = [(example.overlaps.max(axis=0) < 0.35).mean() for example in examples]
    assert max(shares) > 0.2, "some crops show nothing that has a name"


def test_the_same_seed_gives_the_same_example():
    phantom = make_phantom(4)
    first, second = (make_example(phantom, np.random.default_rng(2)) for _ in range(2))
    assert first.queries == second.queries
    assert (first.crops == second.crops).all()


def test_stored_crops_are_what_the_transform_makes_at_use(examples):
    crop = examples[0].crops[0]
    expected = (torch.from_numpy(crop).permute(2, 0, 1).float() / 255 - 0.3) / 0.3
    torch.testing.assert_close(transform()(Image.fromarray(crop)), expected)


def test_another_tone_leaves_the_outline_where_it_is(examples):
    crops = examples[0].crops[:6]
    toned = (_augmented(crops, np.random.default_rng(3)) * 0.3 + 0.3) * 255
    assert toned.shape == (6, 3, 64, 64)
    assert ((toned[:, 1:].round() >= 128).numpy() == (crops[..., 1:] >= 128).transpose(0, 3, 1, 2)).mean() > 0.999
    assert (toned[:, 0].round().numpy() != crops[..., 0]).any()


def test_examples_drawn_by_all_cores_come_in_order(examples):
    [first, second] = draw_examples(0, 2, 0)
    for drawn, expected in ((first, examples[0]), (second, examples[1])):
        assert drawn.queries == expected.queries
        assert (drawn.crops == expected.crops).all()


def test_loss_is_small_when_every_target_has_a_leading_crop():
    overlaps = torch.tensor([[0.9, 0.1, 0.0, 0.4], [0.0, 0.8, 0.1, 0.0]])
    assert _query_loss(torch.tensor([9.0, 9.0, -9.0, 20.0]), overlaps) < 1e-4
    missed = _query_loss(torch.tensor([9.0, -9.0, 9.0, 0.0]), overlaps)
    assert missed == pytest.approx((18.0 + np.log(2)) / 2, rel=1e-3)
    both = torch.tensor([[0.9, 0.6, 0.0]])
    perfect_only = _query_loss(torch.tensor([9.0, -9.0, 0.0]), both)
    assert perfect_only == pytest.approx(9.0 / 4, abs=0.01), "a good outline may not hide behind a perfect one"
    assert _query_loss(torch.zeros(2), torch.tensor([[0.9, 0.6]])) is None
    assert _query_loss(torch.zeros(2), torch.tensor([[0.2, 0.1]])) is None


def test_saved_folder_is_small_and_loads_like_any_open_clip_model(folder):
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10_000_000
    config = json.loads((folder / "open_clip_config.json").read_text())
    assert config["preprocess_cfg"]["resize_mode"] == "longest"
    scorer = load_scorer(folder, device="cpu")
    assert scorer.crop_style == "surroundings"
    assert scorer.digest.endswith("-surroundings")
    assert scorer.name == "Phantom scorer (demo)"
    phantom = make_phantom(1)
    regions = [region_from_mask(structure.mask) for structure in phantom.structures]
    ranked = scorer.score(phantom.image, regions, "Is there a nodule?")
    assert len(ranked) == len(regions)
    assert scorer.count_tokens("Is there a nodule?") <= 9
    assert scorer.count_tokens("Ist das möglich? 肝") < 30, "every text has tokens"
    picture = Image.fromarray(phantom.image.pixels)
    assert torch.equal(scorer._preprocess(picture), transform()(picture))


def test_training_is_repeatable_and_replaces_the_folder(examples, folder, tmp_path):
    out = tmp_path / "scorer"
    out.mkdir()
    (out / "old").write_text("")
    train_scorer(out, recipe=SHORT, examples=examples)
    assert not (out / "old").exists()
    name = "open_clip_model.safetensors"
    assert (out / name).read_bytes() == (folder / name).read_bytes()
