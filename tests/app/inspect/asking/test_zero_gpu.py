"""ZeroGPU with the real package ``spaces``: what its own process gives is what this one would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from a3tune.bundle import EXAMPLES
from a3tune.images import load_image
from app.engine import library
from app.inspect.asking import zero_gpu

ROOT = Path(__file__).resolve().parents[4]
QUESTION = "Is there a mass?"

# Only the two steps that need a GPU are others than on a Space: looking for it, and moving the weights there.
SCRIPT = """
from a3tune.process import SERVER, prepare_process
prepare_process(SERVER)  # as the page does
import sys
import spaces
import spaces.zero.torch as zero
from spaces.zero.torch import patching
def move(callback=None):
    for fake, original in patching.cuda_aliases.items():
        fake.data = original
zero.init, zero.move = lambda uuid: None, move
import numpy as np
from a3tune.images import load_image
from app.engine.model_slot import ModelSlot
from app.engine.private_adapters import PrivateAdapters
from app.inspect.asking import zero_gpu
slot = ModelSlot(sys.argv[1])
zero_gpu.hold(slot, PrivateAdapters(slot))
model = slot.wait(0)
assert model.model.device.type == "cuda", model.model.device
(inspection,) = zero_gpu.inspect_each(load_image(sys.argv[2]), sys.argv[3], ("base",), {})
control = zero_gpu.check("control", inspection, "base", inspection.views[0].critical_heads, None, {})
np.savez(
    sys.argv[4], maps=inspection.views[0].maps.weights, answer=inspection.views[0].answer, control=control.correlation
)
"""


@pytest.fixture
def devices():
    """What lends GPUs to a Space; gives its address and what it was asked."""
    asked: list[tuple[str, dict[str, str]]] = []

    class Devices(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            url = urlsplit(self.path)
            asked.append((url.path, {name: values[0] for name, values in parse_qs(url.query).items()}))
            lent = {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "", "allowToken": "token"}
            body = json.dumps(lent if url.path == "/schedule" else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Devices) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_an_answer_from_a_lent_gpu_is_the_answer(devices, slot, tmp_path):
    url, asked = devices
    image = load_image(EXAMPLES / "chest_mass.png")
    (here,) = library.inspect_each(slot.wait(None), image, QUESTION, adapters=("base",))
    arguments = [slot.profile, str(EXAMPLES / "chest_mass.png"), QUESTION, str(tmp_path / "there.npz")]
    variables = {"SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": url, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, *arguments],
        cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "there.npz") as there:
        assert str(there["answer"]) == here.views[0].answer
        assert np.array_equal(there["maps"], here.views[0].maps.weights)
        control = library.measure_randomised(slot.wait(None), here, "base", here.views[0].critical_heads)
        assert np.array_equal(there["control"], control.correlation)
    paths = [path for path, _ in asked]
    assert [path for path in paths if path != "/startup-report"] == ["/schedule", "/allow", "/release"] * 2
    assert asked[0][1]["durationSeconds"] == "25"
    assert asked[1][1]["allowToken"] == "token"
    layers = here.views[0].maps.layers
    assert [told["durationSeconds"] for path, told in asked if path == "/schedule"][1] == str(round(10 + layers / 2))


def test_a_check_asks_for_time_by_its_passes(slot):
    (inspection,) = library.inspect_each(
        slot.wait(None), load_image(EXAMPLES / "chest_mass.png"), QUESTION, adapters=("base",)
    )
    heads = inspection.views[0].critical_heads
    assert zero_gpu.check_seconds("curves", inspection, "base", heads, (), {}) == 10 + 74 // 2
    passes = []
    library.measure_curves(
        slot.wait(None), inspection, "base", heads, on_progress=lambda what, share: passes.append(share)
    )
    assert len(passes) == library.curve_passes() == 74
