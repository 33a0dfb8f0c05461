"""Adapters put on the hub: what is sent, and with which strength."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME

from a3tune.errors import RequestError
from a3tune.training import publish
from a3tune.training.model_card import CARD_NAME, adapter_files
from a3tune.training.publish import push_adapter


@pytest.fixture
def sent(monkeypatch):
    """What the hub was given: name -> content."""
    files: dict[str, bytes] = {}

    class Hub:
        def __init__(self, token):
            assert token == "hf_secret"

        def create_repo(self, repository, **_):
            return SimpleNamespace(repo_id=repository)

        def create_commit(self, repository, operations, **_):
            files.update({operation.path_in_repo: operation.path_or_fileobj for operation in operations})

    monkeypatch.setattr(publish, "HfApi", Hub)
    return files


@pytest.mark.parametrize(("method", "scales"), [("lora", ("lora_alpha",)), ("a3", ("alpha", "expert_alpha"))])
def test_a_pushed_adapter_has_the_strength_that_was_asked_for(finished, sent, method, scales):
    run = finished(method)
    own = adapter_files(run)
    push_adapter(run, "house/adapter", "hf_secret")
    assert sent == own
    push_adapter(run, "house/adapter", "hf_secret", strength=0.5)
    settings, tuned = json.loads(sent[CONFIG_NAME]), json.loads(own[CONFIG_NAME])
    assert settings == tuned | {name: tuned[name] / 2 for name in scales}
    assert sent[SAFETENSORS_WEIGHTS_NAME] == own[SAFETENSORS_WEIGHTS_NAME]
    assert sent[CARD_NAME].startswith(own[CARD_NAME])
    assert b"Published with 0.5 times the strength" in sent[CARD_NAME]


def test_a_strength_out_of_range_sends_nothing(finished, sent):
    for strength in (0, -1, 2.5, float("nan")):
        with pytest.raises(RequestError, match="above 0, at most 2"):
            push_adapter(finished("lora"), "house/adapter", "hf_secret", strength=strength)
    assert sent == {}
