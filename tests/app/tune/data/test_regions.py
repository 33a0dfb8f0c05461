"""Regions of a few rows: shown, corrected, and used by the training that follows."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from a3tune.errors import RequestError
from a3tune.labels.sources import LabelSource
from a3tune.labels.store import LabelStore
from a3tune.training.attention_targets import TargetMaker, target_plan
from a3tune.training.config_file import load_config
from a3tune.types import PatchGrid, PatchTile
from app.tune.data.regions import LabelPreview, labels_value, row_value

SIZE = 32


def last(reports):
    return list(reports)[-1]


def test_regions_are_shown_corrected_and_used_by_the_training(service, owner, upload):
    checked = last(service.data.add_archive(owner, upload(), "mine"))
    name = checked.data.id
    config = load_config("demo", {"label_min_score": 100})
    # Nothing that was found is sure enough to be a target; what a person chooses is, whatever its score.
    unsure = last(service.regions.preview(owner, name, config))
    assert all(row.chosen == () and row.regions for row in unsure.rows)
    assert (
        "with a score of 100 (label_min_score). Where that is so of all questions, a run takes the best" in unsure.note
    )
    config = replace(config, allow_unsure_regions=False)
    assert "write label_min_score=null under Advanced" in last(service.regions.preview(owner, name, config)).note
    config = load_config("demo", {"label_minimum_side": 250})
    assert not any(row.regions for row in last(service.regions.preview(owner, name, config)).rows)
    preview = last(service.regions.preview(owner, name, load_config("demo", {"label_min_score": None})))
    assert isinstance(preview, LabelPreview)
    assert len(preview.rows) == 3, "the training images"
    row = preview.rows[0]
    left, right = row.regions
    assert row.chosen == (left, right)[: preview.most]
    value = row_value(0, row)
    assert value["regions"][0]["outlines"] == [[4, 8, 4, 19, 11, 19, 11, 8]]
    json.loads(labels_value(preview, "secret", name))

    drawn = service.regions.draw(owner, name, 0, [0, 0, 6, 6])
    (new,) = drawn.drawn
    assert (drawn.chosen, drawn.corrected) == ((new, left, right)[: preview.most], True)
    kept = service.regions.choose(owner, name, 0, [new])
    assert (kept.chosen, kept.corrected) == ((new,), True)
    with pytest.raises(RequestError, match="no such region"):
        service.regions.choose(owner, name, 0, ["nothing"])
    with pytest.raises(RequestError, match="no such row"):
        service.regions.choose(owner, name, 7, [])
    # The training looks into the folder "labels" beside the data first: the patch of the drawn box, and no other.
    store = LabelStore(checked.dataset.root / "labels")
    tiles = (PatchTile(0, 4, 4, (0.0, 0.0, float(SIZE), float(SIZE))),)
    edges = [(8.0 * c, 8.0 * r, 8.0 * c + 8, 8.0 * r + 8) for r in range(4) for c in range(4)]
    grid = PatchGrid(np.array(edges), tiles, SIZE, SIZE)
    encoder = SimpleNamespace(encode_placed=lambda images, question: SimpleNamespace(images=[range(16)]))
    targets = TargetMaker(target_plan(config), encoder, lambda *size: grid, LabelSource([store])).make([row.item])
    assert targets.masks(0)[0].nonzero()[0].tolist() == [0]
    assert service.regions.choose(owner, name, 0, []).chosen == ()
    # Shown again, the corrected choice is there.
    again = last(service.regions.preview(owner, name, config)).rows[0]
    assert (again.chosen, again.corrected) == ((), True)


def test_a_method_without_alignment_needs_no_regions(service, owner, upload):
    checked = last(service.data.add_archive(owner, upload(), "mine"))
    preview = last(service.regions.preview(owner, checked.data.id, load_config("demo", {"method": "lora"})))
    assert preview.rows == ()
    assert "needs no regions" in preview.note


def test_what_the_parts_keep_of_a_visitors_rows_is_forgotten_with_the_visit(service, owner, upload):
    name = last(service.data.add_archive(owner, upload(), "mine")).data.id
    preview = last(service.regions.preview(owner, name, load_config("demo")))
    slot = service.regions._slot
    service.forget(owner)
    (images, prompts) = slot.forgotten[-1]
    assert images == {row.image.sha256 for row in preview.rows}
    assert prompts == {row.prompt for row in preview.rows}
    service.forget(owner)
    assert slot.forgotten[-1] == (set(), set())
