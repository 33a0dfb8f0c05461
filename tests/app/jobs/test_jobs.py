"""The queue of detached runs: order, ownership, ends of every kind, and a server that goes and comes."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import threading
from dataclasses import replace

import psutil
import pytest

from a3tune.errors import RequestError
from a3tune.storage import read_json_or_empty, write_json
from app.access.deployment import LOCAL
from app.access.visits import new_secret
from app.common.identity import owner_of
from app.common.studio_folder import StudioFolder
from app.jobs.jobs import CONFIG_NAME, JobQueue, end_runs
from app.jobs.worker import PROCESS_NAME, WORKER_NAME, identity, process_of
from app.tune.runs.event_reader import EventReader
from app.tune.runs.view import view_run
from tests.support.processes import at_work

# Stands for ``python -m a3tune tune`` and does what its first argument says, within the protocol of a run folder.
RUN = """
import os, signal, sys, time
from pathlib import Path
run, what = Path(sys.argv[5]), sys.argv[8]
run.mkdir(parents=True, exist_ok=True)
(run / "stop").unlink(missing_ok=True)
(run / "run.json").write_text("{}")
print("began", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
if what == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
while what == "wait" and not (run / "stop").exists() and not (run / "go").exists():
    time.sleep(0.01)
sys.exit(3 if (run / "stop").exists() else 7 if what == "fail" else 0)
"""


@pytest.fixture
def python(tmp_path):
    """An interpreter that runs the worker as it is, and RUN in the place of a3tune."""
    path = tmp_path / "python"
    (tmp_path / "run.py").write_text(RUN)
    path.write_text(
        f"#!{sys.executable}\nimport os, sys\nreal = {sys.executable!r}\n"
        f"run = [] if sys.argv[2] == 'app.jobs.worker' else [{str(tmp_path / 'run.py')!r}]\n"
        "os.execv(real, [real, *run, *sys.argv[1:]])\n"
    )
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def queue(tmp_path, python):
    queue = JobQueue(StudioFolder(tmp_path / "studio"), python=python)
    yield queue
    for folder in list(queue._folders()):
        queue.cancel(folder.parent.parent.name, folder.name)


@pytest.fixture
def owner():
    return owner_of(new_secret())


def start(queue, owner, what="wait", **options):
    return queue.submit(owner, "method: a3\n", [what], **options)


def until(condition, seconds=30):
    """Wait for something that another process does."""
    ready = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        ready.wait(0.02)
    pytest.fail("it did not come about")


def owner_of_job(job):
    return job.folder.parent.parent.name


def state(queue, job):
    queue.advance()
    return queue.job(owner_of_job(job), job.id).state


def began(job):
    return (job.run / "run.json").exists()


def test_runs_take_turns_in_the_order_in_which_they_came(queue, owner):
    first, second, third = (start(queue, owner) for _ in range(3))
    assert [state(queue, job) for job in (first, second, third)] == ["running", "queued", "queued"]
    assert [queue.job(owner, job.id).position for job in (first, second, third)] == [0, 1, 2]
    until(lambda: began(first))
    (first.run / "go").touch()
    until(lambda: state(queue, second) == "running")
    ended = queue.job(owner, first.id)
    assert (ended.state, ended.exit["code"], ended.exit["signal"]) == ("ended", 0, None)
    assert ended.exit["peak_bytes"] > 1 << 20
    assert queue.job(owner, third.id).position == 1
    assert [job.id for job in queue.jobs(owner)] == [third.id, second.id, first.id]


def test_evaluations_wait_in_the_same_queue_and_hear_a_wish_to_stop(queue, owner):
    tuning = start(queue, owner)
    evaluation = queue.submit(owner, None, ["", "", "wait"], command="eval")
    assert (evaluation.state, evaluation.command, evaluation.position) == ("queued", "eval", 1)
    assert [job.id for job in queue.jobs(owner, "eval")] == [evaluation.id]
    assert [job.id for job in queue.jobs(owner, "tune")] == [tuning.id]
    assert not (evaluation.folder / CONFIG_NAME).exists()
    until(lambda: began(tuning))
    (tuning.run / "go").touch()
    until(lambda: state(queue, evaluation) == "running")
    until(lambda: began(evaluation))
    (evaluation.run / "run.json").rename(evaluation.run / "evaluation.json")
    queue.stop(owner, evaluation.id)
    until(lambda: state(queue, evaluation) == "ended")
    assert queue.job(owner, evaluation.id).exit["code"] == 3
    assert "results and log" in queue.describe(owner, evaluation.id)


def test_each_device_runs_one_at_a_time(tmp_path, python, owner):
    queue = JobQueue(StudioFolder(tmp_path / "studio"), lambda: ("cuda:0", "cuda:1"), python)
    jobs = [start(queue, owner, device="cuda") for _ in range(3)]
    devices = [queue.job(owner, job.id).device for job in jobs]
    assert devices == ["cuda:0", "cuda:1", "cuda"]
    until(lambda: began(jobs[1]))
    until(lambda: "began 1" in jobs[1].log.read_text())
    for job in reversed(jobs):
        queue.cancel(owner, job.id)
    assert [state(queue, job) for job in jobs] == ["ended"] * 3


def test_a_cancel_while_it_starts_leaves_no_process(queue, owner):
    for moment in (None, WORKER_NAME, PROCESS_NAME):
        job = start(queue, owner)
        if moment is not None:
            until(lambda job=job, moment=moment: (job.folder / moment).exists())
        queue.cancel(owner, job.id)
        assert queue.job(owner, job.id).state == "ended"
        left = [process for process in psutil.process_iter(["cmdline"]) if str(job.folder) in str(process.info)]
        assert [process for process in left if at_work(process.pid)] == []


def test_what_is_started_while_a_run_is_ended_is_ended_too(queue, owner, monkeypatch):
    job = start(queue, owner)
    until(lambda: (job.folder / PROCESS_NAME).exists() and began(job))
    child = process_of(read_json_or_empty(job.folder / PROCESS_NAME))
    # As if the run had begun just after the first look.
    (job.folder / PROCESS_NAME).unlink()
    late, children = iter([True]), psutil.Process.children
    monkeypatch.setattr(
        psutil.Process,
        "children",
        lambda self, recursive=False: [] if next(late, False) else children(self, recursive=recursive),
    )
    queue.cancel(owner, job.id)
    assert not at_work(child.pid)


def test_stop_lets_the_run_end_by_itself_and_resume_starts_it_again(queue, owner):
    job = start(queue, owner)
    queue.stop(owner, job.id)  # perhaps before the run can hear it
    assert queue.job(owner, job.id).stopping
    until(lambda: state(queue, job) == "ended")
    assert queue.job(owner, job.id).exit["code"] == 3
    again = queue.resume(owner, job.id)
    assert (again.state, again.stopping, again.exit) == ("running", False, {})
    with pytest.raises(RequestError, match="This one has not"):
        queue.resume(owner, job.id)
    queue.cancel(owner, job.id)
    ended = queue.job(owner, job.id)
    assert (ended.state, ended.cancelled) == ("ended", True)


def test_a_waiting_run_leaves_the_queue(queue, owner):
    _, second = start(queue, owner), start(queue, owner)
    queue.stop(owner, second.id)
    assert queue.job(owner, second.id).state == "ended"
    assert not second.run.exists()


def test_a_run_is_deleted_once_it_has_ended_and_comes_back_for_a_minute(queue, owner):
    job = start(queue, owner)
    for act in (queue.delete, queue.describe):
        with pytest.raises(RequestError, match=r"This one has not.*Cancel it"):
            act(owner, job.id)
    queue.cancel(owner, job.id)
    assert "checkpoints" in queue.describe(owner, job.id)
    assert queue.delete(owner, job.id) == job.id
    with pytest.raises(RequestError, match="no such run"):
        queue.job(owner, job.id)
    queue.studio.purge()
    queue.restore(owner, job.id)
    assert queue.job(owner, job.id).cancelled
    queue.delete(owner, job.id)
    queue.studio.purge(seconds=0)
    assert list(queue.studio.runs(owner).iterdir()) == []
    for name in (job.id, f"../runs/{job.id}"):
        with pytest.raises(RequestError, match="removed from the server"):
            queue.restore(owner, name)


@pytest.mark.parametrize(("what", "code", "number"), [("fail", 7, None), ("kill", None, signal.SIGKILL)])
def test_how_a_run_ended_is_kept(queue, owner, what, code, number):
    job = start(queue, owner, what)
    until(lambda: state(queue, job) == "ended")
    ended = queue.job(owner, job.id).exit
    assert (ended["code"], ended["signal"], ended["out_of_memory"]) == (code, number, False)


def test_a_run_goes_on_without_the_server_and_is_found_again(queue, owner, tmp_path, python):
    job, waiting = start(queue, owner), start(queue, owner, "done")
    until(lambda: began(job))
    process = read_json_or_empty(job.folder / PROCESS_NAME)["pid"]
    assert os.getsid(process) != os.getsid(0)
    # Another server on the same folder: nothing is known but what is on the disk.
    other = JobQueue(StudioFolder(tmp_path / "studio"), python=python)
    assert [found.state for found in other.jobs(owner)] == ["queued", "running"]
    (job.run / "go").touch()
    until(lambda: state(other, job) == "ended")
    until(lambda: state(other, waiting) == "ended")
    assert other.job(owner, waiting.id).exit["code"] == 0


def test_a_killed_worker_does_not_lose_its_run(queue, owner):
    job = start(queue, owner)
    until(lambda: began(job))
    os.kill(read_json_or_empty(job.folder / "worker.json")["pid"], signal.SIGKILL)
    assert state(queue, job) == "running"
    os.kill(read_json_or_empty(job.folder / PROCESS_NAME)["pid"], signal.SIGKILL)
    until(lambda: state(queue, job) == "ended")
    assert queue.job(owner, job.id).exit == {}


def test_a_number_that_another_process_has_now_is_not_mistaken(queue, owner):
    job = start(queue, owner, "done")
    until(lambda: state(queue, job) == "ended")
    own = identity(psutil.Process())
    other = {"ticks": own["ticks"] + 1} if "ticks" in own else {"created": own["created"] - 1}
    for record in (own | other, {"pid": os.getpid(), "created": 1.0}):
        write_json(job.folder / PROCESS_NAME, record)
        assert state(queue, job) == "ended"
    queue.delete(owner, job.id)  # and this process still lives


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process's start is known by the time of day alone")
def test_a_run_is_at_work_whatever_the_time_of_day_is_set_to(queue, owner, monkeypatch):
    job = start(queue, owner)
    until(lambda: began(job))
    true = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: true(process) + 3600)
    assert state(queue, job) == "running"
    monkeypatch.undo()
    queue.cancel(owner, job.id)


def test_a_run_that_an_earlier_version_started_is_still_known(queue, owner):
    job = start(queue, owner)
    until(lambda: began(job))
    for name in (PROCESS_NAME, WORKER_NAME):
        pid = read_json_or_empty(job.folder / name)["pid"]
        write_json(job.folder / name, {"pid": pid, "created": psutil.Process(pid).create_time()})
    assert state(queue, job) == "running"
    queue.cancel(owner, job.id)


def test_nobody_reaches_the_runs_of_others(queue, owner):
    job = start(queue, owner)
    other = owner_of(new_secret())
    assert queue.jobs(other) == ()
    for act in (queue.job, queue.stop, queue.cancel, queue.resume, queue.delete):
        with pytest.raises(RequestError, match="no such run"):
            act(other, job.id)
    for name in ("..", f"../../{owner}/runs/{job.id}", "", "a" * 12, None):
        with pytest.raises(RequestError, match="no such run"):
            queue.job(other, name)
    assert state(queue, job) == "running"


def test_a_secret_is_kept_as_its_hash_only(queue, tmp_path):
    secret = new_secret()
    job = start(queue, owner_of(secret), "done")
    until(lambda: state(queue, job) == "ended")
    written = [path.read_bytes() for path in (tmp_path / "studio").rglob("*") if path.is_file()]
    assert not any(secret.encode() in content for content in written)
    assert stat.S_IMODE(job.folder.stat().st_mode) == 0o700
    for wrong in (None, "", "short", {"a": 1}, secret + "x"):
        with pytest.raises(RequestError, match="does not know who you are"):
            owner_of(wrong)


def test_many_at_once_start_one_and_keep_all(queue, tmp_path, python):
    queues = [queue, JobQueue(StudioFolder(tmp_path / "studio"), python=python)]
    owners = [owner_of(new_secret()) for _ in range(6)]
    threads = [threading.Thread(target=start, args=(queues[number % 2], name)) for number, name in enumerate(owners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    states = sorted(job.state for name in owners for job in queue.jobs(name))
    assert states == ["queued"] * 5 + ["running"]
    positions = sorted(job.position for name in owners for job in queue.jobs(name))
    assert positions == [0, 1, 2, 3, 4, 5]


def test_a_visitor_may_not_fill_the_queue(queue, owner):
    for _ in range(LOCAL.runs_each + 1):
        start(queue, owner)
    with pytest.raises(RequestError, match="5 of yours are waiting"):
        start(queue, owner)
    assert start(queue, owner_of(new_secret())).state == "queued"


def test_what_cannot_be_written_leaves_nothing(queue, owner):
    with pytest.raises(ValueError, match="JSON compliant"):
        start(queue, owner, facts={"seconds": float("nan")})
    assert queue.jobs(owner) == ()
    assert list(queue.studio.runs(owner).iterdir()) == []


def test_a_run_gets_its_settings_and_its_folder(queue, owner):
    job = start(queue, owner, "done")
    assert (job.folder / CONFIG_NAME).read_text() == "method: a3\n"
    assert job.record["command"][4:] == ["--out", str(job.run), "--config", str(job.folder / CONFIG_NAME), "done"]


def test_a_damaged_record_stops_nobody(queue, owner):
    job = start(queue, owner, "done")
    until(lambda: state(queue, job) == "ended")
    (job.folder / "job.json").write_text("{")
    assert queue.job(owner, job.id).state == "ended"
    other = start(queue, owner, "done")
    until(lambda: state(queue, other) == "ended")
    assert json.loads((other.folder / "job.json").read_text())["queued"] is None


@pytest.fixture
def limited(tmp_path, python):
    """(**limits) -> a queue with these limits."""
    queues = []

    def build(**limits):
        queues.append(JobQueue(StudioFolder(tmp_path / "studio", replace(LOCAL, **limits)), python=python))
        return queues[-1]

    yield build
    for folder in [folder for queue in queues for folder in queue._folders()]:
        queues[0].cancel(folder.parent.parent.name, folder.name)


def test_a_run_makes_room_for_others_and_goes_on_later_by_itself(limited, owner):
    queue, other = limited(turn_minutes=1e-4), owner_of(new_secret())
    mine = start(queue, owner)
    until(lambda: began(mine))
    until(lambda: state(queue, mine) == "running")
    theirs = start(queue, other)
    until(lambda: state(queue, mine) == "queued")
    queue = limited(turn_minutes=60)
    until(lambda: state(queue, theirs) == "running")
    assert state(queue, mine) == "queued"
    until(lambda: began(theirs))
    (theirs.run / "go").touch()
    until(lambda: state(queue, theirs) == "ended")
    until(lambda: state(queue, mine) == "running")
    assert read_json_or_empty(mine.folder / "job.json")["spent"] > 0


def test_a_run_ends_at_its_longest_time_and_cannot_go_on(limited, owner):
    queue = limited(run_minutes=1e-4)
    job = start(queue, owner)
    until(lambda: state(queue, job) == "ended")
    ended = queue.job(owner, job.id)
    assert ended.record["over_time"] is True
    assert view_run(ended, EventReader()).words.startswith("Stopped: it was at work as long as a run may be here.")
    with pytest.raises(RequestError, match="A3TUNE_RUN_MINUTES"):
        queue.resume(owner, job.id)
    assert limited(run_minutes=60).resume(owner, job.id).state == "running"


def test_all_visitors_together_may_not_fill_the_queue(limited, owner):
    queue = limited(runs_all=2)
    for _ in range(3):
        start(queue, owner_of(new_secret()))
    with pytest.raises(RequestError, match="A3TUNE_RUNS_ALL"):
        start(queue, owner)


def test_every_run_below_a_folder_is_ended(queue, owner):
    job = start(queue, owner)
    until(lambda: began(job))
    end_runs(queue.studio.root)
    assert queue.job(owner, job.id).state == "ended"
