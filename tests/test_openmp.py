"""How OpenMP's threads wait for one another: they must not take the cores from those they wait for."""

import os
import re
import subprocess
import sys

import pytest

from a3tune.openmp import RUN, SERVER

WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "A3TUNE_SPINCOUNT")
LOADS = (
    "import ctypes, importlib.util, pathlib\n"
    "folder = pathlib.Path(importlib.util.find_spec('torch').origin).parent\n"
    "ctypes.CDLL(str(next(folder.glob('lib/libgomp*'))))\n"
)
SERVES = "import app\n"
STARTS = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {'import a3tune' + chr(10) + LOADS!r}])\n"


def told(program, **chosen):
    """The count that libgomp says it uses, in the last process of a program that shows it."""
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    words = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, **chosen, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    return re.findall(r"GOMP_SPINCOUNT = '(\d+)'", words)[-1]


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="torch brings libgomp on Linux only")


@pytest.mark.parametrize(
    ("chosen", "count"), [({}, RUN), ({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "0")]
)
def test_threads_soon_sleep_unless_the_user_says_otherwise(chosen, count):
    assert told("import a3tune\n" + LOADS, **chosen) == count


@pytest.mark.parametrize(("chosen", "own", "started"), [({}, SERVER, RUN), ({"GOMP_SPINCOUNT": "77"}, "77", "77")])
def test_a_servers_threads_sleep_sooner_and_those_of_the_runs_that_it_starts_do_not(chosen, own, started):
    assert told(SERVES + LOADS, **chosen) == own
    assert told(SERVES + STARTS, **chosen) == started
