"""What grey values mean: padding never rules the window, and windows and tables map as the standard says."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, dcmread, uid

from a3tune.errors import ImageError
from a3tune.images import describe_image, load_image
from a3tune.types import MedicalImage, Window

RAMP = np.arange(0, 1200, dtype=np.int16).reshape(30, 40)
FIELD = {"Modality": "OT", "RescaleSlope": None, "RescaleIntercept": None}


def framed(padding: int, dtype: str = "i2", picture: np.ndarray = RAMP) -> tuple[np.ndarray, np.ndarray]:
    """A picture in a broad frame of padding, and where the picture is."""
    stored = np.full((50, 60), padding).astype(dtype)
    stored[10:40, 10:50] = picture
    inside = np.zeros(stored.shape, bool)
    inside[10:40, 10:50] = True
    return stored, inside


def assert_only_the_picture_counts(image: MedicalImage, values: np.ndarray, inside: np.ndarray) -> None:
    low, high = np.percentile(values[inside], (0.5, 99.5))
    assert image.window == pytest.approx(((low + high) / 2, high - low), rel=1e-3)
    assert (image.pixels[~inside] == 0).all()
    expected = np.clip((values[inside] - low) / (high - low), 0, 1) * 255
    assert np.abs(image.pixels[inside][:, 0] - expected).max() <= 1.5


def write_padding(write, stored: np.ndarray, kind: str, value: int, **elements) -> Path:
    path = write(stored, **elements)
    data = dcmread(path)
    data.add_new("PixelPaddingValue", kind, value)
    data.save_as(path)
    return path


@pytest.mark.parametrize(("kind", "value"), [("SS", -2000), ("US", 63536)])
def test_padding_of_a_signed_picture_in_either_notation(write, kind, value):
    stored, inside = framed(-2000)
    assert_only_the_picture_counts(load_image(write_padding(write, stored, kind, value)), stored, inside)


@pytest.mark.parametrize(("kind", "value"), [("US", 63536), ("SS", -2000)])
def test_padding_of_an_unsigned_picture_in_either_notation(write, kind, value):
    stored, inside = framed(63536, "u2")
    assert_only_the_picture_counts(load_image(write_padding(write, stored, kind, value)), stored, inside)


@pytest.mark.parametrize(("kind", "value"), [("US", 63536), ("SS", -2000)])
@pytest.mark.parametrize("signed", [0, 1])
def test_padding_that_uses_bits_which_values_do_not(write, kind, value, signed):
    stored, inside = framed(63536, "u2")
    path = write_padding(write, stored, kind, value, BitsStored=12, PixelRepresentation=signed)
    assert_only_the_picture_counts(load_image(path), stored, inside)


@pytest.mark.parametrize(("kind", "value"), [("SS", -100), ("US", 156)])
def test_padding_of_eight_signed_bits(write, kind, value):
    stored, inside = framed(-100, "i1", (RAMP % 100).astype(np.int8))
    image = load_image(write_padding(write, stored, kind, value))
    assert (image.pixels[~inside] == 0).all()
    assert image.window == (-0.5, 255)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("SL", (-2000).to_bytes(4, "little", signed=True)),
        ("UL", (2**16 - 2000).to_bytes(4, "little")),
        ("UL", (2**32 - 2000).to_bytes(4, "little")),
        ("DS", b"-2000 "),
        ("LO", b"-2000 "),
        ("OW", (2**16 - 2000).to_bytes(2, "little")),
        ("OB", (2**16 - 2000).to_bytes(2, "little")),
        ("UN", (2**16 - 2000).to_bytes(2, "little")),
        ("US", (2**16 - 2000).to_bytes(2, "little") * 2),
    ],
)
@pytest.mark.parametrize("dtype", ["i2", "i4"])
def test_padding_written_as_another_type(write, kind, value, dtype):
    stored, inside = framed(-2000, dtype)
    path = write_padding(write, stored, "SS", -2000)
    tag, long = b"\x28\x00\x20\x01", kind in ("OW", "OB", "UN")
    head = kind.encode() + (bytes(2) + len(value).to_bytes(4, "little") if long else len(value).to_bytes(2, "little"))
    written = path.read_bytes()
    former = tag + b"SS\x02\x00" + (-2000).to_bytes(2, "little", signed=True)
    assert written.count(former) == 1
    path.write_bytes(written.replace(former, tag + head + value))
    assert_only_the_picture_counts(load_image(path), stored, inside)


@pytest.mark.parametrize(("kind", "value"), [("US", 2**12 - 2000), ("US", 2**16 - 2000), ("SS", -2000)])
def test_padding_of_twelve_signed_bits(write, kind, value):
    stored, inside = framed(-2000, picture=RAMP - 400)
    path = write_padding(write, (stored & 0xFFF).astype("u2"), kind, value, BitsStored=12, PixelRepresentation=1)
    assert_only_the_picture_counts(load_image(path), stored, inside)


@pytest.mark.parametrize("moved", [-8, -3, 3, 8])
def test_padding_moved_as_a_whole_by_a_lossy_codec(write, moved):
    stored, inside = framed(-2000 + moved, picture=RAMP - 1000)
    stream = imagecodecs.jpegls_encode(stored.view("u2"))
    path = write(stored, uid.JPEGLSNearLossless, [stream], PixelPaddingValue=-2000)
    assert_only_the_picture_counts(load_image(path), stored, inside)


def test_one_value_below_the_padding_is_padding_too(write):
    stored, inside = framed(-1500, picture=RAMP * 3 - 900)
    assert_only_the_picture_counts(load_image(write_padding(write, stored, "SS", -1000)), stored, inside)


def test_a_range_of_padding(write):
    stored, inside = framed(-2000)
    stored[:5] = -1970
    for start, end in ((-2000, -1960), (-1960, -2000)):
        path = write(stored, PixelPaddingValue=start, PixelPaddingRangeLimit=end)
        assert_only_the_picture_counts(load_image(path), stored, inside)


def test_high_padding_is_black_too(write):
    stored, inside = framed(4000, "u2")
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        image = load_image(write(stored, PixelPaddingValue=4000, PhotometricInterpretation=photometric))
        low, high = np.percentile(stored[inside], (0.5, 99.5))
        assert image.window == pytest.approx(((low + high) / 2, high - low))
        assert (image.pixels[~inside] == 0).all()


def test_padding_is_black_under_every_window(write):
    stored, inside = framed(-2000)
    path = write(stored, PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1")
    for window in (None, Window(-2000, 100), Window(600, 5000)):
        assert (load_image(path, window=window).pixels[~inside] == 0).all()
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [2, 0, 8])
    table.add_new("LUTData", "US", [200, 250])
    assert (load_image(write(stored, PixelPaddingValue=-2000, VOILUTSequence=[table])).pixels[~inside] == 0).all()


@pytest.mark.parametrize("keyword", ["FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue"])
@pytest.mark.parametrize("ranged", [False, True])
def test_padding_of_floats(write, keyword, ranged):
    dtype = np.float32 if keyword.startswith("Float") else np.float64
    stored, inside = framed(0, dtype, RAMP / 7)
    stored[~inside] = -1234.1
    fields = {keyword: float(dtype(-1234.1))}
    if ranged:
        stored[:5] = -1200.0
        fields[keyword.replace("Value", "RangeLimit")] = -1100.0
    data = dcmread(write(np.zeros((50, 60), np.uint16)))
    del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
    name = "FloatPixelData" if dtype is np.float32 else "DoubleFloatPixelData"
    setattr(data, name, stored.tobytes())
    data.BitsAllocated = 8 * stored.dtype.itemsize
    for field, value in fields.items():
        setattr(data, field, value)
    path = Path(data.filename)
    data.save_as(path)
    assert_only_the_picture_counts(load_image(path), stored, inside)


def smeared(padding: int, dtype: str = "i2") -> tuple[np.ndarray, np.ndarray]:
    """Padding as lossy compression leaves it: spread to both sides, wider near the edge of the picture."""
    chance = np.random.default_rng(4)
    stored, inside = framed(padding)
    noise = np.rint(chance.laplace(0, 25, stored.shape)).clip(-200, 200).astype(np.int16)
    stored[~inside] += noise[~inside]
    return stored.astype(dtype), inside


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_padding_smeared_by_lossy_compression(write, modality):
    stored, inside = smeared(-2000)
    fields = {"Modality": modality, "PixelPaddingValue": -2000, "RescaleSlope": 1, "RescaleIntercept": -1024}
    image = load_image(write(stored, **fields))
    assert_only_the_picture_counts(image, stored - 1024, inside)


def test_high_padding_smeared_by_lossy_compression(write):
    stored, inside = smeared(3000)
    image = load_image(write(stored, PixelPaddingValue=3000, PhotometricInterpretation="MONOCHROME1"))
    low, high = np.percentile(stored[inside], (0.5, 99.5))
    assert image.window == pytest.approx(((low + high) / 2, high - low), rel=5e-3)
    assert (image.pixels[~inside] <= 1).all()


def test_padding_smeared_by_a_real_lossy_codec(write):
    stored, inside = framed(-2000, "i2", (600 + 500 * np.sin(RAMP / 90)).astype(np.int16))
    stored = np.tile(stored, (3, 3))
    inside = np.tile(inside, (3, 3))
    frame = imagecodecs.jpeg2k_encode(stored, level=62, codecformat="j2k", reversible=False)
    lossy = imagecodecs.jpeg2k_decode(frame)
    assert lossy.min() < -2005
    image = load_image(write(stored, syntax=uid.JPEG2000, frames=[frame], PixelPaddingValue=-2000))
    low, high = np.percentile(stored[inside], (0.5, 99.5))
    assert abs(image.window.centre - image.window.width / 2 - low) < 150
    assert abs(image.window.centre + image.window.width / 2 - high) < 150


def test_padding_amid_the_values_leaves_the_others_alone(write):
    # Air at -1000, water at 0: a padding of 0 is no reason to drop the air.
    stored = np.concatenate([np.full(400, -1000), np.arange(-40, 41).repeat(10), np.full(390, 900)]).astype(np.int16)
    stored = stored.reshape(40, 40)
    image = load_image(write(stored, PixelPaddingValue=0))
    low, high = np.percentile(stored[stored != 0], (0.5, 99.5))
    assert image.window == pytest.approx(((low + high) / 2, high - low))
    # The same for values that lie evenly on both sides.
    phase = np.random.default_rng(3).normal(0, 500, (40, 40)).astype(np.int16)
    image = load_image(write(phase, PixelPaddingValue=0))
    low, high = np.percentile(phase[phase != 0], (0.5, 99.5))
    assert image.window == pytest.approx(((low + high) / 2, high - low))


@pytest.mark.parametrize("padding", [None, -32768])
def test_corners_below_all_hounsfield_units_do_not_rule_the_window(write, padding):
    """Scanners fill corners with a value of their own, while the header names another padding, or none."""
    stored, inside = framed(-2000)
    fields = {} if padding is None else {"PixelPaddingValue": padding}
    path = write(stored, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024, **fields)
    assert_only_the_picture_counts(load_image(path), stored - 1024, inside)


def test_a_frame_of_nothing_but_padding_is_black(write):
    image = load_image(write(np.full((5, 5), -2000, np.int16), PixelPaddingValue=-2000))
    assert (image.pixels == 0).all()


def test_an_empty_padding_value_counts_for_nothing(write):
    assert load_image(write(RAMP, PixelPaddingValue=None)).window == load_image(write(RAMP)).window


UNIT = np.linspace(0, 4000, 1200).astype(np.uint16).reshape(30, 40)
UNIT_FIELDS = {"RescaleSlope": "0.00025", "RescaleIntercept": 0, "WindowCenter": "0.5", "WindowWidth": 1}


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_a_window_of_width_one_over_fractions(write, function):
    fields = UNIT_FIELDS if function is None else {**UNIT_FIELDS, "VOILUTFunction": function}
    image = load_image(write(UNIT, **fields))
    values = UNIT * 0.00025
    share = 1 / (1 + np.exp(-4 * (values - 0.5))) if function == "SIGMOID" else np.clip(values, 0, 1)
    assert np.abs(image.pixels[..., 0] - share * 255).max() <= 0.5 + 1e-9
    assert image.window == (0.5, 1)
    # Only where the letter of the function is left: LINEAR, which is the default.
    said = any("window is read as the span of" in note for note in image.notes)
    assert said == (function in (None, "LINEAR"))
    assert describe_image(write(UNIT, **fields)).notes == image.notes


@pytest.mark.parametrize(("width", "told"), [(1.2, 1), (2.0, 0)])
def test_a_narrow_window_that_leaves_black_and_white_of_fractions_is_read_as_its_span(write, width, told):
    stored = np.repeat(np.array([5, 8, 16, 19], np.uint16) * 1000, 25).reshape(10, 10)
    scale = width / 20000
    path = write(stored, RescaleSlope=f"{scale:.9f}", RescaleIntercept=0, WindowCenter=width / 2, WindowWidth=width)
    image = load_image(path)
    assert len(image.notes) == told
    span, start = (width, 0) if told else (width - 1, width / 2 - 0.5 - (width - 1) / 2)
    expected = np.rint(np.clip((stored * scale - start) / span, 0, 1) * 255)
    assert np.abs(image.pixels[..., 0] - expected).max() <= 1


def test_a_short_lookup_table_is_named(write):
    item = Dataset()
    item.ModalityLUTType = "US"
    item.add_new("LUTDescriptor", "US", [1000, 0, 16])
    item.add_new("LUTData", "US", list(range(100)))
    with pytest.raises(ImageError, match="lookup table should have 1000 entries, and has 100"):
        load_image(write(RAMP, ModalityLUTSequence=[item]))


def test_a_window_of_width_one_over_whole_numbers_is_a_threshold(write):
    image = load_image(write(RAMP, WindowCenter=500, WindowWidth=1))
    assert np.array_equal(image.pixels[..., 0], np.where(RAMP >= 500, 255, 0))
    assert image.notes == ()


def test_a_window_narrower_than_one_is_read_as_its_span(write):
    image = load_image(write(UNIT, **{**UNIT_FIELDS, "WindowWidth": "0.5"}))
    expected = np.clip((UNIT * 0.00025 - 0.25) / 0.5, 0, 1) * 255
    assert np.abs(image.pixels[..., 0] - expected).max() <= 0.5 + 1e-9
    assert len(image.notes) == 1


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_lookup_table_item_without_a_table_is_ignored(write, keyword):
    empty = Dataset()
    half = Dataset()
    half.ModalityLUTType = "US"
    none = Dataset()
    none.add_new("LUTDescriptor", "US", None)
    none.add_new("LUTData", "US", None)
    window = {"WindowCenter": 600, "WindowWidth": 800, "RescaleSlope": 2, "RescaleIntercept": -100}
    expected = load_image(write(RAMP, **window))
    for item in (empty, half, none):
        image = load_image(write(RAMP, **window, **{keyword: [item]}))
        assert np.array_equal(image.pixels, expected.pixels)
        assert image.window == (600, 800)


def test_a_lookup_table_whose_first_value_is_written_without_its_sign(write):
    stored = np.array([[-3, -2, -1, 0, 1]], np.int16)
    for first in (-2, 65534):
        path = write(stored)
        data = dcmread(path)
        item = Dataset()
        item.add_new("LUTDescriptor", "US" if first > 0 else "SS", [4, first, 16])
        item.add_new("LUTData", "US", [0, 50, 100, 200])
        item.ModalityLUTType = "US"
        data.ModalityLUTSequence = [item]
        data.save_as(path)
        assert load_image(path, window=Window(128, 256)).pixels[0, :, 0].tolist() == [0, 0, 50, 100, 200]
        del data.ModalityLUTSequence
        item.LUTDescriptor = [4, first, 8]
        data.VOILUTSequence = [item]
        data.save_as(path)
        assert load_image(path).pixels[0, :, 0].tolist() == [0, 0, 50, 100, 200]


COLOURS = np.array([[10, 20, 30], [40, 50, 60], [250, 240, 230], [5, 0, 255]])
INDICES = np.array([[0, 1, 2, 3, 9]], np.uint8)


def palette(bits: int, entries: np.ndarray, width: int, big: bool = False, first: int = 0) -> dict[str, object]:
    fields: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, values in zip(("Red", "Green", "Blue"), entries.T, strict=True):
        data = values.astype(f"{'>' if big else '<'}u{width}").tobytes()
        if big and width == 1:
            data = np.frombuffer(data, "u2").byteswap().tobytes()
        fields[f"{colour}PaletteColorLookupTableDescriptor"] = [len(values), first, bits]
        fields[f"{colour}PaletteColorLookupTableData"] = data
    return fields


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
@pytest.mark.parametrize(("bits", "scale", "width"), [(8, 1, 1), (8, 1, 2), (16, 257, 2), (16, 1, 2)])
def test_palettes_of_either_width_and_order(write, syntax, bits, scale, width):
    fields = palette(bits, COLOURS * scale, width, big=syntax == uid.ExplicitVRBigEndian)
    shown = load_image(write(INDICES, syntax=syntax, **fields)).pixels
    assert shown[0].tolist() == [*COLOURS.tolist(), COLOURS[3].tolist()]


def test_a_palette_for_signed_indices(write):
    indices = np.array([[-2, -1, 0, 1]], np.int16)
    path = write(indices, **palette(8, COLOURS, 2, first=-2))
    assert load_image(path).pixels[0].tolist() == COLOURS.tolist()
    data = dcmread(path)
    for colour in ("Red", "Green", "Blue"):
        data.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [4, 65534, 8])
    data.save_as(path)
    assert load_image(path).pixels[0].tolist() == COLOURS.tolist()


@pytest.mark.parametrize("part", ["Descriptor", "Data"])
def test_a_missing_palette_is_named(write, part):
    fields = palette(8, COLOURS, 2)
    fields[f"GreenPaletteColorLookupTable{part}"] = None
    with pytest.raises(ImageError, match=f"lacks GreenPaletteColorLookupTable{part}"):
        load_image(write(INDICES, **fields))
