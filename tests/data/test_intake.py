"""Loose files with a table that was typed in."""

import io

import numpy as np
import pytest
from PIL import Image

from a3tune.data.intake import IntakeLimits, collect_files
from a3tune.data.read import read_dataset
from a3tune.errors import DataError

ROOMY = IntakeLimits(reserve=0)


@pytest.fixture
def uploaded(tmp_path):
    """name -> (path of an upload under another name, what the user calls it)."""

    def write(name, content=None):
        stream = io.BytesIO()
        Image.fromarray(np.zeros((9, 11), np.uint8)).save(stream, "PNG")
        path = tmp_path / f"upload-{abs(hash(name))}"
        path.write_bytes(stream.getvalue() if content is None else content)
        return path, name

    return write


def test_images_and_typed_rows_become_a_data_set(uploaded, tmp_path):
    rows = [{"image": "a.png", "question": 'Is there a "mass"?', "answer": "no"}]
    rows += [{"image": "b.png", "question": "Where,\nexactly?", "answer": "left", "split": "test"}]
    taken = collect_files([uploaded("C:\\scans\\a.png"), uploaded("scans/b.png")], rows, tmp_path / "data", ROOMY)
    assert taken.files == 3
    data = read_dataset(taken.folder)
    assert [item.question for item in data.items] == ['Is there a "mass"?', "Where,\nexactly?"]
    assert data.items[1].split == "test"


def test_a_table_may_be_among_the_files(uploaded, tmp_path):
    table = uploaded("rows.csv", b"image,question,answer\na.png,Is it?,yes\n")
    taken = collect_files([uploaded("a.png"), table], [], tmp_path / "data", ROOMY)
    assert read_dataset(taken.folder).counts.errors == 0


def test_a_list_of_pairs_of_vqa_med_is_a_table(uploaded, tmp_path):
    table = uploaded("All_QA_Pairs_train.txt", b"a.png|Is it?|yes\n")
    taken = collect_files([uploaded("a.png"), table], [], tmp_path / "data", ROOMY)
    assert [(item.answer, item.split) for item in read_dataset(taken.folder).items] == [("yes", "train")]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.png", "b.zip"], "'b.zip' is an archive"),
        (["a.png", "b.pkl"], "is a pickle"),
        (["a.png", "notes.docx"], "neither an image nor a table"),
        (["a.png", "other/a.png"], "is there twice"),
        (["a.png", "data.csv"], "is there twice"),
        (["a\0.png"], "is no file name"),
        ([".."], "leads out"),
        ([], "No file was given"),
    ],
)
def test_other_files_are_refused(uploaded, tmp_path, names, words):
    rows = [{"image": "a.png", "question": "Is it?", "answer": "yes"}]
    with pytest.raises(DataError, match=words):
        collect_files([uploaded(name) for name in names], rows, tmp_path / "data", ROOMY)
    assert not (tmp_path / "data").exists()


def test_a_link_among_the_uploads_is_refused(uploaded, tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="is no file"):
        collect_files([(tmp_path / "link", "a.png")], [], tmp_path / "data", ROOMY)
