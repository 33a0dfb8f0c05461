"""The paper's presets to the letter of its scripts, and what is said to differ."""

import pytest

from a3tune.errors import DataError
from a3tune.training.config import TuneConfig
from a3tune.training.config_file import load_config
from a3tune.training.paper_presets import exact_settings, paper_differences, paper_presets


@pytest.mark.parametrize("preset", paper_presets())
@pytest.mark.parametrize("processes", [1, 4])
def test_exact_settings_hold_out_nothing_and_make_the_scripts_steps(preset, processes):
    config = load_config(preset, exact_settings(preset, processes))
    assert config.effective_batch(processes) == (24 if preset == "iu-xray-report" else 32)
    assert (config.batch_size, config.validation_share, config.evaluate_every, config.early_stopping) == (
        1,
        0,
        None,
        None,
    )
    assert (config.label_segmenter, config.label_scorer, config.precision) == ("sam-vit-h", "biomedclip", "bf16")
    assert (config.targets, config.seed, config.keep, config.save_every) == ("weak", 4, 3, 500)
    lines = paper_differences(preset, config, processes)
    assert lines
    # What no setting can make the same is all that is left.
    assert not any("in the scripts." in line and " is " in line.partition(";")[0] for line in lines if "_" in line)


def test_the_scripts_of_iu_xray_reports_run_three_processes():
    assert exact_settings("iu-xray-report", 3)["gradient_accumulation"] == 8


def test_what_is_no_preset_of_the_paper_is_refused():
    for name, told in (("demo", "demo"), ("quick", "quick"), (None, "settings that begin with none")):
        with pytest.raises(DataError, match=f"not with {told}.*preset of the paper: iu-xray-report,"):
            exact_settings(name)
    with pytest.raises(DataError, match=r"that divides 32.*Start with 4 processes"):
        exact_settings("slake", 5)


def test_what_differs_is_said():
    lines = paper_differences("vqa-rad-v1.5", load_config("vqa-rad-v1.5", {"ratio": 0.12}), processes=2)
    assert "A step has 64 questions; 32 in the scripts." in lines
    assert "ratio is 0.12; 0.09 in the scripts." in lines
    assert "validation_share is 0.1; 0.0 in the scripts, which train on all of the training data." in lines
    assert "label_segmenter is auto; sam-vit-h in the scripts, which use SAM ViT-H." in lines
    assert not any("number of key experts" in line or "fixed place" in line for line in lines)
    assert any("fixed place" in line for line in paper_differences("vqa-rad", load_config("vqa-rad")))
    assert any("apply one of the 3" in line for line in paper_differences("omnimedvqa", load_config("omnimedvqa")))


def test_plain_lora_differs_in_less():
    config = load_config("ol3i", exact_settings("ol3i"))
    assert (config.method, config.epochs) == ("lora", 4)
    assert len(paper_differences("ol3i", config)) == 1
    # Labels would be made for another method.
    assert not any("label" in line for line in paper_differences("ol3i", load_config("ol3i")))
    assert any("label_scorer" in line for line in paper_differences("ol3i", load_config("ol3i", {"method": "a3"})))
    assert isinstance(config, TuneConfig)


@pytest.mark.parametrize(
    ("preset", "model", "theirs"),
    [
        ("vqa-rad-v1.5", "microsoft/llava-med-v1.5-mistral-7b", None),
        ("vqa-rad", "/models/LLaVA-Med-7b/", None),
        ("vqa-rad", "microsoft/llava-med-v1.5-mistral-7b", "LLaVA-Med v1 (7B)"),
        ("slake-v1.5", "/models/llava-med-7b", "LLaVA-Med v1.5 (Mistral 7B)"),
        ("slake-v1.5", "demo", "LLaVA-Med v1.5 (Mistral 7B)"),
    ],
)
def test_another_model_than_the_scripts_is_said(preset, model, theirs):
    lines = paper_differences(preset, load_config(preset), model=model)
    told = [line for line in lines if line.startswith("The model")]
    assert told == ([f"The model is {model}; {theirs} in the scripts."] if theirs else [])
