"""One is told as one, thousands are set apart."""

from a3tune.wording import byte_words, counted


def test_one_none_and_thousands():
    assert [counted(number, "fault") for number in (0, 1, 2000)] == ["0 faults", "1 fault", "2,000 faults"]
    assert [counted(number, "mass", "masses") for number in (1, 2)] == ["1 mass", "2 masses"]


def test_bytes_are_told_in_the_unit_that_fits():
    assert [byte_words(size) for size in (0, 12 << 20, (1 << 30) - 1, 3 << 29)] == [
        "0.0 MiB", "12.0 MiB", "1024.0 MiB", "1.5 GiB",
    ]  # fmt: skip
