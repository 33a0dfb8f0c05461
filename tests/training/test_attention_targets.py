"""Targets: from regions or true masks to shares of patches, labels made once and found again."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from a3tune.bundle import DEMO_SAMPLE
from a3tune.data.dataset import TrainingItem
from a3tune.data.read import read_dataset
from a3tune.errors import Cancelled, DataError, LabelError
from a3tune.geometry.patch_grid import to_patches
from a3tune.images import load_image
from a3tune.labels.pipeline import settings_digest
from a3tune.labels.segmenters.segmentation import region_from_mask
from a3tune.labels.sources import LabelSource, item_prompt
from a3tune.labels.store import LabelStore
from a3tune.models.prompt import PromptEncoder
from a3tune.progress import no_progress
from a3tune.training.attention_targets import (
    PatchTargets,
    TargetMaker,
    TargetPlan,
    label_source,
    make_targets,
    says_nothing_is_there,
    target_plan,
    true_mask,
)
from a3tune.types import ScoredRegion, WeakLabels
from tests.support.tuning_data import tiny_config, write_pairs

HEIGHT, WIDTH = 30, 36


def box_mask(top, left, bottom, right):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


MASKS = [box_mask(2, 2, 12, 14), box_mask(8, 20, 28, 34), box_mask(0, 0, 3, 3)]


def ranked(masks, weights=(0.5, 0.3, 0.2)):
    return tuple(
        ScoredRegion(region_from_mask(mask), 30.0 - rank, rank, weight, "p")
        for rank, (mask, weight) in enumerate(zip(masks, weights, strict=False), start=1)
    )


class CountingLabeller:
    """Gives the same regions for everything, except for prompts with "nothing", and counts."""

    settings = {"segmenter": "fake", "scorer": "fake", "kept": 3}  # noqa: RUF012

    def __init__(self):
        self.asked = []

    def rank(self, image, prompts):
        (prompt,) = prompts
        self.asked.append((image.sha256, prompt))
        regions = () if "nothing" in prompt else ranked(MASKS)
        return WeakLabels(regions, prompt, "fake", "fake", ("a note",), settings_digest(self.settings))


def from_labeller(labeller, folder):
    """A source that keeps what the labeller makes in a store."""
    return LabelSource(load=lambda: (labeller, [LabelStore(folder)]))


@pytest.fixture
def items(tmp_path):
    made = []
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        for question in ("Is there a mass?", "Is there nothing?"):
            made.append(
                TrainingItem(tmp_path / f"{number}.png", question, "yes", "closed", "train", "rows.csv", len(made) + 2)
            )
    return made


@pytest.fixture
def maker(tiny_model):
    model = tiny_model("llava")
    encoder = PromptEncoder(model.processor, model.config, torch.device("cpu"))

    def build(plan=None, source=None):
        return TargetMaker(plan or TargetPlan("weak"), encoder, model.patch_grid, source)

    return build


@pytest.fixture
def grid(tiny_model):
    return tiny_model("llava").patch_grid(HEIGHT, WIDTH, 16)


@pytest.mark.parametrize(
    ("combine", "top_k", "expected"),
    [
        ("union", 2, [MASKS[0] | MASKS[1]]),
        ("union", 1, [MASKS[0]]),
        ("each", 2, MASKS[:2]),
        ("soft", 2, [MASKS[0] + 0.6 * MASKS[1]]),
    ],
)
def test_regions_become_shares_of_patches(maker, items, grid, tmp_path, combine, top_k, expected):
    source = from_labeller(CountingLabeller(), tmp_path / "store")
    targets = maker(TargetPlan("weak", combine, top_k), source).make(items)
    assert targets.counts == {"weak": 2, "truth": 0, "none": 2}
    wanted = np.stack([to_patches(np.asarray(mask, np.float32), grid) for mask in expected])
    np.testing.assert_allclose(targets.masks(0), wanted, atol=2e-3)
    assert targets.masks(1).shape[0] == 0
    assert not targets.known(0)


def test_labels_are_made_once_and_found_again(maker, items, tmp_path):
    labeller, progress = CountingLabeller(), []
    first = maker(source=from_labeller(labeller, tmp_path)).make(items, lambda _, share: progress.append(share))
    assert len(labeller.asked) == 4
    assert progress == [0.5, 1.0]
    again = maker(source=from_labeller(labeller, tmp_path)).make(items)
    assert len(labeller.asked) == 4
    assert all(np.array_equal(first.masks(index), again.masks(index)) for index in range(4))
    # A store that lies with the data answers without any labeller being loaded.
    source = LabelSource([LabelStore(tmp_path)], load=lambda: pytest.fail("loaded"))
    assert maker(source=source).make(items).counts == first.counts


def test_a_stop_between_images_keeps_what_was_labelled(maker, items, tmp_path):
    labeller = CountingLabeller()
    asked = iter([False, True])
    with pytest.raises(Cancelled):
        maker(source=from_labeller(labeller, tmp_path)).make(items, should_stop=lambda: next(asked))
    assert len(LabelStore(tmp_path).get(load_image(items[0].image))) == 2
    maker(source=from_labeller(labeller, tmp_path)).make(items)
    assert len(labeller.asked) == 4


def test_a_damaged_store_file_is_made_anew(maker, items, tmp_path):
    labeller = CountingLabeller()
    maker(source=from_labeller(labeller, tmp_path)).make(items)
    for path in tmp_path.rglob("??/*.npz"):
        path.write_bytes(path.read_bytes()[:50])
    assert maker(source=from_labeller(labeller, tmp_path)).make(items).counts["weak"] == 2
    assert len(labeller.asked) == 8


def test_an_image_at_which_a_library_fails_ends_no_run(maker, items, tmp_path):
    class Fragile(CountingLabeller):
        def rank(self, image, prompts):
            if image.sha256 == load_image(items[0].image).sha256:
                raise ZeroDivisionError("a one-row image")
            return super().rank(image, prompts)

    source = from_labeller(Fragile(), tmp_path)
    assert maker(source=source).make(items).counts == {"weak": 1, "truth": 0, "none": 3}
    assert source.faults == ["ZeroDivisionError: a one-row image"] * 2
    # What failed is not kept as if the image had no region.
    assert maker(source=from_labeller(CountingLabeller(), tmp_path)).make(items).counts["weak"] == 2
    with pytest.raises(LabelError, match=r"All 2 that were tried failed, the first with: ZeroDivisionError"):
        maker(source=from_labeller(Fragile(), tmp_path / "new")).make(items[:2])


@pytest.mark.parametrize(
    ("answer", "nothing"),
    [
        ("no", True), ("No.", True), ("NO, there is none", True), ("none", True), ("Zero", True), ("0", True),
        ("yes", False), ("nodule", False), ("not sure", False), ("normal", False), ("0.5 cm", False), ("0-1", False),
        ("non-contrast", False), ("", False), ("left, no effusion", False),
    ],
)  # fmt: skip
def test_answers_that_say_nothing_is_there(answer, nothing):
    assert says_nothing_is_there(answer) is nothing


def test_questions_answered_no_can_be_left_out(maker, items, tmp_path):
    Image.fromarray(MASKS[0].astype(np.uint8) * 255).save(tmp_path / "mask.png")
    no = replace(items[0], answer="No")
    marked = replace(no, mask=tmp_path / "mask.png")
    labeller = CountingLabeller()
    source = from_labeller(labeller, tmp_path / "s")
    # The paper's way: whatever region the scorer ranks first counts.
    assert maker(TargetPlan("auto"), source).make([no, marked]).counts == {"weak": 1, "truth": 1, "none": 0}
    strict = TargetPlan("auto", negative_answers=False, min_score=29.5)
    chosen = LabelStore(tmp_path / "chosen")
    image, prompt = load_image(no.image), item_prompt(no, "plain")
    labels = WeakLabels(ranked(MASKS)[1:], prompt, "fake", "fake")
    chosen.put(image, {prompt: replace(labels, checked=True)})
    # What a person chose counts, whatever the answer, the score and the parts asked for, also after other labels were
    # written beside it.
    chosen.put(image, {prompt: replace(labels, regions=()), "other": replace(labels, regions=())})
    for ready in (LabelSource([chosen]), LabelSource(chosen=[chosen])):
        assert maker(strict, ready).make([no]).counts == {"weak": 1, "truth": 0, "none": 0}
    asked = len(labeller.asked)
    left_out = maker(TargetPlan("auto", negative_answers=False), source).make([no, marked, items[2]])
    assert left_out.counts == {"weak": 1, "truth": 1, "none": 1}
    assert left_out.masks(0).shape[0] == 0
    assert labeller.asked[asked:] == [(load_image(items[2].image).sha256, items[2].question)]


def test_regions_below_the_least_score_are_left_out(maker, items, grid, tmp_path):
    source = from_labeller(CountingLabeller(), tmp_path / "s")
    # Their scores are 29, 28 and 27.
    targets = maker(TargetPlan("weak", "each", 3, min_score=27.5), source).make(items[:1])
    wanted = np.stack([to_patches(np.asarray(mask, np.float32), grid) for mask in MASKS[:2]])
    np.testing.assert_allclose(targets.masks(0), wanted, atol=2e-3)
    assert maker(TargetPlan("weak", min_score=29.5), source).make(items[:1]).counts["none"] == 1


@pytest.mark.parametrize(
    ("least", "allowed", "unsure", "known"), [(29.5, True, True, 1), (29.5, False, False, 0), (28.5, True, False, 1)]
)
def test_where_no_region_is_sure_the_best_ones_count_where_that_is_allowed(
    tiny_model, items, tmp_path, least, allowed, unsure, known
):
    labeller = CountingLabeller()  # of its scores the highest is 29
    config = tiny_config(targets="weak", label_segmenter="auto", label_min_score=least, allow_unsure_regions=allowed)
    model, source = tiny_model("llava"), from_labeller(labeller, tmp_path / "s")
    encoder = PromptEncoder(model.processor, model.config, torch.device("cpu"))
    parts, told = (items[::2], items[1:2]), (no_progress, no_progress)
    targets, left_out = make_targets(config, encoder, model.patch_grid, source, parts, told)
    assert (left_out, targets.any_known, targets.counts["weak"]) == (unsure, bool(known), 2 * known)
    # The regions themselves are found once.
    assert len(labeller.asked) == 3


def test_true_masks_and_boxes_are_targets(maker, items, grid, tmp_path):
    Image.fromarray(MASKS[0].astype(np.uint8) * 255).save(tmp_path / "mask.png")
    item = TrainingItem(
        items[0].image, "Where?", "left", "open", "train", "rows.csv", 2, mask=tmp_path / "mask.png",
        boxes=((20.0, 8.0, 14.0, 20.0),),
    )  # fmt: skip
    assert np.array_equal(true_mask(item, load_image(item.image)), MASKS[0] | MASKS[1])
    targets = maker(TargetPlan("truth")).make([item, items[1]])
    assert targets.counts == {"weak": 0, "truth": 1, "none": 1}
    np.testing.assert_allclose(targets.masks(0)[0], to_patches(MASKS[0] | MASKS[1], grid), atol=2e-3)
    labeller = CountingLabeller()
    mixed = maker(TargetPlan("auto"), from_labeller(labeller, tmp_path / "s")).make([item, items[0]])
    assert mixed.counts == {"weak": 1, "truth": 1, "none": 0}
    assert [prompt for _, prompt in labeller.asked] == ["Is there a mass?"]


def test_true_masks_and_boxes_are_on_the_stored_grid(items, tmp_path):
    with Image.open(items[0].image) as picture:
        picture.save(tmp_path / "wide.png", dpi=(100, 300))
    Image.fromarray(MASKS[0].astype(np.uint8) * 255).save(tmp_path / "mask.png")
    item = TrainingItem(
        tmp_path / "wide.png", "Where?", "left", "open", "train", "rows.csv", 2, mask=tmp_path / "mask.png",
        boxes=((20.0, 8.0, 14.0, 20.0),),
    )  # fmt: skip
    image = load_image(item.image)
    assert (image.height, image.width) == (HEIGHT, 3 * WIDTH)
    assert np.array_equal(true_mask(item, image), np.repeat(MASKS[0] | MASKS[1], 3, axis=1))


def test_a_mask_of_another_size_is_named(items, tmp_path):
    Image.fromarray(np.full((HEIGHT, WIDTH + 1), 255, np.uint8)).save(tmp_path / "mask.png")
    item = TrainingItem(
        items[0].image, "Where?", "left", "open", "train", "rows.csv", 7, mask=tmp_path / "mask.png"
    )  # fmt: skip
    with pytest.raises(DataError, match=r"mask.png \(rows.csv, line 7\) has 37 x 30.* 36 x 30 pixels"):
        true_mask(item, load_image(item.image))


def test_targets_are_saved_for_one_digest(tmp_path):
    values = np.random.default_rng(0).random((3, 16)).astype(np.float16)
    targets = PatchTargets.pack([(values[:2], False), (None, False), (values[2:], True), (values[:1, :9], False)])
    targets.save(tmp_path / "targets.npz", "one")
    assert PatchTargets.load(tmp_path / "targets.npz", "two") is None
    assert PatchTargets.load(tmp_path / "missing.npz", "one") is None
    loaded = PatchTargets.load(tmp_path / "targets.npz", "one")
    part = loaded.part(2, 4)
    assert np.array_equal(loaded.masks(0), values[:2])
    assert loaded.masks(1).shape[0] == 0
    assert np.array_equal(part.masks(0), values[2:])
    assert part.masks(1).shape == (1, 9)
    assert [part.known(0), part.known(1)] == [True, False]


def test_the_prompt_follows_the_data_set_and_falls_back_to_the_question(items):
    def item(organ):
        return TrainingItem(items[0].image, "Is it big?", "yes", "closed", "train", "r", 1, organ=organ)

    assert item_prompt(item("CHEST"), "vqa-rad") == "Medical image of CHEST and lungs. Is it big?"
    assert item_prompt(item(""), "vqa-rad") == "Is it big?"
    assert item_prompt(item(""), "pathvqa") == "Medical image of pathology.Is it big?"


def test_plans_and_sources_follow_the_configuration(tmp_path):
    assert target_plan(tiny_config()).source == "truth"
    assert target_plan(tiny_config()).negative_answers
    changed = target_plan(tiny_config(align_negative_answers=False, label_min_score=30))
    assert (changed.negative_answers, changed.min_score) == (False, 30.0)
    assert target_plan(tiny_config(label_segmenter="auto", label_template="chest-report")).top_k == 4
    assert target_plan(tiny_config(label_segmenter="auto", masks="each", label_top_k=3)).top_k == 3
    assert label_source(tiny_config(), tmp_path, "demo", "cpu") is None
    LabelStore(tmp_path / "labels").describe({"segmenter": "LiteMedSAM", "scorer": "demo", "top_k": 8})
    for settings, ready in (
        ({}, True),
        ({"label_scorer": "other"}, False),
        ({"label_top_k": 9}, False),
        ({"label_minimum_side": 0}, False),
    ):
        config = tiny_config(label_segmenter="auto", **settings)
        assert label_source(config, tmp_path, "demo", "cpu").has_store == ready
    LabelStore(tmp_path / "small" / "labels").describe({"segmenter": "LiteMedSAM", "filter": {"minimum_side": 0}})
    for side, ready in ((None, True), (0, True), (12, False)):
        config = tiny_config(label_segmenter="auto", label_minimum_side=side)
        assert label_source(config, tmp_path / "small", "demo", "cpu").has_store == ready
    magic = label_source(tiny_config(label_segmenter="magic"), tmp_path, "demo", "cpu")
    with pytest.raises(LabelError, match="There is no file magic"):
        magic.complete(load_image(DEMO_SAMPLE / "images" / sorted(os.listdir(DEMO_SAMPLE / "images"))[0]), ["a"])


def test_training_and_measuring_may_take_their_targets_from_different_places():
    config = tiny_config(label_segmenter="auto", targets="weak", validation_targets="truth")
    assert [target_plan(config, validation=held_out).source for held_out in (False, True)] == ["weak", "truth"]
    assert target_plan(tiny_config(label_segmenter="auto"), validation=True).source == "auto"
    values = (0.5, True), (0.25, False)
    first, second = (PatchTargets.pack([(np.full((1, 2), value), known)]) for value, known in values)
    joined = PatchTargets.joined(first, second)
    assert joined.counts == {"weak": 1, "truth": 1, "none": 0}
    assert [joined.masks(index).tolist() for index in range(2)] == [[[0.5, 0.5]], [[0.25, 0.25]]]


@pytest.mark.parametrize("combine", ["union", "each"])
def test_targets_of_two_images_lie_on_their_own_patches(tiny_model, tmp_path, combine):
    items = read_dataset(write_pairs(tmp_path), several_images=True).items
    model = tiny_model("qwen2_5_vl")
    maker = TargetMaker(TargetPlan("truth", combine), model.cpu_encoder(), model.patch_grid)
    targets = maker.make(items)
    for index, item in enumerate(items):
        images = [load_image(path) for path in item.images]
        groups = model.encode(images, item.question).images
        expected = []
        for part, image, group in zip(item.parts, images, groups, strict=True):
            mask = true_mask(part, image)
            grid = model.patch_grid(image.height, image.width, len(group))
            expected.append(np.zeros(len(group)) if mask is None else to_patches(mask, grid))
        found = targets.masks(index)
        np.testing.assert_allclose(found.sum(axis=0), np.concatenate(expected), atol=1e-3)
        marked = sum(part.mask is not None for part in item.parts)
        assert len(found) == (marked if combine == "each" else 1)
        assert targets.known(index)
