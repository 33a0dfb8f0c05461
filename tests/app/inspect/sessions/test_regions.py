"""Regions behind the page: found, ranked, drawn, chosen and kept, with LiteMedSAM and a small random scorer."""

from __future__ import annotations

import io
import json
import threading
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from a3tune.attention.metrics import measure_head_set, measure_heads
from a3tune.errors import Cancelled, LabelError, NotEnoughMemoryError, RequestError
from a3tune.geometry.patch_grid import to_patches
from a3tune.inspection.views import answer_rows
from a3tune.labels.segmenters.lite_medsam import LiteMedSamSegmenter
from a3tune.phantom import make_phantom
from app.engine.region_slot import RegionSlot
from app.inspect.service import InspectService
from app.inspect.sessions.results import Result
from app.inspect.sessions.shown_regions import CHOSEN, SHOWN
from app.inspect.viewer.values import numbers_value, regions_value, target_value


@pytest.fixture(scope="module")
def region_slot(small_scorer, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("A3TUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
    # A few candidates are drawn anew, the others keep their own outlines.
    quick = LiteMedSamSegmenter(device="cpu", refined=6)
    patch.setattr("a3tune.labels.segmenters_and_scorers.LiteMedSamSegmenter", lambda device: quick)
    slot = RegionSlot(str(small_scorer), device="cpu")
    while slot.wait(60) is None:
        pass
    yield slot
    patch.undo()


@pytest.fixture
def service(slot, region_slot):
    return InspectService(slot, region_slot)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantom") / "image.png"
    Image.fromarray(make_phantom(3, "abdomen").image.pixels).save(path)
    return path


@pytest.fixture
def regions(service, phantom):
    return service.sessions.open_file("one", phantom, remove=False).regions


def keys(ranked):
    return [item.key for item in ranked.shown if item.chosen]


def test_regions_are_found_and_ranked_before_any_question_is_answered(service, regions):
    ranked = service.regions.find(regions, "Where is the liver?")
    assert len(ranked.shown) == SHOWN
    assert [item.scored.rank for item in ranked.shown] == list(range(1, SHOWN + 1))
    assert len(keys(ranked)) == CHOSEN
    assert len({item.colour for item in ranked.shown}) == SHOWN
    assert any("regions kept" in note for note in ranked.labels.notes)
    assert ranked.numbers.views == ()
    assert 0 < ranked.numbers.area < 1
    for item in ranked.shown:
        mask = item.scored.region.mask
        column, row = item.anchor
        assert mask[row, column]
        assert all(mask[y, x] or mask[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].any() for x, y in item.contours[0])
    value = json.loads(json.dumps(regions_value(ranked)))
    assert value["prompt"] == "Where is the liver?"
    assert value["notes"][-1] == f"{SHOWN} of {len(ranked.labels.regions)} ranked regions shown"


def test_memory_that_runs_out_is_told_with_what_to_lower_and_the_next_request_works(
    service, regions, region_slot, monkeypatch
):
    maker = region_slot.wait(0)
    box = (60, 60, 80, 80)
    before, _ = service.regions.draw(regions, box, "liver")

    def full(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(maker.segmenter, "_draw", full)
        with pytest.raises(NotEnoughMemoryError, match=r"the region in this box.*Choose a smaller segmenter"):
            service.regions.draw(regions, box, "liver")
        patch.setattr(maker.scorer, "embed_regions", full)
        with pytest.raises(NotEnoughMemoryError, match=r"Choose a smaller segmenter"):
            service.regions.find(regions, "kidney")
    after = service.regions.find(regions, "liver")
    assert [item.score for item in after.labels.regions] == [item.score for item in before.labels.regions]
    assert service.regions.draw(regions, box, "liver")[1]


def test_another_prompt_ranks_the_same_regions_without_a_new_segmentation(service, regions, region_slot, monkeypatch):
    first = service.regions.find(regions, "Where is the liver?")
    monkeypatch.setattr(region_slot.wait(0).segmenter, "segment", None)
    second = service.regions.find(regions, "Is there a stone in the kidney?")
    assert {id(item.region) for item in first.labels.regions} == {id(item.region) for item in second.labels.regions}
    assert [item.score for item in first.labels.regions] != [item.score for item in second.labels.regions]


def test_a_box_becomes_a_region_that_is_ranked_with_the_others(service, regions):
    first = service.regions.find(regions, "Where is the liver?")
    drawn, key = service.regions.draw(regions, [60, 70, 90, 100], "Where is the liver?")
    (mine,) = [item for item in drawn.shown if item.key == key]
    assert mine.drawn
    assert mine.chosen
    assert len(drawn.labels.regions) == len(first.labels.regions) + 1
    again = service.regions.find(regions, "Is there a stone?")
    assert key in keys(again)


def test_small_structures_are_ranked_shown_and_kept_when_asked_for(service, tmp_path):
    grey = np.full((256, 256), 90, np.uint8)
    grey[60:150, 60:150] = 150
    for place in (30, 110, 190):
        grey[200:211, place : place + 11] = 220
    path = tmp_path / "small.png"
    Image.fromarray(grey).save(path)
    regions = service.sessions.open_file("one", path, remove=False).regions
    published = service.regions.find(regions, "a stone")
    assert not [item for item in published.shown if item.small]
    assert any("too small" in note for note in published.labels.notes)
    ranked = service.regions.find(regions, "a stone", small=True)
    assert len(ranked.labels.regions) > len(published.labels.regions)
    small = [item for item in ranked.shown if item.small]
    # Last minus first of 12 or less, in an image of the filter's own size.
    found = [item.region.key for item in ranked.labels.regions if min(item.region.box[2:]) <= 13]
    assert [item.key for item in small] == found[:SHOWN]
    assert [item.scored.rank for item in ranked.shown if not item.small] == [
        item.rank for item in ranked.labels.regions[:SHOWN] if item.region.key not in found
    ]
    assert [row["small"] for row in regions_value(ranked)["rows"]] == [item.small for item in ranked.shown]
    _, files = service.keep_target(regions, [small[0].key])
    with zipfile.ZipFile(io.BytesIO(files)) as archive:
        assert json.loads(archive.read("labels.json"))["settings"]["filter"]["minimum_side"] == 0


def test_the_numbers_are_those_of_the_library_for_the_union(service, regions):
    service.questions.reserve("one")
    *_, finished = service.questions.ask("one", "Where is the liver?")
    assert isinstance(finished, Result)
    ranked = service.regions.find(regions, "Where is the liver?")
    view, grid = finished.inspection.views[0], finished.inspection.grid
    two = ranked.shown[1:3]
    mask = two[0].scored.region.mask | two[1].scored.region.mask
    rows = answer_rows(view.tokens, view.maps)
    expected = measure_head_set(view.maps, view.critical_heads, to_patches(mask, grid), rows)
    numbers = service.regions.choose(regions, [item.key for item in two])
    assert numbers.area == mask.mean()
    (measured,) = numbers.views
    assert (measured.result, measured.adapter, measured.numbers) == (finished.id, "base", expected)
    per_head = measure_heads(view.maps, to_patches(mask, grid), rows)["attention_mass"]
    np.testing.assert_allclose(measured.head_mass, per_head, rtol=1e-5)
    assert service.regions.choose(regions, keys(ranked)).views[0].numbers == ranked.numbers.views[0].numbers
    assert service.regions.choose(regions, []) is None
    value = json.loads(json.dumps(numbers_value(numbers)))
    assert value["views"][0]["rows"][0][:2] == ["attention_mass", "Attention inside"]
    assert numbers_value(None) is None


def test_results_about_the_same_image_are_measured_together(service, regions, phantom, tmp_path):
    for question in ("Where is the liver?", "Is there a stone?"):
        service.questions.reserve("one")
        *_, finished = service.questions.ask("one", question)
    ranked = service.regions.find(regions, "liver")
    newest, older = service.results.of("one")
    numbers = service.measure(regions, keys(ranked), [older.id])
    assert [view.result for view in numbers.views] == [newest.id, older.id]
    path = tmp_path / "other.png"
    Image.fromarray(make_phantom(4, "abdomen").image.pixels).save(path)
    other = service.sessions.open_file("one", path, remove=True).regions
    service.regions.find(other, "liver")
    with pytest.raises(RequestError, match="another image"):
        service.measure(other, [], [finished.id])


def test_a_kept_target_stays_with_the_visit_and_holds_what_the_command_line_writes(service, regions):
    ranked = service.regions.find(regions, "Where is the liver?")
    chosen = [ranked.shown[2].key, ranked.shown[0].key]
    target, files = service.keep_target(regions, chosen)
    assert service.target("one") is target
    assert service.target("other") is None
    masks = [ranked.shown[index].scored.region.mask for index in (0, 2)]
    np.testing.assert_array_equal(target.mask, masks[0] | masks[1])
    assert not target.mask.flags.writeable
    with zipfile.ZipFile(io.BytesIO(files)) as archive:
        record = json.loads(archive.read("labels.json"))
        with np.load(io.BytesIO(archive.read("masks.npz"))) as stored:
            np.testing.assert_array_equal(stored["masks"], masks)
    assert [region["rank"] for region in record["regions"]] == [1, 3]
    assert record["prompt"] == "Where is the liver?"
    assert "Kept: 2 regions" in target_value(target, files)["words"]
    service.sessions.end("one")
    assert service.target("one") is None


@pytest.mark.parametrize("prompt", ["", "  \n", "liver " * 300, "x" * 5000, 7, None])
def test_a_prompt_that_cannot_be_used_is_told_and_the_list_stays(service, regions, prompt):
    ranked = service.regions.find(regions, "Where is the liver?")
    with pytest.raises((LabelError, RequestError), match="prompt"):
        service.regions.find(regions, prompt)
    assert service.regions.choose(regions, keys(ranked)) == ranked.numbers


@pytest.mark.parametrize("box", [[0, 0, 0, 0], [900, 900, 5, 5], ["a", 1, 2, 3], [1, 2, 3], None, [float("nan")] * 4])
def test_a_box_that_cannot_be_used_is_told(service, regions, box):
    with pytest.raises(LabelError, match=r"[Bb]ox"):
        service.regions.draw(regions, box, "liver")


@pytest.mark.parametrize("chosen", [["nothing"], [3], "abc", None, [["x"]]])
def test_a_region_that_does_not_exist_is_told(service, regions, chosen):
    service.regions.find(regions, "liver")
    with pytest.raises(RequestError, match="no such region"):
        service.regions.choose(regions, chosen)
    with pytest.raises(RequestError):
        service.keep_target(regions, chosen)


def test_a_blank_image_has_no_regions_and_nothing_to_keep(service, tmp_path):
    path = tmp_path / "blank.png"
    Image.fromarray(np.full((64, 64), 9, np.uint8)).save(path)
    regions = service.sessions.open_file("one", path, remove=False).regions
    with pytest.raises(LabelError, match="same value"):
        service.regions.find(regions, "liver")
    with pytest.raises(LabelError, match="same value"):
        service.regions.draw(regions, [5, 5, 20, 20], "liver")
    with pytest.raises(RequestError, match="No region is switched on"):
        service.keep_target(regions, [])


def test_a_stop_and_another_image_end_what_waits(service, regions, phantom):
    with service.regions.slot.in_use:
        for end in (
            lambda: service.questions.cancel("one"),
            lambda: service.sessions.open_file("one", phantom, remove=False),
        ):
            waiting = service.sessions.opened("one").regions
            # The request sets its own cancel event first: the end comes from the thread that would do the work.
            slot, wait = service.regions.slot, service.regions.slot.wait
            slot.wait = lambda timeout, end=end, wait=wait: end() or wait(timeout)
            try:
                with pytest.raises(Cancelled):
                    service.regions.find(waiting, "liver")
            finally:
                slot.wait = wait
    with pytest.raises(RequestError, match="removed"):
        service.regions.find(regions, "liver")


def test_missing_parts_are_told_each_time_and_tried_again(slot, small_scorer, phantom, tmp_path, monkeypatch):
    monkeypatch.setenv("A3TUNE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "scorer"
    folder.mkdir()
    service = InspectService(slot, RegionSlot(str(folder), device="cpu"))
    regions = service.sessions.open_file("one", phantom, remove=False).regions
    for _ in range(2):
        with pytest.raises(LabelError, match="open_clip_config"):
            service.regions.find(regions, "liver")
    for path in small_scorer.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    assert service.regions.find(regions, "liver").shown


def test_nothing_of_an_image_stays_in_memory_once_nobody_shows_it(service, regions, region_slot, phantom):
    """Neither its regions nor what segmenter and scorer computed, nor the words that were asked for."""
    maker = region_slot.wait(0)
    digest = service.sessions.opened("one").image.sha256

    def kept():
        memories = maker.cache._known, maker.segmenter._embeddings, maker.scorer._crops, maker.scorer._texts
        return [
            [key for key in memory._entries if digest in (key, key[0]) or key == "My secret words"]
            for memory in memories
        ]

    service.regions.find(regions, "My secret words")
    service.regions.draw(regions, (40, 40, 60, 60), "My secret words")
    assert all(kept())
    service.sessions.open_file("two", phantom, remove=False)
    service.sessions.end("one")
    assert any(kept())  # the other page shows the same image
    # What is at work is not disturbed: it is dropped right after.
    region_slot.in_use.acquire()
    service.sessions.end("two")
    assert any(kept())
    waiting = [thread for thread in threading.enumerate() if thread.name == "regions-forget"]
    region_slot.in_use.release()
    for thread in waiting:
        thread.join()
    assert kept() == [[], [], [], []]


def test_what_was_found_in_an_example_stays_when_its_page_closes(service, regions, region_slot):
    maker, digest = region_slot.wait(0), service.sessions.opened("one").image.sha256
    region_slot.keep(digest)
    service.regions.find(regions, "My secret words")
    service.sessions.end("one")
    assert digest in maker.cache._known._entries
    assert "My secret words" not in maker.scorer._texts._entries
    region_slot._kept.clear()
    region_slot.forget([digest], [])
