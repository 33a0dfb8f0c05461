"""The server's end begins with a signal, whenever and on whatever thread it comes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.studio_server import ROOT

# The signal comes on another thread while the main one sleeps, and so does not interrupt what that one sleeps in.
PROGRAM = """
import signal, threading
from pathlib import Path
from app.server.drain import Drain
from tests.support.waiting import until

drain, task = Drain(0.0), Path(f"/proc/self/task/{threading.get_native_id()}/stat")

def send():
    for _ in range(3):
        until(lambda: task.read_text().rpartition(")")[2].split()[0] == "S", pause=0.05)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

drain.listen()
threading.Thread(target=send).start()
drain.wait()
print(drain.begun)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="tells by /proc that a thread sleeps")
def test_a_signal_that_does_not_interrupt_the_wait_ends_it():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout == "True\n"
