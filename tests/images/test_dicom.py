"""DICOM files: values against pydicom's own test files and against the standard's formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.pixels import apply_color_lut, apply_voi_lut, pixel_array

from a3tune.errors import ImageError, RequestError
from a3tune.images import WINDOW_PRESETS, describe_image, load_image
from a3tune.types import Window

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
# With the LINEAR function this window maps 0..255 to itself.
IDENTITY = Window(128, 256)


def grey(path: Path, **options) -> np.ndarray:
    pixels = load_image(path, **options).pixels
    assert np.array_equal(pixels[..., 0], pixels[..., 1])
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    return pixels[..., 0]


def linear(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1 as the standard's pseudo-code puts it, for an output of 0..255."""
    result = ((values - (centre - 0.5)) / (width - 1) + 0.5) * 255
    result[values <= centre - 0.5 - (width - 1) / 2] = 0
    result[values > centre - 0.5 + (width - 1) / 2] = 255
    return np.rint(result).astype(np.uint8)


def rounds(exact: np.ndarray, shown: np.ndarray) -> bool:
    """Whether ``shown`` is ``exact`` rounded to the nearest whole number, either way for a half."""
    return bool(np.abs(exact - shown).max() <= 0.5 + 1e-9)


def table_item(first: int, entries: list[int], bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", entries)
    return item


RAMP = np.arange(0, 1200, dtype=np.uint16).reshape(30, 40)


def test_presets_map_hounsfield_units_by_the_standard_formula():
    path = SHIPPED / "CT_small.dcm"
    stored = np.frombuffer(dcmread(path).PixelData, "<i2").reshape(128, 128)
    for name in ("lung", "bone", "brain", "abdomen", "mediastinum", "soft tissue"):
        expected = linear(stored - 1024.0, *WINDOW_PRESETS[name])
        assert np.array_equal(grey(path, window=name), expected)
        assert load_image(path, window=name.upper()).window == WINDOW_PRESETS[name]
    assert np.array_equal(grey(path, window=Window(60, 300)), linear(stored - 1024.0, 60, 300))


def test_keeps_modality_spacing_and_header_window_and_nothing_else():
    image = load_image(SHIPPED / "MR_small.dcm")
    assert (image.format, image.modality, image.spacing, image.window) == ("DICOM", "MR", (0.3125, 0.3125), (600, 1600))
    assert (image.frame, image.frame_count) == (0, 1)
    assert set(vars(image)) <= {
        "pixels",
        "format",
        "modality",
        "spacing",
        "window",
        "frame",
        "frame_count",
        "sha256",
    } | {
        "stored_size",
        "notes",
        "model_pixels",
        "convention",
        "edges",
        "spacing_plane",
        "frame_time",
    }
    described = describe_image(SHIPPED / "MR_small.dcm")
    assert (described.windowable, described.header_window, described.hounsfield) == (True, (600, 1600), False)
    assert (described.height, described.width, described.axes) == (64, 64, None)
    assert describe_image(SHIPPED / "CT_small.dcm").hounsfield is True


def test_header_window_equals_pydicom():
    for name in ("MR_small.dcm", "examples_overlay.dcm", "693_J2KI.dcm"):
        data = dcmread(SHIPPED / name)
        values = data.pixel_array * float(data.get("RescaleSlope", 1)) + float(data.get("RescaleIntercept", 0))
        shown = apply_voi_lut(values, data)
        bits = data.BitsStored
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if data.PixelRepresentation else (0, 2**bits - 1)
        slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
        low, high = low * slope + intercept, high * slope + intercept
        expected = np.rint((shown - low) / (high - low) * 255)
        assert np.abs(grey(SHIPPED / name) - expected).max() <= 1


@pytest.mark.parametrize("name", ["RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"])
def test_lossless_encodings_of_one_picture_are_equal(name):
    assert np.array_equal(grey(SHIPPED / f"MR_small_{name}.dcm"), grey(SHIPPED / "MR_small.dcm"))


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_twelve_bit_jpeg(name):
    shown = grey(SHIPPED / name, window=IDENTITY)
    assert (shown[420, 140], shown[230, 120]) == (244, 95)


def test_signed_jpeg_2000():
    path = SHIPPED / "JPEG2000.dcm"
    assert dcmread(path).PixelRepresentation == 1
    shown = load_image(path, window=Window(0, 512)).pixels[..., 0]
    # -30 is the lowest, 245 the highest stored value.
    assert shown.min() == linear(np.array([-30.0]), 0, 512)[0]
    assert shown.max() == linear(np.array([245.0]), 0, 512)[0]


# Colour bars of 100 x 100 pixels that several programs have stored: red, green, blue and mixtures, black to white.
@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_rle.dcm",
        "SC_rgb_rle_16bit.dcm",
        "SC_rgb_rle_32bit.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_rgb_jpeg_lossy_gdcm.dcm",
        "SC_rgb_dcmtk_+eb+cr.dcm",
        "SC_rgb_dcmtk_+eb+cy+np.dcm",
        "SC_rgb_dcmtk_+eb+cy+s4.dcm",
        "SC_rgb_gdcm_KY.dcm",
        "SC_rgb_jls_lossy_line.dcm",
        "SC_rgb_jls_lossy_sample.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
    ],
)
def test_colour_encodings_show_the_same_bars(name):
    image = load_image(SHIPPED / name)
    bars = image.pixels[5::10, 50].astype(int)
    for row, colour in ((0, (255, 0, 0)), (2, (0, 255, 0)), (4, (0, 0, 255)), (7, (64, 64, 64)), (9, (255, 255, 255))):
        assert np.abs(bars[row] - colour).max() <= 6
    assert image.window is None
    assert describe_image(SHIPPED / name).windowable is False
    with pytest.raises(RequestError, match="nothing to window"):
        load_image(SHIPPED / name, window=Window(40, 400))


def test_palette_and_deflated_files():
    data = dcmread(SHIPPED / "examples_palette.dcm")
    expected = apply_color_lut(data.pixel_array, data) >> 8
    assert np.array_equal(load_image(SHIPPED / "examples_palette.dcm").pixels, expected)
    assert np.array_equal(grey(SHIPPED / "image_dfl.dcm"), dcmread(SHIPPED / "image_dfl.dcm").pixel_array)


def test_frames_of_a_colour_loop():
    path = SHIPPED / "examples_ybr_color.dcm"
    image = load_image(path, frame=7)
    assert (image.frame, image.frame_count) == (7, 30)
    assert np.array_equal(image.pixels, pixel_array(path, index=7, decoding_plugin="pillow"))
    assert load_image(path).frame == 0
    for frame in (30, -1, 1.5, True):
        with pytest.raises(RequestError, match="0 to 29"):
            load_image(path, frame=frame)


def test_one_bit_segmentation_is_black_and_white():
    assert sorted(np.unique(grey(SHIPPED / "liver_1frame.dcm"))) == [0, 255]
    assert np.array_equal(grey(SHIPPED / "liver_1frame.dcm"), grey(SHIPPED / "liver_expb_1frame.dcm"))


def test_monochrome1_is_inverted(write):
    plain = grey(write(RAMP, WindowCenter=600, WindowWidth=1000))
    inverted = grey(write(RAMP, WindowCenter=600, WindowWidth=1000, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(inverted, 255 - plain)


def test_window_functions(write):
    window = {"WindowCenter": [600, 10], "WindowWidth": [800, 20]}
    values = RAMP.astype(float)
    assert np.array_equal(grey(write(RAMP, **window)), linear(values, 600, 800))
    exact = grey(write(RAMP, **window, VOILUTFunction="LINEAR_EXACT"))
    assert rounds(np.clip((values - 200) / 800, 0, 1) * 255, exact)
    sigmoid = grey(write(RAMP, **window, VOILUTFunction="SIGMOID"))
    assert rounds(255 / (1 + np.exp(-4 * (values - 600) / 800)), sigmoid)


def test_a_window_of_width_one_is_a_threshold(write):
    assert np.array_equal(grey(write(RAMP), window=Window(500, 1)), np.where(RAMP >= 500, 255, 0))


def test_percentiles_serve_where_the_header_has_no_usable_window(write):
    for elements in ({}, {"WindowCenter": 5, "WindowWidth": 0}):
        image = load_image(write(RAMP, **elements))
        low, high = np.percentile(RAMP, (0.5, 99.5))
        assert image.window == pytest.approx(((low + high) / 2, high - low))
        assert rounds(np.clip((RAMP - low) / (high - low), 0, 1) * 255, image.pixels[..., 0])


def test_padding_does_not_stretch_the_percentiles(write):
    stored = RAMP.astype(np.int16) + 1000
    stored[:5] = -2000
    with_padding = load_image(write(stored, PixelPaddingValue=-2000))
    low, high = np.percentile(stored[5:], (0.5, 99.5))
    assert with_padding.window == pytest.approx(((low + high) / 2, high - low))
    assert (with_padding.pixels[:5] == 0).all()


def test_eight_bit_pictures_are_shown_whole(write):
    stored = np.linspace(40, 90, 12).astype(np.uint8).reshape(3, 4)
    assert np.array_equal(grey(write(stored, Modality="US")), stored)


def test_constant_picture_is_uniform(write):
    assert (grey(write(np.full((6, 5), 700, np.uint16))) == 0).all()


def test_voi_and_modality_tables(write):
    stored = np.array([[0, 1, 2, 3, 9]], np.uint16)
    voi = write(stored, VOILUTSequence=[table_item(1, [0, 1024, 2048, 4095], 12)])
    assert grey(voi).tolist() == [[0, 0, 64, 128, 255]]
    assert load_image(voi).window is None
    assert grey(voi, window=Window(2, 3)).tolist() == [[0, 64, 191, 255, 255]]
    item = table_item(0, [0, 50, 100, 200], 16)
    item.ModalityLUTType = "US"
    modality = write(stored, ModalityLUTSequence=[item])
    assert grey(modality, window=IDENTITY).tolist() == [[0, 50, 100, 200, 200]]


def test_functional_groups_of_an_enhanced_file(write):
    def group(sequence: str, **elements) -> Dataset:
        item, inner = Dataset(), Dataset()
        for keyword, value in elements.items():
            setattr(inner, keyword, value)
        setattr(item, sequence, [inner])
        return item

    shared = group("PixelMeasuresSequence", PixelSpacing=[0.5, 0.25])
    transform = Dataset()
    transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = 1, -1000, "HU"
    shared.PixelValueTransformationSequence = [transform]
    frames = [group("FrameVOILUTSequence", WindowCenter=c, WindowWidth=400) for c in (-100, 50)]
    path = write(
        np.stack([RAMP, RAMP[::-1]]),
        Modality="CT",
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
    )
    image = load_image(path, frame=1, square=False)
    assert (image.spacing, image.window) == ((0.5, 0.25), (50, 400))
    assert np.array_equal(image.pixels[..., 0], linear(RAMP[::-1] - 1000.0, 50, 400))
    assert load_image(path, frame=0).window == (-100, 400)
    assert load_image(path, window="lung").window == WINDOW_PRESETS["lung"]


def test_presets_need_hounsfield_units(write):
    path = write(RAMP)
    with pytest.raises(RequestError, match="Hounsfield"):
        load_image(path, window="lung")
    with pytest.raises(RequestError, match="Hounsfield"):
        load_image(write(RAMP, Modality="CT", RescaleSlope=1, RescaleIntercept=0, RescaleType="US"), window="lung")
    assert load_image(write(RAMP, RescaleSlope=1, RescaleIntercept=0, RescaleType="HU"), window="lung").modality == "MR"


def test_free_text_in_the_modality_is_dropped(write):
    assert load_image(write(RAMP, Modality="DOE JOHN")).modality is None


def test_float_pixel_data(write):
    data = dcmread(write(RAMP))
    del data.PixelData
    values = RAMP.astype(np.float32) / 1000
    data.FloatPixelData, data.BitsAllocated = values.tobytes(), 32
    del data.BitsStored, data.HighBit, data.PixelRepresentation
    path = Path(data.filename)
    data.save_as(path)
    shown = grey(path, window=Window(0.5, 0.5))
    assert rounds(np.clip((values.astype(float) - 0.25) / 0.5, 0, 1) * 255, shown)


def test_a_data_set_without_preamble(write, tmp_path):
    path = tmp_path / "bare.dcm"
    data = dcmread(write(RAMP, WindowCenter=600, WindowWidth=800))
    bare = Dataset(data)
    bare.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert path.read_bytes()[128:132] != b"DICM"
    assert np.array_equal(grey(path), linear(RAMP.astype(float), 600, 800))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rtplan.dcm", "RT Plan"),
        ("test-SR.dcm", "Comprehensive SR"),
        ("waveform_ecg.dcm", "Waveform"),
        ("rtstruct.dcm", "Structure Set"),
        ("dicomdirtests/DICOMDIR", "DICOMDIR"),
        ("MR_truncated.dcm", "cut off"),
        ("zipMR.gz", "gzip"),
    ],
)
def test_shipped_files_without_a_usable_picture(name, words):
    with pytest.raises(ImageError, match=words):
        load_image(SHIPPED / name)
