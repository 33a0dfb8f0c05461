"""Memory that runs out is told as that, wherever it happens, and the next piece of work does as if nothing had been."""

import errno
import gc
import inspect
import weakref

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from a3tune.adapters.switch import AdapterSet
from a3tune.errors import ModelError, NotEnoughMemoryError, is_lack_of_memory
from a3tune.evaluation.alignment import KnownQuestion, prepare_questions, read_questions
from a3tune.evaluation.head_sets import HeadSet
from a3tune.evaluation.reading import read_attention_of
from a3tune.inspection.deletion_curves import measure_curves, measure_randomised
from a3tune.inspection.image_set import inspect_images
from a3tune.inspection.inspect import inspect_image
from a3tune.lack_of_memory import in_halves, memory_for
from a3tune.models import load
from a3tune.models.load import load_model

LACKS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    RuntimeError("unable to mmap 400 bytes from file </w>: Cannot allocate memory (12)"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    MemoryError(),
]
QUESTIONS = ("Is there a mass?", "Where is the liver, and what does it look like?", "Is it normal?", "Which organ?")


@pytest.mark.parametrize("error", LACKS, ids=lambda error: type(error).__name__)
def test_every_way_of_saying_it_is_known(error):
    with (
        pytest.raises(NotEnoughMemoryError, match=r"too little.*enough memory for a test\. Buy more"),
        memory_for("a test", "Buy more"),
    ):
        raise error


def test_what_torch_said_is_told_without_its_sources_place():
    with pytest.raises(NotEnoughMemoryError) as told, memory_for("a test", "Buy more"):
        raise LACKS[2]
    assert told.value.got == "There was too little: DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"


def test_other_faults_stay_what_they_are():
    assert not is_lack_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not is_lack_of_memory(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(RuntimeError, match="illegal memory"), memory_for("a test", "Buy more"):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_what_the_work_held_is_free_before_it_is_told():
    held = []

    def work():
        tensor = torch.zeros(1000)
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(NotEnoughMemoryError) as told, memory_for("a test", "Buy more"):
        work()
    gc.collect()
    assert held[0]() is None
    assert told.value.remedy == "Buy more"


def test_halves_go_down_to_single_items():
    asked = []

    def work(items):
        asked.append(tuple(items))
        if len(items) > 2 or 7 in items:
            raise MemoryError
        return [item * 10 for item in items]

    assert in_halves(work, [1, 2, 3, 4, 5]) == [10, 20, 30, 40, 50]
    assert asked == [(1, 2, 3, 4, 5), (1, 2), (3, 4, 5), (3,), (4, 5)]
    with pytest.raises(MemoryError):
        in_halves(work, [6, 7])


@pytest.fixture
def short(monkeypatch):
    """(model, rows): passes over more rows than that take too much memory; gives how many rows each pass had."""

    def limit(model, rows):
        forward, seen = type(model.model).forward, []

        def counted(self, *args, **options):
            seen.append(len(options["input_ids"] if "input_ids" in options else options["inputs_embeds"]))
            if seen[-1] > rows:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return forward(self, *args, **options)

        counted.__signature__ = inspect.signature(forward)
        monkeypatch.setattr(type(model.model), "forward", counted)
        return seen

    return limit


def test_an_inspection_says_it_and_the_next_question_works(tiny_model, random_image, short, monkeypatch):
    model, image = tiny_model("llava"), random_image(3, 60, 92)
    before = inspect_image(model, image, QUESTIONS[0], max_new_tokens=3)
    with monkeypatch.context():
        short(model, 0)
        with pytest.raises(NotEnoughMemoryError, match=r"an answer and its maps.*shorter question"):
            inspect_image(model, image, QUESTIONS[0], max_new_tokens=3)
        monkeypatch.undo()
    after = inspect_image(model, image, QUESTIONS[0], max_new_tokens=3)
    np.testing.assert_array_equal(after.views[0].maps.weights, before.views[0].maps.weights)


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("a3tune.models.prompt.PromptEncoder.encode", torch.OutOfMemoryError("CUDA out of memory.")),
        ("a3tune.models.model.VisionLanguageModel.patch_grid", MemoryError()),
        ("a3tune.inspection.views.head_set_map", MemoryError()),
        ("a3tune.models.model.VisionLanguageModel.append_answer", LACKS[2]),
    ],
)
def test_before_and_after_the_passes_of_the_model_too(place, error, tiny_model, random_image, monkeypatch):
    model, image = tiny_model("llava"), random_image(3, 60, 92)
    before = inspect_image(model, image, QUESTIONS[0], max_new_tokens=3)
    known = [KnownQuestion(image, QUESTIONS[0], "left lung", "open", np.ones((60, 92), bool))]

    def full(*args, **options):
        raise error

    works = [
        lambda: inspect_image(model, image, QUESTIONS[0], max_new_tokens=3),
        lambda: inspect_images(model, [image], QUESTIONS[0], max_new_tokens=3),
        lambda: measure_curves(model, before, "base", before.views[0].critical_heads, steps=2, random_orders=0),
        lambda: measure_randomised(model, before, "base", before.views[0].critical_heads),
        lambda: prepare_questions(model, known),
    ]
    used = {"encode": works, "patch_grid": [*works[:2], works[4]], "append_answer": works[:4]}
    with monkeypatch.context() as patch:
        patch.setattr(place, full)
        for work in used.get(place.rpartition(".")[2], works[:2]):
            with pytest.raises(NotEnoughMemoryError, match="too little"):
                work()
    after = inspect_image(model, image, QUESTIONS[0], max_new_tokens=3)
    np.testing.assert_array_equal(after.views[0].maps.weights, before.views[0].maps.weights)


def test_an_adapter_that_does_not_fit_is_not_told_as_another_models(tiny_checkpoint, tmp_path, monkeypatch):
    model = load_model(tiny_checkpoint("llava"), device="cpu")
    config = LoraConfig(r=2, target_modules=r".*language_model.*q_proj", init_lora_weights=False)
    get_peft_model(load_model(tiny_checkpoint("llava"), device="cpu").model, config).save_pretrained(
        tmp_path, save_embedding_layers=False
    )
    adapters = AdapterSet(model.model)

    def full(self, *args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patch:
        patch.setattr(PeftModel, "load_adapter", full)
        with pytest.raises(NotEnoughMemoryError, match=r"the adapter mine.*lower rank"):
            adapters.add("mine", tmp_path)
    assert adapters.names == ("base",)
    adapters.add("mine", tmp_path)
    assert adapters.names == ("base", "mine")


def test_a_model_that_does_not_fit_after_all(tiny_checkpoint, monkeypatch):
    def full(*args, **options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(load, "lazy_weights", full)
        with pytest.raises(NotEnoughMemoryError, match=r"the model on cpu.*smaller precision"):
            load_model(tiny_checkpoint("llava"), device="cpu")
    assert load_model(tiny_checkpoint("llava"), device="cpu").layers == 3
    assert not issubclass(NotEnoughMemoryError, ModelError)


def test_an_evaluation_goes_on_in_smaller_batches_with_the_same_results(tiny_model, random_image, short, monkeypatch):
    model, image = tiny_model("llava"), random_image(3, 60, 92)
    target = np.zeros((60, 92), bool)
    target[10:40, 20:60] = True
    known = [KnownQuestion(image, question, "left lung", "open", target) for question in QUESTIONS]
    prepared = prepare_questions(model, known)
    prompts = [item.prompt for item in prepared]
    coverages = [item.coverage for item in prepared]
    sets = (HeadSet("critical heads"),)
    whole, read = read_questions(model, prepared), read_attention_of(model, prompts, coverages, sets)
    seen = short(model, 2)
    assert [reading.right for reading in read_questions(model, prepared)] == [reading.right for reading in whole]
    # What stands before the questions is read by itself, and again once it was given up for want of memory.
    assert [count for count in seen if count > 1] == [4, 2, 2]
    del seen[:]
    again = read_attention_of(model, prompts, coverages, sets)
    for ((numbers, weights),), ((expected, map_),) in zip(again, read, strict=True):
        assert numbers == pytest.approx(expected, abs=1e-6)
        np.testing.assert_allclose(weights, map_, atol=1e-7)
    assert seen == [4, 2, 2]
    monkeypatch.undo()
    short(model, 0)
    with pytest.raises(NotEnoughMemoryError, match="one question"):
        read_questions(model, prepared)
