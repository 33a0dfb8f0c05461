"""Tiny random vision-language models of each class that is supported, built in code: no file, no network.

``tiny_checkpoint(name)`` gives a folder saved with ``save_pretrained`` (once per session, never to be written to),
``tiny_model(name)`` the model loaded from it. Tests over all of them take the parametrized fixture ``tiny_name``.
"""

from __future__ import annotations

# Before torch is loaded: it says how torch's threads wait for one another, and that no garbage is collected yet.
import tests.support.process  # noqa: F401  # isort: skip
import gc
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants

from a3tune import hub
from a3tune.models.load import load_model
from a3tune.models.model import VisionLanguageModel
from a3tune.types import MedicalImage
from tests.support.fake_hub import FakeHub
from tests.support.tiny_models import BUILDERS

_TESTS = Path(__file__).parent
_LONG = (
    "app/tune/test_page.py",
    "app/inspect/test_page.py",
    "training/test_tuning.py",
    "app/inspect/test_reading.py",
    "app/inspect/test_viewer.py",
    "app/evaluate/test_page.py",
    "attack/test_attack.py",
    "adapters/test_isolation.py",
    "app/models/test_service.py",
    "training/test_trainer.py",
    "test_space.py",
    "app/inspect/sessions/test_regions.py",
    "app/inspect/asking/test_zero_gpu.py",
    "app/server/test_operation.py",
    "test_container.py",
    "app/inspect/test_export_request.py",
    "app/models/test_page.py",
    "models/test_bits.py",
    "cli/labels/test_data_sets.py",
    "cli/test_main.py",
    "cli/labels/test_images.py",
    "parity/test_eager.py",
    "training/test_killed.py",
    "demo/scorer/test_training.py",
    "app/inspect/test_region_panel.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take half a minute come first: begun last, one would run on alone while the other cores wait."""
    order = {_TESTS / name: place for place, name in enumerate(_LONG)}
    if gone := [str(path) for path in order if not path.is_file()]:
        raise pytest.UsageError(f"_LONG in {__file__} names what is not there: {', '.join(gone)}")
    items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_collection_finish() -> None:
    """What is there by now stays to the end: collecting garbage need not walk through it, seconds each time."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What a test draws, its fixtures too, is the same whichever tests ran before."""
    torch.manual_seed(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Nor need it walk through what the files before keep for good, which is more and more."""
    yield
    if nextitem is not None and nextitem.path != item.path:
        with warnings.catch_warnings():
            # Of a file that nobody closed this would tell by chance alone: most are found while tests run.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        gc.freeze()


@pytest.fixture(params=BUILDERS)
def tiny_name(request: pytest.FixtureRequest) -> str:
    """Each tiny model's name in turn."""
    return request.param


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """name -> folder with config, safetensors weights, processor and chat template of a tiny random model."""
    folders: dict[str, Path] = {}

    def build(name: str) -> Path:
        if name not in folders:
            torch.manual_seed(7)
            model_class, config, processor = BUILDERS[name]()
            model = model_class(config).eval()
            # Wide weights: attention that is far from uniform, so that a wrong scale or mask shows.
            for parameter_name, parameter in model.named_parameters():
                if parameter.dim() > 1:
                    torch.nn.init.normal_(parameter, std=0.5 if "q_proj" in parameter_name else 0.2)
            folder = tmp_path_factory.mktemp(name)
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
            folders[name] = folder
        return folders[name]

    return build


@pytest.fixture(scope="session")
def tiny_medgemma(tiny_checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Gemma 3 that is a child of MedGemma by its name."""
    return Path(shutil.copytree(tiny_checkpoint("gemma3"), tmp_path_factory.mktemp("named") / "tiny-medgemma"))


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Callable[[str], Path]) -> Callable[[str], VisionLanguageModel]:
    """name -> the loaded tiny model in float32 on the CPU, shared: a test that changes a model loads its own."""
    loaded: dict[str, VisionLanguageModel] = {}

    def load(name: str) -> VisionLanguageModel:
        if name not in loaded:
            loaded[name] = load_model(tiny_checkpoint(name), device="cpu", name=name)
        return loaded[name]

    return load


@pytest.fixture(scope="session")
def random_image() -> Callable[..., MedicalImage]:
    """(seed, height, width) -> MedicalImage of smooth random colours."""

    def build(seed: int = 0, height: int = 40, width: int = 52) -> MedicalImage:
        coarse = np.random.default_rng(seed).random((3, 5, 7))
        smooth = torch.nn.functional.interpolate(
            torch.from_numpy(coarse)[None], size=(height, width), mode="bilinear", align_corners=False
        )
        return MedicalImage((smooth[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())

    return build


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub on this machine in place of the real one, with caches of its own; files of 10 kB count as large."""
    server = FakeHub()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("A3TUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "_LARGE", 10_000)
    monkeypatch.setattr(hub, "_PIECE", 5_000)
    yield server
    server.close()


@pytest.fixture
def offline_hub(tmp_path, monkeypatch):
    """The folder that huggingface_hub keeps its copies in, with one repository, and no network."""
    cache = tmp_path / "hub"
    repository = cache / "models--someone--sam"
    revision = "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    folder = repository / "snapshots" / revision / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"a": torch.arange(3.0)}, folder / "sam.pth")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return folder
