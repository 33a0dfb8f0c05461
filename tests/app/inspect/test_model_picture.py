"""The picture that the model is given, in a real browser: one click away, and only where it is another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from pydicom import dcmread
from pydicom.data import get_testdata_file

from a3tune.images import load_image


@pytest.fixture(scope="module")
def served(serve, tiny_medgemma) -> Iterator[object]:
    with serve("--profile", str(tiny_medgemma)) as server:
        yield server


@pytest.fixture
def scan(tmp_path) -> Path:
    """A slice whose middle is fat, -50 Hounsfield units."""
    data = dcmread(get_testdata_file("CT_small.dcm"))
    stored = data.pixel_array.copy()
    stored[48:80, 48:80] = (-50 - data.RescaleIntercept) / data.RescaleSlope
    data.PixelData = stored.tobytes()
    data.save_as(tmp_path / "scan.dcm")
    return tmp_path / "scan.dcm"


def test_the_models_picture_is_one_click_away(visit, scan, tmp_path):
    image = load_image(scan, convention="medgemma-ct")
    # The middle of the picture is drawn in the middle of the stage.
    eye, model = image.pixels[64, 64].astype(int), image.model_pixels[64, 64].astype(int)
    assert model.tolist() == [121, 62, 0]
    assert np.abs(eye - model).max() > 30
    Image.fromarray(image.pixels).save(tmp_path / "picture.png")
    visitor = visit()
    toggle = visitor.page.locator("[data-action=modelPicture]")
    expect(toggle).to_be_hidden()  # the example has 8 bits

    visitor.page.set_input_files("#upload input[type=file]", str(scan))
    expect(toggle).to_be_visible()
    expect(toggle).to_have_attribute("aria-pressed", "false")
    expect(visitor.page.locator("[data-part=imageLabel]")).to_contain_text("medgemma-ct")
    visitor.shown("image")
    visitor.page.wait_for_selector(".stage[data-picture=eye]")
    visitor.picture()
    np.testing.assert_allclose(visitor.pixel(0.5, 0.5), eye, atol=2)
    toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "true")
    visitor.page.wait_for_selector(".stage[data-picture=model]")
    np.testing.assert_allclose(visitor.pixel(0.5, 0.5), model, atol=2)

    visitor.ask("Is there a mass?")
    expect(toggle).to_have_attribute("aria-pressed", "true")
    visitor.screenshot("model_picture")
    toggle.click()
    visitor.page.wait_for_selector(".stage[data-picture=eye]")

    visitor.upload(tmp_path / "picture.png")
    expect(toggle).to_be_hidden()
    assert visitor.complaints == []
