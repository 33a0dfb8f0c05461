import pickle
from contextlib import suppress

import pytest
import torch
from safetensors.torch import save_file

from a3tune.checkpoints import load_strictly, locate_checkpoint, read_checkpoint, weights_digest
from a3tune.errors import LabelError


class Hostile:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return (open, (str(self.victim), "w"))


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_hostile_file_does_not_run(tmp_path, writer):
    path, victim = tmp_path / "sam.pth", tmp_path / "victim"
    if writer == "torch":
        torch.save({"model": Hostile(victim)}, path)
    else:
        path.write_bytes(pickle.dumps(Hostile(victim)))
    with pytest.raises(LabelError, match=r"sam\.pth is not plain weights and was not executed"):
        read_checkpoint(path, purpose="a SAM checkpoint")
    assert not victim.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04broken"])
def test_damaged_file_is_an_error_in_words(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(LabelError, match="weights"):
        read_checkpoint(path, purpose="a SAM checkpoint")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(LabelError, match="There is no file"):
        read_checkpoint(tmp_path / "none.pth", purpose="a SAM checkpoint")
    with pytest.raises(LabelError, match="is a folder"):
        read_checkpoint(tmp_path, purpose="a SAM checkpoint")


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
def test_state_dicts_are_found_in_their_wrappers(tmp_path, wrapper):
    state = {"module.a": torch.arange(3.0), "b": torch.ones(2, 2)}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "w.pth")
    read = read_checkpoint(tmp_path / "w.pth", purpose="weights")
    assert set(read) == {"a", "b"}
    assert torch.equal(read["a"], state["module.a"])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "model._orig_mod.module."])
def test_prefixes_of_wrappers_are_left_out(tmp_path, prefix):
    state = {"image_encoder.a": torch.arange(3.0), "mask_decoder.b": torch.ones(2, 2)}
    torch.save({"state_dict": {prefix + name: value for name, value in state.items()}}, tmp_path / "w.pth")
    read = read_checkpoint(tmp_path / "w.pth", purpose="weights")
    assert set(read) == set(state)
    assert torch.equal(read["image_encoder.a"], state["image_encoder.a"])


def test_one_weight_under_two_names_is_refused(tmp_path):
    torch.save({"module.a": torch.zeros(2), "a": torch.ones(2)}, tmp_path / "w.pth")
    with pytest.raises(LabelError, match="are one without the names of wrappers"):
        read_checkpoint(tmp_path / "w.pth", purpose="weights")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_weights_in_8_bit_are_refused_by_name(tmp_path, suffix, dtype):
    state = {"a": torch.zeros(2), "image_encoder.b": torch.zeros(2).to(dtype), "index": torch.arange(2)}
    (save_file if suffix == ".safetensors" else torch.save)(state, tmp_path / f"w{suffix}")
    with pytest.raises(LabelError, match=r"image_encoder\.b is stored as .*int8|image_encoder\.b is stored as float8"):
        read_checkpoint(tmp_path / f"w{suffix}", purpose="weights")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n",
            "w is a pointer of Git LFS.*git lfs pull",
        ),
        ("<!doctype html><html></html>", "w is a saved web page.*download link"),
    ],
)
def test_what_lies_in_place_of_weights_is_named(tmp_path, suffix, text, said):
    (tmp_path / f"w{suffix}").write_text(text)
    with pytest.raises(LabelError, match=said.replace("w is", f"w{suffix} is")):
        read_checkpoint(tmp_path / f"w{suffix}", purpose="weights")


def test_weights_that_are_not_dense_are_refused_by_name(tmp_path):
    torch.save({"a": torch.ones(2, 2), "b": torch.eye(3).to_sparse()}, tmp_path / "weights.pth")
    with pytest.raises(LabelError, match=r"b is stored as sparse_coo.*to_dense"):
        read_checkpoint(tmp_path / "weights.pth", purpose="a test")


def test_old_torch_format_and_safetensors(tmp_path):
    state = {"a": torch.arange(4.0)}
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "new.safetensors")
    for name in ("old.pt", "new.safetensors"):
        assert torch.equal(read_checkpoint(tmp_path / name, purpose="weights")["a"], state["a"])


@pytest.mark.parametrize("content", [{}, [1, 2], {"a": 3}, {"a": torch.ones(1), "b": "text"}])
def test_a_file_without_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(LabelError, match="holds something else"):
        read_checkpoint(tmp_path / "w.pth", purpose="weights")


def test_weights_must_fit_by_name_and_shape():
    model = torch.nn.Linear(3, 2)
    with pytest.raises(
        LabelError, match=r"1 weights missing \(first: bias\), 1 unknown \(first: extra\), 1 of another"
    ):
        load_strictly(model, {"weight": torch.ones(2, 4), "extra": torch.ones(1)}, name="w.pth", purpose="weights")
    state = {"weight": torch.ones(2, 3, dtype=torch.int16), "bias": torch.zeros(2)}
    with pytest.raises(LabelError, match=r"1 not of the same kind of number \(first: weight\)"):
        load_strictly(model, state, name="w.pth", purpose="weights")
    load_strictly(model, {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, name="w.pth", purpose="weights")
    assert model(torch.ones(1, 3)).tolist() == [[3.0, 3.0]]


def test_digest_changes_with_any_weight():
    state = {"a": torch.zeros(3), "b": torch.zeros(2)}
    changed = {"a": torch.zeros(3), "b": torch.tensor([0.0, 1e-9])}
    assert weights_digest(state) == weights_digest(dict(reversed(state.items())))
    assert weights_digest(state) != weights_digest(changed)


WORDS = {"purpose": "a SAM checkpoint", "gives": "which finds the regions"}


def test_a_file_on_the_hub(offline_hub, tmp_path):
    found = locate_checkpoint("hub:someone/sam/checkpoints/sam.pth", **WORDS)
    assert found.samefile(offline_hub / "sam.pth")
    assert torch.equal(read_checkpoint(found, purpose="weights")["a"], torch.arange(3.0))
    assert locate_checkpoint(tmp_path / "own.pth", **WORDS) == tmp_path / "own.pth"


@pytest.mark.usefixtures("offline_hub")
def test_hub_out_of_reach_names_file_purpose_and_remedy():
    with pytest.raises(LabelError, match=r"checkpoints/other\.pth of someone/sam") as caught:
        locate_checkpoint("hub:someone/sam/checkpoints/other.pth", **WORDS)
    said = str(caught.value)
    for part in ("which finds the regions", "could not be fetched", "hf download someone/sam", "litemedsam"):
        assert part in said


@pytest.mark.parametrize("place", ["hub:", "hub:someone", "hub:someone/sam", "hub:someone/sam/", "hub://x"])
def test_incomplete_places_on_the_hub(place):
    with pytest.raises(LabelError, match="hub:OWNER/REPOSITORY/FILE"):
        locate_checkpoint(place, **WORDS)


@pytest.mark.parametrize("name", ["new.pth", "old.pth", "w.safetensors"])
def test_a_file_cut_or_spoilt_anywhere_is_an_error_in_words(tmp_path, name):
    state, path = {"image_encoder.a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}, tmp_path / name
    if name == "w.safetensors":
        save_file(state, path)
    else:
        torch.save({"model": state}, path, _use_new_zipfile_serialization=name == "new.pth")
    whole = path.read_bytes()
    for place in range(0, len(whole), 13):
        for content in (whole[:place], whole[:place] + b"\xff" + whole[place + 1 :]):
            path.write_bytes(content)
            with suppress(LabelError):
                read_checkpoint(path, purpose="a SAM checkpoint")
