"""Files decoded by other processes: the same pictures, and an end to what takes too much."""

from __future__ import annotations

import os
import struct
import threading
import time
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from a3tune.adapters.safetensors_header import read_head
from a3tune.bundle import EXAMPLES
from a3tune.data.archive import unpack_archive
from a3tune.data.column_renaming import naming_for
from a3tune.data.read import read_dataset
from a3tune.errors import AdapterError, Cancelled, DataError, ImageError, RequestError
from a3tune.images import describe_image, find_series, load_image, open_image
from a3tune.images.decode_limits import DecodeLimits
from a3tune.images.isolation import decode_through, trusted_files
from a3tune.images.masks import mask_labels, picture_size
from a3tune.images.target_mask import load_target
from a3tune.images.worker_pool import WorkerPool, decode_in_workers
from tests.support.damaged_files import jpeg
from tests.support.hostile_files import endless_jpeg, excel_bomb, packed, parquet_bomb

PICTURE, VOLUME = EXAMPLES / "chest_mass.png", EXAMPLES / "real_mr.nii.gz"
FILES = sorted(path for path in EXAMPLES.iterdir() if path.suffix not in (".md", ".json"))


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(DecodeLimits(seconds=30, spare=1))
    yield pool
    pool.close()


@pytest.fixture
def strict() -> Iterator[WorkerPool]:
    """A pool that soon ends what it runs."""
    pool = WorkerPool(DecodeLimits(seconds=0.5, memory=256 << 20, output=1 << 20, rows=1 << 11, spare=1))
    yield pool
    pool.close()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_picture_is_the_same_to_the_last_bit(pool, path):
    here, there = load_image(path), pool.run(load_image, path)
    assert np.array_equal(here.pixels, there.pixels)
    assert not there.pixels.flags.writeable
    assert {**vars(here), "pixels": None} == {**vars(there), "pixels": None}
    series, description, opened = pool.run(open_image, path)
    assert series == ()
    assert np.array_equal(here.pixels, opened.pixels)
    assert {**vars(here), "pixels": None} == {**vars(opened), "pixels": None}
    assert description == describe_image(path) == pool.run(describe_image, path)


def test_a_series_and_what_is_chosen_of_it_are_the_same(pool, tmp_path):
    archive = tmp_path / "series"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(EXAMPLES / "real_ct.dcm", "1")
    found = pool.run(describe_image, archive)
    assert found == describe_image(archive)
    series, description, opened = pool.run(open_image, archive, convention="medgemma-ct")
    assert (series, description) == ((found.series,), found)
    assert np.array_equal(opened.model_pixels, load_image(archive, convention="medgemma-ct").model_pixels)
    assert pool.run(find_series, archive) == series
    choice = {"series": found.series, "window": "lung", "convention": "medgemma-ct"}
    here, there = load_image(archive, **choice), pool.run(load_image, archive, **choice)
    assert np.array_equal(here.pixels, there.pixels)
    assert np.array_equal(here.model_pixels, there.model_pixels)
    assert np.array_equal(pool.run(mask_labels, PICTURE), mask_labels(PICTURE))
    assert pool.run(picture_size, PICTURE) == picture_size(PICTURE)
    image = load_image(PICTURE)
    target = pool.run(load_target, PICTURE, image, PICTURE)
    assert np.array_equal(target, load_target(PICTURE, image, PICTURE))


def test_what_the_reader_refuses_is_refused_in_its_words(pool, tmp_path):
    with pytest.raises(RequestError) as here:
        load_image(VOLUME, frame=9999)
    with pytest.raises(RequestError) as there:
        pool.run(load_image, VOLUME, frame=9999)
    assert str(here.value) == str(there.value)
    (tmp_path / "text").write_text("no picture at all")
    with pytest.raises(ImageError, match="text file"):
        pool.run(load_image, tmp_path / "text")


def test_every_reader_of_the_library_works_through_the_runner(pool, tmp_path):
    asked = []

    def run(function, *args, **kwargs):
        asked.append(function.__name__)
        return pool.run(function, *args, **kwargs)

    (tmp_path / "a.png").write_bytes(PICTURE.read_bytes())
    (tmp_path / "data.csv").write_text("image,question,answer\na.png,What is it?,A chest\n")
    decode_through(run)
    try:
        with trusted_files():
            image = load_image(PICTURE)
        assert not asked, "a file of one's own needs no other process"
        image = load_image(PICTURE)
        assert describe_image(VOLUME).frame_count == open_image(VOLUME)[2].frame_count > 1
        assert mask_labels(PICTURE).shape == picture_size(PICTURE)
        load_target(PICTURE, image, PICTURE)
        assert len(read_dataset(tmp_path / "data.csv").items) == 1
    finally:
        decode_through(None)
    readers = [
        "load_image",
        "describe_image",
        "open_image",
        "mask_labels",
        "picture_size",
        "load_target",
        "_read_tables",
        "describe_image",
    ]
    assert asked == readers


def test_what_takes_too_long_is_ended_and_the_next_file_is_read(strict, tmp_path):
    (tmp_path / "endless.jpg").write_bytes(endless_jpeg())
    with pytest.raises(ImageError, match=r"too long .* who runs this server .*A3TUNE_DECODE_SECONDS"):
        strict.run(load_image, tmp_path / "endless.jpg")
    assert np.array_equal(strict.run(np.arange, 3), [0, 1, 2])


def test_who_waits_for_a_processor_is_not_ended_but_has_an_end(strict):
    """A sleep of a second within half a second of processor time stands for a file on a busy machine."""
    assert strict.run(time.sleep, 1) is None
    with pytest.raises(ImageError, match="too long"):
        strict.run(time.sleep, 600)


@pytest.mark.parametrize("size", [1 << 28, 1 << 34], ids=["2 GiB", "128 GiB"])
def test_what_takes_too_much_memory_is_ended_and_the_next_file_is_read(strict, size):
    with pytest.raises(ImageError, match=r"too much memory .* 0\.25 GiB.*A3TUNE_DECODE_MEMORY"):
        strict.run(np.ones, size)
    assert strict.run(abs, -1) == 1


# A JPEG decoder of C says the same of a lack of memory as of damage.
def test_what_lacks_memory_in_a_decoder_is_not_called_damaged(tmp_path):
    (tmp_path / "large.jpg").write_bytes(endless_jpeg(2))
    (tmp_path / "damaged.jpg").write_bytes(jpeg().replace(b"\xff\xdb", b"\xff\xe3"))
    told = {}
    for memory in (160, 1024):
        pool = WorkerPool(DecodeLimits(seconds=60, memory=memory << 20, output=512 << 20, spare=1))
        try:
            for name in ("large", "damaged"):
                try:
                    told[name, memory] = str(pool.run(load_image, tmp_path / f"{name}.jpg").pixels.shape)
                except ImageError as error:
                    told[name, memory] = str(error)
        finally:
            pool.close()
    assert "too much memory" in told["large", 160]
    assert told["large", 1024].startswith("(8")
    assert "damaged" in told["damaged", 160]
    assert told["damaged", 160] == told["damaged", 1024]


def test_archives_and_tables_are_read_the_same(pool, tmp_path):
    table = b"image,question,answer\na.png,What?,A chest\nb.png,What?,x\n"
    (tmp_path / "data.zip").write_bytes(packed({"a.png": PICTURE.read_bytes(), "data.csv": table}))
    told: list[tuple[str, float]] = []
    here = read_dataset(unpack_archive(tmp_path / "data.zip", tmp_path / "data").folder)
    (tmp_path / "data").rename(tmp_path / "before")
    decode_through(pool.run)
    try:
        unpack_archive(tmp_path / "data.zip", tmp_path / "data", on_progress=lambda *step: told.append(step))
        assert [what for what, _ in told] == ["Unpacking"]
        assert read_dataset(tmp_path / "data") == here
        assert [item.question for item in here.items] == ["What?"]
        assert len(here.faults) == 1
        (tmp_path / "other.csv").write_text("picture,asked,reply\na.png,What?,A chest\n")
        there = naming_for(read_dataset(tmp_path / "other.csv"))
    finally:
        decode_through(None)
    assert there == naming_for(read_dataset(tmp_path / "other.csv"))
    assert there is not None
    assert there.guess["image"] == "picture"


def test_data_that_takes_too_much_is_ended_in_words_about_data(strict, tmp_path):
    (tmp_path / "a.xlsx").write_bytes(excel_bomb(8))
    (tmp_path / "a.parquet").write_bytes(parquet_bomb(280))
    rows = "".join(f"{number}.png,{'what ' * 40},b\n" for number in range(300))
    (tmp_path / "rows.csv").write_text(f"image,question,answer\n{rows}")
    decode_through(strict.run)
    try:
        with pytest.raises(DataError, match=r"took too (long|much memory).*(split it|Split the data set)"):
            read_dataset(tmp_path / "a.xlsx")
        read = read_dataset(tmp_path / "a.parquet", unpack_to=tmp_path / "unpacked")
        assert [fault.kind for fault in read.faults] == ["syntax"]
        with pytest.raises(DataError, match="too many rows"):
            read_dataset(tmp_path / "rows.csv")
    finally:
        decode_through(None)


def test_an_adapters_head_that_takes_too_much_is_ended_in_words_about_adapters(pool, strict, tmp_path):
    def write(head: bytes) -> Path:
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(8))
        return tmp_path / "a.safetensors"

    good = b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
    assert pool.run(read_head, write(good)) == ({"a": (2,)}, {})
    with pytest.raises(AdapterError, match="cut off"):
        pool.run(read_head, write(good.replace(b"[2]", b"[3, -3]")))
    crowd = b"{" + b",".join(b'"%d":{}' % number for number in range(1_200_000)) + b"}"
    with pytest.raises(AdapterError, match=r"took too (long|much memory)|not enough memory|over 50,000 tensors"):
        strict.run(read_head, write(crowd))
    names = b",".join(b'"%d":{"dtype":"F32","shape":[],"data_offsets":[0,8]}' % number for number in range(500))
    with pytest.raises(AdapterError, match=r"names too much.*Save the adapter again"):
        strict.run(read_head, write(b"{" + names + b"}"))


def test_a_reader_ends_when_nobody_waits_for_it(pool):
    with pytest.raises(Cancelled):
        pool.run(time.sleep, 600, should_stop=lambda: True)


def test_who_does_not_wait_any_more_ends_nobody_elses_file():
    """The process that read for them reads on for others, long enough here for the watch to ask."""
    gone, may, pool = threading.Event(), threading.Event(), WorkerPool(DecodeLimits(spare=1))
    try:
        pool.start(after=may.wait)  # no other process takes its place
        reader = pool.run(os.getpid, should_stop=gone.is_set)
        gone.set()
        pool.run(time.sleep, 0.5)
        assert pool.run(os.getpid) == reader
    finally:
        may.set()
        pool.close()


def test_what_gives_too_much_is_refused(strict):
    with pytest.raises(ImageError, match="too large to be shown"):
        strict.run(np.zeros, 1 << 20)
    assert strict.run(abs, -1) == 1


def test_workers_that_are_to_be_ready_begin_when_they_may_and_a_file_need_not_wait_for_that():
    may, pool = threading.Event(), WorkerPool(DecodeLimits(spare=1))
    try:
        pool.start(after=may.wait)
        assert pool.run(describe_image, PICTURE).frame_count == 1
    finally:
        may.set()
        pool.close()


def test_a_decoder_that_breaks_off_costs_one_file(pool):
    before = pool.run(os.getpid)
    with pytest.raises(ImageError, match="broke off"):
        pool.run(os.abort)
    assert pool.run(os.getpid) != before


def test_a_decoder_cannot_hand_over_code_or_take_what_the_server_knows(pool, monkeypatch):
    with pytest.raises(ImageError, match="broke off"):
        pool.run(OrderedDict)
    monkeypatch.setenv("HF_TOKEN", "secret")
    fresh = WorkerPool(DecodeLimits(spare=1))
    try:
        assert fresh.run(os.getenv, "HF_TOKEN") is None
        assert fresh.run(os.getenv, "PATH") == os.environ["PATH"]
    finally:
        fresh.close()


@pytest.mark.skipif(os.name != "posix", reason="the system cannot forbid it")
def test_a_decoder_writes_no_file(pool, tmp_path):
    source = tmp_path / "source"
    source.write_text("content")
    with pytest.raises(ImageError, match="cannot be read"):
        pool.run(zipfile.main, ["--create", str(tmp_path / "written.zip"), str(source)])
    assert not (tmp_path / "written.zip").exists() or not (tmp_path / "written.zip").stat().st_size


def test_slow_volumes_take_no_turn_from_a_picture():
    before = set(psutil.Process().children())
    pool = WorkerPool(DecodeLimits(seconds=600, spare=1, pictures=1, volumes=2))
    ended = []

    def sleep() -> None:
        with pytest.raises(ImageError, match=r"broke off|could not be started"):
            pool.run(time.sleep, 600)
        ended.append(1)

    threads = [threading.Thread(target=sleep) for _ in range(2)]
    for thread in threads:
        thread.start()
    while len(pool._busy) < 2:
        threading.Event().wait(0.01)
    try:
        assert pool.run(load_image, PICTURE).height
        assert not ended
    finally:
        pool.close()
    for thread in threads:
        thread.join()
    assert len(ended) == 2
    assert set(psutil.Process().children()) <= before


def test_a_slow_picture_makes_room_for_others():
    pool = WorkerPool(DecodeLimits(seconds=600, spare=1, pictures=4, volumes=1, slow=2, waiting=60))

    def sleep() -> None:
        with pytest.raises(ImageError, match=r"broke off|could not be started"):
            pool.run(time.sleep, 600)

    # The third of these has its turn once the first has taken a second, and so has the number at last.
    threads = [threading.Thread(target=sleep) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert pool.run(abs, -1) == 1
    finally:
        pool.close()
        for thread in threads:
            thread.join()


def test_a_dicom_file_cannot_pass_for_a_picture(tmp_path):
    """Its preamble may be anything, the beginning of a PNG too, and the pictures' lane is for what is soon decoded."""
    pool = WorkerPool(DecodeLimits(seconds=30, spare=1, waiting=0.05, volumes=1))
    pool._lanes["volumes"].acquire()
    content = bytearray((EXAMPLES / "real_ct.dcm").read_bytes())
    content[:8] = b"\x89PNG\r\n\x1a\n"
    (tmp_path / "file").write_bytes(content)
    try:
        with pytest.raises(ImageError, match="Too many files"):
            pool.run(load_image, tmp_path / "file")
        assert pool.run(load_image, PICTURE).height
    finally:
        pool.close()


def test_the_limits_come_from_the_environment(tmp_path):
    pool = decode_in_workers({"A3TUNE_DECODE_SECONDS": "0.25", "A3TUNE_DECODE_MEMORY": "1.5"})
    try:
        assert (pool.limits.seconds, pool.limits.memory) == (0.25, 3 << 29)
        (tmp_path / "endless.jpg").write_bytes(endless_jpeg())
        with pytest.raises(ImageError, match="too long"):
            load_image(tmp_path / "endless.jpg")
    finally:
        decode_through(None)
        pool.close()


@pytest.mark.parametrize("text", ["many", "0", "-1", "inf", "nan"])
def test_a_limit_that_is_none_is_refused(text):
    with pytest.raises(RequestError, match=rf"It is {text}\..*A3TUNE_DECODE_SECONDS"):
        decode_in_workers({"A3TUNE_DECODE_SECONDS": text})
    assert load_image(PICTURE).height
