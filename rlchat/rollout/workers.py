"""Calls of environments in worker threads, so that slow ones do not hold up the others."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Answer = TypeVar("Answer")


class WorkerPool(Generic[Key, Answer]):
    """Runs calls in threads and gives their results as they come; a context manager.

    With no workers a call runs at once, in the caller's thread, so that results come in the order
    of the calls.
    """

    def __init__(self, workers: int):
        """Start so many threads."""
        self._pool = ThreadPoolExecutor(workers, "rlchat-user") if workers else None
        self._asked: dict[Future[Answer], Key] = {}

    def __enter__(self) -> WorkerPool[Key, Answer]:
        return self

    def __exit__(self, *_: object) -> None:
        """Drop calls that have not begun, and do not wait for the others: nothing reads them."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def ask(self, key: Key, question: Callable[..., Answer], *about: Any) -> None:
        """Run a call; its result comes with ``key``."""
        if self._pool is not None:
            self._asked[self._pool.submit(question, *about)] = key
            return
        answered: Future[Answer] = Future()
        answered.set_result(question(*about))
        self._asked[answered] = key

    def answers(self, block: bool) -> list[tuple[Key, Answer]]:
        """Take the results that are there, in the order of their calls.

        Args:
            block: wait for at least one, if there was a call.

        Raises:
            Exception: whatever a call raised.
        """
        if block:
            wait(self._asked, return_when=FIRST_COMPLETED)
        there = [future for future in self._asked if future.done()]
        return [(self._asked.pop(future), future.result()) for future in there]
