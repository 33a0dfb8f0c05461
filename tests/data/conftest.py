"""Small data sets, written by the tests that read them."""

import csv
import json

import numpy as np
import pytest
from PIL import Image


class DataFolder:
    """A data folder in the making."""

    def __init__(self, root):
        self.root = root

    def image(self, name, shade=0, size=(12, 10)):
        """A grey picture of (width, height) ``size``; another ``shade``, another content."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((size[1], size[0]), shade % 256, np.uint8)).save(path, "PNG")
        return path

    def text(self, name, content, encoding="utf-8"):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode(encoding) if isinstance(content, str) else content)
        return path

    def json(self, name, value):
        return self.text(name, json.dumps(value, indent=1))

    def jsonl(self, name, rows):
        return self.text(name, "".join(json.dumps(row) + "\n" for row in rows))

    def csv(self, name, rows):
        path = self.root / name
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return DataFolder(tmp_path / "data")
