"""Sample data and demo adapters: made by command, complete or not at all, and found by their short names."""

import json

import numpy as np
import pytest

from a3tune.adapters.switch import AdapterSet
from a3tune.bundle import DEMO, DEMO_MODEL, DEMO_SAMPLE, EXAMPLES, demo_adapters, is_demo
from a3tune.cli.main import main
from a3tune.data.read import read_dataset
from a3tune.demo.adapters import Figures, build_adapters, measure_adapters, phantom_questions
from a3tune.demo.sample import build_sample
from a3tune.errors import LabelError
from a3tune.evaluation.alignment import Reading
from a3tune.images import load_image
from a3tune.labels.pipeline import settings_digest
from a3tune.labels.scorers.templates import KEPT_REGIONS
from a3tune.labels.segmenters.segmentation import region_from_mask
from a3tune.labels.sources import item_prompt
from a3tune.labels.store import LabelStore
from a3tune.models.load import load_model
from a3tune.phantom.structures import HELD_OUT_SEEDS
from a3tune.types import ScoredRegion, WeakLabels


class Quadrant:
    """A labeller whose one region is the upper left quarter of every image."""

    def __init__(self):
        self.settings = {"segmenter": "quadrant", "scorer": "none", "top_k": 1}

    def rank(self, image, prompts):
        mask = np.zeros((image.height, image.width), bool)
        mask[: image.height // 2, : image.width // 2] = True
        regions = (ScoredRegion(region_from_mask(mask), 90.0, 1, 1.0, prompts[0]),)
        return WeakLabels(regions, prompts[0], "quadrant", "none", (), settings_digest(self.settings))


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "sample"
    shares = []
    summary = build_sample(folder, count=6, labeller=Quadrant(), on_progress=lambda what, share: shares.append(share))
    assert shares == sorted(shares)
    assert "6 phantoms" in summary
    return folder


def test_the_sample_holds_labels_for_what_is_trained_and_validated_on(sample):
    dataset = read_dataset(sample)
    assert dataset.faults == ()
    store = LabelStore(sample / "labels")
    assert store.settings["segmenter"] == "quadrant"
    labelled = {path.stem for path in (sample / "labels").rglob("*.npz")}
    assert len(labelled) == len({item.image for item in dataset.items if item.split != "test"})
    assert not list(sample.rglob("truth*"))
    assert "demo sample" in (sample / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in sample.parent.iterdir()] == ["sample"]


def test_a_sample_that_is_there_stays_until_the_new_one_is_complete(sample):
    class Broken(Quadrant):
        def rank(self, image, prompts):
            raise RuntimeError("power cut")

    before = (sample / "data.csv").read_bytes()
    with pytest.raises(LabelError, match="RuntimeError: power cut"):
        build_sample(sample, count=5, labeller=Broken())
    assert (sample / "data.csv").read_bytes() == before
    assert [path.name for path in sample.parent.iterdir()] == ["sample"]


def test_both_adapters_come_from_one_recipe_and_replace_the_old_ones(sample, tmp_path):
    out = tmp_path / "adapters"
    (out / "old").mkdir(parents=True)
    few = {"max_steps": 2, "batch_size": 2, "evaluate_every": None, "save_every": None}
    summary = build_adapters(out, data=sample, settings=few, measured=1)
    assert sorted(path.name for path in out.iterdir()) == ["a3", "lora"]
    for name in ("a3", "lora"):
        found = sorted(path.name for path in (out / name).iterdir())
        assert found == ["README.md", "adapter_config.json", "adapter_model.safetensors", "figures.json"]
        record = json.loads((out / name / "figures.json").read_text(encoding="utf-8"))
        assert (record["steps"], record["measured"], record["seed"]) == (2, 1, 4)
        assert f"{record[name]['mass']:.1%}" in (out / name / "README.md").read_text(encoding="utf-8")
        config = json.loads((out / name / "adapter_config.json").read_text(encoding="utf-8"))
        assert config["base_model_name_or_path"] == DEMO
        assert f"{name}: closed" in summary
    assert [path.name for path in tmp_path.iterdir()] == ["adapters"]


def test_figures_are_means_over_the_questions_that_have_a_place():
    readings = [
        Reading(True, "closed", 0.5, 2.0, 1.0, 0.9, 0.6),
        Reading(False, "closed", np.nan, np.nan, np.nan, 0.9, np.nan),
        Reading(True, "open", 0.1, 1.0, 0.0, 0.9, 0.2),
    ]
    figures = Figures.of(readings)
    assert (figures.closed, figures.open, figures.mass, figures.pointing) == (0.5, 1.0, pytest.approx(0.3), 0.5)
    assert figures.touched == pytest.approx(0.4)
    assert (figures.questions, figures.asked_about) == (3, 2)


def test_each_question_comes_with_the_place_it_asks_about():
    found = list(phantom_questions(HELD_OUT_SEEDS[:2]))
    assert {seed for seed, _ in found} == set(HELD_OUT_SEEDS[:2])
    placed = [item for _, item in found if item.target is not None]
    assert 0 < len(placed) < len(found)
    assert all(item.target.shape == (item.image.height, item.image.width) for item in placed)


def test_the_demo_is_known_by_name_and_folder():
    assert is_demo(DEMO)
    assert is_demo(str(DEMO_MODEL))
    assert not is_demo("someone/else")


def test_the_bundled_sample_needs_no_segmenter():
    dataset = read_dataset(DEMO_SAMPLE)
    assert dataset.faults == ()
    assert 100 <= dataset.counts.images <= 200
    store = LabelStore(DEMO_SAMPLE / "labels")
    for item in dataset.items:
        if item.split != "test" and item.line % 40 == 0:
            regions = store.get(load_image(item.image))[item_prompt(item, "plain")].regions
            assert 1 <= len(regions) <= KEPT_REGIONS
    size = sum(path.stat().st_size for path in DEMO_SAMPLE.rglob("*") if path.is_file())
    assert size < 10_000_000


def test_the_bundled_adapters_do_what_their_cards_say():
    folders = demo_adapters()
    assert set(folders) == {"a3", "lora"}
    model = load_model(DEMO_MODEL)
    figures = measure_adapters(model, AdapterSet(model.model, folders), HELD_OUT_SEEDS[:9])
    assert figures["a3"].mass > 1.1 * max(figures["base"].mass, figures["lora"].mass)
    for name, folder in folders.items():
        record = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
        # A part of the phantoms behind the card's figures: as near as so few questions allow.
        assert abs(figures[name].mass - record[name]["mass"]) < 0.12
        assert abs(figures[name].closed - record[name]["closed"]) < 0.12
        assert "not for diagnosis" in (folder / "README.md").read_text(encoding="utf-8")
    assert folders["a3"].parent.name == "adapters"


def test_the_bundled_adapters_answer_to_their_short_names(tmp_path, capsys):
    question = ["inspect", "--image", str(EXAMPLES / "chest_nodule.png"), "--question", "Where is the nodule?"]
    assert main([*question, "--adapters", "base,lora,a3", "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    record = json.loads((tmp_path / "out" / "inspect.json").read_text(encoding="utf-8"))
    assert list(record["adapters"]) == ["base", "lora", "a3"]
    assert [entry["after"] for entry in record["comparisons"]] == ["lora", "a3"]
    assert (tmp_path / "out" / "comparison.png").is_file()
    assert "a3: " in capsys.readouterr().out
    assert main([*question, "--adapters", "base,best", "--out", str(tmp_path / "other")]) == 2
    assert "base, a3, lora" in capsys.readouterr().err
