"""Heads of weight files from outside: what they may say, and where they are read."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from a3tune.adapters.safetensors_header import read_head
from a3tune.errors import AdapterError
from a3tune.images.isolation import decode_through


@pytest.fixture
def weights(tmp_path):
    """(head, as what JSON is made of or as bytes, bytes of tensors) -> the file."""

    def write(head, body=0):
        text = head if isinstance(head, bytes) else json.dumps(head).encode()
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(body))
        return tmp_path / "a.safetensors"

    return write


def tensor(shape, end=8):
    return {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}


def test_shapes_and_texts_are_read(tmp_path):
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(())}, tmp_path / "x.safetensors", {"made": "here"})
    assert read_head(tmp_path / "x.safetensors") == ({"a": (2, 3), "b": ()}, {"made": "here"})


# The product of a million nines would be computed for hours, and nothing else could run meanwhile.
@pytest.mark.parametrize(
    "shape", [[9] * 1_000_000, [0] + [9] * 1_000_000, [2**53 + 1], [10**4000, 2], [-1], [True], [2.0], 2, "2", None, {}]
)
def test_a_shape_that_is_none_is_refused_before_anything_is_computed(weights, shape):
    with pytest.raises(AdapterError, match=r"a\.safetensors as save_pretrained writes it"):
        read_head(weights({"a": tensor(shape)}, 8))


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({f"layer {number}": tensor([2]) for number in range(50_001)}, "over 50,000 tensors"),
        ({"a" * 501: tensor([2])}, "names of over 500 letters"),
        (b'{"a":' + b"[" * 100_000, "cannot be read"),
        (b"[]", "names no tensors"),
        ({"a": {"dtype": [], "shape": [2], "data_offsets": [0, "8"]}}, "cannot be read"),
        ({"a": tensor([2], 10**400)}, "cut off"),
        ({"__metadata__": {"a": "b"}}, "no tensors"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_heads_are_refused_in_words(weights, head, words):
    with pytest.raises(AdapterError, match=words) as refused:
        read_head(weights(head, 8))
    assert len(str(refused.value)) < 600


def test_a_head_has_an_end(weights):
    path = weights(b'{"a": ' + b" " * (16 << 20), 8)
    with pytest.raises(AdapterError, match="longer than itself"):
        read_head(path)


def test_a_head_is_read_where_files_from_outside_are_read(weights):
    asked = []
    decode_through(lambda function, *args: asked.append((function.__module__, function.__name__, *args)))
    try:
        read_head(weights({"a": tensor([2])}, 8))
    finally:
        decode_through(None)
    assert [(module, name) for module, name, _ in asked] == [("a3tune.adapters.safetensors_header", "read_head")]
