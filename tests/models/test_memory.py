import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from a3tune.errors import ModelError
from a3tune.models import memory

ROOT = Path(__file__).parent.parent.parent

# A process of its own: memory of the tests around it would blur the figures.
SWITCH = """
from a3tune.process import RUN, prepare_process
prepare_process(RUN)  # as the commands do
import json, sys
import psutil, torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from a3tune.models.load import load_model
from a3tune.lack_of_memory import release_memory

def resident():
    release_memory()
    return psutil.Process().memory_info().rss

def ask(model):
    image = MedicalImage(np.zeros((40, 40, 3), dtype=np.uint8))
    return model.generate(model.encode(image, "What is it?"), max_new_tokens=3)

import numpy as np
from a3tune.types import MedicalImage
small, large = sys.argv[1:]
# Once round first: what torch keeps for good after its first large product is no model's.
for source in (large, small):
    ask(load_model(source, device="cpu"))
before = resident()
model = load_model(large, device="cpu")
ask(model)
size = sum(weight.numel() * weight.element_size() for weight in model.model.parameters())
held = resident()
del model
freed = resident()
model = load_model(small, device="cpu")
ask(model)
print(json.dumps({"size": size, "held": held - before, "left": freed - before, "switched": resident() - before}))
"""


def test_switching_gives_the_old_models_memory_back(tiny_checkpoint, tiny_model, tmp_path):
    small = tiny_model("llava")
    config = copy.deepcopy(small.config)
    config.text_config.hidden_size, config.text_config.intermediate_size = 1024, 3000
    config.text_config.num_hidden_layers = 5
    large = type(small.model)(config)
    large.save_pretrained(tmp_path)
    small.processor.save_pretrained(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", SWITCH, str(tiny_checkpoint("llava")), str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["size"] > 150e6
    assert figures["held"] > 0.95 * figures["size"]
    assert figures["left"] < 0.05 * figures["size"], figures
    assert figures["switched"] < 0.05 * figures["size"], figures


def test_needs_grow_with_weights_and_precision():
    needs = [memory.memory_needed(7_000_000_000, kept) for kept in ("4bit", "8bit", "bfloat16", "float32")]
    assert needs == sorted(needs)
    assert 14e9 < needs[2] < 15.5e9


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    cpu = torch.device("cpu")
    free, whole = memory.available_memory(cpu), memory.total_memory(cpu)
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("4000000\n")
    assert memory.available_memory(cpu) == 1_000_000
    assert memory.total_memory(cpu) == 5_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.total_memory(cpu) == whole
    assert memory.available_memory(cpu) > free // 2


def test_what_does_not_fit_is_refused_with_both_figures(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda device: 3_000_000_000)
    with pytest.raises(ModelError, match=r"3\.0 GB are free.*about 8\.0 GB"):
        memory.check_room(8_000_000_000, torch.device("cpu"), "a model")
    memory.check_room(2_000_000_000, torch.device("cpu"), "a model")
