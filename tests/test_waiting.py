"""How OpenMP's threads wait for one another: they must not take the cores from those they wait for."""

import os
import re
import subprocess
import sys

import pytest

WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings libgomp on Linux only")
@pytest.mark.parametrize(
    ("chosen", "count"), [({}, "20000"), ({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "0")]
)
def test_threads_soon_sleep_unless_the_user_says_otherwise(chosen, count):
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    told = subprocess.run(
        [sys.executable, "-c", "import a3tune, ctypes, importlib.util, pathlib\n"
         "folder = pathlib.Path(importlib.util.find_spec('torch').origin).parent\n"
         "ctypes.CDLL(str(next(folder.glob('lib/libgomp*'))))"],
        env={**environment, **chosen, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    assert re.search(rf"GOMP_SPINCOUNT = '{count}'", told)
