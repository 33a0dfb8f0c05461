"""The command that trains the demo scorer: what it says, writes and measures; training itself is in test_scorer."""

import shutil

import numpy as np
import pytest

from a3tune.bundle import DEMO_SCORER
from a3tune.cli.main import main
from a3tune.demo.scorer import build as scorer_build
from a3tune.demo.scorer.figures import Measured, question_table, shorter_side
from a3tune.labels.scorers.open_clip import load_scorer
from a3tune.progress import TimedProgress


@pytest.fixture
def quick_training(monkeypatch):
    def train(out, *, seed, recipe, on_progress):
        assert recipe == scorer_build.QUICK
        on_progress("training the scorer", 0.5)
        shutil.copytree(DEMO_SCORER, out, dirs_exist_ok=True)
        on_progress("done", 1.0)

    monkeypatch.setattr(scorer_build, "train_scorer", train)


@pytest.mark.usefixtures("quick_training")
def test_the_command_trains_measures_and_writes_the_card(tmp_path, capsys):
    assert main(["demo", "scorer", "--quick", "--seed", "3", "--out", str(tmp_path / "scorer")]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"Demo scorer in {tmp_path / 'scorer'}: ")
    assert "100% measuring" in said.err
    card = (tmp_path / "scorer" / "README.md").read_text()
    assert "demo scorer --seed 3" in card
    assert "synthetic phantoms only" in card
    assert "| names the lesion or organ |" in card
    load_scorer(tmp_path / "scorer", device="cpu")


def test_questions_are_counted_by_whether_they_name_their_target():
    measured = Measured([], [(True, 1), (True, 5), (True, None), (True, 3), (False, None)], [], [])
    lines = question_table(measured.questions)
    assert lines[2] == "| names the lesion or organ | 4 | 75.0% | 50.0% | 25.0% |"
    assert lines[3] == "| names none | 1 | 0.0% | 0.0% | 0.0% |"
    assert lines[4] == "| **all** | 5 | 60.0% | 40.0% | 20.0% |"


def test_progress_in_a_log_has_a_line_every_few_seconds_and_the_time_left(capsys):
    times = iter([0.0, 600.0, 604.0, 1200.0, 1201.0])
    progress = TimedProgress(clock=lambda: next(times))
    progress("drawing", 0.25)
    progress("drawing", 0.26)
    progress("training", 0.5)
    progress("done", 1.0)
    assert capsys.readouterr().err.splitlines() == [
        " 25% drawing, about 30 min 0 s left",
        " 50% training, about 20 min 0 s left",
        "100% done",
    ]


def test_the_shorter_side_is_stated_in_the_filters_frame():
    mask = np.zeros((512, 128), bool)
    mask[100:126, 20:80] = True
    # 25 of 512 rows and 59 of 128 columns, last minus first, are 12.5 and 118 of 256.
    assert shorter_side(mask) == 12
    assert shorter_side(mask.T) == 12
