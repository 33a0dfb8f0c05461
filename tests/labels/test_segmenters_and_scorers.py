import pytest
import torch

from a3tune.errors import LabelError, NotEnoughMemoryError
from a3tune.labels import segmenters_and_scorers as parts
from a3tune.labels.scorers.open_clip import BIOMEDCLIP
from a3tune.labels.segmenters_and_scorers import PARTS, fetch_part, find_part, is_here, is_same_part, load_segmenter


def test_parts_are_told_apart_and_say_their_licence():
    assert len({part.key for part in PARTS}) == len(PARTS)
    assert all(part.licence and part.about and part.weights > 0 for part in PARTS)
    for part in PARTS:
        # Published in single precision: four bytes for each weight.
        assert part.download == pytest.approx(4 * part.weights, rel=0.02) or part.download == 0
        assert (part.repository is None) == (part.download == 0)
    assert {part.key for part in PARTS if part.kind == "segmenter"} >= {"sam-vit-b", "sam-vit-l", "sam-vit-h", "medsam"}


def test_a_part_is_found_by_key_and_source_of_its_kind_only():
    assert find_part("hub:wanglab/medsam-vit-base/model.safetensors", "segmenter") is find_part("medsam", "segmenter")
    assert find_part("medsam", "scorer") is None


def test_labels_say_what_they_were_made_with_in_words_of_their_own():
    assert is_same_part("sam-vit-h", "Segment Anything vit_h", "segmenter")
    assert not is_same_part("sam-vit-h", "Segment Anything vit_b", "segmenter")
    assert not is_same_part("sam-vit-h", None, "segmenter")
    assert is_same_part("biomedclip", BIOMEDCLIP, "scorer")
    assert is_same_part("litemedsam", "LiteMedSAM", "segmenter")
    assert is_same_part("/mine/sam.pth", "/mine/sam.pth", "segmenter")


def test_a_segmenter_by_its_short_name_is_fetched_or_refused(offline_hub):
    with pytest.raises(LabelError, match=r"facebook/sam-vit-huge"):
        load_segmenter("sam-vit-h")


def test_a_checkpoint_is_fetched_once_with_progress(fake_hub, tmp_path):
    folder = tmp_path / "sam"
    folder.mkdir()
    torch.save({"weight": torch.zeros(9_000)}, folder / "sam.pth")
    fake_hub.repositories["owner/sam"] = folder
    seen = []
    assert not is_here("hub:owner/sam/sam.pth", "segmenter")
    fetch_part("hub:owner/sam/sam.pth", "segmenter", lambda what, share: seen.append(share))
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert len(seen) > 3
    assert is_here("hub:owner/sam/sam.pth", "segmenter")
    with pytest.raises(LabelError, match=r"absent\.pth"):
        fetch_part("hub:owner/sam/absent.pth", "segmenter")


def test_a_scorer_is_fetched_without_a_second_set_of_weights(fake_hub, tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    for name in ("open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "README.md"):
        (folder / name).write_bytes(name.encode() + bytes(20_000))
    fake_hub.repositories["owner/clip"] = folder
    assert not is_here("owner/clip", "scorer")
    fetch_part("owner/clip", "scorer")
    assert is_here("owner/clip", "scorer")
    assert set(fake_hub.served) == {"open_clip_config.json", "open_clip_model.safetensors"}
    fake_hub.gated.add("owner/other")
    fake_hub.repositories["owner/other"] = folder
    with pytest.raises(LabelError, match=r"licence.*https://huggingface.co/owner/other.*hf auth login"):
        fetch_part("owner/other", "scorer")


def test_what_comes_with_the_program_needs_no_fetching(monkeypatch, tmp_path):
    monkeypatch.setattr(parts.hub, "fetch_files", None)
    for part in PARTS:
        if not part.download:
            assert is_here(part.source, part.kind)
            fetch_part(part.source, part.kind)
    (tmp_path / "clip").mkdir()
    assert is_here(str(tmp_path / "clip"), "scorer")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_runs_out_at_loading_is_not_told_as_a_damaged_folder(monkeypatch, error):
    def short(*args, **options):
        raise error

    monkeypatch.setattr("open_clip.create_model_and_transforms", short)
    with pytest.raises(NotEnoughMemoryError, match=r"what finds and ranks regions.*Choose a smaller segmenter"):
        parts.load_label_maker(device="cpu")
