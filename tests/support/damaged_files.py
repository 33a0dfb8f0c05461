"""Writes damaged, hostile and mislabelled image files, each with the words that its error must hold."""

from __future__ import annotations

import gzip
import io
import random
import struct
import warnings
import zlib
from pathlib import Path

import imagecodecs
import nibabel
import numpy as np
from PIL import Image, PngImagePlugin
from pydicom import Dataset, FileMetaDataset, dcmwrite, uid
from pydicom.encaps import encapsulate

SECRET = "SECRETNAME"
RAMP = np.arange(48 * 40, dtype=np.uint16).reshape(48, 40)


def encode(picture: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, **options)
    return stream.getvalue()


def rgb_picture() -> Image.Image:
    noise = np.random.default_rng(7).integers(0, 256, (48, 40, 3), np.uint8)
    return Image.fromarray(noise)


def png() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", f"patient {SECRET}")
    return encode(rgb_picture(), format="PNG", pnginfo=text)


def jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x010E] = f"patient {SECRET}"
    return encode(rgb_picture(), format="JPEG", exif=exif)


def png_sized(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its data do not have; the checksum is right."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\x00" * 100)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def dataset(syntax: uid.UID = uid.ExplicitVRLittleEndian, **values) -> Dataset:
    """A CT slice of 48 x 40 pixels full of patient data; ``values`` override or (None) remove elements."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = uid.CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.SOPClassUID, data.SOPInstanceUID = uid.CTImageStorage, "1.2.3"
    data.PatientName = data.PatientID = data.InstitutionName = data.StudyDescription = SECRET
    data.Modality = "CT"
    data.Rows, data.Columns, data.SamplesPerPixel = *RAMP.shape, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.PixelData = RAMP.tobytes()
    for keyword, value in values.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    if "PixelData" in data:
        data["PixelData"].VR = "OW"
        data["PixelData"].is_undefined_length = syntax.is_encapsulated
    return data


def dicom_bytes(data: Dataset) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcmwrite(stream, data, enforce_file_format=True)
    return stream.getvalue()


def dicom_file(syntax: uid.UID = uid.ExplicitVRLittleEndian, **values) -> bytes:
    return dicom_bytes(dataset(syntax, **values))


def compressed(syntax: uid.UID, frame: bytes, **values) -> bytes:
    return dicom_file(syntax, PixelData=encapsulate([frame]), **values)


def foreign_class(storage: uid.UID) -> bytes:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = storage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.4"
    data.PatientName = SECRET
    return dicom_bytes(data)


def encrypted_dicom() -> bytes:
    data = dataset(PixelData=None)
    item = Dataset()
    item.EncryptedContentTransferSyntaxUID = uid.ExplicitVRLittleEndian
    item.EncryptedContent = b"\x30\x80" * 8
    data.EncryptedAttributesSequence = [item]
    return dicom_bytes(data)


def nifti(values: np.ndarray | None = None, affine: np.ndarray | None = None) -> bytes:
    values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) if values is None else values
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    image.header["descrip"] = SECRET
    return image.to_bytes()


def nifti_patched(offset: int, form: str, *numbers: float) -> bytes:
    data = bytearray(nifti())
    struct.pack_into("<" + form, data, offset, *numbers)
    return bytes(data)


def unusable_affine() -> bytes:
    data = bytearray(nifti())
    struct.pack_into("<hh", data, 252, 0, 1)
    struct.pack_into("<12f", data, 280, *[float("nan")] * 12)
    return bytes(data)


def write_damaged(folder: Path) -> dict[Path, str]:
    """Write more than thirty unusable files into ``folder``; returns each with words its error must contain."""
    half_png, half_jpeg, whole_dicom = png()[:2000], jpeg()[:1500], dicom_file()
    tiff = encode(rgb_picture(), format="TIFF")
    gif, webp, bmp = (encode(rgb_picture(), format=name) for name in ("GIF", "WEBP", "BMP"))
    lossless = imagecodecs.jpeg2k_encode(RAMP, level=0, codecformat="j2k")
    wide = imagecodecs.jpeg8_encode(np.zeros((300, 400), np.uint8))
    private = compressed(uid.JPEG2000Lossless, lossless).replace(b"840.10008.1.2.4.90", b"840.99999.1.2.4.90")
    nan_tiff = encode(Image.fromarray(np.full((4, 4), np.nan, np.float32)), format="TIFF")
    corrupt_png = bytearray(png())
    corrupt_png[600:700] = bytes(100)
    files = {
        "empty.png": (b"", "empty"),
        "signature_only.png": (png()[:8], "PNG file is cut off"),
        "half.png": (half_png, "PNG file is cut off"),
        "altered.png": (bytes(corrupt_png), "PNG file is damaged"),
        "no_pixels.png": (png_sized(0, 10), "PNG file is damaged"),
        "oversized.png": (png_sized(9000, 9000), "81 megapixels"),
        "bomb.png": (png_sized(60000, 60000), "64 megapixels"),
        "half.jpg": (half_jpeg, "JPEG file is cut off"),
        "start_only.jpg": (jpeg()[:4], "JPEG file is cut off"),
        "half.gif": (gif[:600], "GIF file is cut off"),
        "half.webp": (webp[: len(webp) // 2], "WEBP file is cut off"),
        "half.bmp": (bmp[:1000], "BMP file is cut off"),
        "oversized.bmp": (bmp[:18] + struct.pack("<ii", 20000, 20000) + bmp[26:], "megapixels"),
        "start_only.tiff": (tiff[:6], "TIFF file is cut off"),
        "directory_gone.tiff": (tiff[:4] + struct.pack("<I", 10**6) + tiff[8:], "TIFF file is cut off"),
        "not_a_number.tiff": (nan_tiff, "NaN"),
        "page.jpg": (b"<!DOCTYPE html><html><body>Not found</body></html>", "web page"),
        "commented.png": (b"\n<!-- saved from url=(0019)https://example.org --><HTML><head>", "saved web page"),
        "strict.dcm": (
            b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0//EN"><html>',
            "saved web page",
        ),
        "page.nii.gz": (gzip.compress(b"<!doctype html><html></html>"), "holds a saved web page"),
        "pointer.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "pointer of Git LFS"),
        "pointer.nii.gz": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "git lfs pull"),
        "annexed.dcm": (b"/annex/objects/MD5E-s20--4d7a.dcm\n", "pointer of git-annex"),
        "notes.png": (f"Patient {SECRET}, see next scan".encode(), "text file"),
        "drawing.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        "report.dcm": (b"%PDF-1.7\n", "PDF"),
        "study.dcm": (b"PK\x03\x04" + bytes(60), "ZIP"),
        "photo.heic": (b"\x00\x00\x00\x18ftypheic" + bytes(40), "HEIC"),
        "volume.nrrd": (b"NRRD0004\ntype: short\n", "NRRD"),
        "zeros.dcm": (bytes(4096), "zeros"),
        "noise.dcm": (random.Random(3).randbytes(4096), "no known kind"),
        "openssl.dcm": (b"Salted__" + random.Random(4).randbytes(200), "encrypted"),
        "pgp.png": (b"-----BEGIN PGP MESSAGE-----\n", "encrypted"),
        "cms.dcm": (bytes.fromhex("30820400 06092a864886f70d010703") + bytes(80), "encrypted"),
        "half.dcm": (whole_dicom[:-1000], "DICOM file is cut off"),
        "no_pixel_data.dcm": (dicom_file(PixelData=None), "no pixel data"),
        "header_cut.dcm": (whole_dicom[:400], "DICOM"),
        "preamble_only.dcm": (whole_dicom[:132], "DICOM file holds no picture"),
        "encrypted.dcm": (encrypted_dicom(), "encrypted"),
        "directory.dcm": (foreign_class(uid.MediaStorageDirectoryStorage), "DICOMDIR"),
        "report_sr.dcm": (foreign_class(uid.EnhancedSRStorage), "Enhanced SR"),
        "plan.dcm": (foreign_class(uid.RTPlanStorage), "RT Plan"),
        "no_rows.dcm": (dicom_file(Rows=None), "lacks Rows"),
        "zero_rows.dcm": (dicom_file(Rows=0), "nothing to show"),
        "oversized.dcm": (dicom_file(Rows=60000, Columns=60000), "3600 megapixels"),
        "more_frames.dcm": (dicom_file(NumberOfFrames=5), "DICOM file is cut off"),
        "flat_slope.dcm": (dicom_file(RescaleSlope=0), "slope is 0"),
        "odd_colours.dcm": (dicom_file(PhotometricInterpretation=SECRET), "none that the standard defines"),
        "private_syntax.dcm": (private, "private or unknown"),
        "video.dcm": (compressed(uid.MPEG2MPML, b"\x00\x00\x01\xb3" + bytes(40)), "MPEG2"),
        "inner_bomb.dcm": (compressed(uid.JPEGBaseline8Bit, wide), "contradicts itself"),
        "half_jpeg2000.dcm": (compressed(uid.JPEG2000Lossless, lossless[:60]), "DICOM file is damaged"),
        "no_codestream.dcm": (compressed(uid.JPEG2000Lossless, bytes(64)), "in no known way"),
        "half_rle.dcm": (compressed(uid.RLELossless, bytes(70)), "its run-length data have 0"),
        "half_deflated.dcm": (dicom_file(uid.DeflatedExplicitVRLittleEndian)[:-60], "DICOM file is cut off"),
        "half.nii": (nifti()[:400], "NIfTI file is cut off"),
        "header_only.nii": (nifti()[:352], "NIfTI file is cut off"),
        "half.nii.gz": (gzip.compress(nifti(), mtime=0)[:-40], "is cut off"),
        "text.nii.gz": (gzip.compress(SECRET.encode() * 100, mtime=0), "no NIfTI volume"),
        "not_gzip.nii.gz": (b"\x1f\x8b" + bytes(100), "gzip archive is damaged"),
        "pair.hdr": (nifti()[:344] + b"ni1\x00" + bytes(4), "pair"),
        "flat.nii": (nifti_patched(42, "h", 0), "nothing to show"),
        "huge.nii": (nifti_patched(42, "3h", 32000, 32000, 32000), "too large"),
        "wide.nii": (nifti(np.zeros((9000, 9000, 1), np.uint8)), "81 megapixels"),
        "odd_type.nii": (nifti_patched(70, "h", 77), "data type 77, which is not supported"),
        "no_orientation.nii": (unusable_affine(), "orientation"),
        "not_a_number.nii": (nifti(np.full((3, 3, 3), np.nan, np.float32)), "NaN"),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    return {folder / name: words for name, (_, words) in files.items()}
