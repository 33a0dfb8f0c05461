"""How long a visitor waits for the words and maps of a larger model: half a billion random weights on the real page.

    python -m benchmarks.page_large_model [--repeats 3] [--write docs/page.md]

The model has LLaVA-Med's number of layers and heads (32 x 32) and of patches (576), and the demo's words. Random
weights never end an answer: each is as long as the page lets one be.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from transformers import AutoProcessor, LlavaImageProcessor, LlavaProcessor

from a3tune.bundle import DEMO_MODEL
from a3tune.phantom import make_phantom
from benchmarks.document import write_between
from benchmarks.page_time import BROWSER_OPTIONS, DRAWN, ROOT, START_LIMIT, open_image, serve, wait_for
from benchmarks.random_llava import Size, build

SHAPE = Size(1024, 1408, 32, 32, 8, 0, 1024, 24)
WORD = ".word[data-role=answer]"
# Which question's answer is on show; "" for none.
RESULT = "() => document.querySelector('.stage').dataset.result.split(' ')[0]"


def write_model(folder: Path) -> int:
    """Save the model in float16 with a processor for 336 x 336 processor pixels; the number of its weights."""
    torch.manual_seed(0)
    processor = AutoProcessor.from_pretrained(DEMO_MODEL)
    tokenizer = processor.tokenizer
    shape = dataclasses.replace(SHAPE, vocabulary=len(tokenizer))
    model = build(shape, torch.device("cpu"), torch.float16)
    model.config.image_token_index = tokenizer.convert_tokens_to_ids("<image>")
    model.save_pretrained(folder)
    side = {"height": 336, "width": 336}
    LlavaProcessor(
        image_processor=LlavaImageProcessor(do_pad=True, size=side, do_center_crop=False, crop_size=side),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=processor.chat_template,
    ).save_pretrained(folder)
    return sum(weight.numel() for weight in model.parameters())


def ask(page: Page, question: str) -> tuple[float, float, int, int]:
    """Ask about the image on show; seconds from the click to the first word of the new answer and to its last one with
    all maps, the number of words, and the bytes received meanwhile."""
    received = [0]
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    network.on("Network.dataReceived", lambda event: received.__setitem__(0, received[0] + event["encodedDataLength"]))
    page.locator("#question textarea, #question input").first.fill(question)
    before = page.evaluate(RESULT)
    began = time.perf_counter()
    page.locator("#ask").click()
    page.wait_for_function(
        f"(before) => ({RESULT})() && ({RESULT})() !== before && document.querySelector('{WORD}')",
        arg=before,
        polling=25,
    )
    first = time.perf_counter() - began
    wait_for(page, DRAWN)
    last = time.perf_counter() - began
    network.detach()
    return first, last, page.locator(WORD).count(), received[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="how many images are asked about (default 3)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between this document's marks")
    options = parser.parse_args()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        weights = write_model(folder / "model")
        path = os.environ.get("CHROMIUM") or shutil.which("chromium") or playwright.chromium.executable_path
        browser = playwright.chromium.launch(executable_path=path, args=list(BROWSER_OPTIONS))
        command = ("--port", "{port}", "--profile", str(folder / "model"), "--prepared-examples", "0")
        with serve(str(ROOT / "app.py"), *command) as (url, _):
            page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.set_default_timeout(6000 * START_LIMIT)
            page.goto(url)
            wait_for(page, "#upload input[type=file]")
            firsts, others = [], []
            for number in range(options.repeats):
                image = folder / f"{number}.png"
                Image.fromarray(make_phantom(980 + number, "chest").image.pixels).save(image)
                open_image(page, image)
                page.wait_for_function("() => document.body.innerText.includes('Opened. ')", polling=25)
                firsts.append(ask(page, "Where is the mass?"))
                wait_for(page, ".stage[data-regions^=ready]")
                others.append(ask(page, "Is the heart enlarged?"))
        browser.close()

    def line(what: str, found: list[tuple[float, float, int, int]]) -> str:
        first, last, words, received = (statistics.median(values) for values in zip(*found, strict=True))
        return f"| {what} | {first:.2f} s | {last:.2f} s | {words:.0f} | {received / 1e6:.2f} MB |"

    text = "\n".join(
        [
            f"{weights / 1e9:.2f} billion random weights, {options.repeats} images; {platform.machine()} with "
            f"{os.cpu_count()} cores and no GPU, at a load of {os.getloadavg()[0]:.1f}; medians.",
            "",
            "| from the click | first word | last word, all maps | words | received |",
            "| --- | ---: | ---: | ---: | ---: |",
            line("first question about an image", firsts),
            line("another question about it", others),
        ]
    )
    print(text)
    if options.write is not None:
        write_between(options.write, text, "large model")


if __name__ == "__main__":
    main()
