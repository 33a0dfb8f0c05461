"""The Models tab in a real browser: another model, who is told, what is refused, and the picture that it is given."""

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
    """A page of its own, whose model may be replaced."""
    with serve("--models", f"demo,{tiny_medgemma},medgemma-4b,medsam") as server:
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


def manager(visitor):
    """The tab, opened."""
    visitor.page.get_by_role("tab", name="Models").click()
    visitor.page.wait_for_selector(".manager[data-state=ready]")
    return visitor.page.locator(".manager")


def choose(manager, title: str) -> None:
    manager.locator(".item", has_text=title).click()
    expect(manager.locator(".title")).to_have_text(title)


def looks_at_the_models_picture(visitor, scan: Path, png: Path) -> None:
    """The picture that the model is given is one click away, and only where it is another one."""
    image = load_image(scan, convention="medgemma-ct")
    # The middle of the picture is drawn in the middle of the stage.
    eye, model = image.pixels[64, 64].astype(int), image.model_pixels[64, 64].astype(int)
    assert model.tolist() == [121, 62, 0]
    assert np.abs(eye - model).max() > 30
    Image.fromarray(image.pixels).save(png)
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

    visitor.upload(png)
    expect(toggle).to_be_hidden()


def test_another_model_is_loaded_and_everybody_is_told_and_sees_what_it_is_given(visit, tiny_medgemma, scan, tmp_path):
    folder = tiny_medgemma
    reader = visit(color_scheme="dark")
    # The first visitor after a start, whose answers came one by one, sees the base and the adapter side by side.
    expect(reader.page.locator(".stage")).to_have_attribute("data-compare", "side")
    expect(reader.page.locator("[data-part=paneB]")).to_contain_text("B · a3")
    operator = visit(color_scheme="light")
    first = reader.result
    answer = reader.page.locator("[data-part=answer]").inner_text()

    tab = manager(operator)
    expect(tab.locator(".badge")).to_have_text("in use")
    operator.screenshot("models_light")
    choose(tab, "MedGemma 4B")
    expect(tab.locator(".gate")).to_be_visible()
    expect(tab.locator(".obstacles")).to_contain_text("pip install bitsandbytes")
    tab.locator(".load").click()
    expect(tab.locator(".outcome[role=alert]")).to_contain_text("hub is out of reach")
    expect(tab.locator(".remedy")).to_contain_text("hf download google/medgemma-4b-it")
    tab.locator(".own input").fill("owner/unknown")
    tab.locator(".own button").click()
    expect(tab.locator(".outcome[role=alert]")).to_contain_text("A hub id of your own, 'owner/unknown'")
    expect(tab.locator(".remedy")).to_contain_text("--any-model")
    tab.locator(".own input").fill("medgemma 4b")
    tab.locator(".own button").click()
    expect(tab.locator(".title")).to_have_text("MedGemma 4B")
    tab.locator(".own input").fill("hub:owner/name/vit_b.pth")
    tab.locator(".own button").click()
    expect(tab.locator(".own select")).to_have_value("segmenter")
    expect(tab.locator(".outcome[role=alert]")).to_contain_text("hub:owner/name/vit_b.pth")

    choose(tab, folder.name)
    tab.locator(".load").click()
    expect(tab.locator(".outcome[role=status]")).to_contain_text("answers the questions from now on")
    expect(tab.locator(".badge")).to_have_text("in use")

    page = reader.page
    expect(page.locator(".changed")).to_contain_text(f"{folder.name} answers from now on")
    expect(page.locator(".model .name")).to_have_text(folder.name)
    expect(page.locator(".notice")).not_to_contain_text("phantoms")
    expect(page.locator("#adapters")).to_have_count(0)
    assert (reader.result, page.locator("[data-part=answer]").inner_text()) == (first, answer)
    page.locator(".cell").last.click()
    reader.shown("ready")
    reader.ask("Is there a mass?")
    reader.screenshot("model_replaced_dark")
    page.get_by_role("tab", name="History").click()
    assert page.locator(".history li").count() == 2
    looks_at_the_models_picture(reader, scan, tmp_path / "picture.png")

    choose(tab, "Phantom demo")
    tab.locator(".load").click()
    expect(tab.locator(".outcome[role=status]")).to_contain_text("Phantom demo answers the questions")
    expect(page.locator(".changed")).to_contain_text("Phantom demo")
    expect(page.locator(".notice")).to_contain_text("phantoms")
    expect(page.locator("#adapters input")).not_to_have_count(0)
    assert not operator.complaints
    assert not reader.complaints
