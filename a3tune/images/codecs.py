"""Decoders for the compressed frames of DICOM files.

JPEG, JPEG-LS, JPEG 2000, JPEG XL and run lengths go through imagecodecs (BSD licence), deflated frames through zlib.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import imagecodecs
import numpy as np
from pydicom import uid

from a3tune.images.content import cut_off, unsupported
from a3tune.images.dicom_header import PixelHeader, contradiction

_NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
_DEFLATED_FRAME = uid.UID("1.2.840.10008.1.2.8.1")
_ENCAPSULATED_PLAIN = uid.UID("1.2.840.10008.1.2.1.98")
_PLAIN = (uid.RLELossless, _DEFLATED_FRAME, _ENCAPSULATED_PLAIN)
# JPEG: baseline, extended, spectral selection, full progression, lossless, lossless first-order; JPEG-LS: lossless,
# near-lossless; JPEG 2000: lossless, any; JPEG XL: lossless, recompressed JPEG, any; high-throughput JPEG 2000.
_CODESTREAMS = frozenset(
    f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 53, 55, 57, 70, 80, 81, 90, 91, 110, 111, 112, 201, 202, 203)
)
JPEG_LS_MARKER = 0xF7
FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), JPEG_LS_MARKER} - {0xC4, 0xC8, 0xCC})
"""Start of frame markers of JPEG (0xC4, 0xC8 and 0xCC mean other things) and of JPEG-LS."""
COSINE_MARKERS = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
"""Those of JPEG that is made of cosine waves, in one piece."""
_RGB_NAMES = (b"RGB", b"rgb")


@dataclass(frozen=True)
class Codestream:
    """What a compressed frame says of itself.

    Attributes:
        kind: "JPEG", "JPEG-LS", "JPEG 2000" or "JPEG XL".
        height, width: size in pixels.
        components: values of one pixel; None for JPEG XL.
        precision: bits of one value; None for JPEG XL.
        signed: whether values have a sign, which only JPEG 2000 can say.
        photometric: the colour space that its markers name, or "".
    """

    kind: str
    height: int
    width: int
    components: int | None = None
    precision: int | None = None
    signed: bool = False
    photometric: str = ""


def is_native(syntax: uid.UID) -> bool:
    """Whether pixel data stand uncompressed and in one piece."""
    return syntax in _NATIVE


def check_syntax(syntax: uid.UID) -> None:
    """Refuse, by its own name, a transfer syntax that cannot be read.

    Raises:
        ImageError: video, a reference to a server, a rare form of JPEG, or a syntax that is private or unknown.
    """
    if syntax in _CODESTREAMS or syntax in _PLAIN or syntax in _NATIVE:
        return
    name, kind = (uid.UID_dictionary.get(syntax) or ("", ""))[:2]
    if kind != "Transfer Syntax":
        # Identifiers of the standard begin so; a newer one than the dictionary knows is not private.
        standard = syntax.startswith("1.2.840.10008.")
        raise unsupported(
            f"The DICOM file's pixel data are stored in a way that is not supported (transfer syntax {syntax})"
            if standard
            else "The DICOM file's pixel data are stored in a private or unknown way (possibly encrypted)",
            "Export it from its archive as uncompressed DICOM (Explicit VR Little Endian)",
        )
    raise unsupported(
        f"The DICOM file's pixel data are stored in a way that is not supported ({name})",
        "Export it as uncompressed DICOM, or a single frame of a video as PNG",
    )


def unpack_frame(source: bytes, syntax: uid.UID, header: PixelHeader) -> bytes | None:
    """The uncompressed bytes of an encapsulated frame whose layout the header alone tells; None for a codestream.

    Run lengths come out plane by plane, little endian; other frames as the header says.
    """
    if syntax not in _PLAIN:
        return None
    wanted = -(-header.frame_bits // 8)
    if syntax == uid.RLELossless:
        return _decode_run_lengths(source, header)
    plain = source
    if syntax == _DEFLATED_FRAME:
        plain = zlib.decompressobj(-zlib.MAX_WBITS).decompress(source, wanted + 1)
    if len(plain) < wanted:
        raise cut_off("DICOM")
    return plain


def _decode_run_lengths(source: bytes, header: PixelHeader) -> bytes:
    """Undo PS3.5 G: a segment for each byte of each sample, the highest byte first, each over all pixels. Values of
    fewer than 8 bits are packed before, as everywhere (PS3.5 8.1.1)."""
    width = max(1, header.allocated // 8)
    count, *starts = (int.from_bytes(source[place : place + 4], "little") for place in range(0, 64, 4))
    if count != header.samples * width:
        contradiction(f"its header asks for {header.samples * width} segments, its run-length data have {count}")
    size = -(-header.frame_bits // (8 * count))
    ends = [*starts[1:count], len(source)]
    segments = [_decode_segment(source[start:end])[:size] for start, end in zip(starts[:count], ends, strict=True)]
    if any(len(segment) < size for segment in segments):
        raise cut_off("DICOM")
    parts = np.frombuffer(b"".join(segments), np.uint8).reshape(header.samples, width, size)
    return parts[:, ::-1].transpose(0, 2, 1).tobytes()


def _decode_segment(data: bytes) -> bytes:
    try:
        return bytes(imagecodecs.packbits_decode(data))
    except RuntimeError:
        # The byte that makes a segment's length even may hold anything.
        return bytes(imagecodecs.packbits_decode(data[:-1]))


def decode_codestream(source: bytes, header: PixelHeader) -> tuple[np.ndarray, Codestream]:
    """Decode a JPEG, JPEG-LS, JPEG 2000 or JPEG XL frame; which of them it is, its own first bytes tell.

    Returns:
        int [height, width] or [height, width, 3] as encoded, colours not converted (JPEG 2000 undoes its own
        transform; JPEG XL always gives RGB), and what the codestream says of itself.

    Raises:
        ImageError: the codestream says another size or number of values than the header, or says none.
    """
    stream = _inspect(source)
    if stream is None:
        contradiction("its header says that its pixels are compressed, and they are in no known way")
    # A header that says 512 x 512 around a codestream of 60000 x 60000 would otherwise unpack to gigabytes.
    if (stream.height, stream.width) != (header.rows, header.columns):
        contradiction(
            f"its header says {header.columns} x {header.rows} pixels, the compressed picture inside "
            f"{stream.width} x {stream.height}"
        )
    if stream.components not in (None, header.samples):
        contradiction(
            f"its header says {header.samples} values for each pixel, the compressed picture inside {stream.components}"
        )
    if stream.kind == "JPEG 2000":
        pixels = imagecodecs.jpeg2k_decode(source)
    elif stream.kind == "JPEG-LS":
        pixels = imagecodecs.jpegls_decode(source)
    elif stream.kind == "JPEG XL":
        pixels = imagecodecs.jpegxl_decode(source)
    else:
        # The same colour space on both sides, so that nothing is converted.
        space = "RGB" if header.samples > 1 else "GRAYSCALE"
        pixels = imagecodecs.jpeg8_decode(source, colorspace=space, outcolorspace=space)
    if pixels.shape != (header.rows, header.columns, 3)[: 2 if header.samples == 1 else 3]:
        contradiction("its header and the compressed picture inside disagree about its size or its colours")
    return pixels, stream


def _inspect(source: bytes) -> Codestream | None:
    return _inspect_jpeg_2000(source) or _inspect_jpeg_xl(source) or _inspect_jpeg(source)


def _inspect_jpeg_2000(source: bytes) -> Codestream | None:
    """From the SIZ marker segment (ISO/IEC 15444-1 A.5.1), with or without a JP2 wrapper."""
    start = source.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0 or source[:2] == b"\xff\xd8" or len(source) < start + 43:
        return None
    right, bottom, left, top = (
        int.from_bytes(source[start + place : start + place + 4], "big") for place in (8, 12, 16, 20)
    )
    depth = source[start + 42]
    components = int.from_bytes(source[start + 40 : start + 42], "big")
    return Codestream("JPEG 2000", bottom - top, right - left, components, (depth & 0x7F) + 1, depth >= 0x80)


def _inspect_jpeg_xl(source: bytes) -> Codestream | None:
    """From the size header (ISO/IEC 18181-1 D.2), with or without a container."""
    start = 0
    if source[:12] == b"\x00\x00\x00\x0cJXL \r\n\x87\n":
        boxes = [(source.find(name, 0, 1 << 16), skip) for name, skip in ((b"jxlc", 4), (b"jxlp", 8))]
        start = min((place + skip for place, skip in boxes if place >= 0), default=len(source))
    if source[start : start + 2] != b"\xff\x0a":
        return None
    bits, place = int.from_bytes(source[start + 2 : start + 14], "little"), 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return bits >> (place - count) & ((1 << count) - 1)

    small = take(1)

    def size() -> int:
        return (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = size()
    ratio = take(3)
    across, down = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1] if ratio else (0, 1)
    return Codestream("JPEG XL", height, height * across // down if ratio else size())


def _inspect_jpeg(source: bytes) -> Codestream | None:
    """From the start of frame segment (ISO/IEC 10918-1 B.2.2, ISO/IEC 14495-1 C.2.2) and the markers before it."""
    if source[:2] != b"\xff\xd8":
        return None
    place, named = 2, ""
    while place + 10 <= len(source):
        if source[place] != 0xFF:
            return None
        marker = source[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        body = source[place + 4 : place + 2 + int.from_bytes(source[place + 2 : place + 4], "big")]
        if marker in FRAME_MARKERS:
            height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            if marker not in COSINE_MARKERS:
                named = ""
            elif not named and len(set(body[7::3][:3])) > 1:
                # Only colour differences are ever stored more coarsely.
                named = "YBR_FULL"
            named = "RGB" if body[6::3][:3] in _RGB_NAMES else named
            kind = "JPEG-LS" if marker == JPEG_LS_MARKER else "JPEG"
            return Codestream(kind, height, width, body[5], body[0], False, named)
        if marker == 0xEE and body[:5] == b"Adobe" and len(body) > 11:
            named = {0: "RGB", 1: "YBR_FULL"}.get(body[11], named)
        elif marker == 0xE0 and body[:4] == b"JFIF":
            named = named or "YBR_FULL"
        place += 4 + len(body)
    return None
