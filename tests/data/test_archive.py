"""Archives of every evil and ordinary kind: what is taken, what is refused, and that nothing is left behind."""

import io
import json
import os
import shutil
import stat
import struct
import unicodedata
import zipfile
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from a3tune.data.archive import unpack_archive
from a3tune.data.intake import IntakeLimits, check_names
from a3tune.data.read import read_dataset
from a3tune.errors import Cancelled, DataError

ROOMY = IntakeLimits(reserve=0)


def picture(shade=0):
    stream = io.BytesIO()
    Image.fromarray(np.full((9, 11), shade, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def table(*names):
    return "image,question,answer\n" + "".join(f"{name},Is there a mass?,no\n" for name in names)


@pytest.fixture
def pack(tmp_path):
    """(entries, options of ZipFile) -> the archive; an entry is (name or ZipInfo, content)."""

    def write(*entries, compression=zipfile.ZIP_DEFLATED):
        path = tmp_path / "upload.zip"
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in entries:
                archive.writestr(name, content)
        return path

    return write


@pytest.fixture
def unpack(tmp_path):
    """(archive, limits) -> Intake in ``tmp_path/"in"/"data"``."""

    def take(archive, limits=ROOMY, **options):
        (tmp_path / "in").mkdir(exist_ok=True)
        return unpack_archive(archive, tmp_path / "in" / "data", limits, **options)

    return take


def left_behind(tmp_path):
    return sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.name != "upload.zip")


@pytest.mark.parametrize("around", ["", "set/"])
@pytest.mark.parametrize("named", ["images/a.png", "a.png", "../images/a.png", "AROUNDimages/a.png"])
def test_images_are_found_from_rows_that_lie_deeper_in_a_folder_around_all(pack, unpack, around, named):
    rows = table(named.replace("AROUND", around))
    folder = unpack(pack((f"{around}images/a.png", picture()), (f"{around}rows/train/data.csv", rows))).folder
    (item,) = read_dataset(folder).items
    assert item.image == (folder / around / "images" / "a.png").resolve()


def test_a_data_set_comes_out_as_it_went_in(pack, unpack):
    archive = pack(
        ("set/data.csv", table("images/a.png", "images/b.png")),
        ("set/images/a.png", picture(1)),
        ("set/images/b.png", picture(2)),
        ("set/README.txt", "words"),
        ("__MACOSX/set/._data.csv", b"\0"),
        ("set/.DS_Store", b"\0"),
    )
    taken = unpack(archive)
    assert (taken.files, taken.left_out, taken.left_out_count) == (3, ("set/README.txt",), 1)
    found = {path.relative_to(taken.folder).as_posix() for path in taken.folder.rglob("*") if path.is_file()}
    assert found == {"set/data.csv", "set/images/a.png", "set/images/b.png"}
    data = read_dataset(taken.folder)
    assert (data.counts.items, data.counts.errors) == (2, 0)
    assert stat.S_IMODE(taken.folder.stat().st_mode) == 0o700


def link():
    info = zipfile.ZipInfo("images/a.png")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


def pipe():
    info = zipfile.ZipInfo("images/a.png")
    info.create_system, info.external_attr = 3, (stat.S_IFIFO | 0o666) << 16
    return info


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil.csv", "leads out of the data folder"),
        ("images/../../evil.png", "leads out of the data folder"),
        ("/etc/evil.csv", "leads out of the data folder"),
        ("C:\\evil.csv", "leads out of the data folder"),
        ("..\\evil.csv", "leads out of the data folder"),
        (link(), "is a link"),
        (pipe(), "is a device or a pipe"),
        ("more.zip", "is an archive inside the archive"),
        ("images.tar.gz", "is an archive inside the archive"),
        ("a" * 300 + ".png", "is no file name"),
        ("line\nbreak.png", "is no file name"),
        ("deep/" * 20 + "a.png", "folders deep"),
        ("data.csv/a.png", "is a file and a folder"),
    ],
)
def test_what_is_never_unpacked_is_refused_as_a_whole(pack, unpack, tmp_path, name, words):
    archive = pack(("data.csv", table("a.png")), ("a.png", picture()), (name, b"../../../etc/passwd"))
    with pytest.raises(DataError, match=words):
        unpack(archive)
    assert left_behind(tmp_path) == ["in"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(pack, unpack, tmp_path):
    with pytest.raises(DataError, match="is there twice"):
        unpack(pack(("data.csv", table("a.png")), ("a.png", picture(1)), ("a.png", picture(2))))
    assert left_behind(tmp_path) == ["in"]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (IntakeLimits(reserve=0, ratio_from=1 << 20), "unpacks to at most 200 times its size"),
        (IntakeLimits(reserve=0, total_bytes=1 << 20), "at most 1.0 MiB of data"),
        (IntakeLimits(reserve=0, file_bytes=1 << 20), "'a.png' has 8.0 MiB, more than 1.0 MiB"),
        (IntakeLimits(reserve=0, files=1), "at most 1 files"),
        (IntakeLimits(reserve=1 << 62), "of free disk"),
    ],
)
def test_bombs_and_too_much_data_are_refused_before_a_byte_is_written(pack, unpack, tmp_path, limits, words):
    with pytest.raises(DataError, match=words):
        unpack(pack(("data.csv", table("a.png")), ("a.png", bytes(8 << 20))), limits)
    assert left_behind(tmp_path) == ["in"]


def test_an_entry_that_declares_less_than_it_holds_is_refused(pack, unpack, tmp_path):
    archive = pack(("data.csv", table("a.png")), ("a.png", bytes(1 << 20)))
    content = bytearray(archive.read_bytes())
    # The uncompressed size in the directory: 24 bytes after the last entry's signature.
    place = content.rfind(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", 10)
    archive.write_bytes(content)
    with pytest.raises(DataError):
        unpack(archive)
    assert left_behind(tmp_path) == ["in"]


def test_a_directory_of_millions_of_entries_is_never_read(pack, unpack, tmp_path):
    archive = pack(("data.csv", table("a.png")), ("a.png", picture()))
    content = bytearray(archive.read_bytes())
    place = content.rfind(b"PK\x05\x06")
    content[place + 10 : place + 16] = struct.pack("<HI", 60_000, 4_000_000_000)
    archive.write_bytes(content)
    with pytest.raises(DataError, match="60,000 entries"):
        unpack(archive, IntakeLimits(reserve=0, files=50_000))
    with pytest.raises(DataError, match="or it is damaged"):
        unpack(archive, IntakeLimits(reserve=0, files=50_000_000))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(40), b"\x1f\x8b\x08" + bytes(30)])
def test_what_is_no_archive_is_told(unpack, tmp_path, content):
    (tmp_path / "upload.zip").write_bytes(content)
    with pytest.raises(DataError, match="ZIP archive"):
        unpack(tmp_path / "upload.zip")


def test_cut_damaged_and_encrypted_archives_are_told(pack, unpack, tmp_path):
    archive = pack(("data.csv", table("a.png")), ("a.png", picture()), compression=zipfile.ZIP_STORED)
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-30])
    with pytest.raises(DataError, match="damaged"):
        unpack(archive)
    place = whole.find(b"IHDR")
    archive.write_bytes(whole[:place] + b"XXXX" + whole[place + 4 :])
    with pytest.raises(DataError, match="damaged"):
        unpack(archive)
    marked = bytearray(whole)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = marked.find(signature)
        marked[place + offset] |= 1
    archive.write_bytes(marked)
    with pytest.raises(DataError, match="is encrypted"):
        unpack(archive)
    assert left_behind(tmp_path) == ["in"]


def test_an_archive_without_data_names_what_is_in_it(pack, unpack):
    with pytest.raises(DataError, match=r"holds none \(but notes\.txt\)"):
        unpack(pack(("notes.txt", "words"), (".hidden.png", b"")))


def test_an_archive_without_a_table_is_refused_before_anything_is_written(pack, unpack, tmp_path):
    with pytest.raises(DataError, match=r"holds no table \(but a\.png, b\.png\)"):
        unpack(pack(("a.png", picture()), ("b.png", picture())))
    assert left_behind(tmp_path) == ["in"]


def test_folders_have_an_end_as_files_have_and_who_raises_it_is_told(pack, unpack, tmp_path):
    few = replace(ROOMY, files=6, folders=5, raised="ask ann")
    archive = pack(("data.csv", table("a/b/c/d/1.png")), ("a/b/c/d/1.png", picture()), ("a/e/2.png", picture()))
    assert unpack(archive, few).files == 3
    shutil.rmtree(tmp_path / "in")
    with pytest.raises(DataError, match=r"at most 4 folders\. Put the files into fewer folders, or ask ann"):
        unpack(archive, replace(few, folders=4))
    with pytest.raises(DataError, match=r"3 entries.*at most 2 files\. Split the data set, or ask ann"):
        unpack(archive, replace(few, files=2))
    assert left_behind(tmp_path) == ["in"]


@pytest.mark.parametrize("encoding", ["utf-8", "cp437", "cp1252", "gb18030", "cp932"])
@pytest.mark.parametrize("as_json", [False, True])
def test_names_in_odd_encodings_match_the_table(tmp_path, unpack, encoding, as_json):
    name = "胸片.png" if encoding == "gb18030" else "Übersicht é.png"
    name = "肺の図.png" if encoding == "cp932" else name
    raw = name.encode(encoding)
    row = {"image": name, "question": "Is there a mass?", "answer": "no"}
    content = ("data.jsonl", json.dumps(row)) if as_json else ("data.csv", table(name))
    placeholder = "x" * len(raw)
    with zipfile.ZipFile(tmp_path / "upload.zip", "w") as archive:
        archive.writestr(*content)
        archive.writestr(placeholder, picture())
    # Without the mark of UTF-8, as older programs write names.
    packed = (tmp_path / "upload.zip").read_bytes().replace(placeholder.encode(), raw)
    (tmp_path / "upload.zip").write_bytes(packed)
    taken = unpack(tmp_path / "upload.zip")
    assert (taken.folder / name).is_file()
    assert read_dataset(taken.folder).counts.errors == 0


def test_names_that_were_taken_apart_match_the_table(pack, unpack):
    apart = unicodedata.normalize("NFD", "Übersicht.png")
    taken = unpack(pack(("data.csv", table("Übersicht.png")), (apart, picture())))
    assert read_dataset(taken.folder).counts.errors == 0


def test_ten_thousand_tiny_files_come_out_and_a_stop_leaves_nothing(tmp_path, unpack):
    with zipfile.ZipFile(tmp_path / "upload.zip", "w") as archive:
        archive.writestr("data.csv", table(*(f"images/{n}.png" for n in range(10_000))))
        for number in range(10_000):
            archive.writestr(f"images/{number}.png", b"tiny")
    shares = []
    with pytest.raises(Cancelled):
        unpack(
            tmp_path / "upload.zip",
            on_progress=lambda _, share: shares.append(share),
            should_stop=lambda: len(shares) > 3,
        )
    assert left_behind(tmp_path) == ["in"]
    taken = unpack(tmp_path / "upload.zip", on_progress=lambda _, share: shares.append(share))
    assert taken.files == 10_001
    assert len(os.listdir(taken.folder / "images")) == 10_000
    assert shares[4:] == sorted(shares[4:])
    # Every one of them is a fault, told as a number after the first few.
    data = read_dataset(taken.folder)
    assert data.counts.errors == 10_000
    assert len(data.faults) == 200


def test_a_folder_that_is_there_is_left_alone(pack, unpack, tmp_path):
    (tmp_path / "in/data").mkdir(parents=True)
    (tmp_path / "in/data/mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        unpack(pack(("data.csv", table("a.png")), ("a.png", picture())))
    assert (tmp_path / "in/data/mine.txt").read_text() == "mine"


def test_sixty_thousand_names_of_which_two_are_the_same():
    names = [f"images/{number}.png" for number in range(60_000)]
    check_names(names)
    with pytest.raises(DataError, match=r"images/59999\.png' is there twice"):
        check_names([*names, names[-1]])
    with pytest.raises(DataError, match=r"images/0\.png' is a file and a folder"):
        check_names([*names, "images/0.png/a/b.png"])


def test_many_names_beyond_ascii_and_a_long_table_are_matched_in_one_go(unpack, tmp_path):
    names = [f"Röntgen {number}.png" for number in range(500)]
    path = tmp_path / "upload.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.csv", table(*names) + "x,?,no\n" * 100_000)
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), picture())
    assert unpack(path).files == 501
    assert (tmp_path / "in" / "data" / names[-1]).is_file()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
def test_an_entry_spoilt_anywhere_is_told(pack, unpack, tmp_path, method):
    whole = pack(("data.csv", table("a.png")), ("a.png", picture()), compression=method).read_bytes()
    for place in range(40, len(whole) - 4, 11):
        (tmp_path / "upload.zip").write_bytes(whole[:place] + b"\xff\x00\xff" + whole[place + 3 :])
        with suppress(DataError):
            unpack(tmp_path / "upload.zip")
        shutil.rmtree(tmp_path / "in", ignore_errors=True)
