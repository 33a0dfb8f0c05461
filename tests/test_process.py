"""What programs set for their process, and that importing the library sets nothing."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from a3tune.process import RUN, SERVER

ROOT = Path(__file__).resolve().parent.parent
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "A3TUNE_SPINCOUNT")
LOADS = (
    "import ctypes, importlib.util, pathlib\n"
    "folder = pathlib.Path(importlib.util.find_spec('torch').origin).parent\n"
    "ctypes.CDLL(str(next(folder.glob('lib/libgomp*'))))\n"
)
PREPARES = "from a3tune.process import RUN, SERVER, prepare_process, waiting_variables\nprepare_process({})\n"
STARTS = (
    "import os, subprocess, sys\n"
    f"subprocess.run([sys.executable, '-c', {LOADS!r}], env={{**os.environ, **waiting_variables(RUN)}})\n"
)
IMPORTS = """
import logging, os
def state():
    return dict(os.environ), dict(logging.root.manager.loggerDict), logging.root.level, list(logging.root.handlers)
before, was = dict(os.environ), state()
import a3tune
assert state() == was, (state(), was)
import app, a3tune.cli.main, a3tune.models.load, a3tune.training.tuning
assert {name: value for name, value in os.environ.items() if name.startswith(("A3TUNE", "GOMP", "OMP"))} == {
    name: value for name, value in before.items() if name.startswith(("A3TUNE", "GOMP", "OMP"))
}, os.environ
assert logging.getLogger("bitsandbytes").level == logging.NOTSET
assert (logging.root.level, logging.root.handlers) == (logging.WARNING, [])
"""


def told(program, **chosen):
    """The count that libgomp says it uses, in the last process of a program that shows it."""
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    words = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, **chosen, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    return re.findall(r"GOMP_SPINCOUNT = '(\d+)'", words)[-1]


def test_importing_the_library_sets_nothing():
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    subprocess.run([sys.executable, "-c", IMPORTS], env=environment, check=True)


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="torch brings libgomp on Linux only")


@on_linux
@pytest.mark.parametrize(
    ("chosen", "count"), [({}, RUN), ({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "0")]
)
def test_threads_soon_sleep_unless_the_user_says_otherwise(chosen, count):
    assert told(PREPARES.format("RUN") + LOADS, **chosen) == count


@on_linux
@pytest.mark.parametrize(("chosen", "own", "started"), [({}, SERVER, RUN), ({"GOMP_SPINCOUNT": "77"}, "77", "77")])
def test_a_servers_threads_sleep_sooner_and_those_of_the_runs_that_it_starts_do_not(chosen, own, started):
    assert told(PREPARES.format("SERVER") + LOADS, **chosen) == own
    assert told(PREPARES.format("SERVER") + STARTS, **chosen) == started


def test_the_command_line_prepares_its_process_before_torch_is_loaded():
    program = (
        "import gc, sys, os\nfrom a3tune.cli import main\n"
        "doctor = main.COMMANDS['doctor']\n"
        "told = lambda: (os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules, gc.get_threshold()[2])\n"
        "doctor.run = lambda options: print(*told())\n"
        "main.main(['doctor'])\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [RUN, "False", "100"]


def test_what_is_loaded_while_no_garbage_is_looked_for_is_not_looked_through_later():
    program = (
        "import gc\nfrom a3tune.process import pause_collecting, resume_collecting\n"
        "pause_collecting()\nprint(gc.isenabled())\nloaded = [[] for _ in range(100_000)]\n"
        "resume_collecting()\nprint(gc.isenabled(), gc.get_freeze_count() > 100_000, gc.get_count()[2])\n"
        "begun = gc.get_stats()[0]['collections']\ncome = [[] for _ in range(100_000)]\n"
        "print(gc.get_stats()[0]['collections'] > begun)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True", "0", "True"]


HEAPS = """
import ctypes, os, re, sys, threading
from a3tune.process import share_heaps
if "share" in sys.argv:
    share_heaps()
library = ctypes.CDLL(None)
library.malloc.restype = library.fopen.restype = ctypes.c_void_p
meet = threading.Barrier(9)

def take():
    library.malloc(5000)
    meet.wait()

for _ in range(8):
    threading.Thread(target=take).start()
meet.wait()
stream = library.fopen(sys.argv[1].encode(), b"w")
library.malloc_info(0, ctypes.c_void_p(stream))
library.fclose(ctypes.c_void_p(stream))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has heaps for threads")
@pytest.mark.parametrize(
    ("words", "chosen", "few"), [(["share"], {}, True), ([], {}, False), (["share"], {"MALLOC_ARENA_MAX": "8"}, False)]
)
def test_a_servers_threads_share_two_heaps_unless_the_user_says_otherwise(tmp_path, words, chosen, few):
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", HEAPS, str(tmp_path / "heaps.xml"), *words]
    subprocess.run(command, env={**environment, **chosen}, check=True)
    heaps = (tmp_path / "heaps.xml").read_text().count("<heap nr=")
    assert (heaps <= 2) == few, heaps


def test_the_page_is_served_so():
    """Before anything is imported that could start a thread."""
    before, _, after = (ROOT / "app.py").read_text(encoding="utf-8").partition("    share_heaps()\n")
    assert "from app." in after
    assert "from app." not in before
