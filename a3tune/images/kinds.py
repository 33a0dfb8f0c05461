"""Which kind of file this is, told from its first bytes alone: names and extensions may lie."""

from __future__ import annotations

import gzip
import zlib
from typing import Any, BinaryIO

from a3tune.errors import ImageError
from a3tune.images.content import cut_off, unsupported
from a3tune.storage import stand_in_of

_HEAD = 544

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)

_ENCRYPTED = "Decrypt it with the program or key that it was encrypted with, then open the result"
_CONVERT = "Convert it to PNG, DICOM or NIfTI and open the result"
_UNPACK = "Unpack it and open one of the pictures inside"
_PRINT = "Save the page or figure as PNG and open that"

_FOREIGN = (
    (b"%PDF", "This is a PDF document, not a picture", _PRINT),
    (b"PK\x03\x04", "This is a ZIP archive, not a picture", _UNPACK),
    (b"Rar!", "This is a RAR archive, not a picture", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "This is a 7-Zip archive, not a picture", _UNPACK),
    (b"BZh", "This is a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ", "This is an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "This is a Zstandard archive", _UNPACK),
    (b"Salted__", "The file is encrypted (OpenSSL)", _ENCRYPTED),
    (b"-----BEGIN PGP", "The file is encrypted (PGP)", _ENCRYPTED),
)

# Other files that people have at hand, by what they begin with.
_UNSUPPORTED: tuple[tuple[Any, ...], ...] = (
    ("an NRRD volume", b"NRRD"),
    ("a MetaImage volume", b"ObjectType"),
    ("an HDF5 file (MINC, ...)", b"\x89HDF"),
    ("a NetCDF file (MINC)", b"CDF\x01", b"CDF\x02"),
    ("an MGH volume", b"\x00\x00\x00\x01\x00\x00"),
    ("an ECAT volume", b"MATRIX7"),
    ("an MRtrix file", b"mrtrix "),
    ("a TrackVis file of fibre tracks", b"TRACK\x00"),
    ("a FITS file", b"SIMPLE  ="),
    ("a JPEG 2000 picture", b"\x00\x00\x00\x0cjP  \r\n\x87\n"),
    ("a JPEG 2000 codestream", b"\xff\x4f\xff\x51"),
    ("a JPEG XL picture", b"\xff\x0a", b"\x00\x00\x00\x0cJXL "),
    ("a JPEG XR picture", b"II\xbc"),
    ("a Photoshop document", b"8BPS"),
    ("a NumPy array", b"\x93NUMPY"),
    ("an icon or cursor file", b"\x00\x00\x01\x00", b"\x00\x00\x02\x00", b"icns"),
    ("a Netpbm picture", *(b"P%c%c" % (kind, gap) for kind in b"1234567fF" for gap in b" \n\r\t")),
    ("an SGI picture", b"\x01\xda"),
    ("a Sun raster picture", b"\x59\xa6\x6a\x95"),
    ("a PCX picture", b"\x0a\x05\x01", b"\xb1\x68\xde\x3a"),
    ("an OpenEXR picture", b"\x76\x2f\x31\x01"),
    ("a QOI picture", b"qoif"),
    ("a texture (DDS, BLP, FTEX)", b"DDS ", b"BLP1", b"BLP2", b"FTEX"),
    ("a PostScript file", b"%!PS", b"\xc5\xd0\xd3\xc6"),
    ("a Windows metafile", b"\xd7\xcd\xc6\x9a"),
    ("an Office or FlashPix document", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    ("a weather data file", b"GRIB", b"BUFR"),
    ("a video", b"\x1a\x45\xdf\xa3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"),
)

# What stands in the third byte of a Targa picture, and in the seventeenth.
_LIKE_TARGA = "This looks like a Targa (TGA) picture, which is not supported"
_TARGA = tuple(bytes([kind]) for kind in (1, 2, 3, 9, 10, 11))
_TARGA_DEPTHS = tuple(bytes([depth]) for depth in (8, 15, 16, 24, 32))

# The value representations that may open a data set without a preamble (PS3.5 6.2).
_OPENING_VRS = (b"UL", b"UI", b"OB", b"CS", b"LO", b"SH", b"DA", b"TM", b"US", b"ST", b"PN", b"IS")

# Object identifier of CMS enveloped data, 1.2.840.113549.1.7.3: how secured DICOM media files begin (PS3.10 7.4).
_CMS_ENVELOPE = bytes.fromhex("2a864886f70d010703")


def detect_kind(stream: BinaryIO) -> str:
    """Tell what a file is from its contents; the stream is left at its start.

    Returns:
        "PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "DICOM", "NIfTI" or "NIfTI.gz".

    Raises:
        ImageError: the file is empty, encrypted, or of a kind that cannot be shown.
    """
    stream.seek(0)
    head = stream.read(_HEAD)
    stream.seek(0)
    if not head:
        raise ImageError(
            got="The file is empty (0 bytes)",
            expected="a file with a picture in it",
            remedy="Copy or download it again from where it came from",
        )
    if head[128:132] == b"DICM":
        return "DICOM"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head.startswith(b"\x1f\x8b"):
        return _inside_gzip(stream)
    if _is_nifti(head):
        return "NIfTI"
    _refuse_foreign(head)
    if _is_bare_dicom(head):
        return "DICOM"
    _refuse_unknown(head)
    raise unsupported(
        "The file is of no known kind of picture",
        "Open it in the program that made it and export it as PNG",
    )


def _inside_gzip(stream: BinaryIO) -> str:
    try:
        with gzip.GzipFile(fileobj=stream, mode="rb") as unpacked:
            head = unpacked.read(_HEAD)
        problem = None
    except EOFError:
        head, problem = b"", cut_off("gzip")
    except (OSError, zlib.error):
        head, problem = b"", unsupported("The gzip archive is damaged", "Copy it again from where it came from")
    stream.seek(0)
    if problem is not None:
        raise problem
    if _is_nifti(head):
        return "NIfTI.gz"
    if head[128:132] == b"DICM":
        raise unsupported("This is a DICOM file packed with gzip", "Unpack it (gunzip) and open the result")
    _refuse_foreign(head)
    if found := stand_in_of(head):
        raise unsupported(f"The gzip archive holds {found.what}", found.remedy)
    if 0 < len(head) < _HEAD and not head.strip(b"\x00"):
        raise unsupported("The gzip archive holds only zeros", "Copy it again from where it came from")
    raise unsupported("This is a gzip archive that holds no NIfTI volume", _UNPACK)


def _is_nifti(head: bytes) -> bool:
    """NIfTI-1 or NIfTI-2, single file or the header of a pair, in either byte order."""
    sizes = {head[:4], head[3::-1]}
    one = (348).to_bytes(4, "little") in sizes and head[344:347] in (b"n+1", b"ni1")
    two = (540).to_bytes(4, "little") in sizes and head[4:7] in (b"n+2", b"ni2")
    return one or two


def _is_bare_dicom(head: bytes) -> bool:
    """A data set without preamble: a first element of group 2 or 8, explicit or implicit, either byte order."""
    if head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:4] == b"\x00":
        explicit = head[4:6] in _OPENING_VRS
        return explicit or int.from_bytes(head[4:8], "little") <= 256
    return head[:2] in (b"\x00\x02", b"\x00\x08") and head[2:3] == b"\x00" and head[4:6] in _OPENING_VRS


def _refuse_foreign(head: bytes) -> None:
    # It begins as a cursor file does, but for the number of cursors.
    if head[:8] == b"\0\0\2" + bytes(5):
        raise unsupported(_LIKE_TARGA, _CONVERT)
    for signature, what, remedy in _FOREIGN:
        if head.startswith(signature):
            raise unsupported(what, remedy)
    for name, *beginnings in _UNSUPPORTED:
        if head.startswith(tuple(beginnings)):
            raise unsupported(f"This is {name}, which is not supported", _CONVERT)
    if head[257:262] == b"ustar":
        raise unsupported("This is a tar archive", _UNPACK)
    if head[4:6] in (b"\x11\xaf", b"\x12\xaf") or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        raise unsupported("This is a video or animation, which is not supported", _CONVERT)
    if head[:1] == b"\x30" and _CMS_ENVELOPE in head[:40]:
        raise unsupported("The file is encrypted (a CMS envelope, as on secured DICOM media)", _ENCRYPTED)
    if head[40:44] == b" EMF":
        raise unsupported("This is a Windows metafile, which is not supported", _PRINT)
    if head[20:24] == b"GIMP" or head.startswith((b"gimp xcf", b"Image type: ", b"DanM", b"LinS")):
        raise unsupported("This is a picture of a rare kind (GIMP, IM, MSP), which is not supported", _CONVERT)
    if head[4:8] == b"ftyp":
        raise unsupported("This is a video, HEIC or AVIF file, which is not supported", _CONVERT)
    if head[:4] in ((348).to_bytes(4, "little"), (348).to_bytes(4, "big")):
        raise unsupported("This is an Analyze volume header, which does not carry its orientation", _CONVERT)


def _refuse_unknown(head: bytes) -> None:
    if not head.strip(b"\x00"):
        raise unsupported("The file begins with nothing but zeros", "Copy or download it again from where it came from")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<svg", b"<?xml")) and b"<html" not in text:
        raise unsupported("This is an XML or SVG file, not a pixel picture", _PRINT)
    if found := stand_in_of(head):
        raise unsupported(f"This is {found.what}", found.remedy)
    depth, flags = head[16:17], head[17:18]
    if head[1:2] in (b"\0", b"\1") and head[2:3] in _TARGA and depth in _TARGA_DEPTHS and flags and flags[0] < 64:
        raise unsupported(_LIKE_TARGA, _CONVERT)
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        raise unsupported("This is a text file, not a picture", "Choose the picture itself")
