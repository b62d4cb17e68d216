"""Nobody waits for whoever is slow."""

import threading

import pytest

from rlchat.rollout.workers import WorkerPool


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

    with WorkerPool[int, str](2) as desk:
        desk.ask(1, slow)
        desk.ask(2, str, "soon")
        assert desk.answers(block=True) == [(2, "soon")]
        assert desk.answers(block=False) == []
        release.set()
        assert desk.answers(block=True) == [(1, "late")]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_goes_wrong_is_told(workers: int) -> None:
    def broken() -> None:
        raise OSError("the line is dead")

    with pytest.raises(OSError, match="dead"), WorkerPool[int, None](workers) as desk:
        desk.ask(1, broken)
        desk.answers(block=True)
