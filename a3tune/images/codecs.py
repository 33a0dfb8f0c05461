"""Decoders for the compressed pixel data of DICOM files.

Native and run-length encoded data and baseline JPEG go through pydicom's own plugins (NumPy, Pillow). JPEG of 12 bits,
lossless JPEG, JPEG-LS and JPEG 2000 go through imagecodecs (BSD licence), plugged into decoders of our own: pydicom's
registry, which other code in the process may use, stays as it is. pydicom knows other plugins for these; the ones it
finds first are either under the GPL or write to the terminal when data are damaged.
"""

from __future__ import annotations

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.pixels import get_decoder
from pydicom.pixels.common import PhotometricInterpretation
from pydicom.pixels.decoders.base import Decoder, DecodeRunner

from a3tune.errors import ImageError
from a3tune.images.content import damaged, unsupported

_JPEG = (uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
_JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
_JPEG_2000 = (
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.HTJ2K,
)
DECODER_DEPENDENCIES = dict.fromkeys((*_JPEG, *_JPEG_LS, *_JPEG_2000), ("imagecodecs",))
"""The transfer syntaxes that the plugin decodes; pydicom asks every plugin module for this name."""

# Start of frame markers of JPEG (0xC4, 0xC8 and 0xCC mean other things) and of JPEG-LS.
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})


def is_available(syntax: str) -> bool:
    """Whether the plugin decodes this transfer syntax; pydicom asks every plugin module."""
    return syntax in DECODER_DEPENDENCIES


def decode_frame(source: bytes, runner: DecodeRunner) -> bytes:
    """Decode one encoded frame to raw samples, colour by pixel; called by pydicom."""
    syntax = runner.transfer_syntax
    if syntax in _JPEG_2000:
        frame = imagecodecs.jpeg2k_decode(source)
        # The decoder undoes the codestream's own colour transform.
        if runner.photometric_interpretation in (PhotometricInterpretation.YBR_ICT, PhotometricInterpretation.YBR_RCT):
            runner.set_option("photometric_interpretation", PhotometricInterpretation.RGB)
    elif syntax in _JPEG_LS:
        frame = imagecodecs.jpegls_decode(source)
    else:
        frame = imagecodecs.jpeg8_decode(source, colorspace=_same(runner), outcolorspace=_same(runner))
    if runner.samples_per_pixel > 1:
        runner.set_option("planar_configuration", 0)
    runner.set_option("bits_allocated", frame.dtype.itemsize * 8)
    return np.ascontiguousarray(frame).tobytes()


def _same(runner: DecodeRunner) -> str:
    """The colour space to name on both sides, so that the JPEG decoder converts nothing: pydicom does that."""
    return "RGB" if runner.samples_per_pixel > 1 else "GRAYSCALE"


def _plugged(syntax: uid.UID) -> Decoder:
    decoder = Decoder(syntax)
    decoder.add_plugin("imagecodecs", (__name__, decode_frame.__name__))
    return decoder


_DECODERS = {syntax: _plugged(syntax) for syntax in DECODER_DEPENDENCIES}


def choose_decoder(syntax: uid.UID) -> tuple[Decoder, str]:
    """The decoder for a transfer syntax and the plugin to name to it ("" for native data).

    Raises:
        ImageError: video, or a syntax that is private or unknown.
    """
    if syntax in _DECODERS:
        return _DECODERS[syntax], "imagecodecs"
    if syntax == uid.JPEGBaseline8Bit:
        return get_decoder(syntax), "pillow"
    if syntax == uid.RLELossless:
        return get_decoder(syntax), "pydicom"
    if syntax in uid.PrivateTransferSyntaxes or syntax not in uid.AllTransferSyntaxes:
        raise unsupported(
            "The DICOM file's pixel data are stored in a private or unknown way (possibly encrypted)",
            "Export it from its archive as uncompressed DICOM (Explicit VR Little Endian)",
        )
    if syntax.is_encapsulated:
        raise unsupported(
            f"The DICOM file's pixel data are stored in a way that is not supported ({syntax.name})",
            "Export it as uncompressed DICOM, or a single frame of a video as PNG",
        )
    return get_decoder(syntax), ""


def check_codestream(source: bytes, height: int, width: int) -> None:
    """Compare a compressed frame's own size with the header's before it is decoded.

    A header that says 512 x 512 around a codestream of 60000 x 60000 would otherwise unpack to gigabytes.

    Raises:
        ImageError: the codestream says another size than the header, or says none.
    """
    size = _jpeg_2000_size(source) or _jpeg_size(source)
    if size is None:
        raise damaged("DICOM")
    if size != (height, width):
        raise ImageError(
            got=f"The DICOM file contradicts itself: its header says {width} x {height} pixels, the compressed "
            f"picture inside {size[1]} x {size[0]}",
            expected="the same size in both",
            remedy="Export the file again from its archive",
        )


def _jpeg_2000_size(source: bytes) -> tuple[int, int] | None:
    """(height, width) from the SIZ marker segment (ISO/IEC 15444-1 A.5.1), with or without a JP2 wrapper."""
    start = source.find(b"\xff\x4f\xff\x51", 0, 4096)
    fields = source[start + 8 : start + 24]
    if start < 0 or len(fields) < 16:
        return None
    right, bottom, left, top = (int.from_bytes(fields[place : place + 4], "big") for place in (0, 4, 8, 12))
    return bottom - top, right - left


def _jpeg_size(source: bytes) -> tuple[int, int] | None:
    """(height, width) from the start of frame segment (ISO/IEC 10918-1 B.2.2, ISO/IEC 14495-1 C.2.2)."""
    if source[:2] != b"\xff\xd8":
        return None
    place = 2
    while place + 9 <= len(source):
        if source[place] != 0xFF:
            return None
        marker = source[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        if marker in _FRAME_MARKERS:
            height, width = source[place + 5 : place + 7], source[place + 7 : place + 9]
            return int.from_bytes(height, "big"), int.from_bytes(width, "big")
        place += 2 + int.from_bytes(source[place + 2 : place + 4], "big")
    return None
