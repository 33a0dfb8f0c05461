"""Maps as DICOM Parametric Maps, and regions as DICOM Segmentations, on the pixels of the image that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from highdicom import AlgorithmIdentificationSequence, VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.seg import Segmentation, SegmentDescription
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from a3tune.errors import RequestError
from a3tune.images.frames import map_to_stored, mask_to_stored
from a3tune.inspection.dicom_study import MANUFACTURER, VERSION, DicomStudy, long_string
from a3tune.inspection.report import MapStyle, Side, multiples
from a3tune.types import MedicalImage, WeakLabels

# Terms that the standard has no codes for.
_SCHEME = "99A3TUNE"
_ATTENTION = Code("ATTENTION", _SCHEME, "Attention of a language model, in multiples of an even map")
_LOOKED_AT = Code("LOOKED_AT", _SCHEME, "Where a language model looked")
_REGION = Code("REGION", _SCHEME, "Region that an answer may come from")
_REFERENCE = Code("REFERENCE", _SCHEME, "Where the answer lies")
# What lies in a region is not known for certain: it is a place, and no tissue.
_PLACE = Code("309825002", "SCT", "Spatial and Relational Concept")
_MAPS, _SEGMENTS = 9002, 9003  # numbers of the series


class Segment(NamedTuple):
    """A mask that goes into a Segmentation.

    Attributes:
        mask: bool [height, width], source pixel frame.
        label: what it is, in words.
        kind: the same as a code.
        chosen: whether a person had a hand in it.
        maker: what made it.
    """

    mask: np.ndarray
    label: str
    kind: Code
    chosen: bool
    maker: str


def region_segments(labels: WeakLabels) -> list[Segment]:
    """The regions of an image, best first."""
    return [
        Segment(item.region.mask, f"{item.rank}: {item.phrase}", _REGION, labels.checked, labels.segmenter)
        for item in labels.regions
    ]


def mask_segment(mask: np.ndarray, label: str) -> Segment:
    """A mask that a person brought."""
    return Segment(mask, label, _REGION, True, "a file that was given")


def reference_segment(mask: np.ndarray) -> Segment:
    """The mask of where the answer lies."""
    return Segment(mask, "Reference mask", _REFERENCE, True, "the example or the data set")


def map_segments(sides: Sequence[Side], style: MapStyle, level: float | None = None) -> list[Segment]:
    """Where each map is high.

    Args:
        sides: maps of the same image.
        style: whether the maps are smooth, and on one scale.
        level: from which share of the scale's highest value on, 0 to 1; None for half of each map's own highest.
    """
    made = []
    for side, (values, upper) in zip(sides, multiples(sides, style), strict=True):
        most = float(np.nanmax(values)) if level is None else upper
        of = "its highest" if level is None else "the scale"
        cut = 0.5 if level is None else level
        label = f"attention, {side.view.adapter}: from {cut:.0%} of {of} on"
        made.append(Segment(values >= cut * most, label, _LOOKED_AT, False, side.inspection.model))
    return made


def parametric_maps(sides: Sequence[Side], style: MapStyle, study: DicomStudy) -> dict[str, Dataset]:
    """Each map in multiples of what an even map would give each patch, float32 on the stored pixels.

    Raises:
        RequestError: it is not known where the pixels lie in the patient, which a Parametric Map has to say.
    """
    image = sides[0].inspection.image
    if study.source.placement is None:
        raise _no_place("A DICOM Parametric Map", "")
    made: dict[str, Dataset] = {}
    series = generate_uid(None)
    for number, side in enumerate(sides, start=1):
        ((values, upper),) = multiples([side], style)
        stored = map_to_stored(values, image).astype(np.float32)
        unit = codes.UCUM.NoUnits
        mapping = RealWorldValueMapping(
            "attention",
            "attention over that of an even map",
            unit,
            _range(stored),
            1,
            0,
            quantity_definition=_ATTENTION,
        )
        written = ParametricMap(
            [study.origin(image)],
            stored,
            **_made_by(series, _MAPS, number),
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[VOILUTTransformation(window_center=upper / 2, window_width=upper)],
            content_label="ATTENTION",
            content_description=long_string(side.caption()),
        )
        written.SeriesDescription = long_string(f"A3Tune attention map, research only: {side.inspection.model}")
        study.complete(written, f"{side.caption()}: {side.inspection.question}")
        letter = f"{'AB'[number - 1]}_" if len(sides) == 2 else ""
        made[f"map_{letter}{side.view.adapter}"] = written
    return made


def segmentation(segments: Sequence[Segment], image: MedicalImage, comment: str, study: DicomStudy) -> Dataset:
    """Masks on the stored pixels, one segment each, which may overlap.

    Raises:
        RequestError: there are none; or neither the image nor where its pixels lie in the patient is known, one of
            which a Segmentation has to say.
    """
    if not segments:
        raise RequestError(expected="at least one region", got="There is none", remedy="Choose regions first")
    if study.source.placement is None and study.identity is None:
        raise _no_place("A DICOM Segmentation", ", or, of a DICOM file, say of whom the image is")
    masks = np.stack([mask_to_stored(one.mask, image) for one in segments], axis=-1).astype(np.uint8)[None]
    described = [
        SegmentDescription(
            number,
            long_string(one.label),
            _PLACE,
            one.kind,
            "SEMIAUTOMATIC" if one.chosen else "AUTOMATIC",
            AlgorithmIdentificationSequence(long_string(one.maker), codes.DCM.ArtificialIntelligence, VERSION),
        )
        for number, one in enumerate(segments, start=1)
    ]
    written = Segmentation(
        [study.origin(image)],
        masks,
        "BINARY",
        described,
        **_made_by(generate_uid(None), _SEGMENTS, 1),
        omit_empty_frames=False,
        content_label="REGIONS",
        content_description="Research only: not ground truth",
    )
    written.SeriesDescription = "A3Tune regions, research only"
    regions = any(one.kind == _REGION for one in segments)
    study.complete(written, comment, *(["Regions of the image that an answer may come from"] if regions else []))
    return written


def _made_by(series: str, series_number: int, number: int) -> dict[str, Any]:
    return {
        "series_instance_uid": series,
        "series_number": series_number,
        "sop_instance_uid": generate_uid(None),
        "instance_number": number,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MANUFACTURER,
        "software_versions": VERSION,
        "device_serial_number": "none",
    }


def _range(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _no_place(what: str, more: str) -> RequestError:
    return RequestError(
        expected="an image whose file says where its pixels lie in the patient",
        got=f"{what} needs that, and this one does not",
        remedy=f"Take the pictures (secondary captures){more}",
    )
