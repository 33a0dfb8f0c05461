import json

import numpy as np
import pytest
import torch

from a3tune.errors import LabelError, NotEnoughMemoryError, RequestError
from a3tune.labels.cache import RegionCache
from a3tune.labels.filters import FilterRules
from a3tune.labels.pipeline import LabelMaker, settings_digest
from a3tune.labels.scorers.open_clip import load_scorer
from a3tune.labels.segmenters.segmentation import Segmentation


@pytest.fixture(scope="module")
def scorer(clip_folder):
    return load_scorer(clip_folder, device="cpu")


class Given:
    """A segmenter that returns what it was given."""

    name, digest, parameters = "given", "0", {}

    def __init__(self, regions):
        self.regions, self.calls = regions, 0

    def segment(self, image):
        self.calls += 1
        return Segmentation(tuple(self.regions), self.name, image.height, image.width, ("given",))


@pytest.fixture
def segmenter(organs, make_region):
    border = np.zeros((240, 300), dtype=bool)
    border[:50, :50] = True
    return Given([*(make_region(mask) for mask in organs[1].values()), make_region(border)])


def test_labels_of_an_image(organs, segmenter, scorer):
    labels = LabelMaker(segmenter, scorer, top_k=2).make(organs[0], "is there a liver ?")
    assert [entry.rank for entry in labels.regions] == [1, 2]
    assert labels.prompt == "is there a liver ?"
    assert (labels.segmenter, labels.scorer) == ("given", scorer.name)
    assert labels.notes == ("given", "3 of 4 regions kept: 1 touches the border", "2 best of 3 shown")
    everything = LabelMaker(segmenter, scorer, top_k="all").make(organs[0], "is there a liver ?")
    assert len(everything.regions) == 3
    assert sum(entry.weight for entry in everything.regions) == pytest.approx(1)


def test_real_segmenter_and_cache(organs, lite_medsam, scorer, tmp_path):
    cache = RegionCache(tmp_path)
    first = LabelMaker(lite_medsam, scorer, cache=cache).make(organs[0], "liver")
    second = LabelMaker(lite_medsam, scorer, cache=cache).make(organs[0], "liver")
    assert [entry.score for entry in first.regions] == [entry.score for entry in second.regions]
    assert cache.get(organs[0], lite_medsam) is not None


def test_drawn_region_is_ranked_with_the_others(organs, segmenter, scorer, make_region):
    drawn = np.zeros((240, 300), dtype=bool)
    drawn[100:104, 0:4] = True
    region = make_region(drawn)
    labels = LabelMaker(segmenter, scorer, top_k="all").make(organs[0], "liver", [region])
    assert region in [entry.region for entry in labels.regions]


def test_nothing_left_after_the_filter(organs, segmenter, scorer):
    with pytest.raises(LabelError, match="0 of 4 regions kept"):
        LabelMaker(segmenter, scorer, rules=FilterRules(minimum_side=250)).make(organs[0], "liver")


def test_prompt_is_checked_before_the_work(organs, segmenter, scorer):
    with pytest.raises(LabelError, match="prompt is empty"):
        LabelMaker(segmenter, scorer).make(organs[0], " ")
    with pytest.raises(RequestError, match="regions to keep is '0'"):
        LabelMaker(segmenter, scorer, top_k=0)
    assert segmenter.calls == 0


def test_a_maker_tells_bad_prompts_from_images_without_regions(organs, scorer):
    class Blind(Given):
        def segment(self, image):
            raise LabelError(expected="structures", got="Nothing to be told apart", remedy="Check the image")

    maker = LabelMaker(Blind(()), scorer, remarks=("a remark",))
    labels = maker.rank(organs[0], ("liver",))
    assert labels.regions == ()
    assert labels.notes[0].startswith("Nothing to be told apart")
    assert labels.notes[-1] == "a remark"
    with pytest.raises(LabelError, match="prompt is empty"):
        maker.rank(organs[0], (" ",))


def test_labels_say_what_they_were_made_with(organs, segmenter, scorer):
    maker = LabelMaker(segmenter, scorer, top_k=2)
    labels = maker.make(organs[0], ("liver", "kidney"))
    assert labels.prompt == "liver; kidney"
    assert labels.settings == settings_digest(maker.settings)
    assert labels.settings != settings_digest(LabelMaker(segmenter, scorer, top_k=3).settings)
    assert json.loads(json.dumps(maker.settings)) == maker.settings


def test_a_drawn_region_is_ranked_alone_where_nothing_was_found(organs, scorer, make_region):
    region = make_region(organs[1]["spot"])
    labels = LabelMaker(Given(()), scorer).make(organs[0], "liver", [region])
    assert [entry.region for entry in labels.regions] == [region]
    assert "0 of 0 regions kept" in labels.notes[0]


def test_memory_that_runs_out_is_told_with_what_to_lower_and_the_next_labels_come(
    organs, segmenter, scorer, monkeypatch
):
    maker = LabelMaker(segmenter, scorer, top_k=2)
    expected = maker.make(organs[0], "liver")

    def full(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    for part, name in ((segmenter, "segment"), (scorer, "score"), (scorer, "embed_texts")):
        with monkeypatch.context() as patch:
            patch.setattr(part, name, full)
            for make in (maker.make, maker.rank):
                with pytest.raises(NotEnoughMemoryError, match=r"the regions of this image.*smaller segmenter"):
                    make(organs[0], ["liver"])
        again = maker.make(organs[0], "liver")
        assert [item.score for item in again.regions] == [item.score for item in expected.regions]
