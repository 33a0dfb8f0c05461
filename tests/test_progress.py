"""Progress on a terminal and in a log."""

import io
import threading

import pytest

from a3tune.progress import ItemProgress, SteadyProgress, TimedProgress, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_tells_the_time_left_from_items_that_took_work():
    ticks = iter([0, 1, 11, 21, 31])
    stream = Terminal()
    progress = ItemProgress(4, stream=stream, clock=lambda: next(ticks))
    progress.advance("a", skipped=True)
    assert "left" not in stream.getvalue()
    progress.advance("b")
    assert stream.getvalue().endswith("50% 2/4 b · about 20 s left")
    progress.advance("c")
    progress.advance("d")
    assert stream.getvalue().endswith("100% 4/4 d\n")


def test_a_line_that_is_left_is_ended():
    stream = Terminal()
    with ItemProgress(2, stream=stream, clock=lambda: 0.0) as progress:
        progress.advance("a")
    assert stream.getvalue().endswith("left\n")


def test_a_log_gets_a_line_every_few_seconds_and_the_last_one():
    stream, times = io.StringIO(), iter(range(0, 1000, 2))
    progress = ItemProgress(10, stream=stream, clock=lambda: next(times))
    for number in range(10):
        progress.advance(str(number), skipped=True)
    assert stream.getvalue() == " 30% 3/10 2\n 60% 6/10 5\n 90% 9/10 8\n100% 10/10 9\n"


def test_work_that_is_done_in_a_moment_writes_nothing_into_a_log_unless_it_is_told_to():
    stream, times = io.StringIO(), iter([0.0, 1.0, 6.0])
    progress = SteadyProgress(at_once=False, stream=stream, clock=lambda: next(times))
    progress("loading", 0.0)
    progress("asking", 0.5)
    assert stream.getvalue() == " 50% asking\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.7, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_a_log_gets_a_line_every_few_seconds_and_a_terminal_every_one():
    ticks = [0.0, 1.0, 4.9, 5.0, 9.0, 12.0]
    log, terminal = io.StringIO(), Terminal()
    for stream in (log, terminal):
        times = iter([0.0, *ticks])
        progress = SteadyProgress(5.0, stream=stream, clock=lambda times=times: next(times))
        for number, _ in enumerate(ticks):
            progress(f"step {number}", number / 5)
    assert log.getvalue() == "  0% step 0\n 60% step 3\n100% step 5\n"
    assert terminal.getvalue().count("\r") == 6
    assert terminal.getvalue().endswith("step 5\n")


def test_the_time_left_is_told_in_a_log_too():
    stream, times = io.StringIO(), iter([0.0, 10.0, 40.0, 50.0])
    progress = TimedProgress(stream=stream, clock=lambda: next(times))
    for share in (0.1, 0.8, 1.0):
        progress("Asking", share)
    assert stream.getvalue() == " 10% Asking, about 1 min 30 s left\n 80% Asking, about 10 s left\n100% Asking\n"


def test_what_goes_on_without_news_is_said_again_in_a_log():
    now, stream = [0.0], io.StringIO()
    progress = SteadyProgress(stream=stream, clock=lambda: now[0])
    progress.repeat()  # nothing was said yet
    progress("Labelling", 0.25)
    for now[0] in (4.0, 5.0, 9.0, 75.0):
        progress.repeat()
    now[0] = 79.0
    progress("Tuning", 0.5)
    now[0] = 80.0
    progress.repeat()
    progress("Done", 1.0)
    now[0] = 100.0
    progress.repeat()
    repeated = " 25% Labelling · 5 s so far\n 25% Labelling · 1 min 15 s so far\n"
    assert stream.getvalue() == f" 25% Labelling\n{repeated} 50% Tuning\n"


def test_a_first_item_that_takes_long_is_said_too():
    now, stream = [0.0], io.StringIO()
    progress = ItemProgress(3, stream=stream, clock=lambda: now[0])
    now[0] = 6.0
    progress.repeat()
    now[0] = 7.0
    progress.advance("a")
    now[0] = 20.0
    progress.repeat()
    assert stream.getvalue() == "  0% 0/3 · 6 s so far\n 33% 1/3 a · about 14 s left · 13 s so far\n"


def test_lines_are_repeated_while_the_work_goes_on_and_not_after():
    class Log(io.StringIO):
        repeated = threading.Event()

        def write(self, text):
            if "so far" in text:
                self.repeated.set()
            return super().write(text)

    log = Log()
    with SteadyProgress(0.01, stream=log) as progress:
        progress("Loading", 0.0)
        assert log.repeated.wait(30)
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_a_terminal_is_left_alone_between_two_lines():
    with SteadyProgress(0.01, stream=Terminal()) as progress:
        progress("Loading", 0.0)
        assert not [thread for thread in threading.enumerate() if thread.name == "progress"]
