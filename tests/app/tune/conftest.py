"""The Tune tab's services on an empty folder, with stand-ins for the model and for what finds regions."""

from __future__ import annotations

import io
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from a3tune.labels.segmenters.segmentation import Segmentation, region_from_mask
from a3tune.types import ScoredRegion
from app.access.visits import new_secret
from app.common.identity import owner_of
from app.engine.model_generation import ModelGeneration
from app.engine.model_lock import TurnLock
from app.tune.service import TuneService

SIZE = 32


class Maker:
    """Stands for segmenter and scorer: two squares in every image, the left one better; boxes become regions."""

    def __init__(self):
        self.segmenter = SimpleNamespace(name="squares", digest="1", parameters={}, segment_box=self.region)
        self.scorer = SimpleNamespace(name="left", digest="2", score=self.score, embed_texts=lambda texts: None)
        self.segmenter.segment = self.segment

    @staticmethod
    def region(image, box):
        x, y, width, height = (int(edge) for edge in box)
        mask = np.zeros((image.height, image.width), bool)
        mask[y : y + height, x : x + width] = True
        return region_from_mask(mask)

    def segment(self, image):
        boxes = ((4, 8, 8, 12), (18, 8, 8, 12))
        return Segmentation(tuple(self.region(image, box) for box in boxes), "squares", image.height, image.width, ())

    @staticmethod
    def score(image, regions, prompt):
        order = sorted(regions, key=lambda region: region.box[0])
        return tuple(ScoredRegion(region, 30.0 - n, n + 1, 0.5, prompt) for n, region in enumerate(order))


class Slot:
    """A region slot that has its parts."""

    def __init__(self):
        self.in_use = TurnLock()
        self.maker = Maker()
        self.generation = ModelGeneration("What finds and ranks regions")
        self.forgotten = []

    def forget(self, images, prompts):
        self.forgotten.append((set(images), set(prompts)))

    def wait(self, timeout):
        return self.maker


@pytest.fixture
def service(tmp_path):
    return TuneService(SimpleNamespace(profile="demo", adapters=("base", "a3")), Slot(), tmp_path / "studio")


@pytest.fixture
def owner():
    return owner_of(new_secret())


def picture(shade):
    stream = io.BytesIO()
    Image.fromarray(np.full((SIZE, SIZE), shade, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def upload(tmp_path):
    """(rows, name) -> an uploaded ZIP in a folder of its own, as Gradio leaves it."""

    def write(rows=None, name="mine.zip"):
        rows = rows or [(f"{n}.png", "Where is it?", "left", "train" if n else "validation") for n in range(4)]
        (tmp_path / "upload").mkdir(exist_ok=True)
        with zipfile.ZipFile(tmp_path / "upload" / name, "w") as archive:
            lines = ["image,question,answer,split", *(",".join(row) for row in rows)]
            # With a time of its own: the same rows are the same bytes, whatever the clock says.
            archive.writestr(zipfile.ZipInfo("data.csv"), "\n".join(lines))
            for number in range(4):
                archive.writestr(zipfile.ZipInfo(f"{number}.png"), picture(60 * number))
        return tmp_path / "upload" / name

    return write
