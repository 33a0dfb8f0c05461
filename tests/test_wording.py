"""One is told as one, thousands are set apart."""

from a3tune.wording import counted


def test_one_none_and_thousands():
    assert [counted(number, "fault") for number in (0, 1, 2000)] == ["0 faults", "1 fault", "2,000 faults"]
    assert [counted(number, "mass", "masses") for number in (1, 2)] == ["1 mass", "2 masses"]
