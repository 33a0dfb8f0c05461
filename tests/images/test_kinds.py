"""Files of other kinds are refused by their names, never as damaged pictures."""

from __future__ import annotations

import io

import pytest

from a3tune.errors import ImageError
from a3tune.images.kinds import detect_kind

BODY = bytes(range(256)) * 3


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"P6\n2 2\n255\n", "Netpbm"),
        (b"P5 2 2 65535\n", "Netpbm"),
        (b"DDS |\0\0\0", "texture"),
        (b"\1\0\0\0" + bytes(36) + b" EMF", "Windows metafile"),
        (b"Image type: Greyscale", "rare kind"),
        (bytes(2) + b"\2" + bytes(9) + b"\4\0\4\0\x18\0", "Targa"),
        (b"\x01\xda\x01\x02", "SGI"),
        (b"\xc5\xd0\xd3\xc6", "PostScript"),
        (b"TRACK\0", "fibre tracks"),
        (b"MATRIX72v\0", "ECAT"),
        (b"\0\0\0\x01\0\0\x01\0", "MGH"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Office"),
        (b"\x0e\x42\0\0\x12\xaf", "animation"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"\xff\x0a\xff\x07", "JPEG XL"),
        (bytes(12) * 21 + b"five_ustar"[:5] + b"ustar\0", "tar archive"),
    ],
)
def test_refuses_other_files_by_their_kind(start, words):
    with pytest.raises(ImageError, match=words) as caught:
        detect_kind(io.BytesIO(start + BODY))
    assert "damaged" not in str(caught.value)


def test_a_file_of_no_known_kind_is_called_neither_damaged_nor_encrypted():
    with pytest.raises(ImageError, match="no known kind") as caught:
        detect_kind(io.BytesIO(b"\x80\x91\xa2\xb3" + BODY))
    assert "damaged" not in str(caught.value)
    assert "encrypted" not in str(caught.value)
