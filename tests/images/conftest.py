from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, FileMetaDataset, uid
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a DICOM file around stored pixels [rows, columns], [frames, rows, columns] or [rows, columns, 3].

    Keywords name elements that are set, or left out where they are None; ``syntax`` is the transfer syntax, ``frames``
    are compressed frames to put in place of the pixels.
    """

    def write_file(stored: np.ndarray, syntax: str = uid.ExplicitVRLittleEndian, frames=None, **elements) -> Path:
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = uid.UID(syntax)
        data.file_meta.MediaStorageSOPClassUID = elements.get("SOPClassUID", uid.MRImageStorage) or "1.2.3.4"
        data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        colour = stored.ndim == 3 and stored.shape[-1] == 3
        data.SOPClassUID, data.SOPInstanceUID = uid.MRImageStorage, "1.2.3"
        data.Modality, data.PhotometricInterpretation = "MR", "RGB" if colour else "MONOCHROME2"
        data.Rows, data.Columns = stored.shape[:2] if colour else stored.shape[-2:]
        data.SamplesPerPixel = 3 if colour else 1
        if colour:
            data.PlanarConfiguration = 0
        elif stored.ndim == 3:
            data.NumberOfFrames = len(stored)
        data.BitsAllocated = data.BitsStored = stored.dtype.itemsize * 8
        data.PixelRepresentation = int(stored.dtype.kind == "i")
        for keyword, value in elements.items():
            setattr(data, keyword, value)
        if data.get("BitsStored") and "HighBit" not in elements:
            data.HighBit = data.BitsStored - 1
        if "PixelData" not in data:
            big = syntax == uid.ExplicitVRBigEndian
            native = (stored.astype(stored.dtype.newbyteorder(">")) if big else stored).tobytes()
            if big and stored.dtype.itemsize == 1:
                native = np.frombuffer(native + bytes(len(native) % 2), "u2").byteswap().tobytes()
            data.PixelData = encapsulate(frames) if frames else native
        data["PixelData"].VR = "OB" if frames else "OW"
        data["PixelData"].is_undefined_length = bool(frames)
        for keyword in [keyword for keyword, value in elements.items() if value is None]:
            delattr(data, keyword)
        path = tmp_path / "file.dcm"
        with DicomBytesIO() as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stream.write(bytes(128) + b"DICM")
            write_file_meta_info(stream, data.file_meta)
            stream.is_implicit_VR = syntax == uid.ImplicitVRLittleEndian
            stream.is_little_endian = syntax != uid.ExplicitVRBigEndian
            write_dataset(stream, data)
            path.write_bytes(stream.getvalue())
        return path

    return write_file
