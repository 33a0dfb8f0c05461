import pytest

from a3tune.bundle import DEMO
from a3tune.images import CONVENTIONS
from a3tune.models.profiles import PROFILES, convention_of, find_profile


def test_profiles_are_told_apart_and_say_their_licence():
    assert len({profile.key for profile in PROFILES}) == len(PROFILES)
    assert len({profile.source for profile in PROFILES}) == len(PROFILES)
    assert PROFILES[0].source == DEMO
    assert all(profile.licence and profile.about and profile.weights > 0 for profile in PROFILES)
    for profile in PROFILES[1:]:
        assert profile.page == f"https://huggingface.co/{profile.source}"
        # Published in half precision: two bytes for each weight.
        assert profile.download == pytest.approx(2 * profile.weights, rel=0.02)


def test_a_profile_is_found_by_key_and_by_hub_id():
    assert find_profile("medgemma-4b") is find_profile("google/medgemma-4b-it")
    assert find_profile("medgemma-4b").gated
    assert find_profile("owner/name") is None


@pytest.mark.parametrize(
    ("source", "model_type", "convention"),
    [
        ("google/medgemma-4b-it", "gemma3", "medgemma-ct"),
        ("google/medgemma-1.5-4b-it", "gemma3", "medgemma-ct"),
        ("/models/MedGemma-tuned", "gemma3", "medgemma-ct"),
        ("/cache/models--google--medgemma-27b-it/snapshots/0f3a", "gemma3", "medgemma-ct"),
        ("/medgemma/gemma-3-4b-it", "gemma3", None),
        ("owner/medgemma-llava", "llava", None),
        ("google/gemma-3-4b-it", "gemma3", None),
        ("microsoft/llava-med-v1.5-mistral-7b", "mistral", None),
    ],
)
def test_medgemma_and_its_children_see_computed_tomography_in_their_own_way(source, model_type, convention):
    assert convention_of(source, model_type) == convention
    assert convention is None or convention in CONVENTIONS
