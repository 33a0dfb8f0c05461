"""The table of limits."""

from __future__ import annotations

import pytest

from a3tune.errors import RequestError
from app.access.deployment import DEPLOYMENTS, LOCAL, limits, limits_table, read_deployment, variable


def test_every_limit_has_a_variable_that_changes_it():
    for item in limits():
        assert getattr(read_deployment("server", {variable(item.name): "7"}), item.name) == 7
        assert getattr(read_deployment("space", {variable(item.name): "none"}), item.name) is None
        assert f"`{variable(item.name)}`" in limits_table()
    assert read_deployment("space", {}) == DEPLOYMENTS["space"]


@pytest.mark.parametrize("text", ["many", "0", "-1", "nan", "inf", "1e999"])
def test_a_variable_that_is_no_limit_is_refused_by_name(text):
    with pytest.raises(RequestError, match="A3TUNE_PAGES"):
        read_deployment("local", {"A3TUNE_PAGES": text})
    with pytest.raises(RequestError, match="local, space, server"):
        read_deployment(text, {})


def test_a_public_space_allows_at_most_what_a_persons_own_machine_does():
    for item in limits():
        home, space = getattr(LOCAL, item.name), getattr(DEPLOYMENTS["space"], item.name)
        assert space is not None
        assert home is None or space <= home


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("local", "start the application with a higher A3TUNE_RUN_STEPS"),
        ("space", "ask whoever runs this Space to raise A3TUNE_RUN_STEPS"),
        ("server", "ask whoever runs this server to raise A3TUNE_RUN_STEPS"),
    ],
)
def test_a_refusal_says_the_limit_and_who_can_raise_it(name, words):
    deployment = DEPLOYMENTS[name]
    deployment.check("run_steps", deployment.run_steps, "as many")
    with pytest.raises(RequestError, match=words) as raised:
        deployment.check("run_steps", deployment.run_steps + 1, "one more", "Make fewer")
    assert f"at most {deployment.run_steps:,g}" in str(raised.value)
    read_deployment(name, {"A3TUNE_RUN_STEPS": "none"}).check("run_steps", 1e9, "as many as one likes")
