"""Which archive may be asked is the word of whoever runs the server, and strangers may ask none."""

from __future__ import annotations

import pytest

from a3tune.dicomweb.settings import VARIABLES
from a3tune.errors import RequestError
from app.server.dicom_archive import archive_table, read_archive

NAMED = {"A3TUNE_DICOMWEB": "https://archive.example/dicom-web"}


def test_an_archive_is_asked_only_where_people_are_known():
    assert read_archive(True, 256, NAMED).limits.size == 256_000_000
    assert read_archive(True, None, NAMED).server.name == "archive.example"
    assert read_archive(False, 256, {}) is None
    with pytest.raises(RequestError, match="anybody who reaches the page"):
        read_archive(False, 256, NAMED)


def test_every_variable_is_in_the_table():
    table = archive_table()
    assert all(f"`{variable.name}`" in table for variable in VARIABLES)
