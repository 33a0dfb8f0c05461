"""Where the application runs: what can be trained there, and what is told where it cannot."""

from __future__ import annotations

import pytest

from a3tune.errors import RequestError
from app.jobs.hardware import check_machine, duplicate_address, machine_notice


def test_where_training_cannot_be_done_it_is_told(monkeypatch, tmp_path):
    assert machine_notice() == ""
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    assert "duplicate the Space" in machine_notice()
    with pytest.raises(RequestError, match="ZeroGPU lends a GPU for seconds"):
        check_machine()
    monkeypatch.delenv("SPACES_ZERO_GPU")
    check_machine()
    monkeypatch.setenv("SPACE_ID", "house/space")
    monkeypatch.setattr("app.jobs.hardware.devices", lambda: ("cpu",))
    monkeypatch.setattr("app.jobs.hardware.DEVICE_FILES", tmp_path)
    assert "no GPU" in machine_notice()
    assert duplicate_address() == "https://huggingface.co/spaces/house/space?duplicate=true"
    monkeypatch.setenv("SPACE_ID", '"><script>')
    assert duplicate_address() == ""
    (tmp_path / "nvidia0").touch()
    assert machine_notice() == "", "torch is not loaded yet, but there is a GPU"
