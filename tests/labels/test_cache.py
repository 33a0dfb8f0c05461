import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import a3tune.labels
from a3tune.errors import LabelError
from a3tune.labels.cache import RegionCache, code_version
from a3tune.labels.segmenters.segmentation import Segmentation
from a3tune.storage import cache_folder
from a3tune.types import MedicalImage


class Halves:
    """A segmenter that cuts the image in two and counts how often it was asked."""

    name, digest = "halves", "0001"

    def __init__(self, make_region, **parameters):
        self.make_region, self.parameters, self.calls = make_region, parameters, 0

    def segment(self, image):
        self.calls += 1
        masks = np.zeros((2, image.height, image.width), dtype=bool)
        masks[0, :, : image.width // 2] = masks[1, :, image.width // 2 :] = True
        regions = tuple(self.make_region(mask) for mask in masks)
        return Segmentation(regions, self.name, image.height, image.width, ("two halves",))


@pytest.fixture
def image():
    return MedicalImage(np.random.default_rng(3).integers(0, 255, (37, 53, 3), dtype=np.uint8))


def entries(cache):
    return list(cache.folder.glob("??/*"))


def test_second_request_is_read_and_equal(tmp_path, image, make_region):
    cache, segmenter = RegionCache(tmp_path), Halves(make_region)
    made, read = cache.get_or_make(image, segmenter), RegionCache(tmp_path).get_or_make(image, segmenter)
    assert segmenter.calls == 1
    assert [region.box for region in read.regions] == [region.box for region in made.regions]
    assert all((a.mask == b.mask).all() for a, b in zip(made.regions, read.regions, strict=True))
    assert read.regions[0].predicted_iou is None
    assert read.notes == ("two halves",)


def test_image_segmenter_and_settings_are_part_of_the_key(tmp_path, image, make_region):
    cache, segmenter = RegionCache(tmp_path), Halves(make_region, levels=3)
    other = MedicalImage(image.pixels[::-1].copy())
    keys = {cache.key(image, segmenter), cache.key(other, segmenter), cache.key(image, Halves(make_region, levels=4))}
    newer = Halves(make_region, levels=3)
    newer.digest = "0002"
    assert len({*keys, cache.key(image, newer)}) == 4


def test_another_version_of_the_code_finds_anew(tmp_path, image, make_region, monkeypatch):
    cache, segmenter = RegionCache(tmp_path), Halves(make_region)
    package = shutil.copytree(Path(a3tune.labels.__file__).parent, tmp_path / "package")
    monkeypatch.setattr("a3tune.labels.cache._PACKAGE", package)
    keys = []
    for change in ("proposals/spots.py", "segmenters/mask_decoder.py", None, "export.py"):
        code_version.cache_clear()
        keys.append(cache.key(image, segmenter))
        if change is not None:
            (package / change).write_text("# another way to find regions")
    assert len(set(keys)) == 3
    assert keys[2] == keys[3], "what finds no regions does not count"
    for name, other in (("cv2.__version__", "99.0"), ("a3tune.types.__file__", str(package / "export.py"))):
        monkeypatch.setattr(name, other)
        code_version.cache_clear()
        keys.append(cache.key(image, segmenter))
    assert len(set(keys)) == 5
    code_version.cache_clear()


@pytest.mark.parametrize("wrong", ["empty mask", "cut masks", "other size", "other count", "no masks"])
def test_an_entry_that_does_not_fit_its_image_is_made_anew(tmp_path, image, make_region, wrong):
    cache, segmenter = RegionCache(tmp_path), Halves(make_region)
    cache.get_or_make(image, segmenter)
    [path] = entries(cache)
    with np.load(path) as entry:
        arrays = dict(entry)
    if wrong == "empty mask":
        arrays["masks"][1] = 0
    elif wrong == "cut masks":
        arrays["masks"] = arrays["masks"][:, :-1]
    elif wrong == "other size":
        arrays["shape"] = arrays["shape"][::-1]
    elif wrong == "other count":
        arrays["quality"] = arrays["quality"][:1]
    else:
        del arrays["masks"]
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
    again = RegionCache(tmp_path).get_or_make(image, segmenter)
    assert segmenter.calls == 2
    assert all(region.mask.any() for region in again.regions)
    assert len(again.regions) == 2


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip", "half"])
def test_damaged_entry_is_made_anew(tmp_path, image, make_region, damage):
    cache, segmenter = RegionCache(tmp_path), Halves(make_region)
    cache.get_or_make(image, segmenter)
    [path] = entries(cache)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage == "half" else damage)
    assert RegionCache(tmp_path).get(image, segmenter) is None
    assert not path.exists()
    assert len(RegionCache(tmp_path).get_or_make(image, segmenter).regions) == 2
    assert segmenter.calls == 2


def test_pickled_entry_does_not_run(tmp_path, image, make_region):
    cache, segmenter = RegionCache(tmp_path), Halves(make_region)
    cache.get_or_make(image, segmenter)
    [path] = entries(cache)
    with path.open("wb") as stream:
        np.savez(stream, shape=np.array([object()], dtype=object))
    assert RegionCache(tmp_path).get(image, segmenter) is None


def test_oldest_entries_leave_a_full_cache(tmp_path, image, make_region):
    cache, segmenter = RegionCache(tmp_path), Halves(make_region)
    images = [MedicalImage(np.full((40, 40, 3), value, dtype=np.uint8)) for value in range(4)]
    for age, one in enumerate(images):
        cache.get_or_make(one, segmenter)
        path = cache._path(cache.key(one, segmenter))
        os.utime(path, (1000 + age, 1000 + age))
    size = path.stat().st_size
    cache = RegionCache(tmp_path, maximum_bytes=int(3.5 * size))
    assert cache.get(images[0], segmenter) is not None
    cache.get_or_make(image, segmenter)
    assert sum(entry.stat().st_size for entry in entries(cache)) <= cache.maximum_bytes
    again = RegionCache(tmp_path)
    assert again.get(images[0], segmenter) is not None
    assert again.get(images[1], segmenter) is None


def test_entries_used_last_need_no_file(tmp_path, image, make_region):
    cache, segmenter = RegionCache(tmp_path), Halves(make_region)
    made = cache.get_or_make(image, segmenter)
    [path] = entries(cache)
    path.unlink()
    assert cache.get(image, segmenter) is made
    assert RegionCache(tmp_path).get(image, segmenter) is None


def test_only_masks_are_stored(tmp_path, image, make_region):
    cache = RegionCache(tmp_path)
    cache.get_or_make(image, Halves(make_region))
    [path] = entries(cache)
    with np.load(path) as entry:
        assert set(entry.files) == {"shape", "masks", "quality", "notes"}
        assert entry["masks"].nbytes == 2 * -(-37 * 53 // 8)


WRITER = """
from a3tune.process import RUN, prepare_process
prepare_process(RUN)  # as the commands do
import sys
import numpy as np
from a3tune.labels.cache import RegionCache
from a3tune.labels.segmenters.segmentation import Segmentation, region_from_mask
from a3tune.types import MedicalImage

class Segmenter:
    name, digest, parameters = "halves", "0001", {}

image = MedicalImage(np.zeros((64, 64, 3), dtype=np.uint8))
cache = RegionCache(sys.argv[1])
mask = np.zeros((64, 64), dtype=bool)
mask[3:40, 5:60] = True
found = Segmentation((region_from_mask(mask),), "halves", 64, 64)
for _ in range(40):
    cache.put(image, Segmenter(), found)
    again = cache.get(image, Segmenter())
    assert again is not None and (again.regions[0].mask == mask).all()
"""


def test_two_processes_share_a_folder(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    results = [(process.communicate()[1], process.returncode) for process in processes]
    assert [code for _, code in results] == [0, 0], results
    assert len(list(tmp_path.glob("??/*"))) == 1


def test_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("A3TUNE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("A3TUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "a3tune"
    assert RegionCache().folder == tmp_path / "a3tune" / "regions"


def test_unusable_folder_is_an_error_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LabelError, match="A3TUNE_CACHE"):
        RegionCache(tmp_path / "file" / "inner")
