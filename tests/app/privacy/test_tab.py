"""What the page says is kept."""

from __future__ import annotations

from app.access.deployment import DEPLOYMENTS
from app.common.studio_folder import StudioFolder
from app.privacy.tab import kept_words

WHAT = "Data sets, runs, adapters and evaluations"


def test_each_deployment_says_how_long_and_strangers_learn_no_path(tmp_path):
    studios = {name: StudioFolder(tmp_path, deployment) for name, deployment in DEPLOYMENTS.items()}
    kept = {name: dict(kept_words(studio))[WHAT] for name, studio in studios.items()}
    assert "until you delete or forget it; it outlives a restart" in kept["local"]
    assert "until 10 minutes after you closed your last page" in kept["space"]
    assert "until 60 minutes after you closed your last page" in kept["server"]
    assert [str(tmp_path) in words for words in kept.values()] == [True, False, False]


def test_each_deployment_says_when_patient_and_study_leave(tmp_path):
    for name, deployment in DEPLOYMENTS.items():
        words = dict(kept_words(StudioFolder(tmp_path, deployment)))["Of a DICOM or NIfTI header"]
        assert ("only where you ask for that" in words) == (name != "space")
        assert ("No file that is exported here has patient or study" in words) == (name == "space")


def test_an_archive_is_named_with_what_goes_there(tmp_path):
    studio = StudioFolder(tmp_path, DEPLOYMENTS["server"])
    assert not any("archive" in what for what, _ in kept_words(studio))
    told = dict(kept_words(studio, archive="archive.example"))
    assert "none of that is kept" in told["With the archive archive.example"]
    assert told["Elsewhere"].startswith("Nothing else")


def test_memory_is_called_memory_and_what_is_encrypted_is_said_to_be(tmp_path, monkeypatch):
    space, server = (StudioFolder(tmp_path, DEPLOYMENTS[name]) for name in ("space", "server"))
    assert (
        "as they are while you are here and 60 minutes longer. Then they are encrypted"
        in dict(kept_words(server, encrypted=True))[WHAT]
    )
    monkeypatch.setattr("app.common.studio_folder._file_system", lambda path: "ext4")
    assert dict(kept_words(space))[WHAT].startswith("On the disk of")
    monkeypatch.setattr("app.common.studio_folder._file_system", lambda path: "tmpfs")
    assert dict(kept_words(space))[WHAT].startswith("In the memory of")
