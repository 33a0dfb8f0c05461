"""The page as on a reading station: slices by wheel and keys, zoom, a bar in millimetres, theme, address."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from pydicom import dcmread
from pydicom.data import get_testdata_file

from a3tune.bundle import EXAMPLES
from a3tune.images import load_image
from a3tune.images.values import read_values
from tests.support.accessibility import violations, walk_by_keyboard

# Pixels around a picture whose sides are marked.
ROOM = 17
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("millimetres", "most", "length"), [(0.5, 140, 50), (0.7, 140, 50), (1, 140, 100), (0.01, 140, 1), (0, 140, 0)]
)
def test_a_bar_has_the_longest_round_length_that_fits(call_module, millimetres, most, length):
    assert call_module("inspect/viewer/scale_bar.js", "roundLength", millimetres, most) == pytest.approx(length)


def test_wheel_keys_and_slider_walk_through_slices_and_leave_the_zoom(visit):
    visitor = visit()
    page = visitor.page
    visitor.upload(EXAMPLES / "real_mr.nii.gz")
    label, slider = page.locator("[data-part=imageLabel]"), page.locator("[data-part=slices]")
    first = load_image(EXAMPLES / "real_mr.nii.gz")
    place, count = first.frame + 1, first.frame_count
    expect(label).to_contain_text(f"{place} of {count}")
    stage = page.locator(".stage")
    box = stage.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    zoom = page.locator("[data-part=zoom]")
    expect(zoom).to_contain_text(" %")
    zoomed = zoom.inner_text()
    page.mouse.wheel(0, 100)
    expect(label).to_contain_text(f"{place + 1} of {count}")
    expect(zoom).to_have_text(zoomed)
    stage.focus()
    page.keyboard.press("ArrowUp")
    expect(label).to_contain_text(f"{place} of {count}")
    page.keyboard.press("PageUp")
    expect(label).to_contain_text(f"{max(1, place - 10)} of {count}")
    slider.fill(str(count - 1))
    expect(label).to_contain_text(f"{count} of {count}")
    expect(page.locator("#frame input[type=number]")).to_have_value(str(count))
    page.mouse.dblclick(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(zoom).not_to_contain_text("%")
    # One finger walks as well, where nothing is enlarged; elsewhere it scrolls the page.
    expect(stage).to_have_css("touch-action", "pan-x")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    finger = page.context.new_cdp_session(page)
    for kind, moved in (("touchStart", 0), ("touchMove", -40), ("touchMove", -75), ("touchEnd", None)):
        points = [] if moved is None else [{"x": x, "y": y + moved}]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    expect(label).to_contain_text(f"{count - 5} of {count}")

    # The bar is as long as so many millimetres of the file's own pixels.
    bar = page.locator("[data-part=scaleBar]")
    length = float(bar.inner_text().split()[0])
    drawn = page.evaluate("Number(document.querySelector('.stage .scale-bar').getBoundingClientRect().width)")
    picture = page.locator("canvas.picture").bounding_box()
    fit = min((picture["width"] - 2 * ROOM) / first.width, (picture["height"] - 2 * ROOM) / first.height)
    assert drawn / fit * first.spacing[0] * first.stored_size[0] / first.height == pytest.approx(length, rel=0.02)
    # One picture has no slices, its wheel zooms, and of a PNG nobody knows how large its pixels are.
    visitor.example(1)
    expect(slider).to_be_hidden()
    expect(bar).to_be_hidden()
    expect(stage).to_have_css("touch-action", "pan-y")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -200)
    expect(zoom).to_contain_text(" %")
    assert not visitor.complaints


@pytest.fixture
def film(tmp_path):
    """Six frames of computed tomography, 200 ms each, the later ones brighter."""
    data = dcmread(get_testdata_file("CT_small.dcm"))
    frames = [data.pixel_array + 100 * number for number in range(6)]
    data.NumberOfFrames, data.FrameTime = len(frames), 200
    data.PixelData = np.stack(frames).astype("<i2").tobytes()
    data.save_as(tmp_path / "film.dcm")
    return tmp_path / "film.dcm"


def test_frames_are_marked_read_measured_and_played_in_the_files_own_terms(visit, film):
    visitor = visit()
    page, stage = visitor.page, visitor.page.locator(".stage")
    visitor.upload(film)
    label, readout, zoom = (page.locator(f"[data-part={name}]") for name in ("imageLabel", "readout", "zoom"))
    expect(label).to_contain_text("1 of 6")
    expect(page.locator("#window input")).to_have_value("automatic")
    page.locator("[data-action=more]").click()
    rate = page.locator("[data-control=rate]")
    expect(rate).to_have_value("file")
    expect(rate.locator("option:checked")).to_have_text("as in the file: 5/s")

    box = page.locator("canvas.picture").bounding_box()
    scale = min(box["width"] - 2 * ROOM, box["height"] - 2 * ROOM) / 128
    corner = box["x"] + box["width"] / 2 - 64 * scale, box["y"] + box["height"] / 2 - 64 * scale

    def point(column, row):
        return corner[0] + (column + 0.5) * scale, corner[1] + (row + 0.5) * scale

    hounsfield = [read_values(film, frame=frame).stored - 1024.0 for frame in (0, 1)]
    page.mouse.move(*point(70, 50))
    words = f"{hounsfield[0][50, 70]:.0f} HU".replace("-", "−")
    expect(readout).to_have_text(f"x 70, y 50 · {words}")
    # Letters stand beside the picture on all four sides, and nowhere on it.
    yellow = where_letters_are(visitor)
    left, top = round(corner[0] - box["x"]), round(corner[1] - box["y"])
    right, bottom = round(left + 128 * scale), round(top + 128 * scale)
    assert all(side.any() for side in (yellow[:, :left], yellow[:, right:], yellow[:top], yellow[bottom:]))
    assert not yellow[top:bottom, left:right].any()

    # A number key looks at the file's values through another window, for the eye only; the one that the model reads the
    # picture by is told as that.
    expect(label).to_contain_text(re.compile(r" · C -?[\d.]+ +W "))
    stage.focus()
    page.keyboard.press("1")
    expect(zoom).to_have_text("lung C -600 W 1500")
    expect(label).to_contain_text(re.compile(r" · opened at C -?[\d.]+ +W "))
    x, y = (point(70, 50)[0] - box["x"]) / box["width"], (point(70, 50)[1] - box["y"]) / box["height"]
    around = hounsfield[0][49:52, 69:72]
    lowest, highest = (np.clip((value + 600) / 1500 + 0.5, 0, 1) * 255 for value in (around.min(), around.max()))
    assert lowest - 2 <= visitor.pixel(x, y)[0] <= highest + 2

    # A region by keys alone, and a ruler by the mouse.
    measured = page.locator("[data-part=measured]")
    page.locator("[data-measure=rectangle]").click()
    stage.focus()
    page.keyboard.press("Enter")
    inside = hounsfield[0][48:80, 48:80]
    mean = f"{abs(inside.mean()):.3g}"
    expect(measured).to_contain_text(re.compile(f"Rectangle: mean .?{re.escape(mean)}"))
    expect(measured).to_contain_text(f"max {inside.max():.0f} HU")
    expect(measured).to_contain_text("(1024 pixels)")
    page.locator("[data-measure=ruler]").click()
    page.mouse.move(*point(20, 20))
    page.mouse.down()
    page.mouse.move(*point(60, 50))
    page.mouse.up()
    spacing = load_image(film).spacing[0]
    expect(measured).to_contain_text(f"Ruler: {50 * spacing:.1f} mm (by the file's pixel spacing)")
    visitor.screenshot("measured")

    # What was measured belongs to its frame.
    stage.focus()
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    expect(label).to_contain_text("2 of 6")
    expect(measured).to_have_text("")
    page.mouse.move(*point(70, 50))
    expect(readout).to_contain_text(f"{hounsfield[1][50, 70]:.0f} HU".replace("-", "−"))
    page.keyboard.press("ArrowUp")
    expect(measured).to_contain_text("Ruler")

    # Played round and round; where it stops, the server goes on with that frame.
    page.locator("[data-action=cine]").click()
    for frame in (3, 6, 2):
        expect(label).to_contain_text(f"{frame} of 6")
    expect(stage).to_have_attribute("data-cine", "plays")
    page.locator("#question textarea, #question input").first.click()
    expect(stage).to_have_attribute("data-cine", "")
    stopped = re.search(r"(\d+) of 6", label.inner_text())[1]
    expect(page.locator("#frame input[type=number]")).to_have_value(stopped)
    assert not visitor.complaints


def where_letters_are(visitor):
    """The pixels of the canvas in the letters' colour, bool [height, width]."""
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(visitor.picture().partition(",")[2]))).convert("RGB"))
    return np.abs(pixels.astype(int) - (255, 209, 102)).max(axis=-1) < 12


def test_tab_and_theme_survive_a_reload_and_back_goes_back(visit):
    visitor = visit(color_scheme="light")
    page, body = visitor.page, visitor.page.locator("body")
    page.get_by_role("tab", name="Tune", exact=True).click()
    expect(page).to_have_url(re.compile("#tune$"))
    page.get_by_role("tab", name="Models", exact=True).click()
    expect(page).to_have_url(re.compile("#models$"))
    page.go_back()
    tune = page.get_by_role("tab", name="Tune", exact=True)
    expect(tune).to_have_attribute("aria-selected", "true")
    page.locator("#header .theme").click()
    expect(body).to_have_class(re.compile("dark"))
    page.reload()
    expect(tune).to_have_attribute("aria-selected", "true")
    expect(body).to_have_class(re.compile("dark"))
    page.go_back()
    expect(page.get_by_role("tab", name="Inspect", exact=True)).to_have_attribute("aria-selected", "true")


def test_a_phone_shows_the_answer_first_and_clips_nothing(visit):
    page = visit(viewport={"width": 390, "height": 844}).page
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    tops = [page.locator(name).bounding_box()["y"] for name in ("#ask", ".answer-panel", ".stage", ".words-panel")]
    assert tops == sorted(tops)
    ends = page.locator(".stage-tools > :visible, .legend > :visible").evaluate_all(
        "all => all.map((one) => one.getBoundingClientRect().right)"
    )
    assert max(ends) <= 390
    named = page.locator(".example:visible, .stage .corner:visible, .pane-label:visible")
    cut = "all => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"
    assert named.evaluate_all(cut) == []
    # A tab for which there is no room stands in a menu: its address leads to it all the same.
    expect(page.get_by_role("tab", name="Models", exact=True)).to_have_count(0)
    page.evaluate("location.hash = 'models'")
    expect(page.get_by_role("tab", name="Models", exact=True)).to_have_attribute("aria-selected", "true")


def test_on_a_phone_the_picture_keeps_its_place_when_the_first_answer_comes(visit, tmp_path):
    Image.fromarray(np.random.default_rng(2).integers(0, 255, (90, 120), dtype=np.uint8)).save(tmp_path / "own.png")
    visitor = visit(viewport={"width": 390, "height": 844})
    page = visitor.page
    visitor.upload(tmp_path / "own.png")
    question = "Where " + "is the round thing that lies beside the other one " * 6 + "?"
    page.locator("#question textarea, #question input").first.fill(question)  # its field grows
    where = "document.querySelector('.stage').getBoundingClientRect().top + scrollY"
    before = page.evaluate(where), page.locator(".stage").bounding_box()["height"]
    visitor.ask(question)
    expect(page.locator(".stage")).to_have_attribute("data-stacked", "")
    after = page.evaluate(where), page.locator(".stage").bounding_box()["height"]
    # The answers themselves may take more lines than there was room for.
    answers = page.locator(".answer-panel").bounding_box()["height"]
    assert after == pytest.approx((before[0] + max(0, answers - 190), before[1]), abs=1)

    # A word that lies beyond the edge of what scrolls is told by a shade, until one has come there.
    words = page.locator("[data-part=words]")
    assert words.evaluate("element => element.scrollHeight > element.clientHeight + 20")

    def edge():
        return np.asarray(Image.open(io.BytesIO(words.screenshot())).convert("RGB")).astype(int)[-3, -8]

    shaded = edge()
    words.evaluate("element => element.scrollTo(0, element.scrollHeight)")
    assert np.abs(edge() - shaded).max() > 20

    # A name that is too long for the stage is shown whole by a tap.
    label = page.locator("[data-part=paneA]")
    label.evaluate("element => element.style.maxWidth = '40px'")
    page.locator("[data-compare=wipe]").click()
    page.locator("[data-compare=side]").click()
    expect(label).to_have_attribute("data-cut", "")
    height = label.bounding_box()["height"]
    label.click()
    expect(label).to_have_attribute("data-whole", "")
    assert label.bounding_box()["height"] > height
    assert label.evaluate("element => element.scrollWidth <= element.clientWidth")
    assert not visitor.complaints


def test_everything_can_be_seen_and_used_without_a_mouse(visit):
    visitor = visit()
    page = visitor.page
    for title in ("Inspect", "Tune", "Evaluate", "Models", "Privacy"):
        page.get_by_role("tab", name=title, exact=True).press("Enter")
        expect(page.get_by_role("tab", name=title, exact=True)).to_have_attribute("aria-selected", "true")
        page.wait_for_selector(FILLED[title])
        assert violations(page) == [], title
        walk = walk_by_keyboard(page)
        assert (walk["unseen"], walk["unmarked"], walk["missed"]) == ([], [], []), title
        assert any(f'id="{LAST[title]}"' in html for html in walk["reached"]) if title in LAST else walk["reached"]

    # What asks has the focus, Escape leaves all as it is, and the focus goes back to where it came from.
    page.locator("#forget").press("Enter")
    expect(page.locator("#forget-no")).to_be_focused()
    assert violations(page) == []
    page.locator("#forget-no").press("Escape")
    expect(page.locator("#forget-question")).to_be_hidden()
    expect(page.locator("#forget")).to_be_focused()
    assert not visitor.complaints


def test_a_tour_is_offered_once_and_the_help_explains_every_word_of_the_glossary(visit):
    visitor = visit()
    page = visitor.page
    page.locator("#header .take-tour").press("Enter")
    for words in ("1 of 4", "2 of 4", "3 of 4", "4 of 4"):
        expect(page.locator(".tour .count")).to_have_text(words)
        expect(page.locator(".tour .next")).to_be_focused()
        page.keyboard.press("Enter")
    expect(page.locator(".tour")).to_be_hidden()
    help_button, drawer = page.locator("#header .help"), page.locator(".help-page")
    expect(help_button).to_be_focused()
    page.keyboard.press("Enter")
    for word, sentence in json.loads((ROOT / "app/common/static/glossary.json").read_text()).items():
        expect(drawer.locator("dt", has_text=re.compile(f"^{word}$")).locator("+ dd")).to_have_text(sentence)
    expect(drawer.locator("kbd").first).to_be_visible()
    expect(drawer.locator(".method svg")).to_have_count(5)
    expect(drawer.get_by_role("link", name="the paper (ACL 2025)")).to_be_visible()
    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    expect(help_button).to_be_focused()
    page.locator(".stage").press("?")
    expect(drawer).to_be_visible()
    drawer.locator(".close").click()
    assert not visitor.complaints
    page.reload()
    expect(page.locator("#viewer .stage[data-result$=complete]")).to_be_visible()
    expect(page.locator("#header .tagline")).to_be_visible()
    expect(page.locator("#header .invitation")).to_be_hidden()


# What stands on a tab once it is filled, and something near its end.
FILLED = {
    "Inspect": ".stage[data-regions^=ready]",
    "Tune": "#tune-start-reason p",
    "Evaluate": "#evaluate-adapters label:nth-of-type(3)",
    "Models": ".manager .columns:not([hidden])",
    "Privacy": "#forget",
}
LAST = {"Inspect": "tab-regions", "Tune": "tune-start", "Evaluate": "evaluate-start", "Privacy": "forget"}
