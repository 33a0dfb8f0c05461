import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, LlavaForConditionalGeneration, LlavaNextForConditionalGeneration
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from a3tune.errors import DataError, ModelError
from a3tune.models import conversion
from a3tune.models.checkpoint_folder import is_original
from a3tune.models.llava_med import KNOWN_TOWERS, TEXT_CONFIGS, read_original
from a3tune.models.llava_tokenizer import build_tokenizer
from a3tune.models.load import load_model
from a3tune.models.tensors import list_tensors, read_tensors
from a3tune.parity import llava_med as parity_llava_med
from a3tune.parity.eager import format_rows
from a3tune.types import MedicalImage
from tests.support.original_llava import PATCHES, write_original

DATA = Path(__file__).parent.parent / "files" / "llava_med"
QUESTION = "Is there a mass in the left lung?"
MISTRAL = f"[INST] <image>\n{QUESTION} [/INST]"
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives detailed, helpful, "
    f"and polite answers to the user's questions. USER: <image>\n{QUESTION} ASSISTANT:"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The cache folder of each test."""
    monkeypatch.setenv("A3TUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def mistral(tmp_path_factory):
    """A LLaVA-Med like checkpoint, never to be written to."""
    return write_original(tmp_path_factory.mktemp("original") / "llava-med")


@pytest.fixture
def copy(mistral, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(mistral.folder, tmp_path / "copy")


def change(folder, **entries):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize(("kind", "prompt"), [("llava_mistral", MISTRAL), ("llava_llama", VICUNA)])
@pytest.mark.parametrize("pickled", [False, True])
def test_an_original_checkpoint_answers_as_its_own_code_would(kind, prompt, pickled, tmp_path, random_image):
    original = write_original(tmp_path / "original", kind, pickled=pickled)
    image = random_image(3, 40, 52)
    model = load_model(original.folder, device="cpu")
    assert isinstance(model.model, LlavaForConditionalGeneration)
    assert model.name == "original"
    encoded = model.encode(image, QUESTION)
    expected_ids = original.ids(prompt)
    place = expected_ids.index(-200)
    patch = encoded.ids[encoded.images[0][0]]
    assert encoded.images == (tuple(range(place, place + PATCHES)),)
    assert list(encoded.ids) == [*expected_ids[:place], *[patch] * PATCHES, *expected_ids[place + 1 :]]
    assert torch.equal(encoded.inputs["pixel_values"], original.pixels(image.pixels))
    with torch.no_grad():
        logits = model.model(**encoded.inputs).logits
    outputs = original.outputs(image.pixels, prompt)
    words = original.tokenizer.get_piece_size()
    torch.testing.assert_close(logits[..., :words], outputs.logits, atol=1e-4, rtol=0)
    answer = original.answer(image.pixels, prompt, steps=8)
    assert [*model.generate(encoded, max_new_tokens=8).token_ids] == [token for token in answer if token != 2]


def test_ids_and_pixels_are_those_of_llava_med():
    golden = np.load(DATA / "golden.npz")
    tokenizer = build_tokenizer(DATA)
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    for number, prompt in enumerate(golden["prompts"]):
        ids = tokenizer(str(prompt))["input_ids"]
        assert [-200 if token == image_token else token for token in ids] == golden[f"input_ids_{number}"].tolist()
    processor = LlavaImageProcessorPil(
        do_pad=True, size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}, resample=3
    )
    pixels = processor(images=golden["image"], return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(pixels, golden["pixel_values"])


def test_the_parity_command_compares_with_golden_numbers(mistral, tmp_path, random_image, capsys):
    shutil.copytree(mistral.folder, tmp_path / "checkpoint")
    image = random_image(5, 48, 48).pixels
    outputs = mistral.outputs(image, MISTRAL)
    golden = {
        "image_0": image,
        "pixel_values_0": mistral.pixels(image).numpy(),
        "input_ids_0": np.array([mistral.ids(MISTRAL)]),
        "logits_0": outputs.logits.numpy(),
        "attn_0": torch.stack(outputs.attentions).numpy(),
        "generated_0": np.array([[1, *mistral.answer(image, MISTRAL, steps=6)]]),
    }
    np.savez(tmp_path / "golden.npz", **golden)
    (tmp_path / "cases.json").write_text(json.dumps([{"prompt": QUESTION, "full_prompt": MISTRAL}]))
    rows = parity_llava_med.check_llava_med(tmp_path)
    assert all(row.ok for row in rows), format_rows(rows)
    assert len(rows) == 7
    named = parity_llava_med.check_llava_med(tmp_path / "checkpoint", vision_tower=mistral.folder / "vision_tower")
    assert [row.name for row in named] == [row.name for row in rows]
    wrong = {
        "token ids": {"input_ids_0": golden["input_ids_0"] + (golden["input_ids_0"] == 1)},
        "pixel values": {"pixel_values_0": golden["pixel_values_0"] + 0.01},
        "logits": {"logits_0": golden["logits_0"] + 0.01},
        "greedy answer": {"generated_0": golden["generated_0"][:, ::-1]},
        "attention, eager": {"attn_0": golden["attn_0"] * 1.01},
    }
    for name, changed in wrong.items():
        np.savez(tmp_path / "golden.npz", **(golden | changed))
        failing = [row.name for row in parity_llava_med.check_llava_med(tmp_path) if not row.ok]
        assert name in failing
        assert len(failing) <= 2
    (tmp_path / "golden.npz").unlink()
    with pytest.raises(DataError, match=r"golden\.npz"):
        parity_llava_med.check_llava_med(tmp_path)


def test_the_converted_copy_is_written_once_and_is_an_ordinary_checkpoint(mistral, cache, monkeypatch, random_image):
    seen = []
    model = load_model(mistral.folder, device="cpu", on_progress=lambda what, share: seen.append((what, share)))
    shares = [share for what, share in seen if "converting" in what]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1
    (folder,) = (path for path in (cache / "models").iterdir() if path.is_dir())
    assert folder.name.startswith("llava-med-")
    monkeypatch.setattr(conversion, "read_original", None)
    again = load_model(mistral.folder, device="cpu")
    image = random_image(1)
    assert again.generate(again.encode(image, QUESTION)) == model.generate(model.encode(image, QUESTION))
    plain = AutoModelForImageTextToText.from_pretrained(folder)
    assert not plain.config.text_config.tie_word_embeddings
    assert plain.config.text_config.rope_parameters["rope_theta"] == 1e6
    assert plain.config.text_config.sliding_window is None
    assert load_model(folder, device="cpu").generate(model.encode(image, QUESTION)) == model.generate(
        model.encode(image, QUESTION)
    )


def test_a_changed_checkpoint_is_converted_anew(copy, cache):
    load_model(copy, device="cpu")
    change(copy, rope_theta=10000.0)
    assert load_model(copy, device="cpu").text_config.rope_parameters["rope_theta"] == 10000.0
    assert len([path for path in (cache / "models").iterdir() if path.is_dir()]) == 2


def test_small_shards_hold_the_same_weights(mistral, tmp_path):
    original = read_original(mistral.folder)
    conversion.convert(original, tmp_path / "small", shard_size=20_000)
    files = sorted((tmp_path / "small").glob("*.safetensors"))
    assert len(files) > 5
    values = dict(read_tensors(list_tensors(tmp_path / "small").values()))
    stored = {tensor.name: value for tensor, value in values.items()}
    assert stored.keys() == original.tensors.keys()
    weight = "language_model.model.layers.1.mlp.up_proj.weight"
    assert torch.equal(stored[weight], mistral.language.model.layers[1].mlp.up_proj.weight)
    rows = stored["language_model.lm_head.weight"]
    assert torch.equal(rows[:-1], mistral.language.lm_head.weight)
    assert len(rows) == original.rows
    with safe_open(files[0], framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_half_precision_stays_half_on_disk(copy, tmp_path):
    for file in copy.glob("*.safetensors"):
        values = {tensor.name: v.bfloat16() for tensor, v in read_tensors(_tensors_of(copy, file))}
        from_disk = {name: value.clone() for name, value in values.items()}
        save_file(from_disk, file)
    conversion.convert(read_original(copy), tmp_path / "half")
    assert {tensor.dtype for tensor in list_tensors(tmp_path / "half").values()} == {torch.bfloat16}
    assert load_model(tmp_path / "half", device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def _tensors_of(folder, file):
    return [tensor for tensor in list_tensors(folder).values() if tensor.file == file]


def test_a_conversion_that_is_cut_off_leaves_nothing(mistral, cache):
    class Stopped(Exception):
        pass

    def stop(what, share):
        if share > 0:
            raise Stopped

    with pytest.raises(Stopped):
        load_model(mistral.folder, device="cpu", on_progress=stop)
    assert [path for path in (cache / "models").iterdir() if path.is_dir()] == []
    assert load_model(mistral.folder, device="cpu").layers == 3


def test_a_full_disk_is_told_before_anything_is_written(mistral, cache, monkeypatch):
    monkeypatch.setattr(conversion.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(ModelError, match=r"free space.*A3TUNE_CACHE"):
        load_model(mistral.folder, device="cpu")
    assert not list((cache / "models").glob("*"))


def test_a_cache_that_cannot_be_written_is_named(mistral, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("A3TUNE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="A3TUNE_CACHE"):
        load_model(mistral.folder, device="cpu")


def test_tiles_become_llava_next(tmp_path, random_image):
    original = write_original(
        tmp_path / "tiles", image_aspect_ratio="anyres", mm_patch_merge_type="spatial_unpad",
        image_grid_pinpoints=[[24, 48], [48, 24], [48, 48]],
    )  # fmt: skip
    model = load_model(original.folder, device="cpu")
    assert isinstance(model.model, LlavaNextForConditionalGeneration)
    encoded = model.encode(random_image(2, 40, 80), QUESTION)
    assert len(encoded.images[0]) > PATCHES
    assert model.generate(encoded, max_new_tokens=4).token_ids


def test_the_tower_may_lie_outside(tmp_path, random_image, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    original = write_original(tmp_path / "checkpoint", with_tower=False)
    image = random_image(4, 30, 50)
    inside = load_model(original.folder, device="cpu")
    tower = (original.folder / "vision_tower").rename(tmp_path / "clip")
    with pytest.raises(ModelError, match=r"vision tower.*hf download openai/clip-vit-large-patch14-336"):
        load_model(original.folder, device="cpu")
    with pytest.raises(ModelError, match="hf download"):
        load_model(original.folder, device="cpu", vision_tower=tmp_path)
    model = load_model(original.folder, device="cpu", vision_tower=tower)
    assert model.generate(model.encode(image, QUESTION)) == inside.generate(inside.encode(image, QUESTION))


@pytest.mark.parametrize("pickled", [False, True])
def test_a_known_tower_is_fetched_with_progress_and_once(fake_hub, tmp_path, random_image, pickled):
    original = write_original(tmp_path / "llava", "llava_llama", with_tower=False)
    whole = load_model(original.folder, device="cpu")
    tower = (original.folder / "vision_tower").rename(tmp_path / "tower")
    if pickled:
        (file,) = tower.glob("*.safetensors")
        torch.save({tensor.name: value for tensor, value in read_tensors(list_tensors(tower).values())}, tower / "w")
        file.unlink()
        (tower / "w").rename(tower / "pytorch_model.bin")
    fake_hub.repositories |= {"openai/clip-vit-large-patch14-336": tower, "liuhaotian/llava": original.folder}
    seen = []
    model = load_model("liuhaotian/llava", device="cpu", on_progress=lambda what, share: seen.append(what))
    assert any(what.startswith("fetching openai/clip-vit-large-patch14-336") for what in seen)
    image = random_image(4, 30, 50)
    assert model.generate(model.encode(image, QUESTION)) == whole.generate(whole.encode(image, QUESTION))
    fake_hub.repositories.pop("openai/clip-vit-large-patch14-336")
    assert load_model("liuhaotian/llava", device="cpu").layers == 3


def test_a_checkpoint_cannot_send_the_machine_to_another_repository(fake_hub, tmp_path):
    original = write_original(tmp_path / "llava", with_tower=False, mm_vision_tower="someone/clip")
    fake_hub.repositories["someone/clip"] = (original.folder / "vision_tower").rename(tmp_path / "tower")
    with pytest.raises(ModelError, match=r"someone/clip.*--vision-tower"):
        load_model(original.folder, device="cpu")
    assert fake_hub.served == {}


def test_another_tower_than_the_name_says_is_noticed(copy):
    shutil.rmtree(copy / "vision_tower")
    with pytest.raises(ModelError, match=r"vision tower openai/clip.*--vision-tower"):
        load_model(copy, device="cpu")
    change(copy, mm_vision_tower="someone/siglip")
    with pytest.raises(ModelError, match="someone/siglip"):
        load_model(copy, device="cpu")


def test_known_towers_have_the_published_size():
    assert {name: tower["image_size"] for name, tower in KNOWN_TOWERS.items()} == {
        "openai/clip-vit-large-patch14": 224,
        "openai/clip-vit-large-patch14-336": 336,
    }


@pytest.mark.parametrize(
    ("entry", "value"),
    [("mm_projector_type", "linear"), ("mm_patch_merge_type", "spatial"), ("mm_vision_select_feature", "mean")],
)
def test_what_cannot_be_expressed_is_refused(copy, entry, value):
    change(copy, **{entry: value})
    with pytest.raises(ModelError, match=f"'{value}'.*{entry}"):
        load_model(copy, device="cpu")


def test_missing_and_damaged_files_are_named(copy, tmp_path):
    shard = copy / "model-00002-of-00002.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[:-500])
    with pytest.raises(ModelError, match=rf"{shard.name} is damaged"):
        load_model(copy, device="cpu")
    shard.unlink()
    with pytest.raises(ModelError, match=rf"without it.*{shard.name}"):
        load_model(copy, device="cpu")
    shard.write_bytes(content)
    (copy / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"tokenizer\.model"):
        load_model(copy, device="cpu")
    (copy / "tokenizer.model").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.model or tokenizer\.json"):
        load_model(copy, device="cpu")


def test_a_missing_weight_is_named_before_anything_is_written(copy, cache):
    index = copy / "model.safetensors.index.json"
    kept = {tensor.name: value for tensor, value in read_tensors(list_tensors(copy).values())}
    kept.pop("model.layers.1.mlp.up_proj.weight")
    for file in copy.glob("*.safetensors"):
        file.unlink()
    index.unlink()
    save_file({name: value.clone() for name, value in kept.items()}, copy / "model.safetensors")
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.up_proj\.weight is missing"):
        load_model(copy, device="cpu")
    assert not (cache / "models").exists()


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    original = write_original(tmp_path / "original", pickled=True)
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return Path.touch, (marker,)

    with open(original.folder / "pytorch_model-00001-of-00002.bin", "wb") as file:
        pickle.dump({"weight": Payload()}, file, protocol=2)
    with pytest.raises(ModelError, match="run code"):
        load_model(original.folder, device="cpu")
    assert not marker.exists()


def test_added_tokens_keep_their_numbers(copy):
    size = build_tokenizer(copy).convert_tokens_to_ids("<image>")
    (copy / "added_tokens.json").write_text(json.dumps({"<im_start>": size, "<im_end>": size + 1}))
    tokenizer = build_tokenizer(copy)
    assert tokenizer.convert_tokens_to_ids(["<im_start>", "<im_end>", "<image>"]) == [size, size + 1, size + 2]
    (copy / "added_tokens.json").write_text(json.dumps({"<im_start>": size + 5}))
    with pytest.raises(ModelError, match="<im_start>"):
        build_tokenizer(copy)


def test_only_original_checkpoints_are_taken_for_such():
    assert all(is_original({"model_type": kind}) for kind in TEXT_CONFIGS)
    assert not is_original({"model_type": "llava"})


def test_the_geometry_follows_the_padding(mistral):
    model = load_model(mistral.folder, device="cpu")
    pixels = np.zeros((20, 60, 3), dtype=np.uint8)
    encoded = model.encode(MedicalImage(pixels), QUESTION)
    grid = model.patch_grid(20, 60, len(encoded.images[0]))
    assert grid.shape == (4, 4)
    # 20 rows in the middle of 60: a patch is 15 source pixels high, and the first begins 20 above the image.
    np.testing.assert_allclose(grid.boxes[[0, -1]], [[0, -20, 15, -5], [45, 25, 60, 40]], atol=1e-6)
