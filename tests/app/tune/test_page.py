"""The Tune tab in a real browser: data in, a run watched, stopped, resumed, found again, and its adapter taken away."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, TimeoutError, expect

from a3tune.adapters.origin import write_origin
from a3tune.demo.sample_data import write_sample
from tests.support.held_requests import events_held_back
from tests.support.processes import at_work
from tests.support.studio_server import PATIENCE_MS, ROOT, Server, wide_window

SCREENSHOTS = ROOT / "out" / "screenshots"
SIDE = 200
# The data's own masks are the targets: making weak labels would take longer than the run.
# More steps than are waited for: a run must not end by itself before it is stopped, however slow the browser is.
SETTINGS = "label_segmenter=data\nmax_steps=4000\nevaluate_every=10\nsave_every=5\nbatch_size=2\nkeep=1"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ZIP with a few phantoms, their questions, and masks of where to look."""
    folder = tmp_path_factory.mktemp("sample")
    written = write_sample(folder / "data", 9, questions=4, masks=True)
    with written.truth.open(newline="") as stream:
        masks = {(row["image"], row["question"]): row["mask"] for row in csv.DictReader(stream)}
    with written.table.open(newline="") as stream:
        rows = [{**row, "mask": masks.get((row["image"], row["question"]), "")} for row in csv.DictReader(stream)]
    with written.table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with zipfile.ZipFile(folder / "sample.zip", "w") as archive:
        for path in sorted((folder / "data").rglob("*.[pc][ns][gv]")):
            archive.write(path, path.relative_to(folder / "data"))
    return folder / "sample.zip"


class Tuner:
    """A visitor on the Tune tab."""

    def __init__(self, browser: Browser, server: Server) -> None:
        self.context = wide_window(browser)
        self.complaints: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(server.url)
        self.open()

    def open(self) -> None:
        """Go to the tab; the visitor is known once the list of data sets is there."""
        self.page.get_by_role("tab", name="Tune", exact=True).click()
        self.page.wait_for_selector("#tune-data input")
        self.page.wait_for_function("localStorage.getItem('a3tune-visitor') !== null")

    def tune(self) -> None:
        """Go to the tab from another one."""
        self.page.get_by_role("tab", name="Tune", exact=True).click()

    def inspected(self, *adapters: str) -> None:
        """Wait until Inspect shows a complete answer of these adapters and a map of it."""
        self.page.wait_for_function(
            """adapters => {
                const {result, shown} = document.querySelector(".stage")?.dataset || {};
                const options = document.querySelectorAll("[data-control=sideA] option");
                const names = [...options].map((option) => option.text);
                return result?.endsWith("complete") && shown.endsWith("ready") && names.join() === adapters.join();
            }""",
            arg=list(adapters),
        )

    def view(self, name: str) -> None:
        self.page.locator("#tune-views").get_by_role("tab", name=name, exact=True).click()

    def upload(self, archive: Path) -> None:
        self.page.locator("#tune-add").get_by_role("tab", name="ZIP", exact=True).click()
        self.page.set_input_files("#tune-zip input[type=file]", str(archive))

    def choose(self, dropdown: str, column: str) -> None:
        """Choose from a list by its beginning. Lists that the page opened or closed while it was still filling them are
        closed as a person does it, by a click elsewhere, and this one is opened again."""
        box, begins = self.page.locator(f"{dropdown} input"), re.compile(f"^{column}:")
        option = self.page.locator(dropdown).get_by_role("option", name=begins)
        for _ in range(20):
            try:
                box.click(timeout=10_000)
                option.click(timeout=10_000)
                expect(box).to_have_value(begins, timeout=10_000)
                return
            except (TimeoutError, AssertionError):
                self.page.keyboard.press("Escape")
                self.page.mouse.click(3, 3)
        pytest.fail(f"{column} could not be chosen in {dropdown}")

    def start(self, settings: str) -> None:
        if not self.page.locator("#tune-others textarea").is_visible():
            self.page.locator("#tune-advanced button").first.click()
        self.page.locator("#tune-others textarea").fill(settings)
        self.page.locator("#tune-start").click()

    def reaches(self, status: str) -> None:
        self.page.wait_for_selector(f".run[data-status={status}]")

    def makes_step(self, step: int) -> int:
        """Wait until the run is at this step or beyond, and say where it is."""
        self.page.wait_for_function("step => Number(document.querySelector('.run')?.dataset.step) >= step", arg=step)
        return int(self.page.locator(".run").get_attribute("data-step"))

    def screenshot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


@pytest.fixture
def tuner(browser: Browser, server: Server):
    """() -> a visitor of their own on the Tune tab."""
    visitors: list[Tuner] = []

    def visit() -> Tuner:
        visitors.append(Tuner(browser, server))
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.context.close()


@pytest.fixture(scope="module")
def anybody(browser: Browser, server: Server) -> Iterator[Tuner]:
    """One visitor for all tests that begin by giving data."""
    visitor = Tuner(browser, server)
    yield visitor
    visitor.context.close()


def process_of(run: Path) -> int:
    return json.loads((run / "process.json").read_text())["pid"]


def events_of(job: Path) -> list[dict]:
    return [json.loads(line) for line in (job / "run/events.jsonl").read_text().splitlines()]


def points(page: Page, chart: str) -> int:
    return int(page.locator(f"figure[data-chart={chart}]").get_attribute("data-points"))


def test_from_the_upload_to_the_adapter_over_reloads_stops_kills_and_a_new_server(tuner, server, sample, tmp_path):
    visitor = tuner()
    page = visitor.page
    visitor.upload(sample)
    report = page.locator(".report")
    expect(report).to_contain_text("Ready to train on")
    expect(report).to_contain_text("9 (9 PNG)")
    assert report.locator(".gallery figure").count() == 9
    visitor.screenshot("tune_data")

    visitor.start(SETTINGS)
    visitor.makes_step(3)
    visitor.reaches("training")
    assert points(page, "loss") > 0
    page.wait_for_function("Number(document.querySelector('.watch')?.dataset.snapshots) >= 2")
    page.locator(".run .batch summary").click()
    shown = page.locator(".run .batch figure").first
    expect(shown.locator("mark")).not_to_be_empty()
    assert shown.locator("img").evaluate("image => image.naturalWidth") > 0
    page.locator(".run .batch summary").click()
    (run,) = server.runs()

    # On every tab it stands in the head, which leads to it; and in the address, which finds it again.
    page.get_by_role("tab", name="Inspect", exact=True).click()
    chip = page.locator("#header .run-chip")
    expect(chip).to_contain_text("a3 on sample")
    chip.click()
    expect(page.locator(".run .words")).to_be_visible()
    expect(page).to_have_url(re.compile(f"#tune/{run.name}$"))

    # Server and page go and come while it works on: another server finds it, and it has gone on.
    process = process_of(run)
    server.kill()
    assert psutil.pid_exists(process)
    server.start()
    page.reload()
    expect(page.locator(".run .words")).to_be_visible()
    step = visitor.makes_step(4)
    before = points(page, "loss")
    visitor.makes_step(step + 2)
    assert points(page, "loss") > before
    assert process_of(run) == process

    # Somebody kills the process: the page says so, and how to go on.
    os.kill(process, signal.SIGKILL)
    visitor.reaches("failed")
    expect(page.locator(".run .words")).to_contain_text("ended by the signal SIGKILL")
    killed = visitor.makes_step(step)
    page.locator("#tune-resume").click()
    visitor.reaches("training")
    visitor.makes_step(killed + 1)

    page.locator("#tune-stop").click()
    visitor.reaches("stopped")
    expect(page.locator(".run .words")).to_contain_text("The adapter is ready. Resume goes on at step")
    expect(page.locator("#tune-resume")).to_be_enabled(timeout=PATIENCE_MS)
    expect(page.locator("#tune-stop")).to_be_disabled(timeout=PATIENCE_MS)
    expect(page.locator("#header .run-chip")).to_have_count(0)
    stopped = json.loads((run / "run/run.json").read_text())["step"]
    assert [event["step"] for event in events_of(run) if event["event"] == "step"] == list(range(1, stopped + 1))
    visitor.screenshot("tune_run")

    # Before and after, on a question that the run was not trained on.
    name = "a3 on sample"
    # What is written there and was not asked stays.
    field = page.locator("#question textarea, #question input").first
    page.get_by_role("tab", name="Inspect", exact=True).click()
    field.fill("Is there a fracture?")
    visitor.tune()
    page.locator("#tune-run-inspect").click()
    visitor.inspected("base", name)
    expect(field).to_have_value("Is there a fracture?")
    expect(page.locator(".answer-of .verdict")).to_have_count(2)
    expect(page.locator("#adapters input:checked")).to_have_count(2)
    visitor.screenshot("tune_before_after")

    visitor.tune()
    visitor.view("Use")
    expect(page.locator("#tune-own input")).to_have_value(name)
    # Handed over to the other tab, with what the run held out.
    page.locator("#tune-evaluate").click()
    expect(page.locator("#evaluate-data input")).to_have_value(f"sample, as “{name}” held it out")
    expect(page.locator("#evaluate-adapters input:checked")).to_have_count(2)
    visitor.tune()

    with page.expect_download() as caught:
        page.locator("#tune-download button").click()
    caught.value.save_as(tmp_path / "mine.zip")
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        assert sorted(archive.namelist()) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
        assert "not a medical device" in archive.read("README.md").decode().lower()
    page.locator("#tune-load button").first.click()
    page.set_input_files("#tune-adapter input[type=file]", str(tmp_path / "mine.zip"))
    expect(page.locator("#tune-load-status")).to_contain_text("it fits the base model")
    expect(page.locator("#tune-own input")).to_have_value("mine")
    visitor.screenshot("tune_use")

    # Made for other weights of the same shapes: refused, and with the visitor's word taken with a warning.
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        archive.extractall(tmp_path / "foreign")
    write_origin(tmp_path / "foreign", "house/other", "f" * 64)
    with zipfile.ZipFile(tmp_path / "foreign.zip", "w") as archive:
        for path in (tmp_path / "foreign").iterdir():
            archive.write(path, path.name)
    loaded = page.locator("#tune-load-status [role=alert]")
    page.set_input_files("#tune-adapter input[type=file]", str(tmp_path / "foreign.zip"))
    expect(loaded).to_contain_text("made for other weights (house/other)")
    page.locator("#tune-other-base input").check()
    page.set_input_files("#tune-adapter input[type=file]", str(tmp_path / "foreign.zip"))
    expect(loaded).to_contain_text("Loaded as “foreign”. WARNING: the adapter was made for other weights")

    # The token goes with the press and is nowhere afterwards, in the page or on the disk.
    page.locator("#tune-hub-push button").first.click()
    page.locator("#tune-repo input, #tune-repo textarea").fill("house/adapter")
    page.locator("#tune-token input").fill("hf_neverkept")
    page.locator("#tune-push-strength input[type=number]").fill("0.5")
    page.locator("#tune-push").click()
    expect(page.locator("#tune-push-status [role=alert]")).to_be_visible()
    expect(page.locator("#tune-token input")).to_have_value("")
    kept = [path for path in server.studio.parent.rglob("*") if path.is_file()]
    assert not any(b"hf_neverkept" in path.read_bytes() for path in kept)

    # Both are in Inspect, and answer there; of another visitor's choice they are no part.
    page.get_by_role("tab", name="Inspect", exact=True).click()
    page.locator("#adapters label", has_text="mine").locator("input").check()
    page.locator("#ask").click()
    visitor.inspected("base", name, "mine")
    page.locator("#adapters label", has_text="mine").locator("input").uncheck()
    page.locator("#adapters label", has_text="foreign").locator("input").check()
    page.locator("#ask").click()
    visitor.inspected("base", name, "foreign")
    page.locator("[data-control=sideB]").select_option(label="foreign")
    expect(page.locator(".answer-of .warning")).to_contain_text("foreign: WARNING: the adapter was made for other")
    visitor.screenshot("other_base")
    other = tuner()
    other.page.get_by_role("tab", name="Inspect", exact=True).click()
    expect(other.page.locator("#adapters")).to_contain_text("base")
    expect(other.page.locator("#adapters")).not_to_contain_text("mine")
    expect(other.page.locator("#adapters")).not_to_contain_text(name)
    assert not visitor.complaints


def test_a_run_made_elsewhere_is_opened_and_shown(tuner, server, tmp_path):
    run = server.runs()[0] / "run"
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as archive:
        for name in ("run.json", "events.jsonl", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"):
            archive.write(run / name, f"my run/{name}")
        for picture in (run / "watch").iterdir():
            archive.write(picture, f"my run/watch/{picture.name}")
    visitor = tuner()
    visitor.view("Scale")
    visitor.page.locator("#tune-scale").click()
    expect(visitor.page.locator("#tune-command")).to_contain_text("--num_machines 2 --num_processes 16")
    expect(visitor.page.locator("#tune-config")).to_contain_text("method: a3")
    visitor.page.set_input_files("#tune-folder input[type=file]", str(tmp_path / "run.zip"))
    visitor.reaches("elsewhere")
    assert points(visitor.page, "loss") >= len(
        [event for event in events_of(server.runs()[0]) if event["event"] == "step"]
    )
    visitor.page.wait_for_selector(".watch:not([hidden])")

    # The same again with another setting: laid over this one, that setting alone differs.
    with zipfile.ZipFile(tmp_path / "run.zip") as archive, zipfile.ZipFile(tmp_path / "other.zip", "w") as changed:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith("run.json"):
                record = json.loads(content)
                record["config"]["ratio"] = 0.77
                content = json.dumps(record).encode()
            changed.writestr(name, content)
    before = visitor.page.locator(".run").get_attribute("data-name")
    visitor.view("Scale")
    visitor.page.set_input_files("#tune-folder input[type=file]", str(tmp_path / "other.zip"))
    visitor.page.wait_for_function("name => document.querySelector('.run').dataset.name !== name", arg=before)
    comparison = visitor.page.locator(".run .comparison")
    comparison.locator("summary").click()
    comparison.locator("input").check()
    expect(comparison.locator(".settings tbody tr")).to_have_count(1)
    expect(comparison.locator(".settings tbody tr")).to_contain_text("ratio0.77")
    expect(comparison.locator("figure").first.locator("path.curve")).to_have_count(2)
    visitor.screenshot("tune_comparison")


def test_faults_are_told_with_their_place_and_repaired_on_a_click(anybody, sample, tmp_path):
    with zipfile.ZipFile(sample) as good, zipfile.ZipFile(tmp_path / "messy.zip", "w") as archive:
        for name in good.namelist():
            content = good.read(name)
            if name == "data.csv":
                lines = content.decode().splitlines()
                rows = [lines[0] + ",mood", *(f"{line},fine" for line in lines[1:])]
                rows.insert(3, "images/none.png,Is there a mass?,no,closed,train,,fine")
                content = "\n".join(rows).encode()
            archive.writestr(name, content)
    visitor = anybody
    visitor.upload(tmp_path / "messy.zip")
    report = visitor.page.locator(".report")
    expect(report).to_contain_text("1 fault keeps it from being trained on")
    expect(report.locator("li.error code")).to_have_text("data.csv:4 image")
    expect(report).to_contain_text("'images/none.png' does not exist")
    expect(visitor.page.locator("#tune-start-reason")).to_contain_text("1 fault")
    expect(visitor.page.locator("#tune-start")).to_have_class(re.compile(r"\bsecondary\b"))
    visitor.page.locator("#tune-start").click()
    expect(visitor.page.locator("#tune-start-reason [role=alert]")).to_contain_text("1 fault")
    visitor.page.locator("#tune-repair").click()
    expect(report).to_contain_text("Ready to train on")
    expect(report.locator("li.error")).to_have_count(0)
    expect(visitor.page.locator("#tune-start")).to_have_class(re.compile(r"\bprimary\b"))
    expect(visitor.page.locator("#tune-start-reason")).to_have_text("")
    delete = visitor.page.locator("#tune-delete-data")
    delete.click()
    visitor.page.locator("#tune-delete-data-yes").click()
    expect(delete).to_be_hidden()
    expect(visitor.page.locator("#tune-start-reason")).to_contain_text("No data set is chosen")
    # Also after a reload it can be taken back.
    visitor.page.reload()
    visitor.open()
    visitor.page.locator("#tune-delete-data-undo").click()
    expect(report).to_contain_text("Ready to train on")
    expect(delete).to_be_visible()
    assert not visitor.complaints


def test_columns_with_other_names_are_named_on_a_click(anybody, sample, tmp_path):
    with zipfile.ZipFile(sample) as good, zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for name in good.namelist():
            content = good.read(name)
            if name == "data.csv":
                header, _, rows = content.decode().partition("\n")
                names = {"image": "scan", "question": "asked", "answer": "told"}
                content = "\n".join([",".join(names.get(cell, cell) for cell in header.split(",")), rows]).encode()
            archive.writestr(name, content)
    visitor = anybody
    page = visitor.page
    visitor.upload(tmp_path / "study.zip")
    expect(page.locator(".report")).to_contain_text("the columns image, question, answer are missing")
    expect(page.locator("#tune-name-image input")).to_have_value(re.compile("scan"))
    for wanted, column in (("question", "asked"), ("answer", "told")):
        visitor.choose(f"#tune-name-{wanted}", column)
    visitor.screenshot("tune_columns")
    page.locator("#tune-rename").click()
    expect(page.locator(".report")).to_contain_text("Ready to train on")
    expect(page.locator(".report")).to_contain_text("36 of 36 rows")
    expect(page.locator("#tune-naming")).to_be_hidden()
    assert not visitor.complaints


def test_images_and_a_table_typed_in_the_page_become_a_data_set(anybody, tmp_path):
    for number in range(2):
        Image.new("RGB", (64, 64), (80 * number, 10, 10)).save(tmp_path / f"scan{number}.png")
    visitor = anybody
    page = visitor.page
    page.locator("#tune-add").get_by_role("tab", name="Files", exact=True).click()
    page.set_input_files("#tune-files input[type=file]", [str(tmp_path / f"scan{number}.png") for number in range(2)])
    expect(page.locator("#tune-table")).to_contain_text("scan1.png")
    for row in range(2):
        for column, text in ((1, "Is it red?"), (2, "no"), (3, "train" if row else "validation")):
            page.locator(f"#tune-table [data-row='{row}'][data-col='{column}']").first.dblclick()
            # Letters typed before the cell's editor has the focus would be lost.
            page.wait_for_function(
                "['TEXTAREA', 'INPUT'].includes(document.activeElement.tagName)"
                " && document.activeElement.closest('#tune-table') !== null"
            )
            page.keyboard.type(text)
            page.keyboard.press("Enter")
    page.locator("#tune-take").click()
    expect(page.locator(".report")).to_contain_text("Ready to train on")
    expect(page.locator(".report")).to_contain_text("1 validation, 1 train")
    expect(page.locator(".report .gallery figcaption b").first).to_have_text("Is it red?")
    expect(page.locator("#tune-files .file-preview tr")).to_have_count(0)

    # Another archive may be chosen before the server has answered about the first.
    with events_held_back(page):
        for name in ("first", "second"):
            with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
                archive.writestr("data.csv", f"image,question,answer\n{name}.png,Is it red?,no\n")
                archive.write(tmp_path / "scan0.png", f"{name}.png")
            with page.expect_request(re.compile("/queue/join")):
                visitor.upload(tmp_path / f"{name}.zip")
    expect(page.locator("#tune-data input")).to_have_value(re.compile("first|second"))
    page.locator("#tune-data input").click()
    for name in ("first", "second"):
        expect(page.locator("#tune-data").get_by_role("option", name=re.compile(f"^{name}"))).to_be_visible()
    page.keyboard.press("Escape")
    assert not visitor.complaints


def test_nobody_sees_the_data_or_runs_of_others_and_an_archive_that_climbs_out_is_refused(tuner, server, tmp_path):
    assert server.runs()
    visitor = tuner()
    page = visitor.page
    visitor.view("Runs")
    expect(page.locator(".run .empty")).to_be_visible()
    assert page.locator("#tune-run input").input_value() == ""
    assert page.locator("#tune-data input").input_value() == ""
    # Nor by a link to one.
    expect(page.locator("#header .run-chip")).to_have_count(0)
    page.goto(f"{server.url}/#tune/{server.runs()[0].name}")
    page.reload()
    expect(page.locator("#tune-run-status [role=alert]")).to_contain_text("is another visitor's")
    expect(page.locator(".run .empty")).to_be_visible()
    secret = page.evaluate("localStorage.getItem('a3tune-visitor')")
    assert secret
    assert not any(secret.encode() in path.read_bytes() for path in server.studio.rglob("*.json"))

    # Whoever has nothing gives an archive that cannot be taken: they have nothing to start with afterwards.
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../evil.csv", "image,question,answer\n")
    visitor.view("Data")
    # One line says that nothing can start, and nothing is offered to be deleted.
    expect(page.locator("#tune-start-reason")).to_contain_text("No data set is chosen")
    expect(page.locator("#tune-plan-status")).to_have_text("")
    expect(page.locator("#tune-delete-data")).to_be_hidden()
    visitor.upload(tmp_path / "evil.zip")
    expect(page.locator("#tune-data-status [role=alert]")).to_contain_text("leads out of the data folder")
    page.locator("#tune-start").click()
    expect(page.locator("#tune-start-reason [role=alert]")).to_contain_text("No data set is chosen")
    assert not list(server.studio.parent.rglob("evil.csv"))


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ZIP with four pictures of two bright discs, of the same size, and a question about each; no masks."""
    folder = tmp_path_factory.mktemp("discs")
    rows, columns = np.mgrid[:SIDE, :SIDE]
    with zipfile.ZipFile(folder / "discs.zip", "w") as archive:
        lines = ["image,question,answer,split"]
        for number in range(4):
            pixels = np.random.default_rng(number).normal(60, 3, (SIDE, SIDE))
            pixels[(rows - 60) ** 2 + (columns - 60 - 2 * number) ** 2 < 22**2] = 200
            pixels[(rows - 140) ** 2 + (columns - 140) ** 2 < 26**2] = 160
            stream = io.BytesIO()
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "PNG")
            archive.writestr(f"{number}.png", stream.getvalue())
            lines.append(f"{number}.png,Where is the mass?,left lung,{'train' if number < 3 else 'validation'}")
        archive.writestr("data.csv", "\n".join(lines))
    return folder / "discs.zip"


def test_regions_are_dropped_and_drawn_and_the_run_looks_where_it_was_told(tuner, server, discs):
    known = server.runs()
    visitor = tuner()
    page = visitor.page
    visitor.upload(discs)
    expect(page.locator(".report")).to_contain_text("Ready to train on")
    visitor.view("Regions")
    page.locator("#tune-show-labels").click()
    cards = page.locator("#tune-labels .card")
    expect(cards).to_have_count(3)
    for card in (cards.nth(0), cards.nth(1)):
        for left in range(int(card.get_attribute("data-chosen")), 0, -1):
            # By the keyboard: one region may lie over another.
            card.locator("path[aria-pressed=true]").first.press("Enter")
            expect(card).to_have_attribute("data-chosen", str(left - 1))
    # Around the lower disc of the second picture.
    picture = cards.nth(1).locator("svg")
    picture.scroll_into_view_if_needed()
    frame = picture.bounding_box()
    scale = frame["width"] / SIDE
    page.mouse.move(frame["x"] + 110 * scale, frame["y"] + 110 * scale)
    page.mouse.down()
    page.mouse.move(frame["x"] + 150 * scale, frame["y"] + 150 * scale)
    page.mouse.move(frame["x"] + 170 * scale, frame["y"] + 170 * scale)
    page.mouse.up()
    expect(cards.nth(1)).to_have_attribute("data-chosen", "1")
    expect(cards.nth(1).locator(".trouble")).to_have_text("")
    visitor.screenshot("tune_regions")

    visitor.start("max_steps=2\nevaluate_every=2\nsave_every=2\nbatch_size=2")
    visitor.reaches("finished")
    page.locator(".run .examples summary").click()
    answered = page.locator(".run .examples figure")
    expect(answered).to_have_count(1)
    expect(answered).to_contain_text("Where is the mass?")
    assert answered.locator("img").evaluate("image => image.naturalWidth") == SIDE
    # The scorer is not sure of the third, which nobody looked at; what was drawn counts without being asked.
    expect(page.locator(".run .notes")).to_contain_text("2 of 3 training questions have no region to look at")
    expect(page.locator(".run .notes")).to_contain_text("below label_min_score (45)")
    (job,) = set(server.runs()) - set(known)
    with np.load(job / "run" / "targets.npz") as packed:
        targets = dict(packed)
    watched = next(event for event in events_of(job) if event["event"] == "watched")["questions"][0]
    (tile,) = watched["tiles"]
    ends = np.cumsum(targets["shapes"].prod(axis=1))
    dropped, drawn = targets["shapes"][0], targets["values"][ends[0] : ends[1]].astype(float)
    assert dropped.tolist() == [0, 0]
    shares = drawn.reshape(tile["rows"], tile["columns"])
    x0, y0, x1, y1 = tile["box"]
    centre_y = y0 + (y1 - y0) * ((np.arange(tile["rows"]) + 0.5) @ shares.sum(axis=1)) / shares.sum() / tile["rows"]
    centre_x = (
        x0 + (x1 - x0) * ((np.arange(tile["columns"]) + 0.5) @ shares.sum(axis=0)) / shares.sum() / tile["columns"]
    )
    assert (centre_x, centre_y) == pytest.approx((140, 140), abs=12)
    assert not visitor.complaints


def test_two_people_wait_in_one_queue_and_end_what_is_theirs(tuner, server, sample):
    known = server.runs()
    first, second = tuner(), tuner()
    for visitor in (first, second):
        visitor.upload(sample)
        expect(visitor.page.locator(".report")).to_contain_text("Ready to train on")
    first.start(SETTINGS)
    first.makes_step(1)
    (running,) = set(server.runs()) - set(known)
    second.start(SETTINGS)
    second.reaches("queued")
    expect(second.page.locator(".run .words")).to_contain_text("Place 1 in the queue")
    first.page.locator("#tune-cancel").click()
    first.reaches("cancelled")
    assert not at_work(process_of(running))
    expect(first.page.locator("#tune-resume")).to_be_enabled()

    # The next one's turn has come. At work it cannot be deleted; then it can, and comes back for a minute.
    second.makes_step(1)
    (waiting,) = set(server.runs()) - {*known, running}
    process = process_of(waiting)
    delete = second.page.locator("#tune-delete")
    expect(delete).to_be_disabled()
    second.page.locator("#tune-cancel").click()
    second.reaches("cancelled")
    assert not at_work(process)
    expect(delete).to_be_enabled()
    delete.click()
    expect(second.page.locator("#tune-delete-question")).to_contain_text("Its adapter, checkpoints, curves, log")
    second.screenshot("tune_delete")
    second.page.locator("#tune-delete-yes").click()
    expect(second.page.locator(".run .empty")).to_be_visible()
    assert not waiting.exists()
    second.page.locator("#tune-delete-undo").click()
    second.reaches("cancelled")
    assert waiting.exists()
    assert running.exists()
    assert not [*first.complaints, *second.complaints]
