"""Work in the background: what is told of it, how it ends, and who is told."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import SimpleNamespace

import pytest

from a3tune.errors import Cancelled, RequestError
from app.engine.background import Draft, Step, Task, run
from app.engine.model_generation import ModelGeneration
from app.engine.model_lock import TurnLock, turn
from tests.support.waiting import until

LAST = 30.0


def slot(held="the model", **options):
    return SimpleNamespace(in_use=TurnLock(), wait=lambda timeout: held, **options)


def test_steps_and_parts_come_in_their_order_and_the_result_last():
    def work(task):
        task.part("first")
        task.progress("working", 0.5)
        task.part("second")
        return "done"

    assert list(run(work)) == ["first", Step("working", 0.5), "second", "done"]


def test_of_steps_that_come_together_only_the_last_is_told():
    ready = threading.Event()

    def work(task):
        task.progress("working", 0.0)
        ready.wait(LAST)
        for number in range(100):
            task.progress("working", number / 100)
        task.part("then")

    task = Task(work).start()
    reports = iter(task)
    assert next(reports) == Step("working", 0.0)
    ready.set()
    until(lambda: task.over)
    assert list(reports) == [Step("working", 0.99), "then", None]


def test_of_drafts_that_come_together_only_the_last_is_told_and_none_after_what_is_finished():
    def work(task):
        task.progress("working", 0.0)
        task.draft("a")
        task.draft("a word")
        task.part("a word more")
        task.draft("another")
        task.draft("another one")
        return "another one."

    task = Task(work).start()
    until(lambda: task.over)
    assert list(task) == [Step("working", 0.0), "a word more", Draft("another one"), "another one."]


def test_what_ends_the_work_is_raised_by_whoever_follows():
    def work(task):
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(run(work))
    task = Task(work).start()
    until(lambda: task.over)
    assert str(task.error) == "broken"


def test_a_cancel_is_told_at_once_and_the_work_ends_at_its_next_step():
    cancel, going, ended = threading.Event(), threading.Event(), threading.Event()

    def work(task):
        going.wait(LAST)
        try:
            task.progress("still working", 0.5)
        finally:
            ended.set()

    steps = run(work, cancel)
    cancel.set()
    with pytest.raises(Cancelled):
        next(steps)
    assert not ended.is_set(), "whoever follows need not wait for it"
    going.set()
    assert ended.wait(LAST)


def test_closing_the_iterator_cancels():
    cancel = threading.Event()
    steps = run(lambda task: task.progress("working", 0.0) or task.cancel.wait(LAST), cancel)
    next(steps)
    assert not cancel.is_set()
    steps.close()
    assert cancel.is_set()


def test_work_that_ends_well_sets_no_cancel():
    cancel = threading.Event()
    assert list(run(lambda task: "done", cancel)) == ["done"]
    assert not cancel.is_set()


@pytest.mark.parametrize("loaded", [False, True])
def test_a_cancel_ends_the_wait_for_a_slot(loaded):
    cancel = threading.Event()
    shared = slot("the model" if loaded else None)

    def work(task):
        with turn(task, shared, "Loading", "Waiting"):
            pytest.fail("nobody gave the slot free")

    with shared.in_use:
        task = Task(work, cancel).start()
        assert next(iter(task)) == Step("Waiting" if loaded else "Loading", 0.0)
        cancel.set()
        until(lambda: task.over)
    assert isinstance(task.error, Cancelled)


def test_a_slot_is_given_free_after_a_failure():
    shared = slot()

    def work(task):
        with turn(task, shared, "Loading", "Waiting") as held:
            raise ValueError(held)

    with pytest.raises(ValueError, match="the model"):
        list(run(work))
    assert not shared.in_use.locked()


def test_a_slot_goes_to_whoever_has_waited_longest_and_not_to_who_gave_up():
    lock, taken, cancels = TurnLock(), [], [threading.Event() for _ in range(4)]

    def wait_for_it(number):
        def given_up():
            if cancels[number].is_set():
                raise Cancelled

        with suppress(Cancelled):
            lock.acquire(meanwhile=given_up)
            taken.append(number)
            lock.release()

    lock.acquire()
    threads = [threading.Thread(target=wait_for_it, args=(number,)) for number in range(4)]
    for number, thread in enumerate(threads):
        thread.start()
        until(lambda number=number: len(lock._waiting) > number)
    assert not lock.acquire(blocking=False)
    cancels[1].set()
    threads[1].join(LAST)
    lock.release()
    for thread in threads:
        thread.join(LAST)
    assert taken == [0, 2, 3]
    assert lock.acquire(blocking=False)
    assert lock.locked()


@pytest.mark.parametrize("notices", [False, True])
def test_whoever_follows_is_told_that_the_model_was_replaced(notices):
    generation, going = ModelGeneration("The model"), threading.Event()

    def work(task):
        task.progress("working", 0.0)
        generation.end("another one")
        if notices:
            task.check()
        going.wait(LAST)

    task = Task(work, generation=generation).start()
    with pytest.raises(RequestError, match="The model was replaced by another one"):
        list(task)
    going.set()


def test_detached_work_goes_on_when_the_iterator_is_closed():
    task = Task(lambda task: task.progress("working", 0.0), detached=True).start()
    reports = iter(task)
    next(reports)
    reports.close()
    assert not task.cancel.is_set()
