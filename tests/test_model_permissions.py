import pytest

from a3tune.bundle import DEMO
from a3tune.errors import RequestError
from a3tune.labels.segmenters_and_scorers import PARTS
from a3tune.model_permissions import permitted
from a3tune.models.profiles import PROFILES

MODELS = [profile.key for profile in PROFILES]
SEGMENTERS = [part.key for part in PARTS if part.kind == "segmenter"]


def test_other_models_need_the_operators_leave(tmp_path):
    assert permitted("model", " demo ", any_model=False, offered=MODELS) == DEMO
    source = permitted("model", "llava-med-7b", any_model=False, offered=MODELS)
    assert source == "microsoft/llava-med-v1.5-mistral-7b"
    with pytest.raises(RequestError, match=r"a hub id of your own, 'owner/name'.*--profile"):
        permitted("model", "owner/name", any_model=False, offered=MODELS)
    with pytest.raises(RequestError, match="a folder or name of your own"):
        permitted("model", str(tmp_path), any_model=False, offered=MODELS)
    offered = ["demo", "owner/name"]
    assert permitted("model", "owner/name", any_model=False, offered=offered) == "owner/name"
    with pytest.raises(RequestError, match=r"one of the models offered here \(demo, owner/name\)"):
        permitted("model", "llava-med-7b", any_model=False, offered=offered)
    assert permitted("model", "owner/name", any_model=True, offered=MODELS) == "owner/name"
    with pytest.raises(RequestError, match="type a folder or hub id"):
        permitted("model", "  ", any_model=True, offered=MODELS)


def test_other_parts_need_the_operators_leave():
    assert permitted("segmenter", " medsam ", any_model=False, offered=SEGMENTERS).startswith("hub:wanglab/")
    for name in ("hub:owner/name/file.pth", "biomedclip"):
        with pytest.raises(RequestError, match="--any-model"):
            permitted("segmenter", name, any_model=False, offered=SEGMENTERS)
    with pytest.raises(RequestError, match=r"one of the segmenters offered here \(litemedsam\)"):
        permitted("segmenter", "medsam", any_model=False, offered=["litemedsam"])
    with pytest.raises(RequestError, match="one of the segmenters"):
        permitted("segmenter", "", any_model=True, offered=SEGMENTERS)
    place = "hub:owner/name/file.pth"
    assert permitted("segmenter", place, any_model=True, offered=SEGMENTERS) == place
