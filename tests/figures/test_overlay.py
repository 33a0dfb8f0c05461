"""Colours, overlays and outlines: exact pixels."""

import cv2
import matplotlib
import numpy as np
import pytest

from a3tune.errors import RequestError
from a3tune.figures.colour_tables import COLOUR_MAPS, DIFFERENCE_MAP, colour_map
from a3tune.figures.overlay import REGION_COLOURS, outline, overlay


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


@pytest.mark.parametrize("name", [*COLOUR_MAPS, DIFFERENCE_MAP])
def test_colours_are_matplotlibs(name):
    values = np.random.default_rng(3).uniform(-0.1, 1.1, 5000)
    expected = matplotlib.colormaps[name](np.clip(values, 0, 1), bytes=True)[:, :3]
    np.testing.assert_array_equal(colour_map(values, name, 0, 1), expected)


def test_limits_come_from_the_finite_values():
    colours = colour_map(np.array([2.0, np.nan, 4.0, np.inf]))
    np.testing.assert_array_equal(colours[0], colours[1])
    np.testing.assert_array_equal(colours[2], colours[3])
    np.testing.assert_array_equal(colours[0], colour_map(np.array([0.0, 1.0]))[0])


@pytest.mark.parametrize("values", [np.zeros((3, 4)), np.full((3, 4), 7.0), np.full((3, 4), np.nan)])
def test_flat_maps_get_the_first_colour(values):
    assert len(np.unique(colour_map(values, "viridis").reshape(-1, 3), axis=0)) == 1
    np.testing.assert_array_equal(colour_map(values, "viridis")[0, 0], colour_map(np.array([0.0, 1.0]), "viridis")[0])


def test_overlay_blends_by_opacity():
    image, values = grey(2, 2), np.array([[0.0, 1.0], [0.5, np.nan]])
    np.testing.assert_array_equal(overlay(image, values, 0.0), image)
    full = overlay(image, values, 1.0, "viridis", 0, 1)
    np.testing.assert_array_equal(full[0], colour_map(values, "viridis", 0, 1)[0])
    np.testing.assert_array_equal(full[1, 1], image[1, 1])
    half = overlay(image, values, 0.5, "viridis", 0, 1)
    np.testing.assert_array_equal(half[0, 1], np.rint((100 + full[0, 1].astype(float)) / 2))


def test_overlay_that_fades_leaves_the_image_where_the_map_is_low():
    # Multiples of an even map: none below 1, all of it at the highest, half on the way there by the logarithm.
    image, values = grey(1, 4), np.array([[0.0, 1.0, 4.0, 16.0]])
    faded = overlay(image, values, 0.8, "viridis", 0, 16, fade=True)
    np.testing.assert_array_equal(faded[0, :2], image[0, :2])
    np.testing.assert_array_equal(faded[0, 2], overlay(image, values, 0.4, "viridis", 0, 16)[0, 2])
    np.testing.assert_array_equal(faded[0, 3], overlay(image, values, 0.8, "viridis", 0, 16)[0, 3])
    # A map that is nearly even is drawn faintly, and the image steps back behind any.
    flat = overlay(image, np.full((1, 4), 2.0), 0.9, "viridis", 0, 2, fade=True)
    np.testing.assert_array_equal(flat, overlay(image, np.full((1, 4), 2.0), 0.3, "viridis", 0, 2))
    np.testing.assert_array_equal(overlay(image, values, 0.8, fade=True, dim=0.4)[0, 0], np.rint(0.6 * image[0, 0]))
    # Of a difference nothing is drawn where there is none, and all of it at both ends.
    image, change = grey(2, 2), np.array([[0.0, 1.0], [-1.0, 0.0]])
    faded = overlay(image, change, 0.8, DIFFERENCE_MAP, -1, 1, fade=True)
    np.testing.assert_allclose(faded[0, 0], image[0, 0], atol=1)
    whole = overlay(image, change, 0.8, DIFFERENCE_MAP, -1, 1)
    np.testing.assert_array_equal(faded[[0, 1], [1, 0]], whole[[0, 1], [1, 0]])


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
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(RequestError, match=message):
        call()
