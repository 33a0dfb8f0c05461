"""Pictures in: PNG, JPEG, TIFF, WebP, BMP, GIF, DICOM and NIfTI files, and arrays, to MedicalImage."""

from a3tune.images.conventions import CONVENTIONS
from a3tune.images.grey import WINDOW_PRESETS
from a3tune.images.limits import MAX_BYTES, MAX_PIXELS
from a3tune.images.load import ImageDescription, describe_image, image_from_array, load_image, open_image
from a3tune.images.nifti import AXES
from a3tune.images.series import find_series

__all__ = [
    "AXES",
    "CONVENTIONS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "WINDOW_PRESETS",
    "ImageDescription",
    "describe_image",
    "find_series",
    "image_from_array",
    "load_image",
    "open_image",
]
