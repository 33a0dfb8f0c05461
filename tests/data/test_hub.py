"""Data sets that a command names: paths first, then the hub."""

import pytest

from a3tune.cli.main import main
from a3tune.data import hub


def test_a_path_counts_before_the_hub_and_a_data_set_is_fetched_once(tmp_path, monkeypatch):
    monkeypatch.setenv("A3TUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    fetched = []

    def fetch(name, folder):
        fetched.append(name)
        folder.mkdir()

    monkeypatch.setattr(hub, "fetch_dataset", fetch)
    (tmp_path / "own/data").mkdir(parents=True)
    assert hub.dataset_place("own/data") == hub.named_path("own/data")
    assert hub.dataset_place("rows.csv") == hub.named_path("rows.csv")
    assert fetched == []
    place = hub.dataset_place("owner/data")
    assert hub.dataset_place("owner/data") == place
    assert place.is_dir()
    assert fetched == ["owner/data"]


@pytest.mark.parametrize("command", ["tune", "labels"])
def test_without_a_connection_the_command_says_what_to_do(tmp_path, monkeypatch, capsys, command):
    monkeypatch.setenv("A3TUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main([command, "--data", "owner/data", "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "There is no owner/data here. owner/data cannot be fetched: there is no connection" in told
    assert "download the data set elsewhere and name its folder" in told
    assert "page" not in told
    assert not (tmp_path / "out").exists()
