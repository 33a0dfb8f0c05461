"""Numbers in the browser: half precision read from text, and told as a person reads them."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from a3tune.encoding import base64_halves, base64_maps


def test_every_half_precision_number_is_read_exactly(call_module):
    halves = np.arange(65536, dtype="<u2").view("<f2")
    text = base64.b64encode(halves.tobytes()).decode()
    read = np.array(call_module("common/static/base64.js", "float16Of", text), dtype=np.float64)
    np.testing.assert_array_equal(read, halves.astype(np.float64))


def test_maps_keep_their_digits_however_little_falls_on_the_image(call_module):
    even = np.random.default_rng(0).random((4, 576)) ** 8
    maps = even / even.sum(axis=1, keepdims=True) * np.array([1.0, 1e-3, 1e-5, 1e-7])[:, None]
    assert not np.frombuffer(base64.b64decode(base64_halves(maps)), "<f2").reshape(maps.shape)[3].any()
    for part, scaled in ((maps, True), (maps[:1], False), (maps[2:], True), (0 * maps, False)):
        text = base64_maps(part)
        assert (":" in text) == scaled
        read = np.array(call_module("common/static/base64.js", "float16Of", text)).reshape(part.shape)
        # One of 256 colours is a 256th of the highest; numbers on the scale are told with three digits.
        assert np.all(np.abs(read - part) <= np.maximum(part * 2.0**-11, part.max(axis=1, keepdims=True) * 2.0**-14))


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0 %"), (0.00001, "< 0.01 %"), (0.0004, "0.04 %"), (0.012, "1.2 %"), (0.123, "12 %"), (1, "100 %")],
)
def test_shares_are_told_with_the_digits_that_matter(call_module, value, words):
    assert call_module("common/static/format.js", "percent", value) == words
    assert call_module("common/static/format.js", "signedPercent", -value) == ("−" + words if value else words)


@pytest.mark.parametrize(("number", "words"), [(0, "0 sinks"), (1, "1 sink"), (2, "2 sinks")])
def test_one_is_told_from_many(call_module, number, words):
    assert call_module("common/static/format.js", "count", number, "sink", "sinks") == words
