import json
import shutil
from types import SimpleNamespace

import httpx
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

from a3tune import hub as hub_module
from a3tune.errors import Cancelled, ModelError, RequestError
from a3tune.models import download
from a3tune.models.load import load_model
from tests.support.original_llava import write_original


@pytest.fixture
def hub(fake_hub):
    return fake_hub


def test_a_model_is_fetched_with_progress_and_only_once(hub, tiny_checkpoint, tiny_model, random_image):
    hub.repositories["owner/name"] = tiny_checkpoint("llava")
    seen = []
    model = load_model("owner/name", device="cpu", on_progress=lambda what, share: seen.append((what, share)))
    assert model.name == "owner/name"
    shares = [share for what, share in seen if what.startswith("fetching owner/name")]
    assert len(shares) > 3
    assert shares == sorted(shares)
    assert shares[-1] == 1
    image = random_image()
    answer = model.generate(model.encode(image, "What is it?"), max_new_tokens=5)
    assert answer == tiny_model("llava").generate(tiny_model("llava").encode(image, "What is it?"), max_new_tokens=5)
    hub.served.clear()
    load_model("owner/name", device="cpu")
    assert "model.safetensors" not in hub.served


def test_a_cut_download_is_taken_up_where_it_broke_off(hub, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(hub_module, "_TRIALS", 1)
    folder = tiny_checkpoint("llava")
    hub.repositories["owner/name"] = folder
    hub.cut_after = 20_000
    size = (folder / "model.safetensors").stat().st_size
    assert size > 40_000
    with pytest.raises(ModelError, match="what has come is kept"):
        download.locate("owner/name")
    assert hub_module.held("owner/name").parts
    found = download.locate("owner/name")
    assert (found / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert hub.served["model.safetensors"] == size
    assert not hub_module.held("owner/name").parts


def test_a_file_that_was_cut_off_in_the_cache_is_fetched_again(hub, tiny_checkpoint, monkeypatch):
    folder = tiny_checkpoint("llava")
    hub.repositories["owner/name"] = folder
    weights = download.locate("owner/name") / "model.safetensors"
    whole = weights.read_bytes()
    weights.resolve().write_bytes(whole[:-300])
    hub.served.clear()
    assert (download.locate("owner/name") / "model.safetensors").read_bytes() == whole
    assert hub.served["model.safetensors"] == len(whole)
    weights.resolve().write_bytes(bytes([255]) * len(whole))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=rf"damaged.*delete {weights.resolve()} first"):
        load_model("owner/name", device="cpu")


def test_a_connection_that_breaks_once_is_mended_without_a_word(hub, tiny_checkpoint):
    folder = tiny_checkpoint("llava")
    hub.repositories["owner/name"] = folder
    hub.cut_after = 20_000
    found = download.locate("owner/name")
    assert (found / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_a_cancelled_download_goes_on_where_it_was_cancelled(hub, tiny_checkpoint):
    folder = tiny_checkpoint("llava")
    hub.repositories["owner/name"] = folder

    def stop(what, share):
        if share > 0.5:
            raise Cancelled

    with pytest.raises(Cancelled):
        download.locate("owner/name", stop)
    held = hub_module.held("owner/name")
    assert held.parts
    assert not download.is_complete(held.folder)
    hub.served.clear()
    found = download.locate("owner/name")
    assert hub.served["model.safetensors"] < 0.7 * (folder / "model.safetensors").stat().st_size
    assert download.is_complete(found)
    assert (found / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_pickles_are_left_on_the_hub(hub, tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint("llava"), tmp_path / "served")
    (folder / "pytorch_model.bin").write_bytes(b"code")
    (folder / "modeling.py").write_text("raise SystemExit")
    hub.repositories["owner/name"] = folder
    load_model("owner/name", device="cpu")
    assert "pytorch_model.bin" not in hub.served
    assert "modeling.py" not in hub.served


@pytest.mark.parametrize("pickled", [False, True])
def test_an_original_llava_loads_straight_from_the_hub(hub, tmp_path, pickled):
    original = write_original(tmp_path / "original", pickled=pickled)
    tower = shutil.move(original.folder / "vision_tower", tmp_path / "tower")
    hub.repositories["owner/llava-med"] = original.folder
    model = load_model("owner/llava-med", device="cpu", vision_tower=tower)
    assert (model.name, model.layers) == ("owner/llava-med", 3)
    (folder,) = (path.name for path in (tmp_path / "cache" / "models").iterdir() if path.is_dir())
    assert folder.startswith("owner--llava-med-")


def test_gated_missing_and_wrong_kinds_are_told_before_the_weights(hub, tiny_checkpoint, tmp_path):
    hub.repositories["google/medgemma-4b-it"] = tiny_checkpoint("gemma3")
    hub.gated.add("google/medgemma-4b-it")
    with pytest.raises(ModelError, match=r"licence.*https://huggingface.co/google/medgemma-4b-it.*hf auth login"):
        load_model("google/medgemma-4b-it")
    with pytest.raises(ModelError, match="no model named owner/absent"):
        load_model("owner/absent")
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "model.safetensors").write_bytes(b"\0" * 1000)
    hub.repositories["owner/text"] = folder
    with pytest.raises(ModelError, match="a model of type llama"):
        load_model("owner/text")
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json"):
        load_model("owner/text")
    assert "model.safetensors" not in hub.served


def test_no_room_on_the_disk_is_told_before_the_weights(hub, tiny_checkpoint, monkeypatch):
    hub.repositories["owner/name"] = tiny_checkpoint("llava")
    monkeypatch.setattr(hub_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000))
    with pytest.raises(RequestError, match=r"GB of free space.*HF_HOME"):
        load_model("owner/name")
    assert "model.safetensors" not in hub.served


def test_offline_uses_what_is_there_and_says_what_is_not(hub, tiny_checkpoint, monkeypatch):
    hub.repositories["owner/name"] = tiny_checkpoint("llava")
    load_model("owner/name", device="cpu")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_model("owner/name", device="cpu").layers == 3
    with pytest.raises(ModelError, match=r"out of reach.*hf download owner/other"):
        load_model("owner/other", device="cpu")


def test_a_machine_without_a_network_does_not_wait_for_the_hub(hub, tiny_checkpoint, monkeypatch):
    hub.repositories["owner/name"] = tiny_checkpoint("llava")
    load_model("owner/name", device="cpu")
    hub.close()
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: pytest.fail("waited"))
    assert load_model("owner/name", device="cpu").layers == 3
    with pytest.raises(ModelError, match=r"out of reach.*hf download owner/other"):
        load_model("owner/other", device="cpu")


def hub_error(kind):
    if kind in (GatedRepoError, RepositoryNotFoundError):
        return kind("refused", response=httpx.Response(401, request=httpx.Request("GET", "https://huggingface.co")))
    return kind("refused")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (GatedRepoError, "licence"),
        (RepositoryNotFoundError, "no model named owner/name"),
        (LocalEntryNotFoundError, "hf download owner/name"),
        (HFValidationError, "hub id such as"),
        (OSError, "broke off.*Try again"),
    ],
)
def test_hub_failures_are_told_apart(monkeypatch, kind, message):
    def refuse(*names, **options):
        raise hub_error(kind)

    monkeypatch.setattr(hub_module, "hf_hub_download", refuse)
    with pytest.raises(ModelError, match=message):
        load_model("owner/name")
