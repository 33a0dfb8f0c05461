"""An evaluation from data to report: the same words in any batch, gone on with bit for bit, gaps told."""

import base64
import dataclasses
import json
import math
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from peft import LoraConfig, get_peft_model

from a3tune.adapters.switch import BASE, AdapterSet
from a3tune.data.masks import true_mask
from a3tune.errors import Cancelled, RequestError
from a3tune.evaluation.alignment import PreparedQuestion, read_questions
from a3tune.evaluation.asking import Asker
from a3tune.evaluation.estimate import estimate_evaluation
from a3tune.evaluation.head_sets import HeadSet, parse_head_sets
from a3tune.evaluation.items import read_items
from a3tune.evaluation.journal import Journal
from a3tune.evaluation.questions import read_evaluation_data
from a3tune.evaluation.report import read_report
from a3tune.evaluation.run import EvaluationPlan, evaluate, plan_batches
from a3tune.evaluation.scoring import compare_folders
from a3tune.evaluation.summary import report_text
from a3tune.evaluation.systems import System
from a3tune.geometry.patch_grid import to_patches
from a3tune.images import load_image
from a3tune.inspection.image_set import inspect_images
from a3tune.models.load import load_model
from a3tune.prefixes.batch import PrefixReader
from a3tune.training.methods import a3moe_config
from a3tune.types import Head
from tests.support.adapter_sets import save_adapters
from tests.support.tuning_data import write_data, write_pairs

BASE_ONLY = {BASE: None}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return read_evaluation_data(write_data(tmp_path_factory.mktemp("evaluated"), images=5), "all")


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model("llava")


def plan(**settings):
    return EvaluationPlan(**{"adapters": BASE_ONLY, "masks": "true", "batch_size": 4, "max_new_tokens": 6, **settings})


@pytest.fixture(scope="module")
def whole(data, model, tmp_path_factory):
    """The folder of an unbroken evaluation."""
    out = tmp_path_factory.mktemp("run") / "whole"
    evaluate(plan(), data, model, out)
    return out


def test_the_words_and_numbers_do_not_depend_on_the_batch(data, model, whole, tmp_path):
    together = read_items(whole / "items.jsonl")
    evaluate(plan(batch_size=1), data, model, tmp_path / "alone")
    alone = read_items(tmp_path / "alone" / "items.jsonl")
    for one, other in zip(together, alone, strict=True):
        if one.margin > 1e-4:
            assert one.prediction == other.prediction
            for when in ("given", "generated"):
                assert one.attention[when] == pytest.approx(other.attention[when], abs=1e-5)
    image = load_image(data.questions[0].item.image)
    written = model.generate(model.encode(image, data.questions[0].item.question), max_new_tokens=6)
    assert together[0].prediction == written.text


def test_what_was_read_for_other_questions_changes_nothing(data, model, whole, tmp_path, monkeypatch):
    monkeypatch.setattr("a3tune.evaluation.asking.PrefixReader", lambda model, kept: PrefixReader(model, 0))
    evaluate(plan(), data, model, tmp_path / "read whole")
    for one, other in zip(
        read_items(whole / "items.jsonl"), read_items(tmp_path / "read whole" / "items.jsonl"), strict=True
    ):
        assert one.prediction == other.prediction
        for when in ("given", "generated"):
            assert one.attention[when] == pytest.approx(other.attention[when], abs=1e-5)


def test_batches_that_another_version_asked_together_are_asked_anew(data, model, whole, tmp_path):
    with pytest.raises(Cancelled):
        evaluate(plan(), data, model, tmp_path, should_stop=lambda: True)
    with Journal(tmp_path / "work", 0) as journal:
        for index in range(3):
            journal.add(f"base/{index}", [{"number": index, "prediction": "as it was"}])
    evaluate(plan(), data, model, tmp_path)
    assert (tmp_path / "items.jsonl").read_bytes() == (whole / "items.jsonl").read_bytes()


def test_attention_is_that_of_an_inspection(data, model, whole):
    items = read_items(whole / "items.jsonl")
    asked = data.questions[1]
    image = load_image(asked.item.image)
    prompt = model.encode(image, asked.item.question, asked.item.answer, close=True)
    grid = model.patch_grid(image.height, image.width, len(prompt.images[0]))
    mask = np.array(load_image(asked.item.mask).pixels[:, :, 0] > 0)
    (reading,) = read_questions(model, [PreparedQuestion(prompt, to_patches(mask, grid), "open")])
    assert items[1].value("given.attention_mass") == pytest.approx(reading.mass, rel=1e-5)
    assert items[1].value("given.pointing_game") == pytest.approx(reading.pointing)
    assert items[1].masks == "true"


def test_what_is_read_while_an_answer_is_written_is_what_a_pass_of_its_own_reads(
    data, tiny_checkpoint, tmp_path, monkeypatch
):
    source = load_model(tiny_checkpoint("llava"), device="cpu")
    get_peft_model(source.model, a3moe_config(source)).save_pretrained(tmp_path / "a3", save_embedding_layers=False)
    read = []
    for name, writing in (("while", True), ("after", False)):
        monkeypatch.setattr("a3tune.evaluation.asking.readable_while_writing", lambda *args, found=writing: found)
        model = load_model(tiny_checkpoint("llava"), device="cpu")
        evaluate(plan(adapters={"base": None, "a3": tmp_path / "a3"}), data, model, tmp_path / name)
        read.append(read_items(tmp_path / name / "items.jsonl"))
    assert {item.ending for item in read[0]} <= {"end", "length"}
    for one, other in zip(*read, strict=True):
        assert (one.prediction, one.ending, one.margin) == (other.prediction, other.ending, other.margin)
        for when in ("given", "generated"):
            assert one.attention[when] == pytest.approx(other.attention[when], abs=1e-5)


def test_adapters_that_share_a_batch_give_what_they_give_one_by_one(data, tiny_checkpoint, tmp_path):
    source = load_model(tiny_checkpoint("llava"), device="cpu")
    query = r".*language_model.*q_proj"
    kinds = {
        "a3": dataclasses.replace(a3moe_config(source), init_weights=False),
        "lora": LoraConfig(r=2, target_modules=query, init_lora_weights=False),
        "dora": LoraConfig(r=2, target_modules=query, use_dora=True),
    }
    save_adapters(source.model, kinds, tmp_path)
    three = {"base": None, "lora": tmp_path / "lora", "a3": tmp_path / "a3"}
    settings = {"controls": ("blank",), "decodings": ("nucleus",), "batch_size": 3, "adapters": three}
    read, told = [], []
    for name, together in (("alone", None), ("batch", True)):
        model = load_model(tiny_checkpoint("llava"), device="cpu")
        evaluate(plan(**settings, together=together), data, model, tmp_path / name)
        read.append(read_items(tmp_path / name / "items.jsonl"))
        told.append(read_report(tmp_path / name)["provenance"]["environment"]["answers"])
    assert told == ["one by one", "one batch"]
    compared = 0
    for one, other in zip(*read, strict=True):
        assert one.system == other.system
        if one.margin > 1e-4:
            compared += 1
            assert (one.prediction, one.ending) == (other.prediction, other.ending)
            for when in one.attention:
                assert one.attention[when] == pytest.approx(other.attention[when], abs=1e-5)
    assert compared > len(read[0]) // 2
    settings["adapters"] = {"base": None, "dora": tmp_path / "dora"}
    evaluate(plan(**settings, together=True), data, model, tmp_path / "dora-out")
    found = read_report(tmp_path / "dora-out")["provenance"]["environment"]["answers"]
    assert found == "one by one: dora is more than plain LoRA"


def test_a_batch_of_several_systems_that_was_cut_is_asked_whole(data, model, tmp_path, monkeypatch):
    asked, ask = [], Asker.ask

    def noted(self, systems, questions, *, seed):
        asked.append([system.name for system in systems])
        return ask(self, systems, questions, seed=seed)

    monkeypatch.setattr(Asker, "ask", noted)
    settings = plan(controls=("blank",), decodings=("nucleus",), together=True, adapters={"base": None, "same": None})
    monkeypatch.setattr(EvaluationPlan, "mode", lambda *args: "one batch")
    monkeypatch.setattr(AdapterSet, "using", lambda self, name: nullcontext())
    monkeypatch.setattr("a3tune.evaluation.asking.mixed_rows", lambda adapters, rows: nullcontext())
    evaluate(settings, data, model, tmp_path / "whole")
    groups = [["base", "same"], ["base+nucleus"], ["base, blank image", "same, blank image"]]
    assert asked[:3] == groups

    def cut(self, key, results):
        if key.startswith("same/"):
            raise KeyboardInterrupt
        add(self, key, results)

    add = Journal.add
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", cut)
        with pytest.raises(KeyboardInterrupt):
            evaluate(settings, data, model, tmp_path / "broken")
    asked.clear()
    evaluate(settings, data, model, tmp_path / "broken")
    assert asked[:3] == groups
    assert (tmp_path / "broken" / "items.jsonl").read_bytes() == (tmp_path / "whole" / "items.jsonl").read_bytes()


def test_an_answer_longer_than_the_context_is_scored_and_its_attention_a_gap(model, tmp_path):
    rows = write_data(tmp_path / "data", images=2, validation=1)
    rows.write_text(rows.read_text().replace("left lung", "word " * 3000).replace("right kidney", "word " * 3000))
    report = evaluate(plan(), read_evaluation_data(rows, "all"), model, tmp_path / "out")
    items = read_items(tmp_path / "out" / "items.jsonl")
    long, short = ([item for item in items if (len(item.answer) > 99) == wanted] for wanted in (True, False))
    assert len(long) == len(short) == 2
    assert all("given" not in item.attention and "generated" in item.attention for item in long)
    assert all("while the right answer is given" in item.gap and item.scores["strict"]["recall"] == 0 for item in long)
    assert not any(item.gap for item in short)
    assert any("2 answers in part" in note for note in report.notes)


def test_an_evaluation_that_was_stopped_goes_on_bit_for_bit(data, model, whole, tmp_path):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 2

    with pytest.raises(Cancelled):
        evaluate(plan(), data, model, tmp_path / "broken", should_stop=stop)
    assert not (tmp_path / "broken" / "report.json").exists()
    # What a kill in the middle of writing leaves behind.
    journal = tmp_path / "broken" / "work" / "0.jsonl"
    content = journal.read_bytes()
    assert content.count(b"\n") == 2
    journal.write_bytes(content[:-20])
    evaluate(plan(), data, model, tmp_path / "broken")
    for name in ("items.jsonl", "report.json", "report.csv"):
        assert (tmp_path / "broken" / name).read_bytes() == (whole / name).read_bytes(), name
    assert not (tmp_path / "broken" / "work").exists()


def test_a_file_in_the_folder_stops_it_and_says_how_far_it_is(data, model, whole, tmp_path):
    out = tmp_path / "out"

    def progress(what, share):
        if share > 0.3:
            (out / "stop").touch()

    with pytest.raises(Cancelled):
        evaluate(plan(adapters={"base": None}), data, model, out, on_progress=progress)
    assert json.loads((out / "evaluation.json").read_text())["status"] == "stopped"
    told = json.loads((out / "work" / "progress.json").read_text())
    assert told["at"] == "base"
    assert 0 <= told["share"] < 0.7
    evaluate(plan(), data, model, out)
    assert (out / "items.jsonl").read_bytes() == (whole / "items.jsonl").read_bytes()


def test_the_maps_are_where_the_numbers_come_from(data, model, whole):
    lines = [json.loads(line) for line in (whole / "maps.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == list(range(len(data.questions)))
    for line, item in zip(lines, read_items(whole / "items.jsonl"), strict=True):
        shares, target = (
            np.frombuffer(base64.b64decode(text), "<f2").astype(float)
            for text in (line["maps"]["base"], line["place"]["target"])
        )
        (tile,) = line["place"]["tiles"]
        assert len(shares) == len(target) == tile["rows"] * tile["columns"]
        assert (shares * target).sum() == pytest.approx(item.value("generated.attention_mass"), abs=2e-3)


def test_an_estimate_counts_all_answers(data, model):
    found = estimate_evaluation(plan(controls=("blank",)), data, model)
    assert (found.questions, found.images, found.answers, found.sampled) == (10, 5, 20, 8)
    assert found.systems == ("base", "base, blank image")
    assert found.seconds > 0


def test_what_is_read_once_for_an_image_is_reckoned_by_images(data, model, monkeypatch):
    clock = SimpleNamespace(now=0.0)

    class Fake:
        def __init__(self, *args):
            self.seconds_of_images = 0.0

        def together(self, systems):
            return [systems]

        def ask(self, systems, questions, *, seed):
            read = 7.0 * len({question.image_digest for question in questions})
            self.seconds_of_images += read
            clock.now += 2.0 * len(questions) + read

    monkeypatch.setattr("a3tune.evaluation.estimate.Asker", Fake)
    monkeypatch.setattr("a3tune.evaluation.estimate.time.perf_counter", lambda: clock.now)
    assert estimate_evaluation(plan(), data, model).seconds == 2.0 * 10 + 7.0 * 5


def test_a_finished_batch_is_not_asked_again(data, model, whole, tmp_path, monkeypatch):
    batches = plan_batches(data.questions, 4)
    with Journal(tmp_path / "work", 1) as journal:
        for index, batch in enumerate(batches):
            journal.add(f"base/{index}", [{"number": item.number, "prediction": "yes"} for item in batch])
    done = Journal(tmp_path / "work", 0).done
    assert len(done) == len(batches)
    assert sorted(entry["number"] for batch in done.values() for entry in batch) == list(range(len(data.questions)))


def test_another_evaluation_in_the_folder_is_refused(data, model, whole, tmp_path):
    with pytest.raises(RequestError, match="other questions, models or settings"):
        evaluate(plan(max_new_tokens=5), data, model, whole)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RequestError, match="holds something else"):
        evaluate(plan(), data, model, tmp_path)


def test_an_image_that_is_gone_is_a_gap_and_the_rest_goes_on(model, tmp_path):
    data = read_evaluation_data(write_data(tmp_path / "data", images=3), "all")
    (tmp_path / "data" / "image1.png").unlink()
    (tmp_path / "data" / "mask2.png").write_bytes((tmp_path / "data" / "mask0.png").read_bytes()[:40])
    report = evaluate(plan(), data, model, tmp_path / "out")
    items = read_items(tmp_path / "out" / "items.jsonl")
    gone = [item for item in items if item.image == "image1.png"]
    assert all(item.prediction is None and "does not exist" in item.gap for item in gone)
    assert all(not item.scores for item in gone)
    blind = [item for item in items if item.image == "image2.png"]
    assert all(item.prediction is not None and item.gap.startswith("Without attention") for item in blind)
    assert any("2 questions without an answer" in note for note in report.notes)
    assert report.metric("base", "accuracy").interval.questions == 2


def test_a_question_about_two_images_is_measured_over_both(tiny_model, tmp_path):
    data = read_evaluation_data(write_pairs(tmp_path / "data"), "all")
    model = tiny_model("qwen2_5_vl")
    evaluate(plan(given=False, controls=("other",)), data, model, tmp_path / "out")
    items = read_items(tmp_path / "out" / "items.jsonl")
    for asked, item in zip(data.questions, items, strict=False):
        images = [load_image(path) for path in asked.item.images]
        masks = [true_mask(part, image) for part, image in zip(asked.item.parts, images, strict=True)]
        (view,) = inspect_images(model, images, asked.item.question, targets=masks, max_new_tokens=6).views
        assert item.prediction == view.answer
        assert item.attention["generated"] == pytest.approx(view.metrics, abs=1e-5)
        assert item.image == "; ".join(path.name for path in asked.item.images)
    # The pairs are made of two by two pictures, so there are two clusters.
    assert len({item.cluster for item in items}) == 2
    maps = [json.loads(line) for line in (tmp_path / "out" / "maps.jsonl").read_text().splitlines()]
    assert all(line["place"] is None and not line["maps"] for line in maps)


def test_controls_show_something_else_and_are_compared(data, model, tmp_path):
    report = evaluate(plan(controls=("text", "blank", "other"), masks="none"), data, model, tmp_path / "out")
    names = ("base", "base, text only", "base, blank image", "base, image of another patient")
    assert report.systems == names
    assert {(found.adapter, found.control) for found in report.controls} == {
        ("base", "text"), ("base", "blank"), ("base", "other"),
    }  # fmt: skip
    items = read_items(tmp_path / "out" / "items.jsonl")
    said = {name: [item.prediction for item in items if item.system == name] for name in names}
    assert said["base"] != said["base, blank image"]
    assert not any(item.attention for item in items if item.control)
    text = model.encode_text(data.questions[0].item.question)
    assert not text.images
    assert said["base, text only"][0] == model.generate(text, max_new_tokens=6).text


def test_an_adapter_with_experts_is_asked_without_an_image_too(data, tiny_checkpoint, tmp_path):
    source = load_model(tiny_checkpoint("llava"), device="cpu")
    get_peft_model(source.model, a3moe_config(source)).save_pretrained(tmp_path / "a3", save_embedding_layers=False)
    model = load_model(tiny_checkpoint("llava"), device="cpu")
    settings = {"adapters": {"a3": tmp_path / "a3"}, "decodings": ("m3id",), "controls": ("text",), "masks": "none"}
    report = evaluate(plan(**settings, max_new_tokens=2), data, model, tmp_path / "out")
    assert report.systems == ("a3", "a3+m3id", "a3, text only")
    items = read_items(tmp_path / "out" / "items.jsonl")
    assert all(item.prediction is not None for item in items)


def test_the_report_reads_back_and_names_every_number(data, whole):
    report = read_report(whole)
    assert report["data"]["questions"] == len(data.questions)
    assert report["provenance"]["settings"]["critical_heads"] == 4
    for metric in report["metrics"]:
        assert metric["name"]
        assert metric["mode"] in ("strict", "reference", "given answer", "generated answer")
        assert metric["normalisation"]
    groups = {(metric["group"], metric["value_of_group"]) for metric in report["metrics"]}
    assert {("answer_type", "open"), ("topic", "location"), ("structure", "mass")} <= groups
    table = (whole / "report.csv").read_text().splitlines()
    assert len(table) == len(report["metrics"]) + 1
    assert json.loads((whole / "evaluation.json").read_text())["status"] == "finished"


def test_a_finished_evaluation_is_read_and_not_asked_again(data, model, whole, monkeypatch):
    monkeypatch.setattr("a3tune.evaluation.run.Asker.ask", None)
    content = (whole / "report.json").read_bytes()
    report = evaluate(plan(), data, model, whole)
    assert report.metric("base", "accuracy").interval.questions == 5
    assert (whole / "report.json").read_bytes() == content


def test_batches_are_the_same_whatever_the_order_and_leave_nothing_out(data, monkeypatch):
    monkeypatch.setattr("a3tune.evaluation.run._IMAGES_TOGETHER", 2)
    batches = plan_batches(data.questions, 3)
    assert sorted(item.number for batch in batches for item in batch) == list(range(len(data.questions)))
    assert plan_batches(tuple(reversed(data.questions)), 3) == batches
    # Ten questions about five images, two images at a time: those of a batch are about at most two neighbours.
    assert [len({item.image_digest for item in batch}) for batch in plan_batches(data.questions, 4)] == [2, 2, 1]


def test_further_sets_of_heads_are_told_by_name_beside_the_critical_ones(data, model, whole, tmp_path):
    count = model.layers * model.heads
    each = tuple(Head(place // model.heads, place % model.heads) for place in range(count))
    sets = (
        HeadSet("all heads", every=True), HeadSet("as many", count), HeadSet("these", heads=each),
        HeadSet("usual", model.heads), HeadSet("heads of run.v1", heads=each[:1]),
    )  # fmt: skip
    settings = plan(critical_count=1, head_sets=sets)
    with pytest.raises(Cancelled):
        evaluate(settings, data, model, tmp_path / "out", should_stop=iter([False, True]).__next__)
    report = evaluate(settings, data, model, tmp_path / "out")
    items, usual = (read_items(folder / "items.jsonl") for folder in (tmp_path / "out", whole))
    for item, same in zip(items, usual, strict=True):
        for when in ("given", "generated"):
            every = item.attention[f"{when}, all heads"]
            assert item.attention[f"{when}, as many"] == pytest.approx(every, abs=1e-6)
            assert item.attention[f"{when}, these"] == pytest.approx(every, abs=1e-6)
            assert item.attention[f"{when}, usual"] == pytest.approx(same.attention[when], abs=1e-6)
            assert item.attention[when] != every
            assert len({item.value(f"{when}, {name}.image_share") for name in ("all heads", "usual")}) == 2
            assert math.isfinite(item.value(f"{when}, heads of run.v1.image_share"))
    mass = report.metric(BASE, "attention_mass", "given answer, all heads")
    assert mass.normalisation == "true masks"
    assert "mass, given, all heads" in report_text(report)
    assert "given answer, all heads" in (tmp_path / "out" / "report.csv").read_text()
    by = {
        metric.value_of_group for metric in report.metrics if metric.mode == mass.mode and metric.group == "structure"
    }
    usually = {m.value_of_group for m in report.metrics if m.mode == "given answer" and m.group == "structure"}
    assert by == usually
    # A folder without further sets stays what it was, and the critical heads are compared with those of this one.
    assert "head_sets" not in read_report(whole)["provenance"]["settings"]
    evaluate(plan(head_sets=sets[:1]), data, model, tmp_path / "two")
    found = compare_folders(whole, tmp_path / "two")
    assert found.notes == ()
    (given,) = [entry for entry in found.comparisons if (entry.name, entry.mode) == ("attention_mass", "given answer")]
    assert given.difference.value == pytest.approx(0, abs=1e-6)
    with pytest.raises(RequestError, match="layer 9, head 0"):
        evaluate(plan(head_sets=(HeadSet("x", heads=(Head(9, 0),)),)), data, model, tmp_path / "no")


def test_heads_that_a_run_aligned_are_those_of_its_record(tmp_path):
    config = {"method": "a3", "no_alignment": False, "ratio": 1.0, "no_head_selection": False, "top_heads": 3}
    sets = []
    for name, change, fixed in (
        ("fixed", {"head_choice": "fixed"}, [[0, 1], [1, 0]]),
        ("chosen", {"head_choice": "dynamic"}, None),
        ("whole", {"head_choice": "dynamic", "no_head_selection": True}, None),
        ("plain", {"head_choice": "dynamic", "method": "lora"}, None),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"config": config | change, "fixed_heads": fixed}))
        sets.append(f"aligned={tmp_path / name}")
    assert parse_head_sets(",".join(["critical", "all", "critical:5", *sets[:3]])) == (
        HeadSet("all heads", every=True), HeadSet("5 critical heads", 5),
        HeadSet("heads aligned in fixed", heads=(Head(0, 1), Head(1, 0))), HeadSet("heads aligned in chosen", 3),
        HeadSet("heads aligned in whole", every=True),
    )  # fmt: skip
    named = parse_head_sets(f"aligned:mine={tmp_path / 'fixed'},aligned={tmp_path / 'fixed'}")
    assert [one.name for one in named] == ["heads aligned in mine", "heads aligned in fixed"]
    for text, words in (
        (sets[3], "aligned none"), (f"aligned={tmp_path}", "is none"), ("some", "'some'"), ("critical:0", "critical:0"),
        ("all,all", "all heads twice"),
    ):  # fmt: skip
        with pytest.raises(RequestError, match=words):
            parse_head_sets(text)


def test_bad_settings_are_told():
    for settings, words in (
        ({"batch_size": 0}, "batch_size"),
        ({"adapters": {}}, "at least one adapter"),
        ({"decodings": ("magic",)}, "magic"),
    ):
        with pytest.raises(RequestError, match=words):
            plan(**settings)


def test_systems_have_names_of_their_own():
    systems = plan(adapters={"base": None, "a3": "x"}, decodings=("beam",), controls=("blank",)).systems
    assert [system.name for system in systems] == [
        "base", "a3", "base+beam", "base, blank image", "a3, blank image",
    ]  # fmt: skip
    assert dataclasses.asdict(System("a3")) == {"adapter": "a3", "decoding": "greedy", "control": ""}


def test_two_processes_share_the_batches_and_write_one_result(data, model, whole, tmp_path, monkeypatch):
    """Two threads stand for two processes: the states that accelerate would give them wait for one another."""
    barrier = threading.Barrier(2)
    asked: dict[int, list[str]] = {0: [], 1: []}
    add = Journal.add

    class State:
        num_processes = 2

        def __init__(self, cpu):
            self.process_index = int(threading.current_thread().name)

        def wait_for_everyone(self):
            barrier.wait(60)

    def counted(self, key, results):
        asked[int(threading.current_thread().name)].append(key)
        add(self, key, results)

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("a3tune.evaluation.run.PartialState", State)
    monkeypatch.setattr(Journal, "add", counted)
    out = tmp_path / "shared"
    threads = [threading.Thread(target=evaluate, args=(plan(), data, model, out), name=str(rank)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(asked[rank]) for rank in (0, 1)] == [1, 2]
    assert len({*asked[0], *asked[1]}) == 3
    assert (out / "items.jsonl").read_bytes() == (whole / "items.jsonl").read_bytes()
    assert not (out / "work").exists()
