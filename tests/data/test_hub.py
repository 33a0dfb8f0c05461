"""Data sets that a command names: paths first, then the hub, with the images in its archives."""

import io
import json
import zipfile

import pytest

from a3tune.cli.main import main
from a3tune.data import hub
from a3tune.data.intake import IntakeLimits
from a3tune.data.read import read_dataset
from a3tune.errors import DataError


@pytest.fixture
def published(fake_hub, folder):
    """Publishes the data folder as owner/data; returns a function that writes an archive of (name, content) into it."""
    fake_hub.repositories["datasets/owner/data"] = folder.root

    def pack(name, *members, encrypted=False):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as packed:
            for member, content in members:
                packed.writestr(member, content)
        written = bytearray(stream.getvalue())
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)) if encrypted else ():
            written[written.find(signature) + offset] |= 1
        return folder.text(name, bytes(written))

    return pack


@pytest.fixture
def picture(folder, tmp_path):
    """The bytes of a grey picture of another shade."""

    def make(shade=0):
        path = folder.image(tmp_path / "drawn.png", shade)
        content = path.read_bytes()
        path.unlink()
        return content

    return make


def slake(*names):
    rows = [
        {"img_name": name, "question": "Is the heart normal?", "answer": "Yes", "q_lang": "en", "qid": number}
        for number, name in enumerate(names)
    ]
    return json.dumps(rows)


def test_a_path_counts_before_the_hub_and_each_version_is_fetched_once(
    tmp_path, monkeypatch, fake_hub, folder, published
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own/data").mkdir(parents=True)
    folder.text("test.json", slake("a.png"))
    folder.image("imgs/a.png")
    assert hub.dataset_place("own/data") == hub.named_path("own/data")
    assert hub.dataset_place("rows.csv") == hub.named_path("rows.csv")
    assert fake_hub.served == {}
    place = hub.dataset_place("owner/data")
    served = dict(fake_hub.served)
    assert hub.dataset_place("owner/data") == place
    assert fake_hub.served == served
    fake_hub.revision = "f" * 40
    folder.text("test.json", slake("a.png", "a.png"))
    later = hub.dataset_place("owner/data")
    assert [read_dataset(version).counts.rows for version in (place, later)] == [1, 2]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hub.dataset_place("owner/data") == later


def test_slake_comes_with_the_images_and_marks_of_its_archive_and_without_the_other_one(
    fake_hub, folder, published, picture
):
    for split, name in (("train", "xmlab0"), ("validation", "xmlab1"), ("test", "xmlab2")):
        folder.text(f"{split}.json", slake(f"{name}/source.jpg"))
    files = [(f"imgs/xmlab{n}/{name}", picture(n)) for n in range(3) for name in ("source.jpg", "mask.png")]
    published("imgs.zip", *files, ("imgs/xmlab0/detection.json", "[]"), ("__MACOSX/._imgs", "x"))
    published("KG.zip", ("KG/graph.csv", "a,b\n1,2\n"))
    told = []
    place = hub.dataset_place("owner/data", lambda what, share: told.append((what, share)))
    assert (place / "imgs/xmlab2/mask.png").is_file()
    dataset = read_dataset(place)
    assert (dataset.counts.errors, dataset.counts.warnings, dataset.counts.images) == (0, 0, 3)
    assert dataset.counts.splits == {"train": 1, "validation": 1, "test": 1}
    assert "KG.zip" not in fake_hub.served
    assert sorted(path.name for path in place.iterdir()) == ["imgs", "test.json", "train.json", "validation.json"]
    assert [share for _, share in told] == sorted(share for _, share in told)
    assert any(what.startswith("imgs.zip: Unpacking") for what, _ in told)
    # Whoever has the images elsewhere waits for no archive.
    fake_hub.served.clear()
    assert not (hub.dataset_place("owner/data", with_images=False) / "imgs").exists()
    assert "imgs.zip" not in fake_hub.served


@pytest.mark.parametrize(
    ("archive", "inside", "named"),
    [
        ("figures.zip", "a.png", "figures/a.png"),
        ("figures.zip", "Set 1/imgs/a.png", "a.png"),
        ("data/part.zip", "scans/a.png", "scans/a.png"),
    ],
)
def test_an_archive_is_unpacked_to_where_rows_name_its_images(folder, published, picture, archive, inside, named):
    folder.text("data/test.json" if "/" in archive else "test.json", slake(named))
    published(archive, (inside, picture()), (inside.replace("a.png", "b.png"), picture(1)))
    assert read_dataset(hub.dataset_place("owner/data")).counts.errors == 0


def test_rows_and_images_in_one_archive_are_found_below_the_folder_around_them(folder, published, picture):
    row = {"question_id": "1", "question": "What is it?", "gt_answer": "MR", "image_path": "Images/Set/a.png"}
    rows = json.dumps([row | {"option_A": "MR", "option_B": "CT"}])
    member = "OmniMedVQA/QA_information/Open-access/Set.json"
    published("OmniMedVQA.zip", (member, rows), ("OmniMedVQA/Images/Set/a.png", picture()))
    dataset = read_dataset(hub.dataset_place("owner/data"))
    assert (dataset.layout, dataset.counts.errors, dataset.counts.items) == ("omnimedvqa", 0, 1)


def test_what_cannot_be_taken_from_archives_is_refused_by_name(tmp_path, folder, published, picture):
    def refusal(limits=hub.LIMITS):
        with pytest.raises(DataError) as caught:
            hub.fetch_dataset("owner/data", tmp_path / "place", limits)
        assert [path.name for path in tmp_path.iterdir() if "place" in path.name] == []
        return str(caught.value)

    folder.text("test.json", slake("a.png"))
    published("imgs.zip", ("imgs/a.png", picture()), encrypted=True)
    told = refusal()
    assert "imgs.zip of owner/data: 'imgs/a.png' is encrypted" in told
    assert "unpack it there" in told
    published("imgs.zip", ("imgs/a.png", bytes(5000)))
    assert "'imgs.zip' has 0.0 MiB, more than 0.0 MiB" in refusal(IntakeLimits(total_bytes=2000))
    published("imgs.zip", ("imgs/b.png", picture()))
    assert "holds a.png neither as a file nor in imgs.zip" in refusal()
    published("imgs.zip", ("imgs/a.png", picture()), ("test.json", slake("a.png", "b.png")))
    assert "'imgs.zip: test.json' is there twice, and the two differ" in refusal()
    (folder.root / "imgs.zip").unlink()
    for name in ("imgs.rar", "imgs.7z", "imgs.zip.001", "imgs.tar.gz"):
        folder.text(name, b"packed")
        told = refusal()
        assert f"owner/data has them in {name}; missing is a.png" in told
        assert "unpack it there, and name its folder" in told
        (folder.root / name).unlink()


def test_a_data_set_whose_licence_is_not_accepted_says_where_to(fake_hub, folder, published):
    folder.text("test.json", slake("a.png"))
    folder.image("imgs/a.png")
    fake_hub.gated.add("datasets/owner/data")
    accept = r"owner/data asks for its licence.*huggingface\.co/datasets/owner/data, download"
    with pytest.raises(DataError, match=accept):
        hub.dataset_place("owner/data")


@pytest.mark.parametrize("command", ["tune", "labels"])
def test_without_a_connection_the_command_says_what_to_do(tmp_path, monkeypatch, capsys, command):
    monkeypatch.setenv("A3TUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main([command, "--data", "owner/data", "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "There is no owner/data here. owner/data cannot be fetched: there is no connection" in told
    assert "download the data set elsewhere and name its folder" in told
    assert "page" not in told
    assert not (tmp_path / "out").exists()
