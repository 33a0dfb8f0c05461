"""The digests of a data set's files."""

import hashlib

import pytest

from a3tune.data.file_digests import FileDigests
from a3tune.errors import DataError


def test_each_file_is_read_once_and_a_lost_one_is_told(tmp_path):
    image = tmp_path / "image.png"
    image.write_bytes(b"first")
    digests = FileDigests()
    assert digests[image] == hashlib.sha256(b"first").hexdigest()
    image.write_bytes(b"second")
    assert digests[image] == hashlib.sha256(b"first").hexdigest()
    assert FileDigests()[image] == hashlib.sha256(b"second").hexdigest()
    with pytest.raises(DataError, match=r"mask\.png cannot be read any more"):
        digests[tmp_path / "mask.png"]
    assert list(digests) == [image]
