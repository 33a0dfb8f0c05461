"""Whether a server keeps things encrypted, and with which key."""

from __future__ import annotations

import base64

import pytest

from a3tune.errors import RequestError
from app.kept.key import read_key

KEY = bytes(range(32))
TEXT = base64.b64encode(KEY).decode()


def test_a_key_comes_from_a_variable_or_a_file_and_only_where_it_is_wanted(tmp_path):
    file = tmp_path / "key"
    file.write_text(f"{TEXT}\n")
    assert read_key("server", {"A3TUNE_KEEP": "encrypted", "A3TUNE_KEEP_KEY": TEXT}) == KEY
    assert read_key("server", {"A3TUNE_KEEP": "encrypted", "A3TUNE_KEEP_KEY_FILE": str(file)}) == KEY
    assert read_key("server", {"A3TUNE_KEEP_KEY": TEXT}) is None
    assert read_key("local", {"A3TUNE_KEEP": "no"}) is None


@pytest.mark.parametrize(
    ("deployment", "variables", "words"),
    [
        ("server", {}, "There is none"),
        ("server", {"A3TUNE_KEEP_KEY": base64.b64encode(KEY[:31]).decode()}, "32 bytes"),
        ("server", {"A3TUNE_KEEP_KEY": "no key at all!"}, "32 bytes"),
        ("server", {"A3TUNE_KEEP_KEY_FILE": "/nowhere/key"}, "cannot be read"),
        ("server", {"A3TUNE_KEEP": "yes", "A3TUNE_KEEP_KEY": TEXT}, "It is yes"),
        ("local", {"A3TUNE_KEEP_KEY": TEXT}, "It is local"),
        ("space", {"A3TUNE_KEEP_KEY": TEXT}, "It is space"),
    ],
)
def test_without_a_good_key_nothing_starts(deployment, variables, words):
    with pytest.raises(RequestError, match=words):
        read_key(deployment, {"A3TUNE_KEEP": "encrypted", **variables})
