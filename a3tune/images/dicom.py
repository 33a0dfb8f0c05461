"""DICOM pictures through pydicom; of the header only modality, spacing and window survive."""

from __future__ import annotations

import math
import zlib
from typing import BinaryIO

import numpy as np
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import get_frame
from pydicom.pixels import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import as_pixel_options

from a3tune.errors import ImageError
from a3tune.images.codecs import check_codestream, choose_decoder
from a3tune.images.content import Content, check_size, choose_frame, cut_off, damaged, unsupported
from a3tune.images.grey import GreyFrame, VoiTable, WindowFunction
from a3tune.types import Window

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
_GREY = ("MONOCHROME1", "MONOCHROME2")
_FUNCTIONS: tuple[WindowFunction, ...] = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_SPACING_KEYWORDS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


def read_dicom(stream: BinaryIO, frame: int | None) -> Content:
    """Decode one frame of a DICOM file.

    Grey frames carry the rescale (or modality table), the header's first window, its VOI table and function, and are
    inverted for MONOCHROME1; colour (RGB, YBR, palette) becomes 8-bit RGB.

    Raises:
        ImageError: the file is cut off, damaged, too large, encrypted, or holds no picture.
        RequestError: there is no such frame.
    """
    dataset = _read_dataset(stream)
    syntax = _transfer_syntax(dataset)
    _check_has_picture(dataset)
    count = _whole_number(dataset.get("NumberOfFrames"), default=1)
    chosen = choose_frame(frame, count)
    if "Rows" not in dataset or "Columns" not in dataset:
        raise ImageError(
            got="The DICOM file does not say how many rows and columns its picture has",
            expected="a header with Rows and Columns",
            remedy="Export the file again from its archive",
        )
    height, width = _whole_number(dataset.Rows), _whole_number(dataset.Columns)
    check_size(height, width)
    pixels = _decode(dataset, syntax, chosen, count, (height, width))
    photometric = str(dataset.get("PhotometricInterpretation", "")).strip().upper()
    grey = rgb = None
    modality = str(dataset.get("Modality", "")).strip().upper()
    modality = modality if modality in MODALITIES else None
    if photometric == "PALETTE COLOR":
        rgb = _palette(pixels, dataset, syntax)
    elif pixels.ndim == 3:
        rgb = _to_bytes(pixels, _whole_number(dataset.get("BitsStored")))
    elif photometric in _GREY:
        grey = _grey_frame(pixels, dataset, chosen, modality, inverted=photometric == "MONOCHROME1")
    else:
        raise damaged("DICOM")
    return Content(
        format="DICOM",
        frame=chosen,
        frame_count=count,
        grey=grey,
        rgb=rgb,
        modality=modality,
        spacing=_spacing(dataset, chosen),
        aspect=_aspect(dataset),
    )


def _read_dataset(stream: BinaryIO) -> Dataset:
    stream.seek(0)
    start = stream.read(4096)
    if uid.DeflatedExplicitVRLittleEndian.encode() in start:
        _check_inflated(stream, start)
    stream.seek(0)
    return dcmread(stream, force=True)


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


def _transfer_syntax(dataset: Dataset) -> uid.UID:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax:
        return uid.UID(syntax)
    # Files without meta information are native; pydicom has told the encoding from the first element.
    implicit, little = dataset.original_encoding
    if implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian


def _check_has_picture(dataset: Dataset) -> None:
    if any(keyword in dataset for keyword in _PIXEL_KEYWORDS):
        return
    storage = uid.UID(str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or ""))
    if storage == uid.MediaStorageDirectoryStorage or "DirectoryRecordSequence" in dataset:
        raise unsupported(
            "This is a DICOMDIR, the table of contents of a DICOM medium, not a picture",
            "Open one of the files that it lists",
        )
    if "EncryptedAttributesSequence" in dataset:
        raise unsupported(
            "The DICOM file is encrypted: its picture is not readable without the key",
            "Export it from its archive without encryption",
        )
    # A name of the standard is safe to show; the name of an unknown identifier is the identifier itself.
    name = storage.name if storage in uid.UID_dictionary else ""
    if "Rows" in dataset or "Image Storage" in name:
        raise ImageError(
            got="The DICOM file has no pixel data although it is meant to hold a picture: it is cut off, or its "
            "picture was removed",
            expected="a DICOM file with pixel data",
            remedy="Copy or export it again from where it came from",
        )
    raise unsupported(
        f"The DICOM file holds no picture ({name.removesuffix(' Storage')})"
        if name
        else "The DICOM file holds no picture",
        "Choose a file of the series that holds an image",
    )


def _decode(dataset: Dataset, syntax: uid.UID, frame: int, count: int, size: tuple[int, int]) -> np.ndarray:
    """The frame as stored, colour as RGB except for palettes: [height, width] or [height, width, 3]."""
    decoder, plugin = choose_decoder(syntax)
    samples = _whole_number(dataset.get("SamplesPerPixel"), default=1)
    if samples not in (1, 3):
        raise damaged("DICOM")
    options = as_pixel_options(dataset)
    if syntax.is_encapsulated:
        source = get_frame(
            dataset.PixelData, frame, number_of_frames=count, extended_offsets=options.get("extended_offsets")
        )
        if syntax != uid.RLELossless:
            check_codestream(source, *size)
    else:
        _check_length(dataset, size[0] * size[1] * samples * count)
    options["number_of_frames"] = count
    pixels, _ = decoder.as_array(dataset, index=frame, decoding_plugin=plugin, **options)
    if pixels.shape != (*size, 3)[: 2 if samples == 1 else 3]:
        raise damaged("DICOM")
    return pixels


def _check_length(dataset: Dataset, values: int) -> None:
    keyword = next(keyword for keyword in _PIXEL_KEYWORDS if keyword in dataset)
    bits = values * _whole_number(dataset.get("BitsAllocated"))
    if str(dataset.get("PhotometricInterpretation", "")).strip() == "YBR_FULL_422":
        bits = bits * 2 // 3
    if len(dataset[keyword].value or b"") < -(-bits // 8):
        raise cut_off("DICOM")


def _grey_frame(pixels: np.ndarray, dataset: Dataset, frame: int, modality: str | None, inverted: bool) -> GreyFrame:
    stored_range = _stored_range(dataset)
    rescale = _holder(dataset, frame, "PixelValueTransformationSequence", "RescaleSlope")
    slope, intercept, kind = 1.0, 0.0, ""
    padding = None
    if dataset.get("ModalityLUTSequence"):
        pixels = apply_modality_lut(pixels, dataset)
        kind = str(dataset.ModalityLUTSequence[0].get("ModalityLUTType", ""))
        stored_range = None
    else:
        slope, intercept = _number(rescale, "RescaleSlope", 1.0), _number(rescale, "RescaleIntercept", 0.0)
        kind = str(rescale.get("RescaleType", ""))
        padding = _padding(dataset)
    if slope == 0:
        raise ImageError(
            got="The DICOM file's rescale slope is 0, which makes all grey values equal",
            expected="a rescale slope other than 0",
            remedy="Export the file again from its archive",
        )
    kind = kind.strip().upper()
    full_range = None
    if stored_range is not None:
        low, high = sorted(value * slope + intercept for value in stored_range)
        full_range = Window((low + high) / 2, high - low)
    voi = _holder(dataset, frame, "FrameVOILUTSequence", "WindowCenter")
    function = str(voi.get("VOILUTFunction", "LINEAR")).strip().upper()
    return GreyFrame(
        pixels,
        slope=slope,
        intercept=intercept,
        inverted=inverted,
        padding=padding,
        header_window=_header_window(voi),
        full_range=full_range,
        function=function if function in _FUNCTIONS else "LINEAR",
        table=_voi_table(dataset),
        hounsfield=kind == "HU" or (modality == "CT" and not kind and "RescaleSlope" in rescale),
    )


def _holder(dataset: Dataset, frame: int, sequence: str, keyword: str) -> Dataset:
    """Where a frame's ``keyword`` stands: its own functional group, the shared one, or the data set itself."""
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups) or ()
        if index < len(items):
            inner = items[index].get(sequence) or ()
            if len(inner) and keyword in inner[0]:
                return inner[0]
    return dataset


def _stored_range(dataset: Dataset) -> tuple[int, int] | None:
    """Lowest and highest value of pictures of up to 8 bits, which are made to be shown whole; else None."""
    bits = _whole_number(dataset.get("BitsStored"), default=16)
    if not 1 <= bits <= 8:
        return None
    if dataset.get("PixelRepresentation") == 1:
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


def _header_window(voi: Dataset) -> Window | None:
    """The first window of the header; a window whose width is not above 0, or no number, counts as none."""
    centre, width = _number(voi, "WindowCenter"), _number(voi, "WindowWidth")
    return Window(centre, width) if centre is not None and width is not None and width > 0 else None


def _padding(dataset: Dataset) -> tuple[float, float] | None:
    value = _number(dataset, "PixelPaddingValue")
    if value is None:
        return None
    low, high = sorted((value, _number(dataset, "PixelPaddingRangeLimit", value)))
    return low, high


def _voi_table(dataset: Dataset) -> VoiTable | None:
    items = dataset.get("VOILUTSequence") or ()
    if not len(items) or "LUTDescriptor" not in items[0] or "LUTData" not in items[0]:
        return None
    count, first, bits = (int(value) for value in items[0].LUTDescriptor)
    entries = _table_entries(items[0].LUTData, count or 2**16, _transfer_syntax(dataset))
    return VoiTable(first, _to_bytes(entries, bits))


def _palette(pixels: np.ndarray, dataset: Dataset, syntax: uid.UID) -> np.ndarray:
    """Palette indices to uint8 [height, width, 3] by PS3.3 C.7.6.3.1.5 and C.7.9."""
    count, first, bits = (int(value) for value in dataset.RedPaletteColorLookupTableDescriptor)
    count = count or 2**16
    if "RedPaletteColorLookupTableData" not in dataset:
        # Segmented tables: pydicom expands them; the indices are brought to the table's range first.
        index = np.clip(pixels.astype(np.int64), first, first + count - 1)
        return _to_bytes(apply_color_lut(index, dataset)[..., :3], bits)
    index = np.clip(pixels.astype(np.int64) - first, 0, count - 1)
    channels = [
        _to_bytes(_table_entries(dataset[f"{colour}PaletteColorLookupTableData"].value, count, syntax), bits)[index]
        for colour in ("Red", "Green", "Blue")
    ]
    return np.stack(channels, axis=-1)


def _table_entries(data: object, count: int, syntax: uid.UID) -> np.ndarray:
    """The entries of a lookup table, which pydicom hands over as bytes (OW) or as numbers (US)."""
    if isinstance(data, bytes):
        wide = len(data) >= 2 * count
        order = "<" if syntax.is_little_endian else ">"
        data = np.frombuffer(data, f"{order}u2" if wide else "u1")
    entries = np.atleast_1d(np.asarray(data)).astype(np.int64)[:count]
    if len(entries) < count:
        raise damaged("DICOM")
    return entries


def _to_bytes(values: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned samples of ``bits`` bits to uint8, the upper 8 bits kept."""
    if values.dtype == np.uint8 and bits == 8:
        return values
    if not 1 <= bits <= 64:
        raise damaged("DICOM")
    scaled = values >> (bits - 8) if bits >= 8 else values * (255 // (2**bits - 1))
    return np.clip(scaled, 0, 255).astype(np.uint8)


def _spacing(dataset: Dataset, frame: int) -> tuple[float, float] | None:
    for keyword in _SPACING_KEYWORDS:
        holder = _holder(dataset, frame, "PixelMeasuresSequence", keyword)
        row, column = _number(holder, keyword, index=0), _number(holder, keyword, index=1)
        if row is not None and column is not None and row > 0 and column > 0:
            return row, column
    return None


def _aspect(dataset: Dataset) -> float | None:
    """Height of a pixel over its width by PixelAspectRatio (PS3.3 C.7.6.3.1.7), which stands in for a spacing."""
    high, wide = (_number(dataset, "PixelAspectRatio", index=place) for place in (0, 1))
    return high / wide if high is not None and wide is not None and high > 0 and wide > 0 else None


def _number(dataset: Dataset, keyword: str, default: float | None = None, index: int = 0) -> float | None:
    """A header number, of several the one at ``index``; ``default`` where it is missing or no finite number."""
    try:
        value = dataset.get(keyword)
        value = np.atleast_1d(np.asarray(value, dtype=np.float64))[index]
    except (TypeError, ValueError, IndexError):
        return default
    return float(value) if math.isfinite(value) else default


def _whole_number(value: object, default: int = 0) -> int:
    return default if value is None or value == "" else int(value)
