"""DICOM pictures through pydicom; of the header only modality, spacing, window, orientation and times
of frames survive."""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO, Literal

from pydicom import Dataset, dcmread, uid
from pydicom.encaps import parse_basic_offsets

from a3tune.errors import ImageError
from a3tune.images.burnt_in import burnt_in_note
from a3tune.images.codecs import check_syntax, is_native
from a3tune.images.content import Content, choose_frame, cut_off
from a3tune.images.dicom_grey import grey_frame, palette, to_bytes
from a3tune.images.dicom_header import (
    PIXEL_KEYWORDS,
    PixelHeader,
    contradiction,
    holder,
    missing_field,
    number,
    read_pixel_header,
    text,
    whole_number,
)
from a3tune.images.dicom_kinds import check_has_pixels, describe_object
from a3tune.images.dicom_pixels import read_frame
from a3tune.images.limits import check_size
from a3tune.images.orientation_letters import dicom_edges
from a3tune.images.slices import frame_order, read_placement

# The defined terms of PS3.3 C.7.3.1.1.1 that belong to pictures. Anything else in the field is free text, which may
# name a person, and is dropped.
MODALITIES = frozenset(
    (
        *("AR", "BI", "BMD", "CR", "CT", "DG", "DMS", "DX", "ECG", "EM", "EPS", "ES", "FID", "GM", "IO", "IVOCT"),
        *("IVUS", "LS", "MG", "MR", "NM", "OAM", "OCT", "OP", "OPM", "OPT", "OPTBSV", "OPTENF", "OPV", "OSS", "OT"),
        *("PA", "PT", "PX", "REG", "RF", "RG", "RTDOSE", "RTIMAGE", "SEG", "SM", "TG", "US", "VA", "XA", "XC"),
    )
)
_MAX_INFLATED = 512 * 2**20
_SPACING_PLANES = {"PixelSpacing": "", "ImagerPixelSpacing": "detector", "NominalScannedPixelSpacing": "film"}
_FRAME_TIME_VECTOR = 0x00181065
# Milliseconds beyond which a frame's time is no time.
_SHORTEST, _LONGEST = 1.0, 60_000.0
_UNDEFINED = 0xFFFFFFFF
_ITEM, _DELIMITERS = 0xFFFEE000, (0xFFFEE00D, 0xFFFEE0DD)
_LONG_FORM = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")


def read_dicom(stream: BinaryIO, frame: int | None, dataset: Dataset | None = None) -> Content:
    """Decode one frame of a DICOM file; those of a multi-frame volume are in the order of their places.

    Grey frames carry the rescale (or modality table), the header's first window, its VOI table and function, and are
    inverted for MONOCHROME1; colour (RGB, YBR, palette) becomes 8-bit RGB. ``dataset`` spares reading it again.

    Raises:
        ImageError: the file is cut off, damaged, too large, encrypted, or holds no picture, or its header lacks a
            field that its pixels need, or contradicts itself.
        RequestError: there is no such frame.
    """
    dataset = dataset or read_dataset(stream)
    check_has_pixels(dataset)
    syntax = _transfer_syntax(dataset, stream)
    check_syntax(syntax)
    rows, columns = whole_number(dataset, "Rows"), whole_number(dataset, "Columns")
    if rows is None or columns is None:
        missing_field("Rows" if rows is None else "Columns")
    check_size(rows, columns)
    header = read_pixel_header(dataset, syntax)
    count = _frame_count(dataset, syntax, header)
    chosen = choose_frame(frame, count)
    kind = describe_object(dataset)
    # Frames of a volume are counted by their place; those of other objects as they are stored.
    place = frame_order(dataset, count)[chosen] if kind is None else chosen
    stored = read_frame(dataset, syntax, header, place, count)
    grey = rgb = None
    kind = describe_object(dataset, place)
    told = text(dataset, "Modality")
    modality = told if told in MODALITIES else None
    if header.photometric == "PALETTE COLOR":
        rgb = palette(stored.values, dataset, syntax)
    elif header.samples == 3:
        rgb = to_bytes(stored.values, stored.bits)
    else:
        grey = grey_frame(stored, dataset, place, syntax, modality, header.photometric == "MONOCHROME1", kind)
    spacing, plane = _spacing(dataset, place)
    return Content(
        format="DICOM",
        frame=chosen,
        frame_count=count,
        grey=grey,
        rgb=rgb,
        modality=modality,
        spacing=spacing,
        aspect=_aspect(dataset),
        notes=tuple(note for note in ("" if kind is None else kind.note, burnt_in_note(dataset)) if note),
        placement=read_placement(dataset, place),
        edges=dicom_edges(dataset, place),
        spacing_plane=plane,
        frame_time=_frame_time(dataset, place),
    )


def read_dataset(stream: BinaryIO) -> Dataset:
    """The whole data set, which serves for any number of frames."""
    stream.seek(0)
    start = stream.read(4096)
    if uid.DeflatedExplicitVRLittleEndian.encode() in start:
        _check_inflated(stream, start)
    stream.seek(0)
    problem = None
    try:
        return dcmread(stream, force=True)
    except Exception as error:
        problem = error
    if uid.ExplicitVRBigEndian.encode() + b"\0" not in start:
        raise problem
    stream.seek(0)
    data = bytearray(stream.read())
    _close_unknown_sequences(data, 144 + int.from_bytes(data[140:144], "little"), len(data))
    return dcmread(io.BytesIO(data), force=True)


def _check_inflated(stream: BinaryIO, start: bytes) -> None:
    """Refuse a deflated data set (PS3.5 A.5) that would unpack beyond all measure, before pydicom unpacks it whole."""
    # Preamble and prefix, then (0002,0000) UL 4: the length of the meta information that follows it.
    stream.seek(144 + int.from_bytes(start[140:144], "little"))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    pending = stream.read(1 << 16)
    while pending and not inflater.eof and total <= _MAX_INFLATED:
        total += len(inflater.decompress(pending, 1 << 22))
        pending = inflater.unconsumed_tail or stream.read(1 << 16)
    if total > _MAX_INFLATED:
        raise ImageError(
            got="The DICOM file's compressed data set unpacks to more than 512 MiB",
            expected="a data set of at most 512 MiB",
            remedy="Export single frames from its archive",
        )
    if not inflater.eof:
        raise cut_off("DICOM")


def _close_unknown_sequences(data: bytearray, at: int, end: int, big: bool = True) -> int:
    """Give sequences of unknown type in a big endian data set their lengths, so that they are read as mere bytes.

    Their contents are implicit and little endian whatever the rest is (PS3.5 6.2.2), which pydicom does not expect.
    Walks the elements, or a sequence's items, from ``at`` to ``end`` or to a delimiter.

    Returns:
        where the walk ended.
    """
    order: Literal["little", "big"] = "big" if big else "little"
    while at + 8 <= end:
        tag = int.from_bytes(data[at : at + 2], order) << 16 | int.from_bytes(data[at + 2 : at + 4], order)
        if tag in _DELIMITERS:
            return at + 8
        kind = b"" if tag == _ITEM or not big else bytes(data[at + 4 : at + 6])
        place, size = (at + 8, 4) if kind in _LONG_FORM else (at + 6, 2) if kind else (at + 4, 4)
        length, start = int.from_bytes(data[place : place + size], order), place + size
        undefined = length == _UNDEFINED
        stop = end if undefined else start + length
        if tag == _ITEM or kind == b"SQ" or undefined:
            reached = _close_unknown_sequences(data, start, stop, big and kind != b"UN")
            stop = reached if undefined else stop
        if undefined and kind == b"UN":
            data[place:start] = (stop - start).to_bytes(4, "big")
        at = stop
    return at


def _transfer_syntax(dataset: Dataset, stream: BinaryIO) -> uid.UID:
    """The transfer syntax that the pixel data agree with: the first that the meta information names, else another.

    Some writers leave a second one from before a conversion, or have it in the data set instead.
    """
    stream.seek(0)
    start = stream.read(4096)
    place = start.find(b"\x02\x00\x10\x00UI")
    first = start[place + 8 : place + 8 + int.from_bytes(start[place + 6 : place + 8], "little")] if place >= 0 else b""
    names = [first.rstrip(b"\0 ").decode("ascii", "replace")]
    names += [str(source.get("TransferSyntaxUID") or "") for source in (dataset.file_meta, dataset)]
    named = [uid.UID(name) for name in names if name]
    pixels = next(dataset[keyword] for keyword in PIXEL_KEYWORDS if keyword in dataset)
    compressed = pixels.is_undefined_length or bytes((pixels.value or b"")[:4]) == b"\xfe\xff\x00\xe0"
    for name in named:
        if name.is_private or name not in uid.UID_dictionary or name.is_encapsulated == compressed:
            return name
    if compressed and not named:
        missing_field("TransferSyntaxUID")
    if named:
        contradiction(
            f"its transfer syntax is {named[0].name}, its pixel data are {'' if compressed else 'not '}compressed"
        )
    # Files without meta information are native; pydicom has told the encoding from the first element.
    implicit, little = dataset.original_encoding
    if implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian


def _frame_count(dataset: Dataset, syntax: uid.UID, header: PixelHeader) -> int:
    count = whole_number(dataset, "NumberOfFrames")
    if count is None and not dataset.get_item("NumberOfFrames"):
        return 1
    data = dataset[header.keyword].value or b""
    if count is not None and count > 0:
        # A compressed frame stands in an item of its own, with a tag and a length.
        least = header.frame_bits if is_native(syntax) else 64
        if count * least > len(data) * 8:
            raise cut_off("DICOM")
        return count
    # A number that cannot be: the data themselves tell, at least of one frame.
    return max(1, len(data) * 8 // header.frame_bits if is_native(syntax) else len(parse_basic_offsets(data)))


def _spacing(dataset: Dataset, frame: int) -> tuple[tuple[float, float] | None, str]:
    """The distances of pixels, and where they were measured (see MedicalImage): a projection's PixelSpacing that is no
    other than that at the detector was not corrected for its magnification (PS3.3 10.7.1.3)."""
    found = {}
    for keyword in _SPACING_PLANES:
        measures = holder(dataset, frame, "PixelMeasuresSequence", keyword)
        row, column = number(measures, keyword, index=0), number(measures, keyword, index=1)
        if row is not None and column is not None and row > 0 and column > 0:
            found[keyword] = row, column
    if not found:
        return None, ""
    spacing = next(iter(found.values()))
    return spacing, next(
        (plane for keyword, plane in _SPACING_PLANES.items() if plane and found.get(keyword) == spacing), ""
    )


def _frame_time(dataset: Dataset, frame: int) -> float | None:
    """Milliseconds from a frame to the next (PS3.3 C.7.6.5): its own, else the same for all, else by a rate."""
    each = number(dataset, "FrameTimeVector", index=frame + 1) or number(dataset, "FrameTimeVector", index=-1)
    rates = (number(dataset, keyword) for keyword in ("RecommendedDisplayFrameRate", "CineRate"))
    told = [number(dataset, "FrameTime"), each, *(1000 / rate if rate and rate > 0 else None for rate in rates)]
    if dataset.get("FrameIncrementPointer") == _FRAME_TIME_VECTOR:
        told.insert(0, told.pop(1))
    return next((time for time in told if time is not None and _SHORTEST <= time <= _LONGEST), None)


def _aspect(dataset: Dataset) -> float | None:
    """Height of a pixel over its width by PixelAspectRatio (PS3.3 C.7.6.3.1.7), which stands in for a spacing."""
    high, wide = (number(dataset, "PixelAspectRatio", index=place) for place in (0, 1))
    return high / wide if high is not None and wide is not None and high > 0 and wide > 0 else None
