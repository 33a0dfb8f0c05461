"""The viewer in a real browser: what it draws, before and after, who looks where, keys, checks, files, history."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile

import matplotlib
import numpy as np
import pydicom
import pytest
from PIL import Image
from playwright.sync_api import expect

from a3tune.adapters.switch import AdapterSet
from a3tune.attention.comparison import head_changes
from a3tune.bundle import DEMO_MODEL, EXAMPLES
from a3tune.geometry.patch_grid import to_source
from a3tune.images import load_image
from a3tune.inspection.inspect import inspect_image
from a3tune.models.load import load_model
from tests.app.conftest import Visitor
from tests.support.shared_visit import SharedVisit

QUESTION = "What is the location of the mass?"


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A picture half as wide again as high, grey with a bright disc."""
    rows, columns = np.mgrid[:120, :180]
    grey = 60 + 120 * (((rows - 50) ** 2 + (columns - 120) ** 2) < 30**2)
    path = tmp_path_factory.mktemp("picture") / "wide.png"
    Image.fromarray(grey.astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def expected(picture, random_adapters):
    """The same question asked beside the page."""
    model = load_model(DEMO_MODEL, device="cpu")
    adapters = AdapterSet(model.model, random_adapters)
    return inspect_image(model, load_image(picture), QUESTION, adapters=adapters.names, adapter_set=adapters)


@pytest.fixture(scope="module")
def shared(browser, served, picture):
    """The question asked once about the picture, and its regions found, for all of these tests."""

    def begin():
        visitor = Visitor(browser, served.url, color_scheme="dark", accept_downloads=True)
        visitor.upload(picture)
        visitor.ask(QUESTION)
        expect(visitor.page.locator(".stage")).to_have_attribute("data-compare", "side")
        visitor.page.locator("[data-compare=a]").click()
        visitor.page.locator("[data-action=more]").click()
        visitor.page.wait_for_selector(".stage[data-regions^=ready]")
        return visitor

    visit = SharedVisit(begin)
    yield visit
    visit.end()


@pytest.fixture
def asked(shared):
    return shared.put_back()


def shown(visitor, **wanted):
    """Wait until the stage says so: shown(visitor, compare="side")."""
    rules = "".join(f"[data-{name}='{value}']" for name, value in wanted.items())
    visitor.page.wait_for_selector(f".stage{rules}")


def choose_side(visitor, side, words):
    visitor.page.locator(f"[data-control={side}]").select_option(label=words)


def plain_pixels(visitor):
    """Whole maps, patch by patch, nothing else over the image."""
    page = visitor.page
    page.locator("[data-control=outlines]").evaluate("box => { box.disabled = false; box.checked && box.click(); }")
    page.locator("[data-control=smooth]").uncheck()
    page.locator("[data-control=opacity]").fill("100")
    page.locator("[data-control=dim]").fill("0")


def canvas_pixels(visitor):
    """The canvas as uint8 [height, width, 3]."""
    data = visitor.picture().partition(",")[2]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def blended(grey, values, top, pixel, name="plasma"):
    """What a pixel of the image should look like under multiples of an even map, at full opacity: none below 1."""
    level = min(1.0, max(0.0, values[pixel] / top))
    colour = np.array(matplotlib.colormaps[name](round(255 * level), bytes=True)[:3], dtype=float)
    strength = np.log(min(top, max(1.0, values[pixel]))) / np.log(max(8.0, top))
    return grey[pixel] * (1 - strength) + colour * strength


def check_pixels(drawn, frame, grey, values, top, places):
    """Compare drawn pixels with what the weights say: places in source pixels, a frame (x, width) of the canvas."""
    height = drawn.shape[0]
    left, width = frame
    scale = min(width / grey.shape[1], height / grey.shape[0])
    x0, y0 = left + (width - grey.shape[1] * scale) / 2, (height - grey.shape[0] * scale) / 2
    for row, column in map(tuple, places):
        around = grey[max(0, row - 3) : row + 4, max(0, column - 3) : column + 4]
        if np.ptp(around):  # an edge of the picture, which the browser smooths
            continue
        pixel = drawn[int(y0 + (row + 0.5) * scale), int(x0 + (column + 0.5) * scale)]
        np.testing.assert_allclose(pixel, blended(grey, values, top, (row, column)), atol=6, err_msg=f"{row}, {column}")


def patch_middles(inspection):
    """(patch, row, column) of every patch whose middle lies in the image, row and column in source pixels."""
    x0, y0, x1, y1 = inspection.grid.boxes.T
    places = np.stack([(y0 + y1) / 2, (x0 + x1) / 2], axis=1).astype(int)
    inside = ((places >= 0) & (places < inspection.image.pixels.shape[:2])).all(axis=1)
    return [(int(patch), *map(int, places[patch])) for patch in np.flatnonzero(inside)]


def test_every_patch_is_drawn_where_it_lies_in_the_colour_of_its_weight(asked, expected):
    page = asked.page
    plain_pixels(asked)
    grey = expected.image.pixels.astype(float)
    base, tuned = expected.view("base"), expected.view("a3")
    word = page.locator(".word[data-role=question][data-row]:visible").nth(3)
    row = int(word.get_attribute("data-row"))
    word.click()
    page.locator(".cell[data-layer='2'][data-head='3']").click()
    asked.shown(f"{row} ready")
    page.wait_for_function("document.querySelector('.stage').dataset.shown.startsWith('2.3 ')")
    weights = [view.maps.weights[2, 3, row] for view in (base, tuned)]
    maps = [to_source(values / values.mean(), expected.grid, smooth=False) for values in weights]
    page.locator("[data-compare=a]").click()
    # Both sides' maps come before the scale is final.
    page.wait_for_function("document.querySelector('[data-part=legendUnit]').innerText.includes('one scale')")
    top = max(values.max() for values in maps)
    page.locator("[data-compare=side]").click()
    shown(asked, compare="side")
    page.wait_for_function("document.querySelector('.stage').dataset.shown.endsWith('ready')")
    drawn = canvas_pixels(asked)
    middles = [place for _, *place in patch_middles(expected)]
    assert len(middles) > 100
    half = drawn.shape[1] // 2 - 1
    check_pixels(drawn, (0, half), grey, maps[0], top, middles)
    check_pixels(drawn, (drawn.shape[1] - half, half), grey, maps[1], top, middles)
    expect(page.locator("[data-part=caption]")).to_contain_text("· adapters A: base against B: a3 ·")
    # On a tablet the two pictures stand in no more room than they fill.
    height, width = expected.image.pixels.shape[:2]
    page.set_viewport_size({"width": 820, "height": 1180})
    fits = """tallness => {
        const box = document.querySelector("canvas.picture").getBoundingClientRect();
        return box.height < 1.1 * Math.max(240, (box.width / 2) * tallness);
    }"""
    page.wait_for_function(fits, arg=height / width)
    page.set_viewport_size({"width": 1280, "height": 800})

    page.locator("[data-compare=wipe]").click()
    shown(asked, compare="wipe")
    drawn = canvas_pixels(asked)
    middle = grey.shape[1] / 2
    for values, keep in zip(maps, (lambda x: x < middle - 6, lambda x: x > middle + 6), strict=True):
        check_pixels(drawn, (0, drawn.shape[1]), grey, values, top, [place for place in middles if keep(place[1])])
    assert page.locator("[data-part=caption]").inner_text().count("layer 2, head 3") == 1


def test_before_and_after_flip_and_change_without_a_request(asked):
    page = asked.page
    # The pixels' values are asked for once, when a pointer first rests on the picture.
    page.locator("canvas.picture").hover()
    expect(page.locator("[data-part=readout]")).to_contain_text("value")
    sent = len(asked.requests)
    page.locator(".stage").focus()
    pictures = {"a": asked.picture()}
    page.keyboard.press("Space")
    shown(asked, front="a3")
    pictures["b"] = asked.picture()
    expect(page.locator("[data-part=caption]")).to_contain_text("adapter: a3")
    page.keyboard.press("Space")
    shown(asked, front="base")
    assert asked.picture() == pictures["a"]
    for key, mode in (("s", "side"), ("w", "wipe"), ("d", "difference")):
        page.keyboard.press(key)
        shown(asked, compare=mode)
        pictures[mode] = asked.picture()
    expect(page.locator("[data-part=caption]")).to_contain_text("B: a3 less A: base")
    page.keyboard.press("w")
    for _ in range(4):
        page.keyboard.press("]")
    expect(page.locator(".wipe")).to_have_attribute("aria-valuenow", "70")
    pictures["wiped"] = asked.picture()
    box = asked.box(".wipe")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] - 200, box["y"] + 40, steps=3)
    page.mouse.up()
    pictures["dragged"] = asked.picture()
    assert not [url for url in asked.requests[sent:] if "component_server" in url]
    choose_side(asked, "sideB", "lora")
    pictures["lora"] = asked.picture()
    assert len(set(pictures.values())) == len(pictures)
    # The one message says who is asked first the next time.
    assert len([url for url in asked.requests[sent:] if "component_server" in url]) == 1
    choose_side(asked, "sideB", "nothing")
    shown(asked, compare="one")
    expect(page.locator("[data-compare=side]")).to_be_disabled()


def test_numbers_and_heads_that_moved_are_those_of_the_library(asked, expected):
    page = asked.page
    page.get_by_role("tab", name="Before / after").click()
    base, tuned = expected.view("base"), expected.view("a3")
    lines = {line.get_attribute("data-key"): line for line in page.locator("[data-part=compareRows] tr").all()}
    assert {"attention_mass", "entropy", "image_share"} <= lines.keys()
    cells = lines["image_share"].locator("td").all_inner_texts()
    told = [f"{100 * view.metrics['image_share']:.1f} %" for view in (base, tuned)]
    assert cells[1:3] == told

    question = [token.position for token in base.tokens if token.role == "question"]
    changes = head_changes(base.maps, tuned.maps, question)
    assert base.answer != tuned.answer, "else the words of the answer would be compared"
    moved = page.locator("[data-part=movedRows] tr")
    assert moved.count() == 10
    for change, line in zip(changes, moved.all(), strict=False):
        name, share, *_ = line.locator("td").all_inner_texts()
        assert name == f"Layer {change.head.layer}, head {change.head.head}"
        assert float(share.split()[0]) == pytest.approx(100 * change.moved, abs=0.6)
    moved.first.locator("button").click()
    first = changes[0].head
    page.wait_for_function(f"document.querySelector('.stage').dataset.shown.startsWith('{first.layer}.{first.head} ')")
    # The words that only one of the answers has are marked in it.
    expect(page.locator("[data-part=answer]")).to_contain_text(base.answer)
    assert page.locator(".answers mark").count() >= 1


def test_heads_by_mass_entropy_difference_and_order(asked, expected):
    page = asked.page
    cell = page.locator(".cell[data-layer='0'][data-head='0']")
    titles = {cell.get_attribute("title")}
    for quantity in ("mass", "entropy"):
        page.locator("[data-control=quantity]").select_option(quantity)
        titles.add(cell.get_attribute("title"))
    page.locator("[data-action=headsDifference]").click()
    titles.add(cell.get_attribute("title"))
    assert len(titles) == 4
    page.locator("[data-action=headsDifference]").click()
    page.locator("[data-control=quantity]").select_option("ratio")
    page.locator("[data-control=order]").select_option("high")
    ratio = expected.view("base").visual_ratio
    order = [tuple(int(n) for n in text.split("\n")[0].split(".")) for text in page.locator(".cell").all_inner_texts()]
    values = [ratio[head] for head in order]
    assert values == sorted(values, reverse=True)
    assert sum("critical" in cell.get_attribute("class").split() for cell in page.locator(".cell").all()) == len(
        expected.view("base").critical_heads
    )


def test_a_region_and_a_brush_tell_which_words_and_heads_look_there(asked):
    page = asked.page
    page.locator("[data-action=brush]").click()
    stage = asked.box(".stage")
    page.mouse.move(stage["x"] + 0.55 * stage["width"], stage["y"] + 0.4 * stage["height"])
    page.mouse.down()
    page.mouse.move(stage["x"] + 0.62 * stage["width"], stage["y"] + 0.5 * stage["height"], steps=6)
    page.mouse.up()
    expect(page.locator("[data-part=placeNote]")).to_contain_text("painted patches")
    shares = page.locator("[data-part=placeHeads] tr td:nth-child(2)").all_inner_texts()
    numbers = [float(text.replace("<", "").split()[0]) for text in shares]
    assert numbers == sorted(numbers, reverse=True)
    expect(page.locator("[data-control=quantity]")).to_have_value("place")
    page.locator("[data-part=placeWords] button").first.click()
    expect(page.locator("[data-part=caption]")).to_contain_text("“")
    page.locator("[data-action=clearPlace]").click()
    expect(page.locator("[data-part=placeHint]")).to_be_visible()
    page.locator("[data-action=brush]").click()

    # A click on a region does the same; one of them lies on the disc.
    page.get_by_role("tab", name="Regions").click()
    for box in page.locator(".regions tbody input").all():
        box.check()
    stage = asked.box(".stage")
    for x in np.linspace(0.3, 0.75, 30):
        page.mouse.move(stage["x"] + x * stage["width"], stage["y"] + 0.45 * stage["height"])
        if page.locator(".tip").is_visible():
            page.mouse.down()
            page.mouse.up()
            break
    else:
        pytest.fail("no region lies on that line of the image")
    expect(page.locator("[data-part=placeNote]")).to_contain_text("region ")


def pinch(visitor):
    """Draw two fingers apart on the image, to twice their distance."""
    box = visitor.box(".stage")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = visitor.page.context.new_cdp_session(visitor.page)
    for kind, reach in (("touchStart", 60), ("touchMove", 90), ("touchMove", 120), ("touchEnd", None)):
        points = [] if reach is None else [{"x": x - reach, "y": y, "id": 0}, {"x": x + reach, "y": y, "id": 1}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_keys_alone_reach_heads_regions_zoom_and_the_map(asked):
    page = asked.page
    page.locator(".stage").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("/^\\d+\\.\\d+ /.test(document.querySelector('.stage').dataset.shown)")
    page.keyboard.press("c")
    page.wait_for_function("document.querySelector('.stage').dataset.shown.startsWith('critical ')")
    before = page.locator(".regions tbody input").first.is_checked()
    page.keyboard.press("1")
    assert page.locator(".regions tbody input").first.is_checked() is not before
    whole = asked.picture()
    page.keyboard.press("+")
    expect(page.locator("[data-part=zoom]")).to_have_text("125 %")
    assert asked.picture() != whole
    page.keyboard.press("0")
    expect(page.locator("[data-part=zoom]")).to_have_text("")
    assert asked.picture() == whole
    page.keyboard.press("m")
    assert asked.picture() != whole
    page.keyboard.press("m")
    # Two fingers zoom; one scrolls the page until there is something to pan.
    expect(page.locator(".stage")).to_have_css("touch-action", "pan-y")
    pinch(asked)
    expect(page.locator("[data-part=zoom]")).to_have_text("200 %")
    expect(page.locator(".stage")).to_have_css("touch-action", "none")
    page.keyboard.press("0")
    assert asked.picture() == whole
    tab = page.get_by_role("tab", name="Regions")
    tab.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Before / after")).to_have_attribute("aria-selected", "true")


def test_grey_levels_gamma_and_threshold_change_the_picture_only(asked):
    page = asked.page
    caption = page.locator("[data-part=caption]").inner_text()
    legend = page.locator("[data-part=legendHigh]").inner_text()
    pictures = [asked.picture()]
    page.locator("[data-control=gamma]").fill("40")
    pictures.append(asked.picture())
    page.locator("[data-control=threshold]").fill("10")
    pictures.append(asked.picture())
    page.locator("[data-control=colours]").select_option("viridis")
    pictures.append(asked.picture())
    stage = asked.box(".stage")
    page.mouse.move(stage["x"] + 200, stage["y"] + 200)
    page.mouse.down(button="right")
    page.mouse.move(stage["x"] + 260, stage["y"] + 150, steps=3)
    page.mouse.up(button="right")
    expect(page.locator("[data-part=zoom]")).to_contain_text("display C")
    pictures.append(asked.picture())
    assert len(set(pictures)) == len(pictures)
    assert page.locator("[data-part=caption]").inner_text() == caption
    assert page.locator("[data-part=legendHigh]").inner_text() == legend


def test_experts_are_laid_over_the_patches_that_went_to_them(asked, expected):
    page = asked.page
    page.get_by_role("tab", name="Experts").click()
    expect(page.locator("[data-part=expertNote]")).to_contain_text("4 query experts")
    gates = page.locator(".gate").all_inner_texts()
    chosen = expected.view("a3").experts
    np.testing.assert_allclose([int(text) for text in gates], 100 * chosen.query_gates.ravel(), atol=0.6)
    plain_pixels(asked)
    page.locator("[data-compare=b]").click()
    before = asked.picture()
    page.locator("[data-control=experts]").check()
    page.locator("[data-control=expertLayer]").select_option("2")
    expect(page.locator("[data-part=caption]")).to_contain_text("experts of the key router, layer 2")
    expect(page.locator("[data-part=legendUnit]")).to_contain_text("Colours: key experts of layer 2")
    expect(page.locator(".ramp-box")).to_be_hidden()
    assert asked.picture() != before
    first = chosen.key_choice[2, :, 0]
    told = dict(text.split(": ") for text in page.locator("[data-part=expertLoad] li").all_inner_texts())
    assert told.keys() == {f"expert {expert}" for expert in set(first.tolist())}
    # Patches of one expert have one colour over the even background.
    drawn = canvas_pixels(asked).astype(int)
    scale = min(drawn.shape[1] / 180, drawn.shape[0] / 120)
    corner = np.array([(drawn.shape[0] - 120 * scale) / 2, (drawn.shape[1] - 180 * scale) / 2])
    colours = {}
    for patch, row, column in patch_middles(expected):
        if expected.image.pixels[row, column, 0] == 60:
            y, x = (corner + (np.array([row, column]) + 0.5) * scale).astype(int)
            colours.setdefault(int(first[patch]), []).append(drawn[y, x])
    assert all(np.ptp(found, axis=0).max() <= 3 for found in colours.values())
    assert len({tuple(found[0]) for found in colours.values()}) == len(colours)


def test_experts_are_off_with_the_reason_where_the_side_on_show_has_none(asked):
    page = asked.page
    page.get_by_role("tab", name="Experts").click()
    box, reason = page.locator("[data-control=experts]"), page.locator("[data-part=expertReason]")
    page.locator("[data-compare=a]").click()
    expect(box).to_be_disabled()
    expect(reason).to_contain_text("base has no key experts: show a3")
    page.locator("[data-compare=side]").click()
    expect(box).to_be_enabled()
    expect(reason).to_have_text("")
    box.check()
    # The side without experts has no map at all, and says so; the colours are those of the other.
    expect(page.locator("[data-part=paneA]")).to_contain_text("base · has no experts to show")
    expect(page.locator("[data-part=paneB]")).to_have_text("B · a3")
    page.locator("[data-compare=difference]").click()
    expect(box).to_be_disabled()
    expect(box).not_to_be_checked()
    expect(page.locator("[data-part=legendUnit]")).to_contain_text("B − A")


def test_a_word_of_one_side_is_looked_at_on_that_side_and_the_caption_is_that_of_the_picture(asked, expected):
    page, caption = asked.page, asked.page.locator("[data-part=caption]")
    page.locator("[data-compare=a]").click()
    shown(asked, front="base")
    word = page.locator(".word[data-role=answer][data-side='1'][data-row]:visible").first
    text = word.inner_text()
    row = int(word.get_attribute("data-row"))
    word.click()
    shown(asked, front="a3")
    asked.shown(f"{row} ready")
    expect(caption).to_contain_text(f"adapter: a3 · {len(expected.view('a3').critical_heads)} critical heads")
    expect(caption).to_contain_text(f"“{text}”")
    expect(page.locator("[data-part=paneB]")).to_be_hidden()
    expect(page.locator("[data-part=paneA]")).to_have_text("B · a3")
    # A word that both sides have is looked at where one is.
    page.locator(".word[data-role=question][data-row]:visible").first.click()
    expect(caption).to_contain_text("adapter: a3")
    # Beside the other side, each pane says what it has: the other answer has no such word.
    others = page.locator(".word[data-role=answer][data-side='0'][data-row]:visible").all_inner_texts()
    assert text not in others
    page.locator("[data-compare=side]").click()
    word.click()
    expect(page.locator("[data-part=paneA]")).to_contain_text("A · base · has no such word")
    expect(caption).to_contain_text("A has no such word")
    expect(caption).to_contain_text(f"A: no such word, B: “{text}”")


def test_the_map_is_switched_on_a_visible_switch_and_by_a_key(asked):
    page = asked.page
    box, unit = page.locator("[data-control=map]"), page.locator("[data-part=legendUnit]")
    whole = asked.picture()
    box.uncheck()
    expect(unit).to_contain_text("Map off")
    expect(page.locator("[data-part=caption]")).to_contain_text("map off")
    expect(page.locator(".ramp-box")).to_be_hidden()
    assert asked.picture() != whole
    page.locator(".stage").focus()
    page.keyboard.press("m")
    expect(box).to_be_checked()
    assert asked.picture() == whole


def test_two_sides_have_one_scale_that_is_told_until_each_gets_its_own(asked):
    page = asked.page
    unit, own = page.locator("[data-part=legendUnit]"), page.locator("[data-action=ownScales]")
    page.locator("[data-compare=a]").click()
    expect(own).to_be_hidden()
    page.locator("[data-compare=side]").click()
    expect(unit).to_have_text("times what an even map would give each patch; one scale for A and B")
    one = asked.picture()
    own.click()
    expect(unit).to_have_text(re.compile(r"own scales: A up to [\d.]+ ×, B up to [\d.]+ ×$"))
    expect(page.locator("[data-part=paneA]")).to_have_text("A · base · own scale")
    assert asked.picture() != one
    own.click()
    assert asked.picture() == one


def test_captions_lie_beside_the_picture_and_never_on_it(asked):
    for mode in ("a", "side", "wipe", "difference"):
        asked.page.locator(f"[data-compare={mode}]").click()
        asked.picture()
        lying = asked.page.evaluate(
            """() => {
                const picture = document.querySelector("canvas.picture").getBoundingClientRect();
                const told = [...document.querySelectorAll(".stage .corner, .stage .pane-label")]
                    .filter((node) => node.textContent && node.checkVisibility());
                const over = (one, other) => one.bottom > other.top + 1 && one.top < other.bottom - 1
                    && one.right > other.left + 1 && one.left < other.right - 1;
                const boxes = told.map((node) => node.getBoundingClientRect());
                return {
                    onPicture: boxes.filter((box) => over(box, picture)).length,
                    onOther: boxes.filter((box) => boxes.some((other) => other !== box && over(box, other))).length,
                    cut: told.filter((node) => node.scrollWidth > node.clientWidth).length,
                };
            }"""
        )
        assert lying == {"onPicture": 0, "onOther": 0, "cut": 0}


def test_more_is_remembered_and_eight_controls_at_most_stand_there_at_first(visit):
    visitor = visit()
    page = visitor.page
    bar = page.locator(".stage-tools").locator("button:visible, input:visible")
    assert bar.count() <= 8
    expect(page.locator("[data-control=opacity]")).to_be_hidden()
    page.locator("[data-action=more]").click()
    expect(page.locator("[data-control=opacity]")).to_be_visible()
    # The example has a reference mask: a dashed line, with a switch of its own.
    caption, drawn = page.locator("[data-part=caption]"), visitor.picture()
    expect(caption).to_contain_text("dashed line: reference mask")
    page.locator("[data-control=reference]").uncheck()
    expect(caption).not_to_contain_text("reference mask")
    assert visitor.picture() != drawn
    expect(page.locator("[data-part=compareRows] tr[data-key=reference_mass]")).to_contain_text("36.4 %")
    expect(page.locator(".answer-of").first).to_contain_text("36.4 % of its attention inside the reference mask")
    page.reload()
    visitor.finished("")
    expect(page.locator("#viewer [data-control=opacity]")).to_be_visible()


def test_checks_run_with_progress_and_can_be_stopped(asked):
    page = asked.page
    page.get_by_role("tab", name="Faithfulness").click()
    # The server is asked late: it is stopped before it is known by name, and another one is begun.
    held = []

    def hold(route):
        if not held and b"start_faithfulness" in (route.request.post_data_buffer or b""):
            held.append(route)
        else:
            route.continue_()

    page.route(re.compile("/component_server"), hold)
    page.locator("[data-faithfulness=curves]").click()
    page.locator("[data-action=stopFaithfulness]").click()
    expect(page.locator("[data-part=faithfulnessSaid]")).to_have_text("Stopped.")
    page.locator("[data-faithfulness=curves]").click()
    held[0].continue_()
    page.unroute(re.compile("/component_server"))
    page.wait_for_selector("[data-part=curves] svg")
    expect(page.locator("[data-part=curves]")).to_contain_text("Insertion: area")
    page.locator("[data-faithfulness=control]").click()
    page.wait_for_selector("[data-part=control] svg")
    expect(page.locator("[data-part=control]")).to_contain_text("Spearman")
    # Each says which map it is about, and a correlation below 0 is drawn below 0.
    for check in ("curves", "control"):
        name = page.locator(f"[data-part={check}] b").inner_text()
        assert re.fullmatch(r"A: base · \d+ critical heads · mean of the answer", name)
    end = page.locator("[data-part=control] path").evaluate("line => line.getPointAtLength(line.getTotalLength()).y")
    ticks = page.locator("[data-part=control] svg").evaluate(
        """chart => {
            const words = [...chart.querySelectorAll("text[text-anchor=end]")].map((text) => text.textContent);
            const heights = [...chart.querySelectorAll(".rule")].map((rule) => rule.y1.baseVal.value);
            return Object.fromEntries(words.map((text, place) => [text, heights[place]]));
        }"""
    )
    last = float(re.search(r"; (-?\d\.\d\d) once", page.locator("[data-part=control]").inner_text())[1])
    assert (ticks["0"] - end) / (ticks["0"] - ticks["1.00"]) == pytest.approx(last, abs=0.01)
    assert not asked.complaints


def test_files_hold_figures_numbers_and_the_command_and_name_nobody(asked, expected, tmp_path):
    page = asked.page
    page.locator("[data-compare=wipe]").click()
    page.locator(".stage").press("]")
    page.locator("[data-measure=ellipse]").click()
    page.locator(".stage").press("Enter")
    page.locator(".stage").press("Escape")
    page.get_by_role("tab", name="Export").click()
    with page.expect_download() as download:
        page.locator("[data-export=zip]").click()
    download.value.save_as(tmp_path / "it.zip")
    with zipfile.ZipFile(tmp_path / "it.zip") as archive:
        names = set(archive.namelist())
        assert {"inspect.json", "settings.json", "command.txt", "regions.npz", "attention_base.npz"} <= names
        assert {
            "attention_a3.npz",
            "view/A_base.png",
            "view/B_a3.png",
            "view/difference.png",
            "view/figure.svg",
        } <= names
        assert "attention_lora.npz" not in names
        record = json.loads(archive.read("inspect.json"))
        settings = json.loads(archive.read("settings.json"))
        command = archive.read("command.txt").decode()
        with np.load(io.BytesIO(archive.read("attention_a3.npz"))) as stored:
            np.testing.assert_allclose(stored["maps"], expected.view("a3").maps.weights, atol=1e-5)
        drawn = Image.open(io.BytesIO(archive.read("view/A_base.png")))
    assert [region["rank"] for region in record["labels"]] == settings["regions"] == [1, 2, 3, 4]
    look = settings["look"]
    assert (look["shown"], look["zoom"], look["levelWidth"]) == ("wipe", 1, 255)
    assert 0.5 < look["wipe"] < 1
    assert drawn.size == (6 * 180, 6 * 120)
    assert [side["adapter"] for side in settings["sides"]] == ["base", "a3"]
    assert "attention_mass" in settings["sides"][0]["numbers"]
    assert command.startswith("python -m a3tune inspect --image IMAGE_FILE ")
    assert f"'{QUESTION}'" in command
    (measure,) = record["measures"]
    assert (measure["kind"], measure["unit"], len(measure["values"])) == ("ellipse", "px", 1)
    assert f"--measure ellipse:{','.join(f'{number:g}' for number in measure['from'])}," in command
    with page.expect_download() as download:
        page.locator("[data-export=pdf]").click()
    content = download.value.path().read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", content)) == 1
    # A PNG file is nobody's: there is nobody to put into DICOM files.
    expect(page.locator("[data-control=identity]")).to_be_hidden()
    with page.expect_download() as download:
        page.locator("[data-export=dicom][data-objects=pictures]").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        captures = archive.namelist()
        both = archive.read("view_both.dcm")
    assert captures == [f"view_{name}.dcm" for name in ("image", "A_base", "B_a3", "difference", "both")]
    assert pydicom.dcmread(io.BytesIO(both)).BurnedInAnnotation == "YES"
    page.locator("[data-export=dicom][data-objects=maps]").click()
    expect(page.locator("[data-part=exportSaid]")).to_contain_text("needs that, and this one does not")
    for text in (content, json.dumps([record, settings]).encode(), command.encode(), both):
        assert b"wide" not in text


def halves(visitor):
    """The left and the right half of what is drawn, uint8 [height, width, 3]."""
    content = base64.b64decode(visitor.picture().partition(",")[2])
    return np.split(np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))[:, 2:-2], 2, axis=1)


def test_an_earlier_inspection_comes_back_and_is_compared_with_another_question(asked):
    page = asked.page
    answer = page.locator("[data-part=answer]").inner_text()
    label = page.locator("[data-part=imageLabel]").inner_text()
    asked.ask("Is there a pneumothorax?")
    page.get_by_role("tab", name="History").click()
    assert page.locator(".history li").count() == 2  # and not the example that was on show first
    page.locator(".history [data-past=compare]").click()
    shown(asked, compare="side")
    expect(page.locator("[data-part=paneA]")).to_contain_text(QUESTION)
    expect(page.locator("[data-part=caption]")).to_contain_text("against B: base")
    page.wait_for_selector(".stage[data-regions^=ready]")
    cells = page.locator("[data-part=compareRows] tr[data-key=attention_mass] td")
    expect(cells.nth(1)).to_contain_text("%")
    # Each map is over the words of its own question's answer, and measured inside the regions of that question.
    caption = page.locator("[data-part=caption]")
    expect(caption).to_contain_text(f"A: mean of the answer (to “{QUESTION}”), B: mean of the answer")
    note = page.locator("[data-part=compareNote]")
    expect(note).to_contain_text(
        "inside the regions of ranks 1, 2, 3 and 4 together; A inside the regions of ranks 1 to"
    )
    expect(note).to_contain_text(f"for “{QUESTION}”")
    # So are the numbers of A beside the regions, and those of B's question are drawn over B alone.
    page.get_by_role("tab", name="Regions").click()
    expect(page.locator("[data-part=targetNote]")).to_contain_text(f"for “{QUESTION}”")
    outlined = halves(asked)
    page.locator("[data-control=outlines]").uncheck()
    plain = halves(asked)
    assert [np.array_equal(*pair) for pair in zip(outlined, plain, strict=True)] == [True, False]
    # The map that was switched off comes back with another image.
    page.locator("[data-control=map]").uncheck()
    asked.example(1)
    expect(page.locator("[data-control=map]")).to_be_checked()
    page.get_by_role("tab", name="History").click()
    # What is written and was not asked stays.
    field, before = page.locator("#question textarea, #question input").first, asked.result
    field.fill("Is there a fracture?")
    page.locator(".history li", has_text="Is there a pneumothorax?").locator("[data-past=open]").first.click()
    asked.finished(before)
    expect(page.locator("#status")).to_contain_text("Opened again. Your question stays.")
    expect(field).to_have_value("Is there a fracture?")
    field.fill("")
    page.get_by_role("tab", name="History").click()
    before = asked.result
    page.locator(".history li", has_text=QUESTION).locator("[data-past=open]").first.click()
    asked.finished(before)
    expect(page.locator("[data-part=imageLabel]")).to_have_text(label)
    assert page.locator("[data-part=answer]").inner_text() == answer
    expect(field).to_have_value(QUESTION)
    assert not asked.complaints


def test_whose_image_it_is_goes_into_dicom_files_where_that_is_ticked_for_it(asked):
    page, source = asked.page, pydicom.dcmread(EXAMPLES / "real_ct.dcm")
    asked.example(6)
    page.get_by_role("tab", name="Export").click()
    tick = page.locator("[data-control=identity]")
    for named in (False, True):
        tick.set_checked(named)
        with page.expect_download() as download:
            page.locator("[data-export=dicom][data-objects=regions]").click()
        made = pydicom.dcmread(download.value.path())
        assert (made.PatientID == source.PatientID) == ("SourceImageSequence" in made) == named
    # Another image is another person's.
    asked.example(0)
    expect(tick).to_be_hidden()
    expect(tick).not_to_be_checked()
    assert not asked.complaints
