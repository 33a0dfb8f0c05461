"""Nothing needs the network once installed: with every other host refused, the main job runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

from pydicom.data import get_testdata_file

ROOT = Path(__file__).resolve().parent.parent

# Loaded by the interpreter before anything else: refuses every connection and name look-up but the machine's own.
GUARD = """
import socket

LOCAL = {"127.0.0.1", "::1", "localhost", "0.0.0.0", ""}
connect, look_up = socket.socket.connect, socket.getaddrinfo


def guarded_connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in LOCAL:
        raise AssertionError(f"connection to {address[0]}")
    return connect(self, address)


def guarded_look_up(host, *arguments, **options):
    if host is not None and str(host) not in LOCAL:
        raise AssertionError(f"look-up of {host}")
    return look_up(host, *arguments, **options)


socket.socket.connect = guarded_connect
socket.getaddrinfo = guarded_look_up
"""


def run_offline(tmp_path, *arguments):
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    environment = dict(os.environ, HF_HUB_OFFLINE="1", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    return subprocess.run(
        [sys.executable, "-m", "a3tune", *arguments], capture_output=True, text=True, env=environment, cwd=ROOT
    )


def test_the_guard_refuses_other_hosts(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    environment = dict(os.environ, PYTHONPATH=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "look-up of 192.0.2.1" in done.stderr


def test_a_question_about_a_dicom_file_is_answered_without_the_network(tmp_path):
    out = tmp_path / "out"
    done = run_offline(
        tmp_path,
        *("inspect", "--image", get_testdata_file("CT_small.dcm"), "--question", "Is this a CT?", "--out", str(out)),
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "inspect.json").read_text())
    assert record["adapters"]["base"]["answer"]
    assert record["image"]["modality"] == "CT"
    assert (out / "attention_base.npz").stat().st_size > 0
