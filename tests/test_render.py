"""Colours, overlays, outlines and figures: exact pixels where the picture is ours, labels where it is a figure's."""

import threading
from xml.etree import ElementTree

import cv2
import matplotlib
import numpy as np
import pytest

from a3tune.errors import RequestError
from a3tune.render import (
    COLOUR_MAPS,
    REGION_COLOURS,
    Caption,
    attention_figure,
    colour_map,
    difference_colours,
    difference_figure,
    head_grid_figure,
    outline,
    overlay,
    save_figure,
)
from a3tune.types import Head

CAPTION = Caption("Demo model", "a3", (Head(0, 1), Head(1, 2)), "lung", "Is there a mass?")


def grey(height=40, width=60, level=100):
    return np.full((height, width, 3), level, np.uint8)


@pytest.mark.parametrize("name", COLOUR_MAPS)
def test_colours_run_from_the_first_to_the_last_of_the_map(name):
    colours = colour_map(np.array([[-1.0, 0.0, 0.5, 1.0, 9.0]]), name, 0, 1)
    assert colours.dtype == np.uint8
    assert colours.shape == (1, 5, 3)
    table = matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3]
    np.testing.assert_array_equal(colours[0], table[[0, 0, 128, 255, 255]])
    lightness = cv2.cvtColor(table[None], cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
    assert (np.diff(lightness) >= -1).all(), "an even map grows steadily lighter"


def test_limits_come_from_the_finite_values():
    colours = colour_map(np.array([2.0, np.nan, 4.0, np.inf]))
    np.testing.assert_array_equal(colours[0], colours[1])
    np.testing.assert_array_equal(colours[2], colours[3])
    np.testing.assert_array_equal(colours[0], colour_map(np.array([0.0, 1.0]))[0])


@pytest.mark.parametrize("values", [np.zeros((3, 4)), np.full((3, 4), 7.0), np.full((3, 4), np.nan)])
def test_flat_maps_get_the_first_colour(values):
    assert len(np.unique(colour_map(values, "viridis").reshape(-1, 3), axis=0)) == 1
    np.testing.assert_array_equal(colour_map(values, "viridis")[0, 0], colour_map(np.array([0.0, 1.0]), "viridis")[0])


def test_differences_are_symmetric_about_white():
    less, none, more = difference_colours(np.array([-0.5, 0.0, 0.25]), limit=0.5).astype(int)
    assert none.min() > 240
    assert less[2] > less[0], "less is blue"
    assert more[0] > more[2], "more is red"
    np.testing.assert_array_equal(difference_colours(np.array([-2.0, np.nan, 0.0]))[1], none)
    np.testing.assert_array_equal(difference_colours(np.zeros(2))[0], none)


def test_overlay_blends_by_opacity():
    image, values = grey(2, 2), np.array([[0.0, 1.0], [0.5, np.nan]])
    np.testing.assert_array_equal(overlay(image, values, 0.0), image)
    full = overlay(image, values, 1.0, "viridis", 0, 1)
    np.testing.assert_array_equal(full[0], colour_map(values, "viridis", 0, 1)[0])
    np.testing.assert_array_equal(full[1, 1], image[1, 1])
    half = overlay(image, values, 0.5, "viridis", 0, 1)
    np.testing.assert_array_equal(half[0, 1], np.rint((100 + full[0, 1].astype(float)) / 2))


def test_overlay_that_fades_leaves_the_image_where_the_map_is_low():
    image, values = grey(1, 2), np.array([[0.0, 1.0]])
    faded = overlay(image, values, 0.8, "viridis", 0, 1, fade=True)
    np.testing.assert_array_equal(faded[0, 0], image[0, 0])
    np.testing.assert_array_equal(faded[0, 1], overlay(image, values, 0.8, "viridis", 0, 1)[0, 1])


def test_outline_lies_inside_the_mask_and_closes_at_the_image_border():
    image, mask = grey(20, 30), np.zeros((20, 30), bool)
    mask[0:8, 5:15] = True
    drawn = outline(image, [mask], thickness=2)
    changed = (drawn != image).any(-1)
    expected = mask.copy()
    expected[2:6, 7:13] = False
    np.testing.assert_array_equal(changed, expected)
    np.testing.assert_array_equal(drawn[0, 5], REGION_COLOURS[0])
    assert (image == 100).all(), "the image given is left as it was"


def test_outlines_take_colours_in_turn_and_the_first_lies_on_top():
    masks = [np.ones((20, 30), bool)] * 2
    drawn = outline(grey(20, 30), masks, colours=[(1, 2, 3), (4, 5, 6)])
    np.testing.assert_array_equal(drawn[0, 0], (1, 2, 3))
    np.testing.assert_array_equal(outline(grey(), [np.zeros((40, 60), bool)]), grey())
    np.testing.assert_array_equal(outline(grey(), []), grey())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: colour_map(np.zeros(3), "jet"), "'jet'"),
        (lambda: colour_map(np.zeros(3), lower=2, upper=1), "limits are 2 and 1"),
        (lambda: overlay(grey(), np.zeros((40, 61))), r"60 x 40 pixels"),
        (lambda: overlay(grey(), np.zeros((40, 60)), 1.2), "opacity is 1.2"),
        (lambda: overlay(grey() / 2, np.zeros((40, 60))), "float64"),
        (lambda: outline(grey(), [np.zeros((4, 4))]), r"shape \(4, 4\)"),
        (lambda: outline(grey(), [], thickness=0), "thickness is 0"),
        (lambda: difference_colours(np.zeros(3), 0), "limit is 0"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(RequestError, match=message):
        call()


def test_caption_names_model_adapter_heads_and_token():
    assert CAPTION.text() == 'Demo model · adapter: a3 · mean of 2 heads · token: "lung"'
    assert Caption("M", "base", [Head(3, 4)]).text() == "M · adapter: base · layer 3, head 4 · all text tokens"
    assert Caption("M", "base", "critical heads").text() == "M · adapter: base · critical heads · all text tokens"


def words(figure):
    """All text of a figure on one line, however it was wrapped."""
    return " ".join(" ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text)).split())


def test_head_grid_rings_the_critical_heads_and_labels_its_axes():
    ratio = np.random.default_rng(0).random((6, 8))
    figure = head_grid_figure(ratio, (Head(5, 0), Head(2, 7)), CAPTION)
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), 100 * ratio)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("head", "layer")
    for ring in axes.collections:
        np.testing.assert_array_equal(ring.get_offsets(), [[0, 5], [7, 2]])
    assert len(axes.collections) == 2
    assert "Demo model · adapter: a3" in words(figure)
    assert "2 critical heads ringed" in words(figure)
    assert "%" in words(figure)
    assert not head_grid_figure(ratio).axes[0].collections


def test_attention_figure_says_what_it_shows():
    values = np.zeros((40, 60), np.float32)
    values[10, 20] = 0.02
    figure = attention_figure(grey(), values, CAPTION, masks=[values > 0])
    text = words(figure)
    for part in ("Demo model", "adapter: a3", "mean of 2 heads", 'token: "lung"', "Is there a mass?"):
        assert part in text
    bar = figure.axes[-1]
    assert bar.get_ylabel() == "attention weight"
    assert bar.get_ylim() == pytest.approx((0, 0.02))
    picture = figure.axes[1].images[0].get_array()
    np.testing.assert_array_equal(picture[0, 0], overlay(grey(), values, 0.6, "inferno", 0.0)[0, 0])


def test_difference_figure_uses_one_scale_for_both_maps_and_a_symmetric_one():
    before, after = np.zeros((40, 60)), np.zeros((40, 60))
    before[:20], after[20:] = 0.1, 0.4
    figure = difference_figure(grey(), before, after, CAPTION, names=("base", "a3"))
    limits = [axes.get_ylim() for axes in figure.axes if axes.get_ylabel()]
    assert limits == [pytest.approx((0, 0.4)), pytest.approx((0, 0.4)), pytest.approx((-0.4, 0.4))]
    assert "a3 − base" in words(figure)


@pytest.mark.parametrize(("height", "width"), [(1, 300), (300, 1), (900, 100)])
def test_figures_of_thin_images_can_be_saved(tmp_path, height, width):
    figure = attention_figure(grey(height, width), np.zeros((height, width)), CAPTION)
    for path in save_figure(figure, tmp_path / "thin"):
        assert path.stat().st_size > 1000


def test_figures_are_written_as_png_and_svg(tmp_path):
    figure = head_grid_figure(np.eye(3), (Head(1, 1),), CAPTION)
    png, svg = save_figure(figure, tmp_path / "heads.v1.png")
    assert (png.name, svg.name) == ("heads.v1.png", "heads.v1.svg")
    assert cv2.imread(str(png)).shape[2] == 3
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    assert save_figure(figure, tmp_path / "heads.v2")[0].name == "heads.v2.png"


def test_any_token_text_can_be_drawn(tmp_path):
    caption = Caption("M_$x", "base", token="$\\frac{\n肺\x00", question="$100 or €")
    figure = attention_figure(grey(), np.zeros((40, 60)), caption)
    save_figure(figure, tmp_path / "odd")
    assert "$\\frac{\\n\\u80ba\\x00" in words(figure)


def test_figures_can_be_drawn_from_several_threads(tmp_path):
    faults = []

    def draw(index):
        try:
            save_figure(head_grid_figure(np.eye(4), (Head(index, index),), CAPTION), tmp_path / f"f{index}")
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=draw, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert len(list(tmp_path.iterdir())) == 8
