"""The bundled examples are what the command writes, and show what is asked about."""

import json

from a3tune.bundle import EXAMPLES
from a3tune.cli.main import main
from a3tune.demo.examples import LIST_NAME
from a3tune.images import load_image


def test_the_bundled_examples_are_those_that_the_command_writes(tmp_path):
    assert main(["demo", "examples", "--out", str(tmp_path)]) == 0
    entries = json.loads((tmp_path / LIST_NAME).read_text(encoding="utf-8"))
    assert entries == json.loads((EXAMPLES / LIST_NAME).read_text(encoding="utf-8"))
    assert len(entries) >= 8
    for entry in entries:
        drawn, bundled = load_image(tmp_path / entry["file"]), load_image(EXAMPLES / entry["file"])
        assert drawn.pixels.shape == bundled.pixels.shape
        # Another processor may round a soft edge the other way.
        assert abs(drawn.pixels.astype(int) - bundled.pixels).max() <= 2
        assert entry["questions"][-1] == "Describe the image."
