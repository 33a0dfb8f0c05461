"""The attacks of ``make attack`` on one started server, with a random scorer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack.attack import ATTACKS, Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server before strangers."""
    server = Server(tmp_path_factory.mktemp("attack"))
    server.start()
    yield server
    server.end()


# The last one ends the server and starts it again.
@pytest.mark.parametrize("function", ATTACKS[:-1], ids=[function.__name__ for function in ATTACKS[:-1]])
def test_it_holds(server: Server, function) -> None:
    function(server)


def test_every_attack_says_what_must_hold() -> None:
    assert all(function.__doc__ for function in ATTACKS)
    page = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    assert [function.__name__ for function in ATTACKS if f"`{function.__name__}`" not in page] == []
