"""The page in a real browser: files in, answer and map out, errors in words, nothing for other hosts."""

from __future__ import annotations

import csv
import io
import re
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
from PIL import Image
from playwright.sync_api import expect
from pydicom import dcmread
from pydicom.data import get_testdata_file

from a3tune.images.decode_limits import DecodeLimits
from tests.app.conftest import Visitor
from tests.support.accessibility import violations
from tests.support.held_requests import events_held_back, sending_held_back
from tests.support.waiting import until


@pytest.fixture
def jpeg(tmp_path):
    """A JPEG, wider than high, with a bright disc."""
    rows, columns = np.mgrid[:180, :260]
    grey = 40 + 160 * (((rows - 90) ** 2 + (columns - 80) ** 2) < 45**2)
    path = tmp_path / "DOE^JOHN.jpg"
    Image.fromarray(grey.astype(np.uint8)).save(path, quality=90)
    return path


@pytest.fixture(scope="module")
def whoever(browser, served):
    visitor = Visitor(browser, served.url, color_scheme="dark")
    visitor.page.locator("[data-compare=a]").click()
    yield visitor
    visitor.context.close()


@pytest.fixture
def anybody(whoever):
    """One visitor for all tests that begin by giving an image or asking a question; they look at side A."""
    whoever.complaints.clear()
    return whoever


@pytest.fixture(scope="module", params=["dark", "light"])
def themed(request, browser, served):
    """A fresh page in each theme."""
    visitor = Visitor(browser, served.url, color_scheme=request.param)
    yield visitor
    visitor.context.close()


def test_a_dicom_is_opened_asked_about_and_its_map_is_drawn(anybody, served):
    visitor = anybody
    visitor.upload(get_testdata_file("CT_small.dcm"))
    expect(visitor.page.locator("[data-part=imageLabel]")).to_contain_text("CT · DICOM")
    expect(visitor.page.locator("[data-compare=side]")).to_be_disabled()  # as long as there is nothing to compare
    expect(visitor.page.locator(".compare-tools [aria-pressed=true]")).to_have_count(0)
    expect(visitor.page.locator("[data-part=compareRows] tr")).to_have_count(0)
    plain = visitor.picture()
    # Nobody asked the example's question about this image.
    question = visitor.page.locator("#question textarea, #question input").first
    expect(question).to_have_value("")

    visitor.ask("Where is the liver?")
    expect(visitor.page.locator("[data-part=caption]")).to_contain_text("adapter: base")
    expect(visitor.page.locator("[data-part=caption]")).to_contain_text("critical heads")
    assert visitor.picture() != plain
    visitor.screenshot("dicom_dark")
    # The upload was read into memory and is gone from the disk.
    assert not [path for path in served.uploads.rglob("*") if path.is_file() and path.stat().st_size]


def test_another_window_shows_another_picture(anybody):
    visitor = anybody
    visitor.upload(get_testdata_file("CT_small.dcm"))
    as_in_the_file = visitor.picture()
    window = visitor.page.locator("#window input")
    # The file has no window.
    expect(window).to_have_value("automatic")
    window.click()
    visitor.page.get_by_role("option", name="bone", exact=True).click()
    expect(visitor.page.locator("[data-part=imageLabel]")).to_contain_text("C 400  W 1800")
    visitor.page.wait_for_function(
        "before => document.querySelector('canvas.picture').toDataURL() !== before", arg=as_in_the_file
    )


def test_a_jpeg_is_asked_about_and_every_choice_changes_the_map(anybody, jpeg):
    visitor = anybody
    page = visitor.page
    visitor.upload(jpeg)
    expect(page.locator("[data-part=imageLabel]")).to_contain_text("260 × 180 px")
    assert page.content().count("DOE^JOHN") == 1, "the name of its file stands below the examples, and nowhere else"

    visitor.ask("Is there a mass?")
    assert page.locator("[data-part=answer]").inner_text().strip()
    answer = visitor.picture()
    visitor.screenshot("jpeg_dark")

    # The pixels' values are asked for once, when a pointer first rests on the picture.
    page.locator("canvas.picture").hover()
    expect(page.locator("[data-part=readout]")).to_contain_text("value")
    sent = len(visitor.requests)
    words = page.locator(".word[data-role=question][data-row]:visible")
    words.first.click()
    visitor.shown(f"{words.first.get_attribute('data-row')} ready")
    word = visitor.picture()
    page.locator("[data-heads=mean]").click()
    page.wait_for_selector(".stage[data-shown^='mean '][data-shown$=ready]")
    mean = visitor.picture()
    page.locator("[data-action=more]").click()
    page.locator("[data-control=smooth]").uncheck()
    page.wait_for_function("before => document.querySelector('canvas.picture').toDataURL() !== before", arg=mean)
    assert len({answer, word, mean, visitor.picture()}) == 4
    assert len(visitor.requests) == sent, "maps that are already on the page need no request"

    page.locator(".cell[data-layer='1'][data-head='2']").click()
    page.wait_for_selector(".stage[data-shown^='1.2 '][data-shown$=ready]")
    expect(page.locator("[data-part=caption]")).to_contain_text("layer 1, head 2")
    page.locator(".cell[data-layer='1'][data-head='2']").press("ArrowRight")
    page.wait_for_selector(".stage[data-shown^='1.3 '][data-shown$=ready]")


def test_repeated_words_are_different_tokens(anybody):
    visitor = anybody
    visitor.ask("Is the lung the right lung?")
    words = visitor.page.locator(".word[data-role=question][data-row]:visible")
    texts = words.all_inner_texts()
    rows = [word.get_attribute("data-row") for word in words.all()]
    assert texts.count("the") == 2
    assert len(set(rows)) == len(rows)
    first, second = (row for row, text in zip(rows, texts, strict=True) if text == "the")
    visitor.page.locator(f".word[data-row='{first}']").click()
    visitor.shown(f"{first} ready")
    caption = visitor.picture()
    visitor.page.locator(f".word[data-row='{second}']").click()
    visitor.shown(f"{second} ready")
    assert visitor.picture() != caption


def test_an_example_and_a_suggestion_need_no_typing(visit):
    visitor = visit(color_scheme="dark")
    assert visitor.page.locator("[data-part=answer]").inner_text().strip(), "the first example is there at once"
    visitor.example(2)
    # What it is where its answers were there already, else how long they took.
    expect(visitor.page.locator("#status")).to_contain_text(re.compile("Synthetic brain|3 answers in"))
    before = visitor.result
    visitor.page.locator(".suggestion").nth(1).click()
    visitor.finished(before)
    # A page on which nothing happens asks for no frames.
    visitor.page.wait_for_function("() => framesBefore === (framesBefore = framesAsked)", polling=250)
    visitor.screenshot("example_dark")
    assert not visitor.complaints


# Where the stage and what is around it stood in any frame.
PLACES = """() => {
    window.places = [];
    const parts = [".compare-tools", ".stage", ".under"].map((name) => document.querySelector(name));
    const look = () => {
        const boxes = parts.map((part) => part.getBoundingClientRect());
        const place = String(boxes.flatMap(({ top, height }) => [top + scrollY, height].map(Math.round)));
        if (places.at(-1) !== place) places.push(place);
        requestAnimationFrame(look);
    };
    look();
}"""


def test_an_example_whose_answers_come_one_by_one_opens_side_by_side_until_another_way_is_chosen(visit):
    visitor = visit()
    page, stage = visitor.page, visitor.page.locator(".stage")
    # What is not prepared for all is answered now.
    page.locator("#adapters input").last.uncheck()
    visitor.example(3)
    expect(page.locator("#status")).to_contain_text("2 answers in")
    expect(stage).to_have_attribute("data-compare", "side")
    # Nothing moves when the second answer comes.
    page.evaluate(PLACES)
    visitor.ask("Where is the nodule?")
    assert len(page.evaluate("places.map(String)")) == 1
    page.locator("[data-compare=wipe]").click()
    visitor.ask("Where is the mass?")
    expect(stage).to_have_attribute("data-compare", "wipe")
    page.locator("[data-compare=a]").click()
    visitor.ask("Where is the left lung?")
    expect(stage).to_have_attribute("data-compare", "one")
    visitor.example(2)
    expect(stage).to_have_attribute("data-compare", "side")
    visitor.ask("Where is the left lung?")
    expect(stage).to_have_attribute("data-compare", "one")


def test_several_files_are_the_slices_of_a_series(anybody, tmp_path):
    visitor = anybody
    paths = []
    for place in (5, 10, 0):
        data = dcmread(get_testdata_file("CT_small.dcm"))
        data.ImagePositionPatient = [0, 0, place]
        paths.append(tmp_path / f"{place}.dcm")
        data.save_as(paths[-1])
    visitor.page.set_input_files("#upload input[type=file]", [str(path) for path in paths])
    expect(visitor.page.locator("[data-part=imageLabel]")).to_contain_text("2 of 3")
    assert not visitor.complaints


def test_one_of_several_series_is_chosen_in_a_list(anybody, tmp_path):
    visitor = anybody
    paths = []
    for number, (place, modality) in enumerate([(0, "CT"), (5, "CT"), (10, "CT"), (0, "MR")]):
        data = dcmread(get_testdata_file("CT_small.dcm"))
        data.ImagePositionPatient, data.Modality = [0, 0, place], modality
        data.SeriesInstanceUID = "1.2.3" if modality == "CT" else "1.2.4"
        paths.append(tmp_path / f"{number}.dcm")
        data.save_as(paths[-1])
    chosen, label = visitor.page.locator("#series input"), visitor.page.locator("[data-part=imageLabel]")
    expect(chosen).to_be_hidden()
    visitor.page.set_input_files("#upload input[type=file]", [str(path) for path in paths])
    expect(label).to_contain_text("2 of 3")
    expect(visitor.page.locator("#status")).to_contain_text("The first of 2 series is on show")
    expect(chosen).to_have_value(re.compile("^1 · CT, 3 slices"))
    chosen.click()
    visitor.page.get_by_role("option", name="2 · MR").click()
    expect(label).to_contain_text("MR · DICOM")
    expect(visitor.page.locator("#frame input").first).to_be_hidden()
    chosen.click()
    visitor.page.get_by_role("option", name="1 · CT").click()
    expect(label).to_contain_text("2 of 3")
    visitor.upload(get_testdata_file("CT_small.dcm"))
    expect(chosen).to_be_hidden()
    assert not visitor.complaints


def file_workers(server):
    """The processes of a server that read files from outside."""
    workers = []
    for child in psutil.Process(server.process.pid).children(recursive=True):
        # One that has read its file may just be ending.
        with suppress(psutil.NoSuchProcess):
            if "a3tune.images.worker" in " ".join(child.cmdline()):
                workers.append(child)
    return workers


@contextmanager
def files_held_back(served):
    """No file from outside is read for the length of a ``with`` block: what reads them is stopped."""
    # One that was still to start would read the next file.
    until(lambda: len(file_workers(served)) == DecodeLimits().spare)
    workers = file_workers(served)
    for worker in workers:
        worker.suspend()
    try:
        yield
    finally:
        for worker in workers:
            worker.resume()


def test_a_question_waits_for_the_image_that_comes_and_keeps_its_words(anybody, served, jpeg, tmp_path):
    visitor, page = anybody, anybody.page
    field, told = page.locator("#question textarea, #question input").first, page.locator("#status")
    other, broken = tmp_path / "other.png", tmp_path / "broken.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (48, 64), dtype=np.uint8)).save(other)
    broken.write_bytes(other.read_bytes()[:60])
    label, sending = page.locator("[data-part=imageLabel]"), page.locator("#upload .uploading")
    # What is chosen while another file is being opened is opened next, also where it is still sent when that is there.
    with ExitStack() as held:
        with files_held_back(served):
            page.set_input_files("#upload input[type=file]", str(jpeg))
            expect(told).to_contain_text("Reading the file")
            expect(page.locator("#upload .file-preview tr")).to_have_count(0)
            held.enter_context(sending_held_back(page))
            page.set_input_files("#upload input[type=file]", str(other))
            expect(sending).to_be_visible()
        expect(label).to_contain_text("260 × 180 px")
    expect(label).to_contain_text("64 × 48 px")
    visitor.upload(jpeg)
    for path, ending in ((other, "sent"), (other, "asked"), (broken, "told"), (other, "cancelled"), (other, "lost")):
        before = visitor.result
        on_its_way = ending in ("sent", "lost")
        with sending_held_back(page, arrives=ending == "sent") if on_its_way else files_held_back(served):
            page.set_input_files("#upload input[type=file]", str(path))
            if on_its_way:
                expect(sending).to_be_visible()
            else:
                expect(told).to_contain_text("Reading the file")
            field.fill(f"Is there a mass, {ending}?")
            page.locator("#ask").click()
            expect(told).to_contain_text("waits for the image")
            if ending == "cancelled":
                page.locator("#cancel").click()
                expect(told).to_contain_text("Cancelled")
        if ending in ("sent", "asked"):
            visitor.finished(before)
        elif ending in ("told", "lost"):
            expect(told.locator("[role=alert]")).to_contain_text("was not asked")
            assert visitor.result == before
        else:
            expect(told).to_contain_text("Opened.")
            expect(page.locator(".stage")).to_have_attribute("data-result", "")
        expect(page.locator("#cancel")).to_be_disabled()
        expect(label).to_contain_text("64 × 48 px")
        expect(field).to_have_value(f"Is there a mass, {ending}?")
    # An example that is chosen while a file is being sent stays.
    with sending_held_back(page):
        page.set_input_files("#upload input[type=file]", str(jpeg))
        expect(sending).to_be_visible()
        page.locator(".example").nth(1).click()
        expect(told).to_contain_text("The file that was being sent is not opened")
        # It is told before the picture is drawn.
        expect(label).to_contain_text("256 × 256 px")
        shown = label.inner_text()
    expect(sending).to_have_count(0)
    visitor.ask("Is there a mass, then?")
    expect(label).to_have_text(shown)
    expect(told).not_to_contain_text("is not opened")
    visitor.upload(other)
    field.fill("Is there a mass, lost?")
    visitor.complaints.clear()  # of the file that got lost the browser complains itself
    page.get_by_role("tab", name="History").click()
    asked = page.locator(".history li b").all_inner_texts()
    assert {"Is there a mass, sent?", "Is there a mass, asked?"} <= set(asked)
    assert not {f"Is there a mass, {ending}?" for ending in ("told", "cancelled", "lost")} & set(asked)

    # What was written stays with another example, whose own question is one press away; what was asked is asked again.
    page.locator(".example").nth(3).click()
    expect(told).to_contain_text("Your question stays")
    expect(field).to_have_value("Is there a mass, lost?")
    expect(page.locator(".example").nth(3)).to_have_attribute("aria-pressed", "true")
    assert visitor.result == ""
    own = page.locator(".suggestion").first
    words = own.inner_text()
    own.click()
    visitor.finished("")
    expect(field).to_have_value(words)
    visitor.example(1)
    expect(field).to_have_value("What is the location of the nodule?")
    visitor.ask("Is there a mass, asked?")
    visitor.example(3)
    expect(field).to_have_value("Is there a mass, asked?")
    assert not visitor.complaints


def test_an_own_image_has_its_name_and_examples_do_not_fill_the_history(visit, jpeg):
    visitor = visit()
    page = visitor.page
    own, history = page.locator(".own"), page.locator(".history li")
    visitor.example(1)
    page.get_by_role("tab", name="History").click()
    expect(history).to_have_count(0)
    expect(own).to_be_hidden()
    visitor.upload(jpeg)
    expect(own.locator("b")).to_have_text(jpeg.name)
    expect(own.locator("img")).to_have_attribute("src", re.compile("^data:image/jpeg"))
    expect(page.locator(".example[aria-pressed=true]")).to_have_count(0)
    visitor.ask("Is there a mass?")
    expect(history).to_have_count(1)
    # To compare with another question about the example, which was asked of it as well, its own is there.
    visitor.example(1)
    expect(own).to_be_hidden()
    expect(history).to_have_count(3)
    page.locator(".history [data-past=open]").first.click()
    expect(own.locator("b")).to_have_text(jpeg.name)
    expect(history).to_have_count(2)
    # Before the page is left: what still comes then is broken off, which Gradio writes down as an error.
    assert not visitor.complaints
    page.reload()
    visitor.finished("")
    expect(own.locator("b")).to_have_text(jpeg.name)


@pytest.mark.parametrize(
    ("name", "content", "words", "example"),
    [
        ("empty.png", b"", "empty", 1),
        ("notes.dcm", b"These are words and no picture.\n" * 20, "Expected", 3),
        ("cut.jpg", None, "Expected", 1),
    ],
)
def test_a_bad_file_is_told_in_words_and_the_page_goes_on(anybody, jpeg, tmp_path, name, content, words, example):
    visitor = anybody
    bad = tmp_path / name
    bad.write_bytes(jpeg.read_bytes()[:600] if content is None else content)
    visitor.page.set_input_files("#upload input[type=file]", str(bad))
    alert = visitor.page.locator("#status [role=alert]")
    expect(alert).to_contain_text(words, ignore_case=True)
    assert "Traceback" not in visitor.page.content()
    visitor.example(example)
    expect(alert).to_have_count(0)


def test_a_question_without_words_or_an_adapter_is_told_in_words(anybody):
    visitor = anybody
    visitor.page.locator("#question textarea, #question input").first.fill("   ")
    visitor.page.locator("#ask").click()
    expect(visitor.page.locator("#status [role=alert]")).to_contain_text("question is empty")
    visitor.page.locator("#question textarea, #question input").first.fill("Where is the mass?")
    for box in visitor.page.locator("#adapters input").all():
        box.uncheck()
    visitor.page.locator("#ask").click()
    expect(visitor.page.locator("#status [role=alert]")).to_contain_text("Nothing was chosen to answer")
    # A double press, in a writing that runs from right to left, with marks of its own: answered, and shown as it is.
    for box in visitor.page.locator("#adapters input").all():
        box.check()
    question = "أين الكتلة؟ <b>😀</b>"
    visitor.page.locator("#question textarea, #question input").first.fill(question)
    before = visitor.result
    visitor.page.locator("#ask").dblclick()
    visitor.finished(before)
    expect(visitor.page.locator("#status")).to_contain_text("answers in")
    expect(visitor.page.locator("#cancel")).to_be_disabled()
    expect(visitor.page.locator("#status [role=alert]")).to_have_count(0)
    expect(visitor.page.locator("#status progress")).to_have_count(0)
    visitor.page.get_by_role("tab", name="History").click()
    expect(visitor.page.locator(".history li b").first).to_have_text(question)


def test_the_page_asks_no_other_host(anybody, served):
    visitor = anybody
    visitor.example(7)
    visitor.ask("What kind of image is this?")
    hosts = {urlsplit(url).netloc for url in visitor.requests if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlsplit(served.url).netloc}
    assert not visitor.complaints


def test_two_visitors_never_see_each_other(anybody, visit, jpeg):
    one, other = anybody, visit()
    one.upload(jpeg)
    other.example(1)
    one.ask("Is there a mass?")
    other.ask("Where is the right lung?")
    expect(one.page.locator("[data-part=imageLabel]")).to_contain_text("260 × 180 px")
    expect(other.page.locator("[data-part=imageLabel]")).not_to_contain_text("260 × 180 px")
    assert one.picture() != other.picture()
    one.page.locator(".cell").first.click()
    one.page.wait_for_selector(".stage[data-shown^='0.0 '][data-shown$=ready]")

    third = visit()
    expect(third.page.locator("[data-part=imageLabel]")).to_contain_text("288 × 256 px")
    third.page.get_by_role("tab", name="History").click()
    assert third.page.locator(".history li").count() == 0, "an example that comes with the page fills no history"


# Sends an event as the page does where it believes that a connection for answers still stands.
UNHEARD = """async (page) => {
    const {id} = window.gradio_config.dependencies.find(({targets}) => targets[0]?.[1] === "unheard");
    const body = JSON.stringify({data: [], fn_index: id, session_hash: page, event_data: null, trigger_id: null});
    const headers = {"Content-Type": "application/json"};
    return (await fetch("gradio_api/queue/join", {method: "POST", headers, body})).status;
}"""


def test_an_event_whose_answer_the_page_does_not_listen_for_is_heard_by_itself(anybody):
    page = anybody.page
    name = next(url.rpartition("/")[2] for url in reversed(anybody.requests) if "/heartbeat/" in url)
    with page.expect_request("**/gradio_api/queue/data*"):
        assert page.evaluate(UNHEARD, name) == 200


SERVER_FUNCTIONS = re.compile("/component_server/?$")


def test_several_images_are_asked_one_question_and_a_row_opens_in_the_viewer(anybody, served, jpeg, tmp_path):
    page, table = anybody.page, anybody.page.locator(".batch")
    Image.new("L", (64, 48)).save(tmp_path / "black.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    question = page.locator("#question textarea, #question input").first
    question.fill("Is there a mass?")
    page.locator("#adapters input").last.uncheck()
    page.get_by_role("button", name="Several images, one question").click()
    chosen, sending = page.locator("#batch-files .file-preview tr"), page.locator("#batch-files .uploading")

    def choose(*paths):
        page.set_input_files("#batch-files input[type=file]", [str(path) for path in paths])

    # What is refused stays in its field, and so does what is chosen before the answer has come.
    question.fill("")
    choose(tmp_path / "black.png")
    expect(chosen).to_have_count(1)
    page.locator("#batch-go").click()
    expect(page.locator("#batch-status [role=alert]")).to_contain_text("The question is empty")
    expect(chosen).to_have_count(1)
    question.fill("Is there a mass?")
    with ExitStack() as held:
        with events_held_back(page):
            page.locator("#batch-go").click()
            held.enter_context(sending_held_back(page))
            choose(jpeg)
            expect(sending).to_be_visible()
        page.wait_for_selector(".batch[data-done='1'][data-state=over]")
    # As soon as it has come it stands there alone.
    expect(chosen).to_have_text([re.compile("JOHN")])
    # A press waits for what is still being sent.
    with sending_held_back(page):
        choose(tmp_path / "broken.png", tmp_path / "black.png")
        expect(sending).to_be_visible()
        page.locator("#batch-go").click()
    page.wait_for_selector(".batch[data-done='3'][data-state=over]")
    expect(chosen).to_have_count(0)
    lines = table.locator("tbody tr")
    expect(lines).to_have_count(3)
    expect(lines.nth(1)).to_contain_text("PNG file is cut off")
    expect(lines.nth(2)).to_contain_text("No regions")
    assert not [path for path in served.uploads.rglob("*") if path.is_file() and path.stat().st_size]
    # Highest first, what has none last.
    table.get_by_role("button", name="Attention inside, a3").click()
    expect(table.locator("th[aria-sort=descending]")).to_have_text("Attention inside, a3")
    expect(lines.first).to_contain_text("chance")
    assert violations(page) == []
    answers = lines.first.locator(".answer").all_inner_texts()
    with page.expect_download() as download:
        table.get_by_role("button", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8-sig"))))
    assert [row["answer a3"] for row in rows] == [answers[1], "", lines.nth(2).locator(".answer").last.inner_text()]
    assert f"{100 * float(rows[0]['attention inside a3']):.0f}" in lines.first.locator(".number").last.inner_text()

    # A reload finds it; Enter on a name opens the image with what was asked and answered.
    page.reload()
    page.wait_for_selector(".batch[data-done='3'] tbody tr .open")
    page.locator("#question textarea, #question input").first.fill("Something else?")
    lines.first.locator(".open").press("Enter")
    page.wait_for_selector(".stage[data-result$=complete][data-compare=side]")
    expect(page.locator("#viewer [data-part=imageLabel]")).to_contain_text("260 × 180 px")
    # What is written and was not asked stays.
    expect(question).to_have_value("Something else?")
    expect(page.locator("#status")).to_contain_text("Opened again. Your question stays.")
    told = page.locator("#viewer .answer-panel").inner_text()
    assert all(answer in told for answer in answers)
    expect(table.locator("#batch-rest")).to_be_hidden()
    question.fill("")
    page.locator(".batch .next").click()
    expect(page.locator("#viewer [data-part=imageLabel]")).to_contain_text("64 × 48 px")
    expect(question).to_have_value("Is there a mass?")

    # While it is at work it stands in the head of every tab of every page of the visit, and a press comes to it.
    name = page.evaluate("sessionStorage.getItem('a3tune-batch')")
    chip = {"address": "inspect", "batch": name, "title": "3 images: Is it?", "share": 0.33, "left": "1 of 3"}

    def at_work(route):
        told = route.fetch()
        known = told.json() if "model_status" in (route.request.post_data or "") else None
        route.fulfill(response=told) if known is None else route.fulfill(json={**known, "runs": [chip]})

    second = page.context.new_page()
    for shown in (page, second):
        shown.route(SERVER_FUNCTIONS, at_work)
        shown.goto(served.url + "#tune")
        shown.locator(".run-chip").click()
        expect(shown.locator(".batch .progress-words")).to_contain_text("3 images")
        expect(shown.locator(".batch .fold")).to_be_focused()
        expect(shown.locator(".batch")).to_be_in_viewport()
        shown.unroute_all(behavior="wait")
    second.close()
    assert not anybody.complaints


def test_the_notice_and_the_speaking_model_are_always_there(anybody):
    page = anybody.page
    expect(page.locator(".notice")).to_contain_text("Research use only")
    expect(page.locator(".studio-head")).to_have_attribute("data-state", "ready")
    assert page.locator(".model .name").inner_text().strip()


def test_a_reload_opens_the_same_inspection_which_a_link_shows_to_nobody_else(visit, anybody, jpeg):
    one, stranger = visit(), anybody
    # The page draws itself once before it is there, with a label of its own.
    page, label = one.page, one.page.locator("#viewer [data-part=imageLabel]")
    one.upload(jpeg)
    page.reload()
    expect(label).to_contain_text("260 × 180 px")
    one.ask("Where is the mass?")
    result, address = one.result.split()[0], page.url
    assert address.endswith(f"#inspect/{result}")
    with page.expect_request(lambda request: b"head_map" in (request.post_data_buffer or b"")) as fetched:
        page.locator(".word[data-role=question][data-row]:visible").first.click()
        page.locator(".cell").last.click()
    body = fetched.value.post_data

    # Also from another tab of the page, which the address keeps; and so does one more page of the same browser.
    page.get_by_role("tab", name="Models", exact=True).click()
    page.reload()
    expect(page.locator(".manager .columns")).to_be_visible()
    page.get_by_role("tab", name="Inspect", exact=True).click()
    same = f"#viewer .stage[data-result^='{result} '][data-shown$=ready]"
    page.wait_for_selector(same)
    expect(page.locator("#question textarea, #question input").first).to_have_value("Where is the mass?")
    page.get_by_role("tab", name="History").click()
    expect(page.locator(".history li").first).to_contain_text("Where is the mass?")
    other = one.context.new_page()
    other.goto(address)
    other.wait_for_selector(same)

    # Back goes to the inspection before.
    one.ask("Is there a mass?")
    page.go_back()
    page.wait_for_selector(same)

    # The name of it is of no use to anybody else, in an address or in a request.
    theirs = stranger.page.locator("#viewer [data-part=imageLabel]")
    before, named = stranger.result, theirs.inner_text()
    stranger.page.goto(address)
    expect(stranger.page.locator("#status [role=alert]")).to_contain_text("removed from the server")
    assert stranger.result == before
    stranger.page.reload()
    stranger.page.wait_for_function("(name) => !location.hash.includes(name)", arg=result)
    expect(theirs).to_have_text(named)
    expect(stranger.page.locator("#status")).to_contain_text("is not there, or not yours")
    reply_holds = """async ([body, key]) => {
        const init = {method: "POST", headers: {"Content-Type": "application/json"}, body};
        return key in (await (await fetch("gradio_api/component_server", init)).json());
    }"""
    assert other.evaluate(reply_holds, [body, "map"])
    assert stranger.page.evaluate(reply_holds, [body, "error"])


# Every text that can be read, with its size and its contrast to what lies under it. Text over the picture is left out:
# it has a dark shadow of its own.
CONTRASTS = """() => {
    const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1});
    const sheet = canvas.getContext("2d", {willReadFrequently: true});
    const bytes = (colour) => {
        sheet.clearRect(0, 0, 1, 1);
        sheet.fillStyle = colour;
        sheet.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = sheet.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
    const ground = (node) => {
        const own = bytes(getComputedStyle(node).backgroundColor);
        return own[3] === 1 ? own : over(own, node.parentElement ? ground(node.parentElement) : [255, 255, 255, 1]);
    };
    const light = (colour) => {
        const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        const [r, g, b] = colour.slice(0, 3).map((c) => linear(c / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const opacity = (node) => node ? Number(getComputedStyle(node).opacity) * opacity(node.parentElement) : 1;
    const words = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    const left = ".stage, .example, .unseen, :disabled, [disabled], script, style, option, .heads.sorted";
    return [...document.querySelectorAll("body *")]
        .filter((node) => words(node) && !node.closest(left))
        .filter((node) => node.checkVisibility({visibilityProperty: true}) && node.getClientRects().length)
        .map((node) => {
            const style = getComputedStyle(node);
            const under = ground(node);
            const colour = bytes(style.color);
            const seen = over([...colour.slice(0, 3), colour[3] * opacity(node)], under);
            const [a, b] = [light(seen), light(under)].sort((x, y) => y - x);
            const size = parseFloat(style.fontSize);
            const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
            const [text, place] = [node.textContent.trim().slice(0, 40), node.className || node.tagName];
            return {text, place, ratio: (a + 0.05) / (b + 0.05), least: large ? 3 : 4.5};
        });
}"""


def test_every_word_stands_out_from_its_ground(themed):
    page = themed.page
    page.wait_for_selector(".stage[data-regions^=ready]")
    told = []
    for tab in page.locator(".drawer [data-tab]").all():
        tab.click()
        told += page.evaluate(CONTRASTS)
    assert len(told) > 300
    faint = {(item["place"], item["text"], round(item["ratio"], 2)) for item in told if item["ratio"] < item["least"]}
    assert faint == set()


def test_the_question_shows_that_it_has_the_focus(themed):
    page = themed.page
    field = page.locator("#question textarea, #question input").first
    field.focus()
    ring = field.evaluate(
        "box => ((style) => [style.outlineStyle, style.outlineWidth, style.outlineColor])(getComputedStyle(box))"
    )
    assert ring[:2] == ["solid", "2px"]
    colour, ground = (
        [int(part) for part in re.findall(r"\d+", text)[:3]]
        for text in (ring[2], field.evaluate("box => getComputedStyle(box).backgroundColor"))
    )
    assert contrast(colour, ground) >= 3


def contrast(one, other):
    """Of two colours, by WCAG 2."""

    def light(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, bright = sorted((light(one), light(other)))
    return (bright + 0.05) / (dark + 0.05)
