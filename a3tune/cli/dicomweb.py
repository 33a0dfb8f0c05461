"""``python -m a3tune dicomweb``: look for studies on a DICOMweb server, fetch a series from it, store files on it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from a3tune.dicomweb.settings import read_server
from a3tune.errors import ImageError, RequestError

HELP = "look for studies on a DICOMweb server, fetch a series, store files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    find = actions.add_parser("find", help="list the studies of a patient, of an accession number or of a day")
    find.add_argument("--patient", default="", metavar="ID", help="the patient's number, whole")
    find.add_argument("--accession", default="", metavar="N", help="the accession number, whole")
    find.add_argument("--date", default="", metavar="DAY", help="a day as 2026-11-29, or two separated by /")
    series = actions.add_parser("series", help="list the series of a study")
    fetch = actions.add_parser("fetch", help="write the images of a series into a folder, which inspect --image takes")
    for action in (series, fetch):
        action.add_argument("--study", required=True, metavar="UID")
    fetch.add_argument("--series", required=True, metavar="UID")
    fetch.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    store = actions.add_parser("store", help="store DICOM files, such as those that inspect --dicom wrote")
    store.add_argument("files", type=Path, nargs="+", metavar="FILE")
    for action in (find, series, fetch, store):
        action.add_argument(
            "--server",
            metavar="URL",
            help="the server's address up to what comes before /studies (default: the variable A3TUNE_DICOMWEB, whose "
            "name and password or token are in A3TUNE_DICOMWEB_USER, _PASSWORD and _TOKEN, for that server alone)",
        )


def run(options: argparse.Namespace) -> int:
    """Run the command; returns 0."""
    server = read_server(os.environ if options.server is None else {"A3TUNE_DICOMWEB": options.server})
    if server is None:
        raise RequestError(
            expected="a DICOMweb server", got="None is named", remedy="Give --server URL or set A3TUNE_DICOMWEB"
        )
    # It takes a moment to load.
    from a3tune.dicomweb.client import DicomWeb

    web = DicomWeb(server)
    if options.action == "find":
        for study in web.studies(patient=options.patient, accession=options.accession, date=options.date):
            print(f"{study.uid}  {study}")
    elif options.action == "series":
        for one in web.series(options.study):
            print(f"{one.uid}  {one}")
    elif options.action == "fetch":
        options.out.mkdir(parents=True, exist_ok=True)
        if any(options.out.iterdir()):
            raise RequestError(
                expected="a new or empty folder", got=f"{options.out} holds files", remedy="Name another one"
            )
        print(f"{len(web.fetch(options.study, options.series, options.out))} files in {options.out}")
    else:
        web.store(_read(options.files))
        print(f"{len(options.files)} stored on {server.name}")
    return 0


def _read(files: Sequence[Path]) -> list[pydicom.Dataset]:
    found: list[pydicom.Dataset] = []
    for path in files:
        try:
            found.append(pydicom.dcmread(path))
        except InvalidDicomError:
            raise ImageError(
                expected="DICOM files to store", got=f"{path.name} is none", remedy="Leave it out"
            ) from None
    return found
