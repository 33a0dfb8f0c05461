"""A few dozen phantoms of every kind, made once."""

import pytest

from a3tune.phantom import HELD_OUT_SEEDS, KINDS, make_phantom


@pytest.fixture(scope="session")
def phantoms():
    return tuple(make_phantom(seed, kind) for kind in KINDS for seed in HELD_OUT_SEEDS[:30])


@pytest.fixture(scope="session")
def shifted_phantoms():
    return tuple(make_phantom(seed, kind, "shifted") for kind in KINDS for seed in HELD_OUT_SEEDS[:30])
