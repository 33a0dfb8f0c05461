import json
from pathlib import Path

import numpy as np
import pytest

from a3tune.errors import RequestError
from a3tune.labels.filters import FilterRules, drop_reason, filter_boxes, filter_regions, from_inclusive_box

CASES = json.loads((Path(__file__).parents[1] / "files" / "filter_cases.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES["single_records"], ids=lambda case: f"{case['bbox']}-{case['area']}")
def test_single_records_agree_with_the_published_filter(case):
    reason = drop_reason(from_inclusive_box(case["bbox"]), case["area"], 256, 256)
    assert (reason is None) == case["kept"]


@pytest.mark.parametrize("case", CASES["lists"], ids=lambda case: str(len(case["records"])))
def test_lists_agree_with_the_published_filter(case):
    boxes = [from_inclusive_box(record["bbox"]) for record in case["records"]]
    result = filter_boxes(boxes, [record["area"] for record in case["records"]], 256, 256)
    assert list(result.kept) == case["kept"]


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("case", CASES["single_records"], ids=lambda case: f"{case['bbox']}")
def test_an_enlarged_image_is_judged_alike(case, scale):
    x, y, width, height = (value * scale for value in from_inclusive_box(case["bbox"]))
    reason = drop_reason((x, y, width, height), case["area"] * scale**2, 256 * scale, 256 * scale)
    assert (reason is None) == case["kept"]


def test_small_image_is_judged_by_what_its_pixels_cover():
    assert drop_reason((1, 1, 4, 4), 16, 64, 64) is None
    assert drop_reason((0, 1, 4, 4), 16, 64, 64) == "touches the border"
    assert drop_reason((1, 1, 3, 4), 12, 64, 64) == "too small"
    assert drop_reason((20, 20, 44, 40), 1500, 64, 64) == "touches the border"
    assert drop_reason((1, 1, 61, 61), 61 * 61, 64, 64) == "too large"


def test_summary_counts_every_reason_in_words():
    boxes = [(50, 50, 60, 60), (0, 10, 40, 40), (0, 20, 40, 40), (60, 60, 5, 5), (2, 2, 240, 240)]
    result = filter_boxes(boxes, [3600, 1600, 1600, 25, 57600], 256, 256)
    assert result.kept == (0,)
    assert result.summary == "1 of 5 regions kept: 2 touch the border, 1 is too small, 1 fills most of the frame"
    assert filter_boxes(boxes[:1], [3600], 256, 256).summary == "1 of 1 region kept"


def test_zero_size_boxes_never_shift_their_neighbours():
    boxes = [from_inclusive_box(box) for box in ([60, 60, 0, 30], [50, 50, 60, 60], [70, 70, 20, 0], [40, 40, 50, 50])]
    assert filter_boxes(boxes, [31, 3600, 21, 2500], 256, 256).kept == (1, 3)


def test_regions_keep_their_order_and_identity(make_region):
    masks = np.zeros((3, 256, 256), dtype=bool)
    masks[0, 50:90, 50:90] = masks[1, 0:40, 50:90] = masks[2, 100:160, 20:60] = True
    regions = [make_region(mask) for mask in masks]
    kept, result = filter_regions(regions)
    assert kept == (regions[0], regions[2])
    assert result.reasons == (None, "touches the border", None)


def test_rules_can_be_changed_and_are_checked():
    assert drop_reason((60, 60, 5, 5), 25, 256, 256, FilterRules(minimum_side=2)) is None
    with pytest.raises(RequestError, match="maximum_area"):
        FilterRules(maximum_area=0)


def test_small_structures_may_be_kept():
    box = (100, 100, 10, 9)
    assert drop_reason(box, 80, 256, 256) == "too small"
    assert drop_reason(box, 80, 256, 256, FilterRules(minimum_side=0)) is None
    assert drop_reason((100, 100, 1, 1), 1, 256, 256, FilterRules(minimum_side=0)) == "too small"
    with pytest.raises(RequestError, match="minimum_side"):
        FilterRules(minimum_side=-1)
