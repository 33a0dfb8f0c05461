"""Odd and missing fields: read where the rest leaves one possibility, refused by their names where it does not."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import generate_frames

from a3tune.errors import ImageError
from a3tune.images import load_image
from a3tune.types import Window

RAMP = np.arange(0, 1200, dtype=np.uint16).reshape(30, 40)
COLOURS = np.random.default_rng(5).integers(0, 256, (6, 8, 3), np.uint8)
WINDOW = Window(600, 1000)


@pytest.mark.parametrize(
    "keyword",
    ["Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation"],
)
def test_a_missing_field_that_the_pixels_need_is_named(write, keyword):
    with pytest.raises(ImageError, match=f"lacks {keyword} "):
        load_image(write(RAMP, **{keyword: None}))
    with pytest.raises(ImageError, match=f"lacks {keyword} "):
        load_image(write(COLOURS, **{keyword: None}))


def test_the_order_of_colours_is_not_guessed(write):
    with pytest.raises(ImageError, match="lacks PlanarConfiguration"):
        load_image(write(COLOURS, PlanarConfiguration=None))
    assert np.array_equal(load_image(write(COLOURS)).pixels, COLOURS)
    planes = np.moveaxis(COLOURS, -1, 0).copy()
    assert np.array_equal(load_image(write(COLOURS, PixelData=planes.tobytes(), PlanarConfiguration=1)).pixels, COLOURS)


def test_what_the_other_fields_tell_is_filled_in(write):
    shown = load_image(write(RAMP), window=WINDOW).pixels
    for keyword in ("SamplesPerPixel", "HighBit", "NumberOfFrames"):
        assert np.array_equal(load_image(write(RAMP, **{keyword: None}), window=WINDOW).pixels, shown)
    assert np.array_equal(load_image(write(COLOURS, SamplesPerPixel=None)).pixels, COLOURS)


@pytest.mark.parametrize("said", ["0", "-1", "", None])
def test_an_impossible_number_of_frames_is_counted_in_the_data(write, said):
    one = load_image(write(RAMP, NumberOfFrames=said), window=WINDOW)
    assert one.frame_count == 1
    assert np.array_equal(one.pixels, load_image(write(RAMP), window=WINDOW).pixels)
    if said in ("0", "-1"):
        two = load_image(write(np.stack([RAMP, RAMP[::-1]]), NumberOfFrames=said), window=WINDOW, frame=1)
        assert two.frame_count == 2
        assert np.array_equal(two.pixels, one.pixels[::-1])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"SamplesPerPixel": 3}, "SamplesPerPixel is 3 and PhotometricInterpretation is MONOCHROME2"),
        ({"BitsStored": 20, "HighBit": 19}, "BitsStored is 20 and BitsAllocated is 16"),
        ({"PixelRepresentation": 7}, "PixelRepresentation is 7"),
        ({"BitsAllocated": 10, "BitsStored": 10}, "10 bits each"),
        ({"PhotometricInterpretation": "HSV"}, "HSV"),
        ({"PhotometricInterpretation": "CMYK"}, "CMYK"),
    ],
)
def test_contradictions_and_retired_kinds_are_named(write, fields, words):
    with pytest.raises(ImageError, match=words):
        load_image(write(RAMP, **fields))


def test_signed_colours_are_refused(write):
    with pytest.raises(ImageError, match="colours have a sign"):
        load_image(write(COLOURS, PixelRepresentation=1))


def test_a_picture_of_acr_nema_needs_no_photometric_interpretation(write):
    old = {"PhotometricInterpretation": None, "SamplesPerPixel": None, "SOPClassUID": None}
    path = write(RAMP, **old, RecognitionCode="ACR-NEMA 2.0")
    assert np.array_equal(load_image(path, window=WINDOW).pixels, load_image(write(RAMP), window=WINDOW).pixels)


def _with_meta(data: Dataset, path, syntaxes: list[str], in_data_set: str | None):
    """Write a file whose meta information and data set name these transfer syntaxes."""

    def element(place: bytes, kind: bytes, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return place + kind + len(value).to_bytes(2, "little") + value

    meta = b"".join(element(b"\x02\x00\x10\x00", b"UI", name.encode()) for name in syntaxes)
    start = bytes(128) + b"DICM" + element(b"\x02\x00\x00\x00", b"UL", len(meta).to_bytes(4, "little")) + meta
    if in_data_set:
        start += element(b"\x02\x00\x10\x00", b"UI", in_data_set.encode())
    bare = path.with_name("bare.dcm")
    data.save_as(bare, implicit_vr=False, little_endian=True, enforce_file_format=False)
    body = bare.read_bytes()
    path.write_bytes(start + body[body.index(b"\x08\x00\x16\x00") :])
    return path


def test_the_transfer_syntax_may_stand_in_the_data_set_or_twice(write):
    rle, native = str(uid.RLELossless), str(uid.ExplicitVRLittleEndian)
    shown = load_image(write(RAMP), window=WINDOW).pixels
    path = write(RAMP)
    data = dcmread(path)
    for syntaxes, in_data_set in (([], native), ([native], rle), ([rle], native), ([rle, native], None)):
        assert np.array_equal(load_image(_with_meta(data, path, syntaxes, in_data_set), window=WINDOW).pixels, shown)
    data = dcmread(write(RAMP))
    data.compress(uid.RLELossless, encoding_plugin="pydicom")
    for syntaxes, in_data_set in (([], rle), ([native], rle), ([rle], native)):
        assert np.array_equal(load_image(_with_meta(data, path, syntaxes, in_data_set), window=WINDOW).pixels, shown)
    with pytest.raises(ImageError, match="lacks TransferSyntaxUID"):
        load_image(_with_meta(data, path, [], None))
    with pytest.raises(ImageError, match="its transfer syntax is Explicit VR Little Endian, its pixel data are compr"):
        load_image(_with_meta(data, path, [native], None))
    with pytest.raises(ImageError, match="its pixel data are not compressed"):
        load_image(write(RAMP, syntax=uid.RLELossless))


def _unknown_sequence(inner: bytes) -> bytes:
    """A sequence of unknown type and length in a big endian data set, its one item implicit and little endian."""
    item = b"\xfe\xff\x00\xe0" + b"\xff" * 4 + inner + b"\xfe\xff\x0d\xe0" + bytes(4)
    return b"\x00\x08\x21\x12UN\0\0" + b"\xff" * 4 + item + b"\xfe\xff\xdd\xe0" + bytes(4)


def test_sequences_of_unknown_type_in_a_big_endian_file(write):
    path = write(RAMP, syntax=uid.ExplicitVRBigEndian)
    shown = load_image(path, window=WINDOW).pixels
    sound = path.read_bytes()
    place = sound.index(b"\x00\x08\x00\x60CS")
    reference = b"\x08\x00\x50\x11" + (4).to_bytes(4, "little") + b"1.2\0"
    inside = b"\x08\x00\x40\x11" + b"\xff" * 4 + b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    for inner in (b"", reference, reference + inside):
        path.write_bytes(sound[:place] + _unknown_sequence(inner) + sound[place:])
        assert np.array_equal(load_image(path, window=WINDOW).pixels, shown)
    # The same inside an item of a sequence of known type.
    outer = b"\x00\x08\x11\x40SQ\0\0" + b"\xff" * 4 + b"\xff\xfe\xe0\x00" + b"\xff" * 4
    end = b"\xff\xfe\xe0\x0d" + bytes(4) + b"\xff\xfe\xe0\xdd" + bytes(4)
    path.write_bytes(sound[:place] + outer + _unknown_sequence(reference) + end + sound[place:])
    assert np.array_equal(load_image(path, window=WINDOW).pixels, shown)


@pytest.mark.parametrize(
    ("syntax", "words"),
    [
        ("1.2.840.10008.1.2.4.52", "JPEG Extended"),
        ("1.2.840.10008.1.2.4.59", "Hierarchical"),
        ("1.2.840.10008.1.2.4.65", "JPEG Lossless, Hierarchical"),
        ("1.2.840.10008.1.2.4.92", "Part 2 Multi-component"),
        ("1.2.840.10008.1.2.4.94", "JPIP"),
        ("1.2.840.10008.1.2.4.107", "HEVC"),
        ("1.2.840.10008.1.2.7.1", "SMPTE"),
        ("1.2.840.10008.1.2.4.999", "not supported"),
        ("1.2.840.99999.1", "private or unknown"),
    ],
)
def test_transfer_syntaxes_are_refused_by_their_names(write, syntax, words):
    with pytest.raises(ImageError, match=words) as caught:
        load_image(write(RAMP, syntax=syntax, frames=[b"\xff\xd8\xff\xe0" * 8]))
    assert ("private" in str(caught.value)) == ("private" in words)


def test_counts_compressed_frames_where_their_number_is_impossible(write):
    data = dcmread(write(np.stack([RAMP, RAMP[::-1]])))
    data.compress(uid.RLELossless, encoding_plugin="pydicom")
    parts = list(generate_frames(data.PixelData, number_of_frames=2))
    path = write(np.stack([RAMP, RAMP]), syntax=uid.RLELossless, frames=parts, NumberOfFrames="0")
    assert load_image(path, window=WINDOW, frame=1).frame_count == 2
