import pytest

from a3tune.recently_used import RecentlyUsed


def test_what_was_not_used_for_longest_goes():
    kept = RecentlyUsed(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert [kept.get(key) for key in "abc"] == [1, None, 3]
    assert kept.get_or_make("d", lambda: 4) == 4
    assert kept.get_or_make("d", lambda: 5) == 4
    kept.remove(lambda value: value == 4)
    assert (kept.get("d"), len(kept)) == (None, 1)
    with pytest.raises(ValueError, match="at least 1"):
        RecentlyUsed(0)
