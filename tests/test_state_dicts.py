import pytest
import torch

from a3tune.state_dicts import first_difference, plain_names, quantized


@pytest.mark.parametrize(
    ("stored", "plain"),
    [
        (["module.a", "b"], ["a", "b"]),
        (["_orig_mod.a.w", "_orig_mod.b"], ["a.w", "b"]),
        (["module._orig_mod.a", "_orig_mod.module.b"], ["a", "b"]),
        (["module.module.a", "module.module.b"], ["a", "b"]),
        (["image_encoder._orig_mod.w", "b"], ["image_encoder.w", "b"]),
        (["_fsdp_wrapped_module.a._checkpoint_wrapped_module.w"], ["a.w"]),
        (["model.a", "model.b"], ["a", "b"]),
        (["model.module.a", "model._orig_mod.b"], ["a", "b"]),
        (["model.model.a", "model.model.b"], ["a", "b"]),
        (["model.a", "head.b"], ["model.a", "head.b"]),
        (["models.a", "modules.b"], ["models.a", "modules.b"]),
    ],
)
def test_what_wrappers_put_before_names_is_gone(stored, plain):
    assert list(plain_names(stored).values()) == plain


def test_a_model_whose_own_names_begin_so_keeps_them():
    tops = ("model.", "lm_head.")
    own = ["model.language_model.a", "model.vision_tower.b"]
    assert list(plain_names(own, tops).values()) == own
    wrapped = [f"model.{name}" for name in own] + ["model.lm_head.weight"]
    assert list(plain_names(wrapped, tops).values()) == [*own, "lm_head.weight"]


def test_two_weights_that_become_one_are_refused():
    with pytest.raises(ValueError, match="a and another weight are one"):
        plain_names(["a", "module.a"])
    with pytest.raises(ValueError, match="last and another weight are one"):
        plain_names([*map(str, range(200_000)), "last", "module.last"])


def test_8_bit_weights_are_named():
    assert quantized({"a": torch.float16, "position_ids": torch.int64, "mask": torch.bool}) == ""
    for dtype in (torch.int8, torch.uint8, torch.float8_e4m3fn, torch.qint8):
        assert quantized({"a": torch.float32, "b.weight": dtype}).startswith("b.weight is stored as ")


def test_differences_are_found_in_the_coarser_type():
    one = {"a": torch.randn(3, 4), "b": torch.randn(2)}
    half = {name: value.half() for name, value in one.items()}
    assert first_difference(one, half) == first_difference(half, one) == ""
    assert first_difference(one, {**one, "b": one["b"] + 1}) == "b has other values"
    assert first_difference(one, {**one, "b": torch.zeros(3)}) == "b has another shape"
    assert first_difference(one, {"a": one["a"]}) == "only one of them holds b"
    assert first_difference({**one, "c": torch.arange(3), "tied": one["a"].clone()}, one) == ""


def test_large_tensors_are_compared_by_rows():
    large = torch.randn(400, 300)
    assert first_difference({"a": large}, {"a": large.clone()}) == ""
    for row in (0, -1):
        other = large.clone()
        other[row, 5] += 1
        assert first_difference({"a": large}, {"a": other}) == "a has other values"
