from pathlib import Path

import numpy as np
import pytest

from a3tune.errors import DataError
from a3tune.parity.golden import _difference, check_attention_loss, check_golden, check_masks, check_moe

DATA = Path(__file__).parents[1] / "files"


def test_the_losses_equal_the_published_ones():
    rows = {row.name: row for row in check_attention_loss(DATA / "golden_attention_loss.npz")}
    assert all(row.ok for row in rows.values()), rows
    for precision in ("float64", "float32"):
        for form in ("mass", "kl", "top_heads_kl", "all_kl_weak_gt"):
            assert rows[f"attention loss {form} ({precision})"].cases > 0
            assert rows[f"attention loss gradient {form} ({precision})"].cases > 0
        assert rows[f"critical heads ({precision})"].cases > 8


def test_the_experts_equal_the_published_ones():
    rows = {row.name: row for row in check_moe(DATA / "golden_moe.npz")}
    assert all(row.ok for row in rows.values()), rows
    assert {name: row.cases for name, row in rows.items()} == {
        "query experts output": 2,
        "query experts routing": 1,
        "query experts decoding step": 1,
        "query experts gradient of A": 1,
        "query experts gradient of B": 1,
        "query experts gradient of the router": 2,
        "key experts output": 2,
        "key experts routing": 2,
        "key experts choice": 2,
        "key experts decoding step": 1,
        "key experts gradient of A": 1,
        "key experts gradient of B": 1,
        "balance loss": 1,
    }


def changed(source: Path, target: Path, name: str) -> Path:
    with np.load(source) as archive:
        arrays = {key: archive[key] for key in archive.files}
    arrays[name] = arrays[name] + np.asarray(1e-3, arrays[name].dtype)
    np.savez(target, **arrays)
    return target


@pytest.mark.parametrize(("name", "row"), [("c01_loss", "attention loss mass"), ("c04_grad", "gradient kl")])
def test_a_wrong_number_fails_its_row(tmp_path, name, row):
    rows = check_attention_loss(changed(DATA / "golden_attention_loss.npz", tmp_path / "wrong.npz", name))
    failed = [one.name for one in rows if not one.ok]
    assert len(failed) == 2
    assert all(row in one for one in failed)


def test_a_wrong_output_fails_its_row(tmp_path):
    rows = check_moe(changed(DATA / "golden_moe.npz", tmp_path / "wrong.npz", "m25_y"))
    assert [one.name for one in rows if not one.ok] == ["key experts output"]


def test_a_difference_that_is_no_number_is_not_small():
    assert np.isnan(_difference(np.array([np.nan]), np.array([0.0])))
    assert _difference(np.zeros(2), np.zeros(3)) == np.inf


def test_what_is_there_is_checked(tmp_path):
    with pytest.raises(DataError, match="has none"):
        check_golden(tmp_path)
    (tmp_path / "golden_moe.npz").write_bytes((DATA / "golden_moe.npz").read_bytes())
    assert {row.name.partition(" ")[0] for row in check_golden(tmp_path)} == {"query", "key", "balance"}
    (tmp_path / "golden_mask_transform.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be read"):
        check_masks(tmp_path / "golden_mask_transform.npz")
