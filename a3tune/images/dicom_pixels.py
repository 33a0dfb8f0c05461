"""One frame of a DICOM file as stored values: bits, sign and byte order undone, colours as RGB."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydicom import Dataset, uid
from pydicom.encaps import get_frame

from a3tune.images.codecs import Codestream, decode_codestream, is_native, unpack_frame
from a3tune.images.content import cut_off
from a3tune.images.dicom_header import PixelHeader, contradiction, missing_field

# Luma and the two colour differences to red, green and blue (PS3.3 C.7.6.3.1.2, ITU-R BT.601).
_FROM_YBR = np.array([[1.0, 0.0, 1.402], [1.0, -0.114 * 1.772 / 0.587, -0.299 * 1.402 / 0.587], [1.0, 1.772, 0.0]])
_BAND = 1 << 20


@dataclass(frozen=True, eq=False)
class StoredFrame:
    """The stored values of one frame.

    Attributes:
        values: [height, width] numbers (grey or palette indices), or [height, width, 3] unsigned RGB.
        bits: how many bits a value takes.
        raw: uint [height, width], the values with their unused bits, of uncompressed grey whose values have some.
    """

    values: np.ndarray
    bits: int
    raw: np.ndarray | None = None


def read_frame(dataset: Dataset, syntax: uid.UID, header: PixelHeader, frame: int, frames: int) -> StoredFrame:
    """Decode frame ``frame`` (from 0) of ``frames``.

    Raises:
        ImageError: the data end early, or the compressed picture contradicts the header.
    """
    if is_native(syntax):
        whole = replace(header, photometric="YBR_FULL")
        if header.photometric == "YBR_FULL_422" and len(dataset.PixelData) * 8 >= whole.frame_bits * frames:
            # Some writers say so of a picture that they have stored with all its colours.
            header = whole
        return _lay_out(_frame_bytes(dataset, header, frame, frames), frame * header.frame_bits % 8, header)
    offsets = None
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        offsets = dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths
    source = get_frame(dataset[header.keyword].value, frame, number_of_frames=frames, extended_offsets=offsets)
    plain = unpack_frame(source, syntax, header)
    if plain is not None:
        planar = True if syntax == uid.RLELossless else header.planar
        return _lay_out(plain, 0, replace(header, planar=planar))
    pixels, stream = decode_codestream(source, header)
    values, bits = _give_sign(pixels, stream, header)
    if header.samples == 1:
        return StoredFrame(values, bits)
    return StoredFrame(_to_rgb(values, bits, _encoded_space(stream, header)), bits)


def _encoded_space(stream: Codestream, header: PixelHeader) -> str:
    # Both undo a transform of their own; YBR_FULL is one that the writer made before.
    if stream.kind == "JPEG XL" or (
        stream.kind == "JPEG 2000" and header.photometric not in ("YBR_FULL", "YBR_FULL_422")
    ):
        return "RGB"
    return stream.photometric or header.photometric


def _frame_bytes(dataset: Dataset, header: PixelHeader, frame: int, frames: int) -> bytes:
    """The bytes that hold an uncompressed frame: the first of them may begin with the last bits of the one before."""
    data = dataset[header.keyword].value or b""
    if len(data) < -(-header.frame_bits * frames // 8):
        raise cut_off("DICOM")
    start, end = frame * header.frame_bits // 8, -(-(frame + 1) * header.frame_bits // 8)
    if not header.swapped:
        return data[start:end]
    even = start - start % 2
    words = np.frombuffer(data[even : end + end % 2].ljust(end + end % 2 - even, b"\0"), "u2").byteswap().tobytes()
    return words[start - even : end - even]


def _lay_out(data: bytes, first_bit: int, header: PixelHeader) -> StoredFrame:
    """Uncompressed bytes to stored values."""
    shape = (header.rows, header.columns)
    if header.keyword != "PixelData":
        order = "<" if header.little_endian else ">"
        values = np.frombuffer(data, f"{order}f{header.allocated // 8}", count=header.rows * header.columns)
        return StoredFrame(values.reshape(shape), header.allocated)
    raw = _unpack(data, first_bit, header)
    if header.samples == 1:
        raw = raw.reshape(shape)
        return StoredFrame(
            _use_bits(raw, header), header.stored, raw if header.high + 1 == header.stored < header.allocated else None
        )
    if header.photometric.endswith("_422"):
        if header.columns % 2:
            contradiction(f"{header.photometric} pairs neighbours, and its rows have {header.columns} pixels")
        # The standard's order is Y Y B R for two neighbours (PS3.3 C.7.6.3.1.2).
        pairs = raw.reshape(-1, 4)
        raw = pairs[:, [0, 2, 3, 1, 2, 3]].reshape(*shape, 3)
    elif header.planar is None:
        missing_field("PlanarConfiguration")
    elif header.planar:
        raw = np.moveaxis(raw.reshape(3, *shape), 0, -1)
    else:
        raw = raw.reshape(*shape, 3)
    values = _use_bits(raw, header)
    return StoredFrame(_to_rgb(values, header.stored, header.photometric), header.stored)


def _unpack(data: bytes, first_bit: int, header: PixelHeader) -> np.ndarray:
    """The frame's numbers of ``allocated`` bits each, unsigned."""
    bits = header.allocated
    count = header.frame_bits // bits
    if bits % 8 == 0:
        order = "<" if header.little_endian else ">"
        return np.frombuffer(data, f"{order}u{bits // 8}", count=count)
    # One after the other without a gap, the lowest bit first (PS3.5 8.1.1).
    if bits == 1:
        return np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[first_bit : first_bit + count]
    # 12 bits: two values in three bytes; a frame may begin at the second of them.
    odd = first_bit // 4
    data = bytes(odd) + data
    triples = np.frombuffer(data + bytes(-len(data) % 3), np.uint8).reshape(-1, 3).astype(np.uint16)
    pairs = np.stack([triples[:, 0] | (triples[:, 1] & 15) << 8, triples[:, 1] >> 4 | triples[:, 2] << 4], axis=1)
    return pairs.reshape(-1)[odd : odd + count]


def _use_bits(raw: np.ndarray, header: PixelHeader) -> np.ndarray:
    """The bits that count, moved down to the lowest place; the others may hold anything (overlays)."""
    kind = np.dtype(f"u{raw.dtype.itemsize}")
    values = raw.astype(kind, copy=False) >> kind.type(header.high + 1 - header.stored)
    if header.stored < header.allocated:
        values = values & kind.type(2**header.stored - 1)
    return _extend_sign(values, header.stored) if header.signed else values


def _extend_sign(values: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned patterns of ``bits`` bits to the two's complement numbers that they stand for."""
    signed = values.view(f"i{values.dtype.itemsize}")
    gap = 8 * values.dtype.itemsize - bits
    return signed << gap >> gap if gap else signed


def _give_sign(pixels: np.ndarray, stream: Codestream, header: PixelHeader) -> tuple[np.ndarray, int]:
    """A codestream's numbers to stored values, and how many bits they take.

    JPEG, JPEG-LS and JPEG XL know no sign: a writer packs the patterns of the stored bits, or of all allocated ones.
    JPEG 2000 knows it, and may contradict the header, whose word then counts.
    """
    precision = stream.precision or 8 * pixels.dtype.itemsize
    if stream.signed and header.signed:
        return pixels, max(precision, header.stored)
    if stream.signed:
        pixels = pixels.view(f"u{pixels.dtype.itemsize}")
        pixels = pixels & pixels.dtype.type(2**precision - 1)
    above = header.high + 1 - header.stored
    if above > 0 and precision > header.high:
        # The stored bits do not lie lowest.
        pixels = pixels >> pixels.dtype.type(above) & pixels.dtype.type(2**header.stored - 1)
        precision = header.stored
    highest = int(pixels.max())
    bits = header.stored if header.stored <= precision and highest < 2**header.stored else precision
    if not header.signed:
        return pixels, bits
    if bits < header.stored and highest >= 2 ** (bits - 1):
        contradiction(
            f"its header says signed values of {header.stored} bits, the compressed picture inside holds {bits} bits, "
            "so that the sign of its values is uncertain"
        )
    return _extend_sign(np.ascontiguousarray(pixels), bits), bits


def _to_rgb(values: np.ndarray, bits: int, space: str) -> np.ndarray:
    """Unsigned colours of ``bits`` bits to RGB of the same type (PS3.3 C.7.6.3.1.2)."""
    if not space.startswith("YBR_FULL") and not space.startswith("YBR_PARTIAL"):
        return values
    half, top = 2 ** (bits - 1), 2**bits - 1
    # Partial range: luma of 8 bits from 16 to 235, colour differences from 16 to 240.
    floor, luma, colour = (16, 219 / 255, 224 / 255) if "PARTIAL" in space else (0, 1.0, 1.0)
    rgb = np.empty_like(values)
    rows = max(1, _BAND // values.shape[1])
    for row in range(0, values.shape[0], rows):
        band = values[row : row + rows].astype(np.float64) - (floor * 2 ** (bits - 8) if floor else 0, half, half)
        mixed = (band / (luma, colour, colour)) @ _FROM_YBR.T
        rgb[row : row + rows] = np.clip(np.rint(mixed), 0, top)
    return rgb
