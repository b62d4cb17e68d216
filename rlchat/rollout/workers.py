"""Asking worlds that may take their time, without waiting for one that is slow."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Answer = TypeVar("Answer")


class WorkerPool(Generic[Key, Answer]):
    """Passes questions on and answers back, as they come; a context manager.

    With no workers a question is answered while it is asked, in the asker's thread, so that answers
    come in the order of the questions.
    """

    def __init__(self, workers: int):
        """Open it with so many threads."""
        self._pool = ThreadPoolExecutor(workers, "rlchat-user") if workers else None
        self._asked: dict[Future[Answer], Key] = {}

    def __enter__(self) -> WorkerPool[Key, Answer]:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it; nobody waits for questions that nobody wants answered any more."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def ask(self, key: Key, question: Callable[..., Answer], *about: Any) -> None:
        """Pass a question on."""
        if self._pool is not None:
            self._asked[self._pool.submit(question, *about)] = key
            return
        answered: Future[Answer] = Future()
        answered.set_result(question(*about))
        self._asked[answered] = key

    def answers(self, block: bool) -> list[tuple[Key, Answer]]:
        """Take the answers that are there, in the order of their questions.

        Args:
            block: wait for at least one, if something was asked.

        Raises:
            Exception: whatever a question raised.
        """
        if block:
            wait(self._asked, return_when=FIRST_COMPLETED)
        there = [future for future in self._asked if future.done()]
        return [(self._asked.pop(future), future.result()) for future in there]
