"""A served page and a browser to look at it with."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import pytest
import torch
from peft import LoraConfig, get_peft_model
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from a3tune.adapters.a3moe import A3MoeConfig, register
from a3tune.bundle import DEMO_MODEL
from a3tune.demo.scorer.training import build_tokenizer, model_config, save_scorer
from a3tune.models.load import load_model
from app.engine.model_slot import ModelSlot
from tests.support.studio_server import PATIENCE_MS, ROOT, Server

SCREENSHOTS = ROOT / "out" / "screenshots"

# A browser that speaks to nobody but the page: without these Chromium looks for updates by itself.
_QUIET_CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="module")
def slot(tiny_checkpoint):
    """The model slot with a tiny model in it, ready."""
    slot = ModelSlot(str(tiny_checkpoint("llava")), device="cpu")
    slot.start()
    slot.wait(None)
    return slot


@pytest.fixture(scope="session")
def small_scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scorer of the demo scorer's form and random weights."""
    folder = tmp_path_factory.mktemp("scorer")
    tokenizer = build_tokenizer(["Where is the liver?", "Is there a stone in the kidney?", "Is there a mass?"])
    torch.manual_seed(5)
    config = model_config(len(tokenizer))
    save_scorer(open_clip.CLIP(**config).eval(), config, tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def random_adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters of the demo model with random weights, large enough to change what it says."""
    folder = tmp_path_factory.mktemp("adapters")
    register()
    experts = {"query_experts": 4, "key_experts": 8, "expert_r": 4, "expert_alpha": 48, "r": 4, "alpha": 48}
    configs = {
        "a3": A3MoeConfig(**experts, dropout=0.0, init_weights=False),
        "lora": LoraConfig(
            r=4, lora_alpha=48, target_modules=r".*language_model.*\.(q|k|v)_proj", init_lora_weights=False
        ),
    }
    for seed, (name, config) in enumerate(configs.items()):
        base = load_model(DEMO_MODEL, device="cpu").model
        torch.manual_seed(seed)
        get_peft_model(base, config).save_pretrained(folder / name, save_embedding_layers=False)
    return {name: folder / name for name in configs}


class Served(NamedTuple):
    """A running application: where it is, the folder where it keeps uploads, its process and the file with its log."""

    url: str
    uploads: Path
    process: subprocess.Popen[str]
    log: Path


Serve = Callable[..., AbstractContextManager[Served]]


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory, small_scorer: Path) -> Serve:
    """(*arguments, **variables) -> the application in a process of its own, offline, on the bundled model with a random
    scorer (or the one that A3TUNE_SCORER names), for the length of a ``with`` block."""

    @contextmanager
    def start(*arguments: str, **variables: str) -> Iterator[Served]:
        uploads = tmp_path_factory.mktemp("uploads")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = os.environ | {
            "GRADIO_TEMP_DIR": str(uploads),
            "TMPDIR": str(tmp_path_factory.mktemp("temporary")),
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONFAULTHANDLER": "1",
            # The one that every page opens with: most tests look at no other.
            "A3TUNE_PREPARED_EXAMPLES": "1",
            "A3TUNE_CACHE": str(tmp_path_factory.mktemp("cache")),
            "A3TUNE_SCORER": os.environ.get("A3TUNE_SCORER", str(small_scorer)),
            **variables,
        }
        log = tmp_path_factory.mktemp("server") / "errors.txt"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                [sys.executable, str(ROOT / "app.py"), "--port", str(port), *arguments],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as server,
        ):
            try:
                for line in server.stdout:
                    if f"127.0.0.1:{port}" in line:
                        break
                else:
                    pytest.fail(f"The application ended before it served a page:\n{log.read_text()}")
                yield Served(f"http://127.0.0.1:{port}", uploads, server, log)
            finally:
                server.terminate()

    return start


@pytest.fixture(scope="session")
def served(serve: Serve, random_adapters: dict[str, Path]) -> Iterator[Served]:
    """The application with two random adapters."""
    adapters = [part for name, folder in random_adapters.items() for part in ("--adapter", f"{name}={folder}")]
    with serve(*adapters) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, small_scorer: Path) -> Iterator[Server]:
    """The application with folders of its own, which may be ended and started again."""
    server = Server(tmp_path_factory.mktemp("studio"), small_scorer)
    try:
        server.start()
        yield server
    finally:
        server.clean()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium: CHROMIUM, else the one on the path, else Playwright's own."""
    # Playwright's own patience of 5 s is too short for a busy machine.
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM") or shutil.which("chromium") or playwright.chromium.executable_path
        if not Path(path).is_file():
            pytest.fail(
                "There is no Chromium to look at the page with. Install it (apt-get install chromium, or "
                "playwright install chromium), or name it in CHROMIUM."
            )
        browser = playwright.chromium.launch(executable_path=path, args=list(_QUIET_CHROMIUM))
        yield browser
        browser.close()


# What a module's function gives, in the forms that JSON has.
_CALL = """async ([module, name, given]) => {
    const plain = (value) => {
        if (ArrayBuffer.isView(value) || value instanceof Map || value instanceof Set) return [...value];
        return value && typeof value[Symbol.iterator] === "function" && typeof value !== "string" ? [...value] : value;
    };
    return plain((await import("/" + module))[name](...given));
}"""


@pytest.fixture(scope="session")
def module_page(browser: Browser) -> Iterator[Page]:
    """An empty page that can import the browser's modules by their paths in ``app/``; no server runs."""
    page = browser.new_page()
    page.route("**/*", lambda route: route.fulfill(**_module(route.request.url)))
    page.goto("http://modules.test/")
    yield page
    page.close()


def _module(url: str) -> dict[str, str]:
    name = url.partition("modules.test/")[2]
    if not name.endswith(".js"):
        return {"body": "<!doctype html>", "content_type": "text/html"}
    return {"body": (ROOT / "app" / name).read_text(encoding="utf-8"), "content_type": "text/javascript"}


@pytest.fixture(scope="session")
def call_module(module_page: Page) -> Callable[..., Any]:
    """(module, function, *arguments) -> what the function of a browser module gives."""
    return lambda module, name, *given: module_page.evaluate(_CALL, [module, name, list(given)])


# How many frames a page has asked for.
_COUNT_FRAMES = """{
    const ask = window.requestAnimationFrame;
    window.framesAsked = window.framesBefore = 0;
    window.requestAnimationFrame = (draw) => ask(draw, window.framesAsked++);
}"""


class Visitor:
    """One visitor with a browser window of their own: everything their page asks for and complains about is kept."""

    def __init__(self, browser: Browser, url: str, **options) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        self.context.set_default_timeout(PATIENCE_MS)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.context.on("request", self._take_note)
        self.context.add_init_script(_COUNT_FRAMES)
        self.page: Page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console", lambda message: self.complaints.append(message.text) if message.type == "error" else None
        )
        self.page.goto(url)
        # The first example comes on show by itself, with its answers; with its visit, the panels under it.
        self.finished("")
        self.page.wait_for_selector(".drawer:not([hidden])")

    def _take_note(self, request: Request) -> None:
        # The page's head asks every few seconds which model there is, and a pointer that rests on the picture for the
        # values under it, once: how often depends on the time that is taken.
        content = request.post_data_buffer or b""
        if b"model_status" not in content and b'"fn_name":"values"' not in content:
            self.requests.append(request.url)

    def upload(self, path: Path) -> None:
        """Give a file, and wait until it is on show, in place of another one too."""
        before = self.page.locator(".stage").get_attribute("data-session") or ""
        self.page.set_input_files("#upload input[type=file]", str(path))
        self.page.wait_for_selector(f".stage[data-shown$='image']:not([data-session='{before}'])")

    def example(self, place: int) -> None:
        """Choose an example, and wait for its answers; it must not be the one on show."""
        before = self.result
        self.page.locator(".example").nth(place).click()
        self.page.wait_for_selector(f".example:nth-of-type({place + 1})[aria-pressed=true]")
        self.finished(before)

    def ask(self, question: str) -> None:
        """Ask, and wait until all answers and the map are on the page."""
        before = self.result
        self.page.locator("#question textarea, #question input").first.fill(question)
        self.page.locator("#ask").click()
        self.finished(before)

    @property
    def result(self) -> str:
        """What names the result on show."""
        return self.page.locator(".stage").get_attribute("data-result") or ""

    def finished(self, before: str) -> None:
        """Wait until another result than before is complete and drawn; asked at every frame, a page draws them all."""
        self.page.wait_for_function(
            """before => {
                const {result, shown} = document.querySelector(".stage")?.dataset || {};
                // The opening picture of a page that is not there yet has a stage of its own.
                if (document.querySelector("#initial-page")) return false;
                return result && result !== before && result.endsWith("complete") && shown.endsWith("ready");
            }""",
            arg=before,
            polling=50,
        )

    def shown(self, end: str) -> str:
        """Wait until the viewer has drawn a state that ends so, and name it."""
        self.page.wait_for_selector(f".stage[data-shown$='{end}']")
        return self.page.locator(".stage").get_attribute("data-shown")

    def picture(self) -> str:
        """What the canvas shows, as a data URL; what was chosen before is drawn first."""
        return self.page.evaluate(
            """() => new Promise((done) =>
                requestAnimationFrame(() => requestAnimationFrame(() =>
                    done(document.querySelector("canvas.picture").toDataURL()))))"""
        )

    def pixel(self, x: float, y: float) -> list[int]:
        """Red, green, blue of the canvas at a share of its width and height."""
        return self.page.evaluate(
            """([x, y]) => {
                const canvas = document.querySelector("canvas.picture");
                const place = [Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1];
                return [...canvas.getContext("2d").getImageData(...place).data].slice(0, 3);
            }""",
            [x, y],
        )

    def box(self, selector: str) -> dict[str, float]:
        """Where an element lies in the window, for the mouse: what was used before may have scrolled it away."""
        element = self.page.locator(selector)
        element.evaluate("element => element.scrollIntoView({block: 'center', behavior: 'instant'})")
        return element.bounding_box()

    def screenshot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


@pytest.fixture
def visit(browser: Browser, served: Served):
    """() -> Visitor on a fresh page; options go to the browser's context."""
    visitors: list[Visitor] = []

    def open_page(**options) -> Visitor:
        visitors.append(Visitor(browser, served.url, **options))
        return visitors[-1]

    yield open_page
    for visitor in visitors:
        visitor.context.close()
