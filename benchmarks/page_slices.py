"""How long a reader waits for another slice of a volume, on the real page in a real browser: this machine.

    python -m benchmarks.page_slices [--slices 300] [--side 512] [--steps 100] [--write docs/page.md]

Makes a volume of computed tomography as the ZIP of a DICOM series and as a packed NIfTI file, opens each as an own
image, and prints a Markdown table: a step with the arrow key until the slice is drawn, at a reader's pace, so that the
slices ahead can come meanwhile; the drawing alone; and a jump to a slice that is not there yet.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import shutil
import statistics
import tempfile
import zipfile
from pathlib import Path

import nibabel
import numpy as np
from playwright.sync_api import Page, sync_playwright
from pydicom import Dataset, FileMetaDataset, dcmwrite, uid

from a3tune.phantom import make_phantom
from benchmarks.document import write_between
from benchmarks.page_time import BROWSER_OPTIONS, ROOT, open_page, serve, wait_for

PACE = 150
"""Milliseconds from one drawn slice to the next step."""
WANTED = "60 ms"
# From a key, or from the slider, until the picture's label names the slice: drawing has ended then. [ms, ms of drawing]
WALK = """async ([count, pace, jump]) => {
    const stage = document.querySelector(".stage"), slider = document.querySelector("[data-part=slices]");
    const label = document.querySelector("#viewer [data-part=imageLabel]");
    const words = () => label.textContent, frames = Number(slider.max) + 1, times = [];
    const drawn = () => new Promise((done) => requestAnimationFrame(done));
    stage.focus();
    for (let i = 0; i < count; i++) {
        const before = words(), began = performance.now();
        if (jump) {
            slider.value = String((Number(slider.value) + Math.round(frames / 3) + i) % frames);
            slider.dispatchEvent(new Event("input", {bubbles: true}));
        } else {
            const key = Math.floor(i / 50) % 2 ? "ArrowUp" : "ArrowDown";
            stage.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
        }
        while (words() === before && performance.now() - began < 5000) await drawn();
        times.push([performance.now() - began, Number(stage.dataset.tookMs)]);
        await new Promise((done) => setTimeout(done, jump ? 1500 : pace));
    }
    return times;
}"""


def make_volume(slices: int, side: int) -> np.ndarray:
    """int16 [slices, side, side] in Hounsfield units: a chest that fades towards its ends, with a scanner's noise."""
    drawn = make_phantom(930, "chest").image.pixels[..., 0].astype(np.float32)
    rows, columns = (np.linspace(0, size - 1, side).round().astype(int) for size in drawn.shape)
    body = drawn[np.ix_(rows, columns)] * 8 - 1000
    noise = np.random.default_rng(7)
    fade = 1 - np.abs(np.linspace(-0.5, 0.5, slices))
    return np.stack([(body * part + noise.normal(0, 20, body.shape)).astype(np.int16) for part in fade])


def write_series(volume: np.ndarray, path: Path) -> Path:
    """The volume as a ZIP of DICOM files."""
    study, series, frame = (uid.generate_uid() for _ in range(3))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for number, pixels in enumerate(volume):
            data = Dataset()
            data.file_meta = FileMetaDataset()
            data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
            data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = uid.CTImageStorage
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
            data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
            data.Modality, data.SeriesNumber, data.InstanceNumber = "CT", 1, number + 1
            data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, number * 1.25]
            data.PixelSpacing, data.SliceThickness = [0.7, 0.7], 1.25
            data.Rows, data.Columns = pixels.shape
            data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
            data.BitsAllocated = data.BitsStored = 16
            data.HighBit, data.PixelRepresentation = 15, 1
            data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, 0, "HU"
            data.WindowCenter, data.WindowWidth = 40, 400
            data.PixelData = pixels.astype("<i2").tobytes()
            content = io.BytesIO()
            dcmwrite(content, data, enforce_file_format=True)
            packed.writestr(f"{number:04}.dcm", content.getvalue())
    return path


def write_nifti(volume: np.ndarray, path: Path) -> Path:
    """The volume as a packed NIfTI file."""
    nibabel.save(nibabel.Nifti1Image(volume.transpose(2, 1, 0), np.diag([-0.7, -0.7, 1.25, 1])), path)
    return path


def walk(page: Page, volume: Path, kind: str, slices: int, steps: int) -> tuple[list[list[float]], list[list[float]]]:
    """Open a volume; [ms until drawn, ms of drawing] of each step with a key, and of each jump with the slider."""
    page.set_input_files("#upload input[type=file]", str(volume))
    page.locator("#viewer [data-part=imageLabel]", has_text=kind).wait_for()
    wait_for(page, f"[data-part=slices][max='{slices - 1}']:not([hidden])")
    page.wait_for_timeout(3000)  # the first slices ahead come
    return page.evaluate(WALK, [steps, PACE, False]), page.evaluate(WALK, [10, PACE, True])


def measure(slices: int, side: int, steps: int) -> list[tuple[str, str, str, str]]:
    """Rows of what, median, most, and what is wanted."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        path = os.environ.get("CHROMIUM") or shutil.which("chromium") or playwright.chromium.executable_path
        volume = make_volume(slices, side)
        files = {
            ("DICOM", "series in a ZIP"): write_series(volume, Path(folder) / "series.zip"),
            ("NIfTI", "packed"): write_nifti(volume, Path(folder) / "volume.nii.gz"),
        }
        browser = playwright.chromium.launch(executable_path=path, args=list(BROWSER_OPTIONS))
        with serve(str(ROOT / "app.py"), "--port", "{port}") as (url, _):
            page, *_ = open_page(browser, url)
            wait_for(page, ".stage[data-regions^=ready]")
            page.wait_for_timeout(8000)  # the examples are answered in the background first
            found = {", ".join(kind): walk(page, file, kind[0], slices, steps) for kind, file in files.items()}
        browser.close()
    rows = []
    for name, (walked, jumped) in found.items():
        rows += [
            _row(f"{name}: a step to the next slice ({steps})", [one for one, _ in walked], WANTED),
            _row("the same: drawing alone", [one for _, one in walked], ""),
            _row("the same: a jump to a slice that is not there yet (10)", [one for one, _ in jumped], ""),
        ]
    return rows


def _row(what: str, values: list[float], wanted: str) -> tuple[str, str, str, str]:
    return what, f"{statistics.median(values):.0f} ms", f"{max(values):.0f} ms", wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=300, help="slices of the volume (default 300)")
    parser.add_argument("--side", type=int, default=512, help="rows and columns of a slice (default 512)")
    parser.add_argument("--steps", type=int, default=100, help="how many steps are timed (default 100)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this file's slices section")
    options = parser.parse_args()
    rows = measure(options.slices, options.side, options.steps)
    text = (
        f"{options.slices} slices of {options.side} x {options.side}, a step {PACE} ms after the last was drawn; "
        f"{platform.machine()} with {os.cpu_count()} cores and no GPU, at a load of {os.getloadavg()[0]:.1f}.\n\n"
        "| another slice, key to drawn | median | most | wanted |\n| --- | ---: | ---: | ---: |\n"
        + "".join(f"| {' | '.join(row)} |\n" for row in rows)
    )
    print(text)
    if options.write is not None:
        write_between(options.write, text, "slices")


if __name__ == "__main__":
    main()
