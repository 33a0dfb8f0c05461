"""Damaged, foreign, encrypted and oversized files: each one clear line, and nothing else ever leaves the reader."""

from __future__ import annotations

import gzip
import logging
import random
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, uid

from a3tune.errors import ImageError
from a3tune.images import describe_image, dicom, load_image
from a3tune.types import MedicalImage
from tests.support.damaged_files import (
    RAMP,
    SECRET,
    compressed,
    dataset,
    dicom_bytes,
    dicom_file,
    encode,
    jpeg,
    nifti,
    png,
    rgb_picture,
    write_damaged,
)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    return write_damaged(tmp_path_factory.mktemp("damaged"))


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


def assert_one_clear_line(error: ImageError) -> None:
    line = str(error)
    assert "\n" not in line
    assert SECRET not in line
    assert error.got
    assert error.expected
    assert error.remedy
    assert error.__context__ is None
    assert error.__cause__ is None


def test_every_damaged_file_gives_one_clear_line_and_no_noise(damaged, log, capfd):
    assert len(damaged) >= 30
    for path, words in damaged.items():
        with pytest.raises(ImageError) as caught:
            load_image(path)
        assert_one_clear_line(caught.value)
        assert words in str(caught.value), f"{path.name}: {caught.value}"
        assert path.name not in str(caught.value)
        with pytest.raises(ImageError):
            describe_image(path)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in log.records if SECRET in record.getMessage()]
    assert not [record for record in log.records if record.levelno >= logging.WARNING]


def test_refuses_a_deflated_bomb_before_unpacking_it(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom, "_MAX_INFLATED", 1 << 20)
    data = dataset(uid.DeflatedExplicitVRLittleEndian, NumberOfFrames=600, PixelData=RAMP.tobytes() * 600)
    path = tmp_path / "bomb.dcm"
    path.write_bytes(dicom_bytes(data))
    with pytest.raises(ImageError, match="unpacks to more"):
        load_image(path)


def test_oversized_pictures_are_refused_before_decoding(damaged, monkeypatch):
    def must_not_run(*_args, **_keywords):
        raise AssertionError("decoded an oversized picture")

    monkeypatch.setattr(Image.Image, "convert", must_not_run)
    monkeypatch.setattr(dicom, "read_frame", must_not_run)
    for path in damaged:
        if path.name.startswith(("oversized", "bomb")):
            with pytest.raises(ImageError, match="megapixels"):
                load_image(path)


def test_things_that_are_no_files_are_refused(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        load_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="folder"):
        load_image(tmp_path)
    with pytest.raises(ImageError, match="device"):
        load_image("/dev/null")
    with pytest.raises(ImageError, match="cannot be opened"):
        load_image("a\0b")


BASES: dict[str, Callable[[], bytes]] = {
    "png": png,
    "jpeg": jpeg,
    "gif": lambda: encode(rgb_picture(), format="GIF"),
    "webp": lambda: encode(rgb_picture(), format="WEBP"),
    "bmp": lambda: encode(rgb_picture(), format="BMP"),
    "tiff": lambda: encode(rgb_picture(), format="TIFF"),
    "tiff lzw": lambda: encode(rgb_picture(), format="TIFF", compression="tiff_lzw"),
    "tiff jpeg": lambda: encode(rgb_picture(), format="TIFF", compression="jpeg"),
    "dicom": dicom_file,
    "dicom implicit": lambda: dicom_file(uid.ImplicitVRLittleEndian),
    "dicom deflated": lambda: dicom_file(uid.DeflatedExplicitVRLittleEndian),
    "dicom jpeg 2000": lambda: compressed(
        uid.JPEG2000Lossless, imagecodecs.jpeg2k_encode(RAMP, level=0, codecformat="j2k")
    ),
    "dicom jpeg-ls": lambda: compressed(uid.JPEGLSLossless, imagecodecs.jpegls_encode(RAMP)),
    "dicom lossless jpeg": lambda: compressed(
        uid.JPEGLosslessSV1, imagecodecs.jpeg8_encode(RAMP, lossless=True, bitspersample=12)
    ),
    "nifti": nifti,
    "nifti gz": lambda: gzip.compress(nifti(), mtime=0),
}


def load_or_error(path: Path) -> MedicalImage | ImageError:
    try:
        return load_image(path)
    except ImageError as error:
        return error


@pytest.mark.parametrize("base", BASES)
def test_altered_files_give_a_picture_or_one_error(base, tmp_path, capfd):
    chance = random.Random(base)
    sound = BASES[base]()
    path = tmp_path / "file"
    path.write_bytes(sound)
    assert isinstance(load_image(path), MedicalImage)
    for case in range(24):
        data = bytearray(sound)
        # Most flips go where the structure is: the first part of the file.
        reach = len(data) if case % 3 == 0 else min(len(data), 600)
        for _ in range(chance.choice((1, 2, 8))):
            data[chance.randrange(reach)] ^= 1 << chance.randrange(8)
        if case % 4 == 3:
            del data[chance.randrange(1, len(data)) :]
        path.write_bytes(data)
        result = load_or_error(path)
        if isinstance(result, ImageError):
            assert_one_clear_line(result)
        else:
            assert isinstance(result, MedicalImage)
    assert capfd.readouterr() == ("", "")


def test_a_sound_file_is_not_altered_by_the_writer(tmp_path):
    path = tmp_path / "sound.dcm"
    path.write_bytes(dicom_file())
    assert dcmread(path).PatientName == SECRET
    assert np.array_equal(dcmread(path).pixel_array, RAMP)


@pytest.mark.parametrize("box", ["jp2 ", "ftyp", "jp2h", "jp2c"])
def test_a_box_of_length_0_ends_the_reading(write, box):
    """Length 0 means that a box reaches to the end of the file (ISO/IEC 15444-1 I.4); only the last one may."""
    noise = np.random.default_rng(0).integers(0, 256, (170, 170)).astype(np.uint8)
    frame = imagecodecs.jpeg2k_encode(noise, level=0, codecformat="jp2")
    at = 12 if box == "jp2 " else frame.index(box.encode()) - 4
    # A box of another kind is laid before the first; others lose their length.
    broken = frame[:at] + (b"\0\0\0\0free" if box == "jp2 " else bytes(4)) + frame[at + (0 if box == "jp2 " else 4) :]
    path = write(noise, uid.JPEG2000Lossless, [broken])
    if box == "jp2c":
        assert np.array_equal(load_image(path).pixels[..., 0], noise)
    else:
        with pytest.raises(ImageError, match="damaged"):
            load_image(path)


@pytest.mark.parametrize("syntax", [uid.JPEG2000Lossless, uid.RLELossless, uid.ExplicitVRLittleEndian])
def test_frames_that_a_file_is_too_small_for_are_not_counted_up(write, syntax):
    stored = np.zeros((4, 4), np.uint8)
    frames = None if syntax == uid.ExplicitVRLittleEndian else [bytes(64)]
    path = write(stored, syntax, frames, NumberOfFrames=2_000_000_000)
    with pytest.raises(ImageError, match="cut off"):
        load_image(path)
    with pytest.raises(ImageError, match="no slice of a DICOM series"):
        load_image(path.parent)
