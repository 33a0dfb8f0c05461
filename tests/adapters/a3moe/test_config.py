import json

import pytest
from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from a3tune.adapters.a3moe import A3MoeConfig, A3MoeModel, register
from a3tune.errors import AdapterError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("r", 0),
        ("r", 2.5),
        ("expert_r", -1),
        ("query_experts", 0),
        ("key_experts", True),
        ("key_top_k", 17),
        ("alpha", 0),
        ("expert_alpha", float("inf")),
        ("dropout", 1.0),
        ("dropout", "0.1"),
        ("key_gate", "hard"),
        ("target_modules", []),
        ("query_modules", "q_proj"),
        ("key_modules", ["q_proj"]),
        ("task_type", "CAUSAL_LM"),
    ],
)
def test_a_wrong_value_is_named(field, value):
    with pytest.raises(AdapterError, match=f"{field}={value!r}".replace("[", r"\[").replace("]", r"\]")):
        A3MoeConfig(**{field: value})


def test_reference_arithmetic_has_one_expert_per_token():
    with pytest.raises(AdapterError, match="reference=True"):
        A3MoeConfig(reference=True, key_top_k=2)


def test_register_again_changes_nothing():
    before = dict(PEFT_TYPE_TO_TUNER_MAPPING), dict(PEFT_TYPE_TO_CONFIG_MAPPING)
    register()
    assert (dict(PEFT_TYPE_TO_TUNER_MAPPING), dict(PEFT_TYPE_TO_CONFIG_MAPPING)) == before
    assert PEFT_TYPE_TO_TUNER_MAPPING["A3MOE"] is A3MoeModel


def test_the_saved_file_holds_every_setting(tmp_path):
    config = A3MoeConfig(query_experts=5, key_experts=7, key_top_k=2, key_gate="probability", expert_r=3)
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["peft_type"] == "A3MOE"
    loaded = PeftConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, A3MoeConfig)
    assert loaded.to_dict() == config.to_dict()


def test_roles_and_shapes():
    config = A3MoeConfig()
    assert config.role("model.language_model.layers.0.self_attn.q_proj") == "query"
    assert config.role("model.language_model.layers.0.self_attn.k_proj") == "key"
    assert config.role("model.language_model.layers.0.mlp.up_proj") == "plain"
    assert config.shape("a.q_proj") == (8, 16, 0.5)
    assert config.shape("a.k_proj") == (16, 16, 0.5)
    assert config.shape("a.o_proj") == (1, 64, 0.25)


def test_one_expert_is_plain_lora():
    config = A3MoeConfig(query_experts=1, key_experts=1)
    assert config.role("a.q_proj") == config.role("a.k_proj") == "plain"
    assert A3MoeConfig(key_experts=1, reference=True).role("a.k_proj") == "key"


@pytest.mark.parametrize("value", [[], [[]], [[1, -1]], [["a"]], [1, 2], "12", [[True]]])
def test_ids_around_a_question_are_runs_of_token_ids(value):
    with pytest.raises(AdapterError, match="question_before"):
        A3MoeConfig(question_before=value, question_after=[[1]])


def test_ids_around_a_question_come_as_a_pair():
    with pytest.raises(AdapterError, match="question_after"):
        A3MoeConfig(question_before=[[1]])
