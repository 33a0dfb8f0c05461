"""The folder of all visitors' things."""

from __future__ import annotations

from dataclasses import replace

from a3tune.data.intake import LIMITS, new_folder
from app.access.deployment import DEPLOYMENTS, LOCAL
from app.common.studio_folder import StudioFolder
from app.engine.ids import OwnerId

ANN = OwnerId("a" * 40)


def test_what_killed_processes_left_is_cleared_and_what_is_being_made_stays(tmp_path):
    studio = StudioFolder(tmp_path)
    for left in (f"{ANN}/data/.0123456789ab.part", f"{ANN}/runs/ba9876543210/.run.part", f".{ANN}.0a1b2c3d"):
        (tmp_path / left / "images").mkdir(parents=True)
    (tmp_path / ANN / "runs" / "ba9876543210" / ".0123456789abcdef.part").write_bytes(b"half")
    (tmp_path / ANN / "runs" / ".0123456789ab.gone").mkdir()
    (tmp_path / ".of another program").mkdir()
    with new_folder(studio.data(ANN) / "111111111111") as part:
        (part / "data.csv").touch()
        studio.clear()
        assert (part / "data.csv").exists()
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} - {ANN} == {
        f"{ANN}/data",
        f"{ANN}/data/111111111111",
        f"{ANN}/data/111111111111/data.csv",
        f"{ANN}/runs",
        f"{ANN}/runs/.0123456789ab.gone",
        f"{ANN}/runs/ba9876543210",
        ".of another program",
    }


def test_no_more_is_taken_in_at_once_than_there_is_room_for(tmp_path):
    def held(path, size):
        path.mkdir(parents=True)
        (path / "file").write_bytes(bytes(size))

    space = replace(DEPLOYMENTS["space"], stored_each_mb=2, stored_all_mb=5)
    studio = StudioFolder(tmp_path / "open", space, tmp_path / "sealed")
    assert studio.intake_limits(ANN).total_bytes == 2_000_000
    held(studio.data(ANN), 500_000)
    limits = studio.intake_limits(ANN)
    assert (limits.total_bytes, "A3TUNE_STORED_EACH_MB" in limits.room_raised) == (1_500_000, True)
    held(tmp_path / "open" / "b", 2_000_000)
    held(tmp_path / "sealed", 2_000_000)
    limits = studio.intake_limits(ANN)
    assert (limits.total_bytes, "A3TUNE_STORED_ALL_MB" in limits.room_raised) == (500_000, True)
    assert StudioFolder(tmp_path, LOCAL).intake_limits(ANN) == LIMITS
