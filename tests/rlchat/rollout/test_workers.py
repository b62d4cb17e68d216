"""Nobody waits for whoever is slow."""

import os
import signal
import threading
import time

import pytest

from rlchat.rollout.hosting.answers import EnvError
from rlchat.rollout.hosting.workers import EnvThread, WorkerPool


def test_without_workers_answers_come_in_order() -> None:
    with WorkerPool[str, int](0) as desk:
        assert desk.answers(block=True) == []
        for word in ("bb", "a", "ccc"):
            desk.ask(word, len, word)
        assert desk.answers(block=False) == [("bb", 2), ("a", 1), ("ccc", 3)]
        assert desk.answers(block=False) == []


def test_a_slow_one_is_waited_for_alone() -> None:
    release = threading.Event()

    def slow() -> str:
        assert release.wait(10)
        return "late"

    threads = {key: EnvThread() for key in (1, 2)}
    with WorkerPool[int, str](2, threads.__getitem__) as desk:
        desk.ask(1, slow)
        desk.ask(2, str, "soon")
        assert desk.answers(block=True) == [(2, "soon")]
        assert desk.answers(block=False) == []
        release.set()
        assert desk.answers(block=True) == [(1, "late")]


@pytest.mark.parametrize("workers", [None, 0, 1])
def test_what_goes_wrong_is_told(workers: int | None) -> None:
    """What an environment has failed at is an answer; anything else is raised."""

    def broken(error: Exception) -> None:
        raise error

    thread = None if workers is None else EnvThread()
    asked = None if thread is None else (lambda key: thread)
    with WorkerPool[int, None](workers or 0, asked) as desk:
        desk.ask(1, broken, failed := EnvError("it raised"))
        assert desk.answers(block=True) == [(1, failed)]
    with pytest.raises(OSError, match="dead"), WorkerPool[int, None](workers or 0, asked) as desk:
        desk.ask(1, broken, OSError("the line is dead"))
        desk.answers(block=True)


def test_no_more_calls_run_at_once_than_there_are_workers() -> None:
    threads = {key: EnvThread() for key in range(6)}
    lock, running, most = threading.Lock(), [0], [0]

    def work() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.02)
        with lock:
            running[0] -= 1

    with WorkerPool[int, None](2, threads.__getitem__) as desk:
        for key in threads:
            desk.ask(key, work)
        done: list[int] = []
        while len(done) < 6:
            done += [key for key, _ in desk.answers(block=True)]
    assert sorted(done) == list(threads) and most == [2]


@pytest.mark.parametrize("workers", [0, 1])
def test_nobody_waits_for_a_call_beyond_its_time(workers: int) -> None:
    """The others get their turn; what it says afterwards is not heard."""
    release = threading.Event()
    threads = {key: EnvThread() for key in (1, 2)}
    with WorkerPool[int, object](workers, threads.__getitem__, timeout=0.2) as desk:
        desk.ask(1, release.wait)
        desk.ask(2, str, "soon")
        answers = desk.answers(block=True)
        while len(answers) < 2:
            answers += desk.answers(block=True)
        (late, error), (key, said) = answers
        assert (late, key, said) == (1, 2, "soon")
        assert isinstance(error, EnvError) and "within 0.2 seconds" in str(error)
        release.set()
        threads[1].end()
        threads[1].join(10)
        assert desk.answers(block=False) == []


def test_ctrl_c_waits_for_no_call() -> None:
    """Whatever it does: here it swallows all that can be raised in it."""
    release, thread = threading.Event(), EnvThread()

    def deaf() -> None:
        while not release.wait(0.05):
            pass

    desk = WorkerPool[int, None](0, lambda key: thread)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        desk.ask(1, deaf)
    assert time.monotonic() - begun < 2
    release.set()
