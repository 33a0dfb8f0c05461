"""Settings of a run: presets, files, overrides, and everything that is wrong with them at once."""

import importlib.resources
from dataclasses import FrozenInstanceError, replace

import pytest

from a3tune.errors import DataError
from a3tune.labels.scorers.templates import TEMPLATE_SETS
from a3tune.training.config import TuneConfig
from a3tune.training.config_file import cited_preset, load_config, parse_overrides, preset_names, to_yaml

# Settings of the paper's released scripts.
PAPER = {
    "vqa-rad": (9, 0.06, "kl", 8, 16, 1, 0.0, 8),
    "slake": (6, 0.03, "mass", 8, 16, 1, 0.0, 8),
    "pathvqa": (3, 0.02, "mass", 8, 16, 1, 0.0, 8),
    "omnimedvqa": (3, 0.06, "mass", 8, 16, 3, 0.01, 4),
    "iu-xray-vqa": (6, 0.12, "mass", 4, 8, 2, 0.01, 4),
    "iu-xray-report": (12, 0.08, "mass", 1, 8, 2, 0.01, 4),
    "mimic-report": (12, 0.05, "mass", 1, 8, 2, 0.01, 4),
    "vqa-rad-v1.5": (9, 0.09, "mass", 8, 16, 1, 0.0, 8),
    "slake-v1.5": (6, 0.03, "mass", 8, 16, 1, 0.0, 8),
    "pathvqa-v1.5": (3, 0.02, "mass", 8, 16, 1, 0.0, 8),
    "iu-xray-report-v1.5": (12, 0.25, "kl", 1, 8, 2, 0.01, 4),
    "mimic-report-v1.5": (12, 0.06, "mass", 1, 8, 2, 0.01, 4),
}


def test_the_presets_are_those_of_the_paper_the_demo_and_a_quick_look():
    assert set(preset_names()) == {*PAPER, "ol3i", "demo", "quick"}
    demo, quick = load_config("demo"), load_config("quick")
    steps = {"max_steps": quick.max_steps, "evaluate_every": quick.evaluate_every, "save_every": quick.save_every}
    assert quick == replace(demo, **steps)
    assert quick.max_steps < demo.max_steps


@pytest.mark.parametrize("name", PAPER)
def test_presets_hold_the_papers_settings(name):
    config = load_config(name)
    assert (
        config.epochs, config.ratio, config.alignment, config.query_experts, config.key_experts,
        config.key_top_k, config.balance, config.label_top_k,
    ) == PAPER[name]  # fmt: skip
    assert (config.learning_rate, config.schedule, config.warmup_ratio, config.weight_decay) == (
        2e-4,
        "cosine",
        0.03,
        0,
    )
    assert (config.lora_rank, config.lora_alpha, config.expert_rank, config.expert_alpha) == (64, 16, 16, 8)
    assert (config.dropout, config.max_length, config.seed, config.keep) == (0.05, 1024, 4, 3)
    assert config.effective_batch() == (24 if name == "iu-xray-report" else 32)
    assert config.label_top_k == TEMPLATE_SETS[config.label_template].top_k
    assert (config.aligns, config.has_experts, config.masks, config.head_choice) == (True, True, "each", "dynamic")


@pytest.mark.parametrize("name", [*PAPER, "ol3i", "demo", "quick", None])
def test_yaml_brings_the_same_settings_back(name, tmp_path):
    config = load_config(name)
    path = tmp_path / "config.yaml"
    for preset in (None, name):
        path.write_text(to_yaml(config, preset), encoding="utf-8")
        assert load_config(path) == config
        assert cited_preset(path) == preset
    assert cited_preset(name) == name


def test_a_file_may_begin_with_a_preset_and_name_what_differs(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("preset: quick\nratio: 0.3\n", encoding="utf-8")
    assert load_config(path, {"seed": 7}) == replace(load_config("quick"), ratio=0.3, seed=7)
    for preset in ("quik", "mine.yaml", "[demo]", "null", "../presets/demo"):
        path.write_text(f"preset: {preset}\nratio: 0.3\n", encoding="utf-8")
        with pytest.raises(DataError, match=r"mine\.yaml begins with the preset.*one of.*vqa-rad"):
            load_config(path)


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        TuneConfig().ratio = 1.0


def test_methods_and_ablations():
    def facts(**settings):
        config = TuneConfig(balance=0.01, key_top_k=2, **settings)
        return config.aligns, config.query_expert_count, config.key_expert_count, config.balance_weight

    assert facts() == (True, 8, 16, 0.01)
    assert facts(method="a3moe") == (False, 8, 16, 0.01)
    assert facts(method="lora") == (False, 1, 1, 0.0)
    assert facts(method="lora+align") == (True, 1, 1, 0.0)
    assert facts(no_alignment=True) == (False, 8, 16, 0.01)
    assert facts(ratio=0) == (False, 8, 16, 0.01)
    assert facts(no_query_experts=True) == (True, 1, 16, 0.01)
    assert facts(no_key_experts=True) == (True, 8, 1, 0.0)
    assert TuneConfig(no_key_experts=True, key_top_k=3).key_experts_used == 1
    assert TuneConfig(batch_size=2, gradient_accumulation=4).effective_batch(3) == 24


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "A3"}, "method is 'A3', expected one of a3, lora, lora+align, a3moe"),
        ({"ratio": -0.1}, "ratio is -0.1, expected a number from 0 to 1000"),
        ({"ratio": float("nan")}, "ratio is nan"),
        ({"ratio": 10**400}, "expected a number from 0"),
        ({"ratio": True}, "ratio is True, expected a number"),
        ({"epochs": 0}, "epochs is 0, expected a number above 0"),
        ({"dropout": 1}, "dropout is 1, expected a number from 0 below 1"),
        ({"batch_size": 2.5}, "batch_size is 2.5, expected a whole number from 1 to 4096"),
        ({"max_steps": 0}, "max_steps is 0, expected a whole number from 1 to 1e+08 or null"),
        ({"no_alignment": "no"}, "no_alignment is 'no', expected true or false"),
        ({"seed": None}, "seed is None, expected a whole number"),
        ({"label_segmenter": " "}, "label_segmenter is ' ', expected text"),
        ({"key_top_k": 17}, "key_top_k is 17, expected at most key_experts, which is 16"),
        ({"early_stopping": 3, "evaluate_every": None}, "early_stopping needs validations"),
        ({"early_stopping": 3, "validation_share": 0.0}, "early_stopping needs validation data"),
        ({"label_template": "slakes"}, "did you mean slake?"),
    ],
)
def test_values_that_are_out_of_range(settings, message):
    with pytest.raises(DataError) as caught:
        TuneConfig(**settings)
    assert message in str(caught.value)


def test_everything_wrong_in_a_file_is_told_at_once(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("learning_rat: 1\nratio: high\nbatch_size: 0\nmethod: a4\n1: 2\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_config(path, {"epoch": 3, "seed": "x"})
    text = str(caught.value)
    for part in (
        "'learning_rat' is no setting (did you mean learning_rate?)",
        "1 is no setting",
        "'epoch' is no setting (did you mean epochs?)",
        "ratio is 'high', expected a number from 0 to 1000",
        "batch_size is 0",
        "method is 'a4', expected one of a3, lora, lora+align, a3moe (did you mean a3?)",
        "seed is 'x', expected a whole number from 0",
    ):
        assert part in text
    assert "7 settings of" in text


def test_numbers_that_yaml_takes_for_text(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("learning_rate: 1e-4\nepochs: 2\n", encoding="utf-8")
    config = load_config(path)
    assert config.learning_rate == 1e-4
    assert isinstance(config.epochs, float)


def test_overrides_from_a_command_line():
    overrides = parse_overrides(["ratio=1e-2", "max_steps = null", "no_alignment=true", "method=lora+align", "seed=7"])
    config = load_config("demo", overrides)
    assert (config.ratio, config.max_steps, config.no_alignment, config.method, config.seed) == (
        0.01, None, True, "lora+align", 7,
    )  # fmt: skip
    assert load_config("demo").ratio != 0.01
    with pytest.raises(DataError, match="'ratio' has no value"):
        parse_overrides(["ratio"])
    with pytest.raises(DataError, match="seed is"):
        load_config(None, {"seed": "[1"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ratio: [1\n", "is not YAML: expected ',' or ']'"),
        ("- a\n- b\n", "expected lines of the form"),
        ("seed: 1\nseed: 2\n", "seed is set twice at line 2, column 1"),
        ("seed: !!python/object/apply:os.getcwd []\n", "is not YAML: could not determine a constructor"),
        ("{[1]: 2}\n", "is not YAML: found unhashable key"),
        ("a: &x [*x]\n", "is no setting"),
        ("[" * 10_000, "is not YAML"),
        (b"seed: \xff\n", "is not UTF-8 text"),
        ("#" * (1 << 20) + "\n", "is larger than 1 MiB"),
    ],
)
def test_files_that_hold_no_settings(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        load_config(path)
    assert message.lower() in str(caught.value).lower()


def test_an_empty_file_means_the_defaults(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("# nothing yet\n", encoding="utf-8")
    assert load_config(path) == load_config() == TuneConfig()


def test_names_that_are_no_preset():
    with pytest.raises(DataError, match=r"is neither a preset nor a file \(did you mean slake\?\)"):
        load_config("slak")
    with pytest.raises(DataError, match="neither a preset nor a file"):
        load_config("../demo")


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_says_where_it_comes_from(name):
    text = importlib.resources.files("a3tune.training").joinpath("presets", f"{name}.yaml").read_text(encoding="utf-8")
    assert "\n# Source: " in text
    assert max(len(line) for line in text.splitlines()) <= 120
