"""The colour scale: a weight's place in the colour map, how strongly it is drawn, and the table of pixels."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from a3tune.figures.colour_tables import COLOUR_MAPS, DIFFERENCE_MAP, colour_map
from a3tune.figures.overlay import overlay

LUTS = {name: colour_map(np.arange(256), name) for name in (*COLOUR_MAPS, DIFFERENCE_MAP)}


def scale(name="inferno", **changes):
    plain = {"top": 16, "signed": False, "gamma": 1, "threshold": 0, "opacity": 0.8}
    return {**plain, "lut": LUTS[name].ravel().tolist(), **changes}


@pytest.fixture(scope="module")
def call(call_module):
    return functools.partial(call_module, "inspect/viewer/colour_scale.js")


@pytest.mark.parametrize(
    ("value", "colour", "strength"), [(0, 0, 0), (1, 16, 0), (4, 64, 0.5), (16, 255, 1), (20, 255, 1), (-1, 0, 0)]
)
def test_a_weight_has_its_share_of_the_highest_and_is_drawn_by_its_multiple(call, value, colour, strength):
    assert call("placeOnScale", value, scale()) == {"colour": colour, "strength": pytest.approx(strength)}


@pytest.mark.parametrize(("top", "signed"), [(16.0, False), (3.0, False), (0.5, True)])
def test_a_map_is_drawn_as_the_library_draws_it_into_files(call, top, signed):
    name = DIFFERENCE_MAP if signed else "inferno"
    settings = scale(name, signed=signed, top=top)
    values = np.linspace(-top if signed else 0, top, 23)
    picture = np.full((1, len(values), 3), 200, np.uint8)
    lower = -top if signed else 0.0
    wanted = overlay(picture, values[None], settings["opacity"], name, lower, top, fade=True)[0].astype(int)
    for value, colour in zip(values, wanted, strict=True):
        place = call("placeOnScale", float(value), settings)
        share = settings["opacity"] * place["strength"]
        drawn = 200 * (1 - share) + LUTS[name][place["colour"]] * share
        np.testing.assert_allclose(drawn, colour, atol=2, err_msg=f"{value}")


def test_a_map_that_is_nearly_even_is_drawn_faintly(call):
    assert call("placeOnScale", 2, scale(top=2)) == {"colour": 255, "strength": pytest.approx(1 / 3)}


@pytest.mark.parametrize(("value", "colour", "strength"), [(-0.5, 0, 1), (0, 128, 0), (0.5, 255, 1), (0.125, 160, 0.5)])
def test_a_difference_is_laid_out_from_the_middle(call, value, colour, strength):
    place = call("placeOnScale", value, scale(DIFFERENCE_MAP, signed=True, top=0.5))
    assert place == {"colour": colour, "strength": pytest.approx(strength)}


def test_gamma_bends_the_colour_and_the_threshold_cuts_by_the_weight(call):
    bent = call("placeOnScale", 4, scale(gamma=0.5, threshold=0.2))
    assert bent == {"colour": int(256 * 0.25**0.5), "strength": pytest.approx(0.5)}
    assert call("placeOnScale", 3, scale(gamma=0.5, threshold=0.2))["strength"] == 0


def test_a_map_of_nothing_is_not_drawn(call):
    assert call("placeOnScale", 0, scale(top=0)) == {"colour": 0, "strength": 0}
    assert call("pixelIndex", 0, scale(top=0)) == 0


@pytest.mark.parametrize("name", [*COLOUR_MAPS, DIFFERENCE_MAP])
def test_the_table_holds_the_pixel_of_every_weight(call, name):
    signed = name == DIFFERENCE_MAP
    top = 0.5 if signed else 16
    settings = scale(name, signed=signed, top=top, gamma=0.7, threshold=0.1)
    table = np.array(call("pixelTable", settings), dtype=np.uint32).view(np.uint8).reshape(-1, 4)
    for value in np.linspace(-top if signed else 0, top, 23):
        index = call("pixelIndex", float(value), settings)
        level = index / (len(table) - 1) * (2 if signed else 1) - signed
        assert level * top == pytest.approx(value, abs=top / 1000)
        bent = np.sign(level) * abs(level) ** 0.7
        colour = min(255, int(256 * ((1 + bent) / 2 if signed else bent)))
        strength = abs(level) ** 0.5 if signed else np.log(max(1, level * top)) / np.log(top)
        alpha = 0 if abs(level) < 0.1 else round(255 * 0.8 * strength)
        np.testing.assert_array_equal(table[index], [*LUTS[name][colour], alpha], err_msg=f"{value}")
