"""Stored values are what was written, whatever bits, sign, packing and compression they went through."""

from __future__ import annotations

import io
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, uid
from pydicom.encaps import generate_frames

from a3tune.errors import ImageError
from a3tune.images import load_image
from a3tune.images.dicom import read_dicom

RAMP = np.arange(0, 1200, dtype=np.uint16).reshape(30, 40)
SIGNED = (np.arange(1200, dtype=np.int16).reshape(30, 40) - 700).astype(np.int16)
COLOURS = np.random.default_rng(5).integers(0, 256, (6, 8, 3), np.uint8)
JPEG_XL = "1.2.840.10008.1.2.4.110"
DEFLATED_FRAME = "1.2.840.10008.1.2.8.1"
PLAIN_FRAME = "1.2.840.10008.1.2.1.98"


def stored(path, frame=None) -> np.ndarray:
    with open(path, "rb") as stream:
        return read_dicom(stream, frame).grey.stored


def packed(values: np.ndarray, bits: int) -> bytes:
    """Values one after the other in ``bits`` bits each, the lowest first."""
    places = np.arange(bits)
    flat = (values.reshape(-1, 1).astype(np.uint32) >> places & 1).astype(np.uint8)
    return np.packbits(flat.reshape(-1), bitorder="little").tobytes()


def pattern(values: np.ndarray, bits: int) -> np.ndarray:
    """The two's complement patterns of ``bits`` bits as unsigned numbers."""
    return (values.astype(np.int64) & (2**bits - 1)).astype(np.uint16)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_every_width_and_sign(write, syntax, dtype):
    info = np.iinfo(dtype)
    values = np.linspace(info.min, info.max, 35).astype(dtype).reshape(5, 7)
    found = stored(write(values, syntax=syntax, NumberOfFrames=None))
    assert found.tolist() == values.tolist()


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_left_aligned_values_are_moved_down(write, syntax):
    for values in (RAMP, SIGNED):
        path = write((values << 4).astype(values.dtype), syntax=syntax, BitsStored=12, HighBit=15)
        assert stored(path).tolist() == values.tolist()
        middle = (values << 2).astype(values.dtype)
        assert stored(write(middle, syntax=syntax, BitsStored=12, HighBit=13)).tolist() == values.tolist()


def test_an_impossible_highest_bit_is_ignored(write):
    for high in (3, 16, 40):
        assert stored(write(RAMP, BitsStored=12, HighBit=high)).tolist() == RAMP.tolist()


def test_unused_bits_are_left_out(write):
    overlay = RAMP | np.uint16(0xF000)
    assert stored(write(overlay, BitsStored=12)).tolist() == RAMP.tolist()
    negative = pattern(SIGNED, 12) | np.uint16(0x5000)
    path = write(negative, BitsStored=12, PixelRepresentation=1)
    assert stored(path).tolist() == SIGNED.tolist()


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_twelve_packed_bits(write, syntax):
    values = np.arange(3 * 5 * 5, dtype=np.uint16).reshape(3, 5, 5) * 54
    data = packed(values, 12)
    data += bytes(len(data) % 2)
    if syntax == uid.ExplicitVRBigEndian:
        data = np.frombuffer(data, "u2").byteswap().tobytes()
    fields = {"BitsAllocated": 12, "BitsStored": 12, "PixelData": data}
    # Frames of 25 values begin in the middle of a byte.
    for frame in range(3):
        assert stored(write(values, syntax=syntax, **fields), frame).tolist() == values[frame].tolist()
    signed = packed(pattern(SIGNED, 12), 12)
    path = write(SIGNED, BitsAllocated=12, BitsStored=12, PixelData=signed)
    assert stored(path).tolist() == SIGNED.tolist()


@pytest.mark.parametrize("syntax", [uid.RLELossless, DEFLATED_FRAME, PLAIN_FRAME, uid.ExplicitVRLittleEndian])
def test_one_bit_frames_that_end_inside_a_byte(write, syntax):
    values = np.random.default_rng(2).integers(0, 2, (3, 7, 9), np.uint8)
    parts = [packed(frame, 1) for frame in values]
    if syntax == uid.RLELossless:
        header = np.array([1, 64, *[0] * 14], "<u4").tobytes()
        parts = [header + bytes(imagecodecs.packbits_encode(part)) for part in parts]
    elif syntax == DEFLATED_FRAME:
        parts = [zlib.compress(part, wbits=-15) for part in parts]
    fields = {"BitsAllocated": 1, "BitsStored": 1}
    if syntax == uid.ExplicitVRLittleEndian:
        path = write(values, PixelData=packed(values, 1), **fields)
    else:
        path = write(values, syntax=syntax, frames=[part + bytes(len(part) % 2) for part in parts], **fields)
    for frame in range(3):
        assert stored(path, frame).tolist() == values[frame].tolist()
    assert sorted(np.unique(load_image(path).pixels)) == [0, 255]


def test_deflated_frames_of_more_bits_and_of_colours(write):
    path = write(SIGNED, syntax=DEFLATED_FRAME, frames=[zlib.compress(SIGNED.tobytes(), wbits=-15)])
    assert stored(path).tolist() == SIGNED.tolist()
    path = write(COLOURS, syntax=DEFLATED_FRAME, frames=[zlib.compress(COLOURS.tobytes(), wbits=-15)])
    assert np.array_equal(load_image(path).pixels, COLOURS)
    with pytest.raises(ImageError, match="cut off"):
        load_image(write(RAMP, syntax=DEFLATED_FRAME, frames=[zlib.compress(RAMP.tobytes()[:-2], wbits=-15)]))


@pytest.mark.parametrize("pad", [0, 0x20, 0xFF])
def test_the_pad_byte_of_run_lengths_may_hold_anything(write, pad):
    values = np.random.default_rng(6).integers(0, 256, (5, 6), np.uint8)
    segment = bytes(imagecodecs.packbits_encode(values.tobytes()))
    assert len(segment) % 2
    frame = np.array([1, 64, *[0] * 14], "<u4").tobytes() + segment + bytes([pad])
    assert stored(write(values, syntax=uid.RLELossless, frames=[frame])).tolist() == values.tolist()


def test_run_lengths_of_signed_values_with_unused_bits(write):
    for values in (SIGNED, pattern(SIGNED, 12)):
        data = dcmread(write(values, BitsStored=12, PixelRepresentation=1))
        data.compress(uid.RLELossless, encoding_plugin="pydicom")
        parts = list(generate_frames(data.PixelData, number_of_frames=1))
        path = write(values, syntax=uid.RLELossless, frames=parts, BitsStored=12, PixelRepresentation=1)
        assert stored(path).tolist() == SIGNED.tolist()


CODECS = {
    "JPEG-LS": (uid.JPEGLSLossless, imagecodecs.jpegls_encode),
    "JPEG-LS near-lossless": (uid.JPEGLSNearLossless, imagecodecs.jpegls_encode),
    "JPEG 2000": (
        uid.JPEG2000Lossless,
        lambda values: imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k"),
    ),
    "lossless JPEG": (
        uid.JPEGLosslessSV1,
        lambda values: imagecodecs.jpeg8_encode(values, lossless=True, bitspersample=16),
    ),
    "JPEG XL": (JPEG_XL, lambda values: imagecodecs.jpegxl_encode(values, lossless=True)),
}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("bits", [12, 16])
def test_signed_values_in_codecs_without_a_sign(write, name, bits):
    """As patterns of the stored bits, or as patterns of all 16."""
    syntax, encode = CODECS[name]
    for width in {bits, 16}:
        frame = encode(pattern(SIGNED, width))
        path = write(SIGNED, syntax=syntax, frames=[frame], BitsStored=bits)
        assert stored(path).tolist() == SIGNED.tolist(), width


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("values", [RAMP, SIGNED])
def test_left_aligned_values_in_codecs_are_moved_down(write, name, values):
    syntax, encode = CODECS[name]
    frame = encode(pattern(values << 4, 16))
    path = write(values, syntax=syntax, frames=[frame], BitsStored=12, HighBit=15)
    assert stored(path).tolist() == values.tolist()


@pytest.mark.parametrize("name", CODECS)
def test_unsigned_values_in_codecs(write, name):
    syntax, encode = CODECS[name]
    assert stored(write(RAMP, syntax=syntax, frames=[encode(RAMP)], BitsStored=12)).tolist() == RAMP.tolist()
    bright = RAMP + np.uint16(64000)
    assert stored(write(bright, syntax=syntax, frames=[encode(bright)])).tolist() == bright.tolist()
    # A header that says fewer bits than there are cuts nothing off.
    assert stored(write(bright, syntax=syntax, frames=[encode(bright)], BitsStored=12)).tolist() == bright.tolist()


def test_jpeg_2000_with_a_sign_of_its_own(write):
    frame = imagecodecs.jpeg2k_encode(SIGNED, level=0, codecformat="j2k")
    assert stored(write(SIGNED, syntax=uid.JPEG2000Lossless, frames=[frame])).tolist() == SIGNED.tolist()
    # The header says unsigned: its word counts, the bits are the same.
    path = write(SIGNED, syntax=uid.JPEG2000Lossless, frames=[frame], PixelRepresentation=0)
    assert stored(path).tolist() == pattern(SIGNED, 16).tolist()


def test_a_sign_that_cannot_be_known_is_refused(write):
    small = (RAMP // 5).astype(np.uint8)
    frame = imagecodecs.jpegls_encode(small)
    with pytest.raises(ImageError, match="sign of its values is uncertain"):
        load_image(write(SIGNED, syntax=uid.JPEGLSLossless, frames=[frame]))
    dark = (small // 2).astype(np.uint8)
    path = write(SIGNED, syntax=uid.JPEGLSLossless, frames=[imagecodecs.jpegls_encode(dark)])
    assert stored(path).tolist() == dark.tolist()


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55", uid.JPEGBaseline8Bit])
def test_progressive_jpeg_of_retired_processes(write, syntax):
    values = np.arange(1200, dtype=np.uint16).reshape(30, 40).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "JPEG", progressive=True, quality=95)
    expected = np.asarray(Image.open(io.BytesIO(buffer.getvalue())))
    found = stored(write(values, syntax=syntax, frames=[buffer.getvalue()]))
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("said", ["YBR_FULL_422", "RGB"])
def test_colours_of_jpeg_follow_its_own_markers(write, subsampling, said):
    smooth = np.stack([np.tile(np.arange(0, 240, 6, np.uint8), (30, 1)) // divisor for divisor in (1, 2, 3)], axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, "JPEG", quality=95, subsampling=subsampling)
    expected = np.asarray(Image.open(io.BytesIO(buffer.getvalue()))).astype(int)
    path = write(smooth, syntax=uid.JPEGBaseline8Bit, frames=[buffer.getvalue()], PhotometricInterpretation=said)
    assert np.abs(load_image(path).pixels - expected).max() <= 2


@pytest.mark.parametrize("markers", ["none", "Adobe RGB", "Adobe YCbCr"])
@pytest.mark.parametrize("said", ["YBR_FULL_422", "RGB"])
def test_colours_of_jpeg_without_the_usual_marker(write, markers, said):
    """Adobe's marker is believed; without any, coarser colours are colour differences; else the header counts."""
    smooth = np.stack([np.tile(np.arange(0, 240, 6, np.uint8), (30, 1)) // divisor for divisor in (1, 2, 3)], axis=-1)
    space = "RGB" if markers == "Adobe RGB" else "YCBCR"
    code = bytes(imagecodecs.jpeg8_encode(smooth, 95, colorspace="RGB", outcolorspace=space, subsampling="444"))
    coarse = bytes(imagecodecs.jpeg8_encode(smooth, 95, colorspace="RGB", outcolorspace=space, subsampling="420"))
    for number, whole in enumerate((code, coarse)):
        bare = whole[:2] + whole[whole.index(b"\xff\xdb") :]
        if markers != "none":
            name = b"Adobe" + bytes(6) + bytes([space == "YCBCR"])
            bare = bare[:2] + b"\xff\xee" + (len(name) + 2).to_bytes(2, "big") + name + bare[2:]
        path = write(smooth, syntax=uid.JPEGBaseline8Bit, frames=[bare], PhotometricInterpretation=said)
        wrong = markers == "none" and said == "RGB" and number == 0
        error = np.abs(load_image(path).pixels.astype(int) - smooth).max()
        assert error > 50 if wrong else error <= 6


def test_colours_of_jpeg_2000_and_jpeg_xl_undo_their_own_transform(write):
    frame = imagecodecs.jpeg2k_encode(COLOURS, level=0, codecformat="j2k", mct=True, resolutions=1)
    for said in ("YBR_RCT", "RGB"):
        path = write(COLOURS, syntax=uid.JPEG2000Lossless, frames=[frame], PhotometricInterpretation=said)
        assert np.array_equal(load_image(path).pixels, COLOURS)
    frame = imagecodecs.jpegxl_encode(COLOURS, lossless=True)
    assert np.array_equal(load_image(write(COLOURS, syntax=JPEG_XL, frames=[frame])).pixels, COLOURS)


def test_ybr_of_8_and_16_bits_and_of_partial_range(write):
    ybr = np.array([[[76, 85, 255], [150, 44, 21], [29, 255, 107], [128, 128, 128]]], np.uint8)
    red_green_blue_grey = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128]]])
    shown = load_image(write(ybr, PhotometricInterpretation="YBR_FULL")).pixels.astype(int)
    assert np.abs(shown - red_green_blue_grey).max() <= 2
    wide = ybr.astype(np.uint16) * 257
    shown = load_image(write(wide, PhotometricInterpretation="YBR_FULL")).pixels.astype(int)
    assert np.abs(shown - red_green_blue_grey).max() <= 2
    # Two grey neighbours, black (16) and white (235), that share their colour: Y Y B R.
    partial = np.array([16, 235, 128, 128], np.uint8)
    path = write(
        np.zeros((1, 2, 3), np.uint8), PhotometricInterpretation="YBR_PARTIAL_422", PixelData=partial.tobytes()
    )
    assert load_image(path).pixels.tolist() == [[[0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("usecontainer", [False, True])
@pytest.mark.parametrize("shape", [(32, 32), (40, 30), (300, 257), (8, 600), (64, 128)])
def test_a_jpeg_xl_of_another_size_than_the_header_says_is_refused_undecoded(write, monkeypatch, shape, usecontainer):
    frame = imagecodecs.jpegxl_encode(np.zeros(shape, np.uint8), lossless=True, usecontainer=usecontainer)
    path = write(np.zeros((5, 5), np.uint8), syntax=JPEG_XL, frames=[frame])
    monkeypatch.setattr(imagecodecs, "jpegxl_decode", None)
    with pytest.raises(ImageError, match=f"{shape[1]} x {shape[0]}"):
        load_image(path)


def test_components_must_agree_with_the_header(write):
    frame = imagecodecs.jpegls_encode(COLOURS[..., 0].copy())
    with pytest.raises(ImageError, match="3 values for each pixel, the compressed picture inside 1"):
        load_image(write(COLOURS, syntax=uid.JPEGLSLossless, frames=[frame]))


def test_uncompressed_colours_that_share_or_only_say_so(write):
    ybr = np.random.default_rng(8).integers(90, 160, (4, 6, 3), np.uint8)
    expected = load_image(write(ybr, PhotometricInterpretation="YBR_FULL")).pixels
    # Said to be shared by neighbours, yet stored whole: the length tells.
    assert np.array_equal(load_image(write(ybr, PhotometricInterpretation="YBR_FULL_422")).pixels, expected)
    ybr[:, 1::2, 1:] = ybr[:, ::2, 1:]
    expected = load_image(write(ybr, PhotometricInterpretation="YBR_FULL")).pixels
    shared = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], axis=-1)
    for fields in ({}, {"PlanarConfiguration": None}):
        path = write(ybr, PhotometricInterpretation="YBR_FULL_422", PixelData=shared.tobytes(), **fields)
        assert np.array_equal(load_image(path).pixels, expected)
    odd = {"PhotometricInterpretation": "YBR_FULL_422", "PixelData": bytes(30)}
    with pytest.raises(ImageError, match="pairs neighbours, and its rows have 5 pixels"):
        load_image(write(np.zeros((3, 5, 3), np.uint8), **odd))


def test_jpeg_recompressed_as_jpeg_xl(write):
    smooth = np.stack([np.tile(np.arange(0, 240, 6, np.uint8), (30, 1)) // divisor for divisor in (1, 2, 3)], axis=-1)
    for values, said in ((smooth, "YBR_FULL_422"), (smooth[..., 0].copy(), "MONOCHROME2")):
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, "JPEG", quality=95)
        frame = imagecodecs.jpegxl_encode_jpeg(buffer.getvalue())
        path = write(values, syntax="1.2.840.10008.1.2.4.111", frames=[frame], PhotometricInterpretation=said)
        expected = np.asarray(Image.open(buffer).convert("RGB")).astype(int)
        assert np.abs(load_image(path).pixels - expected).max() <= 3
