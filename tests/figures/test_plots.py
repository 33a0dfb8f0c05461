"""Figures of maps and masks: what they say, how they are written."""

import threading
from xml.etree import ElementTree

import cv2
import matplotlib
import numpy as np
import pytest

from a3tune.figures.overlay import overlay
from a3tune.figures.plots import Caption, attention_figure, difference_figure, head_grid_figure, save_figure
from a3tune.types import Head

CAPTION = Caption("Demo model", "a3", (Head(0, 1), Head(1, 2)), "“lung”", "Is there a mass?")


def grey(height=40, width=60, level=100):
    return np.full((height, width, 3), level, np.uint8)


def test_caption_names_model_adapter_heads_and_words():
    assert CAPTION.text() == "Demo model · adapter: a3 · mean of 2 heads · “lung”"
    assert Caption("M", "base", [Head(3, 4)]).text() == "M · adapter: base · layer 3, head 4 · all text tokens"
    assert Caption("M", ["base", "a3"]).text() == "M · adapters: base and a3 · all text tokens"
    assert Caption("M", ["base", "lora", "a3"]).text() == "M · adapters: base, lora and a3 · all text tokens"
    assert Caption("M", ["a3", "a3"]).text() == "M · adapter: a3 · all text tokens", "two questions, one adapter"
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
    for part in ("Demo model", "adapter: a3", "mean of 2 heads", "· “lung”", "Is there a mass?"):
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


def test_any_word_can_be_drawn(tmp_path):
    caption = Caption("M_$x", "base", words="$\\frac{\n肺\x00", question="$100 or €")
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
