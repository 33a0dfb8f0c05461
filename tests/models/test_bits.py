"""Weights in 8 and 4 bit on the processor: what is kept so, what it answers, and tuning on top of it.

In processes of their own, which alone find bitsandbytes: see the Makefile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from a3tune.adapters.switch import AdapterSet
from a3tune.bundle import model_source
from a3tune.models.load import load_model
from tests.support.tuning_data import write_data

ROOT = Path(__file__).resolve().parents[2]
BITS = os.environ.get("A3TUNE_BITS")

pytestmark = pytest.mark.skipif(not BITS, reason="A3TUNE_BITS names no folder with bitsandbytes; make test does")

# Logits of a question, attention of all heads with and without an adapter, and which layers are of which kind.
ASK = """
from a3tune.process import RUN, prepare_process
prepare_process(RUN)  # as the commands do
import json, sys
import numpy as np
import torch
import a3tune
from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.bundle import DEMO_ADAPTERS, EXAMPLES, model_source
from a3tune.evaluation.alignment import prepare_questions, read_questions
from a3tune.models.load import load_model
from a3tune.demo.adapters import phantom_questions
from a3tune.phantom.structures import VALIDATION_SEEDS

found = {}
known = [question for _, question in phantom_questions(VALIDATION_SEEDS[60_000:60_002], "standard")]
for kept in ("none", "8bit", "4bit"):
    model = load_model(model_source("demo"), device="cpu", quantization=kept)
    kinds = {name: type(part).__name__ for name, part in model.model.named_modules() if hasattr(part, "weight")}
    adapters = AdapterSet(model.model, {"a3": DEMO_ADAPTERS / "a3"})
    questions = prepare_questions(model, known)
    found[kept] = {
        "inside": sorted({kind for name, kind in kinds.items() if ".layers." in name and name.endswith("_proj")
                          and "language_model" in name}),
        "outside": sorted({kind for name, kind in kinds.items() if "language_model" not in name}),
    }
    for name in (BASE, "a3"):
        readings = read_questions(model, questions, adapter_set=adapters, adapter=name)
        found[kept][name] = [np.mean([each.right for each in readings]), np.nanmean([each.mass for each in readings])]
    # The command, which loads the model itself.
    import a3tune.models.load as loading
    from a3tune.cli.main import main
    if kept == "none":
        continue
    commanded = []
    loading.load_model = lambda *words, **options: commanded.append(load_model(*words, **options)) or commanded[-1]
    image = str(next(EXAMPLES.glob("*.png")))
    words = ["inspect", "--image", image, "--question", "Where is the lesion?", "--quantization", kept]
    words += ["--device", "cpu", "--out", sys.argv[1] + "/" + kept, "--max-new-tokens", "1"]
    assert main(words) == 0
    found[kept]["commanded"] = sorted({type(part).__name__ for name, part in commanded[0].model.named_modules()
                                       if ".layers." in name and name.endswith("_proj") and "language_model" in name})
print(json.dumps(found))
"""


def run(*words: str) -> str:
    paths = os.pathsep.join([str(Path(BITS).resolve()), str(ROOT)])
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_language_models_matrices_are_small_and_answers_and_attention_stay(tmp_path):
    found = json.loads(run("-c", ASK, str(tmp_path)).splitlines()[-1])
    assert found["none"]["inside"] == ["Linear"]
    assert found["8bit"]["inside"] == ["Linear8bitLt"]
    assert found["4bit"]["inside"] == ["Linear4bit"]
    for kept in ("8bit", "4bit"):
        assert found[kept]["commanded"] == found[kept]["inside"], "inspect --quantization keeps them so too"
        assert json.loads((tmp_path / kept / "inspect.json").read_text())["made_with"]["quantization"] == kept
        assert found[kept]["outside"] == found["none"]["outside"], "what sees, and what chooses the next word"
        for adapter in ("base", "a3"):
            (right, mass), (usual_right, usual_mass) = found[kept][adapter], found["none"][adapter]
            assert right == pytest.approx(usual_right, abs=0.08)
            assert mass == pytest.approx(usual_mass, abs=0.03)
        assert found[kept]["a3"][1] > found[kept]["base"][1] + 0.05


def test_tuning_on_small_weights_gives_adapters_for_the_usual_ones(tmp_path):
    data = write_data(tmp_path, images=5)
    settings = ("max_steps=2", "batch_size=4", "label_segmenter=data", "evaluate_every=null", "validation_share=0")
    runs = {kept: tmp_path / kept for kept in ("8bit", "4bit")}
    lines = [
        ["tune", "--data", str(data), "--config", "demo", "--device", "cpu", "--out", str(folder)]
        + [word for setting in (*settings, f"quantization={kept}") for word in ("--set", setting)]
        for kept, folder in runs.items()
    ]
    # In one process: finding and loading bitsandbytes takes longer than the steps.
    run("-c", f"from a3tune.cli.main import main\nassert not any([main(line) for line in {lines!r}])")
    adapters = AdapterSet(load_model(model_source("demo"), device="cpu").model)
    for kept, folder in runs.items():
        events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
        steps = [event for event in events if event["event"] == "step"]
        assert len(steps) == 2
        assert all(event["alignment"] > 0 and event["gradient_norm"] > 0 for event in steps)
        weights = load_file(folder / "adapter" / "adapter_model.safetensors").values()
        assert {each.dtype for each in weights} == {torch.float32}
        adapters.add(kept, folder / "adapter")
        adapters.activate(kept)
