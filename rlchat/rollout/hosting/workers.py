"""Calls of environments in threads of their own: nobody waits for one that is slow, or for ever."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Condition, Thread
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from rlchat.rollout.hosting.answers import EnvError

Key = TypeVar("Key")
Answer = TypeVar("Answer")
Env = TypeVar("Env", bound="Closable")
TICK = 0.5  # seconds after which a wait is begun again: Windows interrupts none that has no end


class Closable(Protocol):
    """Whatever is closed in its thread."""

    def close(self) -> None:
        """Close it."""
        ...


class EnvThread:
    """A thread in which one environment is made, stepped and closed: some bear no other.

    It is a daemon: where a call does not return, the process ends all the same.
    """

    def __init__(self) -> None:
        """Start the thread."""
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="rlchat-env", daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], object]) -> None:
        """Do something in the thread, after all that it was given before."""
        self._calls.put(work)

    def end(self) -> None:
        """End the thread after all that it was given before."""
        self._calls.put(None)

    def join(self, seconds: float) -> None:
        """Wait for its end, at most so long."""
        self._thread.join(seconds)

    def _run(self) -> None:
        while (work := self._calls.get()) is not None:
            work()
            del work  # whatever it belongs to, an idle thread must not keep


@dataclass(eq=False, slots=True)
class _Call(Generic[Key, Answer]):
    """A call: what is asked, since when it is being answered, and what came of it."""

    key: Key
    question: Callable[[], Answer]
    begun: float = 0.0
    answers: Sequence[Answer] = ()
    error: BaseException | None = None
    done: bool = False

    def result(self) -> Answer | EnvError:
        if isinstance(self.error, EnvError):
            return self.error
        if self.error is not None:
            raise self.error
        return self.answers[0]


class WorkerPool(Generic[Key, Answer]):
    """Runs calls in threads and gives their results as they come; a context manager.

    With no workers the caller waits for each call, so that results come in the order of the calls.
    """

    def __init__(
        self,
        workers: int = 0,
        thread: Callable[[Key], EnvThread] | None = None,
        timeout: float = 0.0,
    ):
        """Begin with no calls.

        Args:
            workers: how many calls run at the same time; with 0 one, which is waited for.
            thread: the thread that a key's calls run in; None for the caller's own.
            timeout: seconds after which nobody waits for a call any more; 0 for none. It needs
                threads.
        """
        self._most, self._blocking = max(1, workers), workers == 0
        self._thread, self._timeout = thread, timeout
        self._asked: list[_Call[Key, Answer]] = []
        # Below is what threads change, in which they hold the condition.
        self._changed = Condition()
        self._waiting: deque[_Call[Key, Answer]] = deque()
        self._running: list[_Call[Key, Answer]] = []

    def __enter__(self) -> WorkerPool[Key, Answer]:
        return self

    def __exit__(self, *_: object) -> None:
        """Drop calls that have not begun, and do not wait for the others: nothing reads them."""
        with self._changed:
            self._waiting.clear()

    def ask(self, key: Key, question: Callable[..., Answer], *about: Any) -> None:
        """Run a call; its result comes with ``key``."""
        call: _Call[Key, Answer] = _Call(key, partial(question, *about))
        self._asked.append(call)
        if self._thread is None:
            try:
                call.answers = (call.question(),)
            except EnvError as error:
                call.error = error
            call.done = True
            return
        with self._changed:
            self._waiting.append(call)
            self._begin()
        if self._blocking:
            self._wait([call])

    def answers(self, block: bool) -> list[tuple[Key, Answer | EnvError]]:
        """Take the results that are there, in the order of their calls.

        Of a call whose environment failed or has taken too long, the result is the error.

        Args:
            block: wait for at least one, if there was a call.

        Raises:
            Exception: whatever else a call raised.
        """
        self._wait(self._asked if block else ())
        there = [call for call in self._asked if call.done]
        self._asked = [call for call in self._asked if call not in there]
        return [(call.key, call.result()) for call in there]

    def _wait(self, calls: Sequence[_Call[Key, Answer]]) -> None:
        """Wait for one of these calls, if there are any, and for none beyond its time."""
        with self._changed:
            while True:
                now = monotonic()
                late = [c for c in self._running if self._timeout and now - c.begun > self._timeout]
                for call in late:
                    call.error, call.done = self._too_late(), True
                    self._running.remove(call)
                if late:
                    self._begin()
                if not calls or any(call.done for call in calls):
                    return
                left = [c.begun + self._timeout - now for c in self._running if self._timeout]
                self._changed.wait(max(0.0, min([TICK, *left])))

    def _begin(self) -> None:
        """Begin as many of the waiting calls as there is room for."""
        assert self._thread is not None
        while self._waiting and len(self._running) < self._most:
            call = self._waiting.popleft()
            call.begun = monotonic()
            self._running.append(call)
            self._thread(call.key).call(partial(self._work, call))

    def _work(self, call: _Call[Key, Answer]) -> None:
        """Run a call, in its thread; what comes of it too late is dropped."""
        answers: Sequence[Answer] = ()
        error: BaseException | None = None
        try:
            answers = (call.question(),)
        except BaseException as raised:
            error = raised
        with self._changed:
            if call in self._running:
                call.answers, call.error, call.done = answers, error, True
                self._running.remove(call)
                self._begin()
                self._changed.notify_all()

    def _too_late(self) -> EnvError:
        return EnvError(
            f"expected an answer of the environment within {self._timeout:g} seconds; there is "
            "none; allow more with --rollout.timeout, or mend what it waits for"
        )


def drop(envs: dict[int, Env], threads: dict[int, EnvThread], row: int) -> None:
    """Close a row's environment in its thread, which ends then."""
    env, thread = envs.pop(row, None), threads.pop(row, None)
    if thread is None and env is not None:
        env.close()
    if thread is not None and env is not None:
        thread.call(env.close)
    if thread is not None:
        thread.end()


def close_all(envs: dict[int, Env], threads: dict[int, EnvThread], patience: float) -> None:
    """Close environments, each in its thread; wait so many seconds at most."""
    left, end = list(threads.values()), monotonic() + patience
    for row in {*envs, *threads}:
        drop(envs, threads, row)
    for thread in left:
        thread.join(max(0.0, end - monotonic()))
