"""From where requests may come."""

from __future__ import annotations

import pytest

from app.access.origins import Hosts, is_loopback

HOSTS = Hosts(["studio.clinic.example", "other.example:8443", ""])


@pytest.mark.parametrize(
    "host",
    ["localhost:7860", "127.0.0.1", "[::1]:7860", "10.0.0.4:80", "studio.clinic.example", "STUDIO.clinic.example:444",
     "other.example:8443", "studio.clinic.example."],
)  # fmt: skip
def test_the_servers_own_names_are_answered(host):
    assert HOSTS.fault({"host": host}, page=False) == ""


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.nip.example", "studio.clinic.example.evil.example",
     "other.example", "", "evil.example:7860", "127.0.0.1@evil.example", "[::1", "localhost:port",
     "evil.example@localhost", "localhost/evil.example", "evil.example\\@localhost", "localhost?x", "localhost#x",
     "localhost evil.example", "http://localhost", "[::1]evil.example", "localhost:80:80"],
)  # fmt: skip
def test_a_name_that_is_not_the_servers_is_refused(host):
    assert "name" in HOSTS.fault({"host": host}, page=True)


def test_the_name_that_a_proxy_passes_on_has_to_be_the_servers_too():
    headers = {"host": "127.0.0.1:7860", "x-forwarded-host": "evil.example"}
    assert HOSTS.fault(headers, page=False)
    own = {**headers, "x-forwarded-host": "studio.clinic.example", "origin": "https://studio.clinic.example"}
    assert HOSTS.fault(own, page=False) == ""


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("http://localhost:7860", "localhost:7860", True),
        ("http://localhost", "localhost:80", True),
        ("https://localhost:443", "localhost", True),
        ("https://studio.clinic.example", "127.0.0.1:7860", True),
        ("https://other.example:8443", "127.0.0.1:7860", True),
        ("http://localhost:3000", "localhost:7860", False),
        ("http://127.0.0.1:7860", "localhost:7860", False),
        ("https://evil.example", "localhost:7860", False),
        ("https://other.example", "127.0.0.1:7860", False),
        ("null", "localhost:7860", False),
        ("file://", "localhost:7860", False),
        ("", "localhost:7860", False),
    ],
)
def test_only_the_servers_own_pages_may_ask(origin, host, own):
    assert (HOSTS.fault({"host": host, "origin": origin}, page=False) == "") is own


def test_other_sites_may_link_to_the_page_and_to_nothing_else():
    headers = {"host": "localhost:7860", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert HOSTS.fault(headers, page=True) == ""
    assert HOSTS.fault(headers, page=False)
    assert HOSTS.fault({**headers, "sec-fetch-mode": "no-cors"}, page=True)
    assert HOSTS.fault({**headers, "sec-fetch-site": "same-site"}, page=False)
    assert HOSTS.fault({**headers, "sec-fetch-site": "same-origin"}, page=False) == ""


def test_this_machines_own_addresses_are_known():
    assert [is_loopback(name) for name in ("127.0.0.1", "::1", "::ffff:127.0.0.9", "localhost")] == [True] * 4
    assert not any(is_loopback(name) for name in ("0.0.0.0", "10.0.0.1", "::ffff:10.0.0.1", "", "evil.example"))
