"""Environments for many conversations at a time: one for each that is in flight."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rlchat.errors import UserError
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.hosting.answers import EnvError
from rlchat.rollout.hosting.making import deterministic, entry_of, single_threaded
from rlchat.rollout.hosting.workers import EnvThread, WorkerPool, close_all, drop
from rlchat_envs import Conversation, DialogueEnv, Maker

MAKING = 120.0  # seconds that one may take to be made, only to learn whose it is
MakeEnv = Callable[[EnvConfig, str], TextEnv]
"""Makes an environment of a side."""


@dataclass
class EnvPool:
    """Environments of one kind, made when first needed: one for each conversation in flight.

    A context manager, which closes them; otherwise they are closed when nothing refers to the pool.
    An environment lives in one thread: its row's, if the pool has given the row one, or else that
    of whoever asks for it first.

    Attributes:
        config: whose environments.
        split: their side.
        kind: makes one; `hosting.isolated.kind_of` makes them in processes of their own.
        envs: by row.
        threads: by row.
    """

    config: EnvConfig
    split: str = "train"
    kind: MakeEnv = TextEnv
    envs: dict[int, TextEnv] = field(default_factory=dict)
    threads: dict[int, EnvThread] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """See to it that those are closed who are forgotten."""
        weakref.finalize(self, close_all, self.envs, self.threads, 1.0)

    def __enter__(self) -> EnvPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close all; after an error or Ctrl-C without patience for one that takes long."""
        self.close(10.0 if kind is None else 0.5)

    def __getitem__(self, row: int) -> TextEnv:
        """The environment of a row."""
        if (env := self.envs.get(row)) is None:
            thread = self.threads.get(row)
            env = self.make()
            if self.threads.get(row) is not thread:  # it took so long that another has its place
                env.close()
                raise EnvError(f"{self.config.env} took too long to be made")
            self.envs[row] = env
        return env

    def make(self) -> TextEnv:
        """Make another environment of the kind."""
        return self.kind(self.config, self.split)

    def begin(self, row: int, index: int, seed: int) -> Conversation:
        """Begin episode number ``index`` in environment number ``row``; see `TextEnv.reset`."""
        return self[row].reset(seed)

    def thread(self, row: int) -> EnvThread:
        """The thread of a row, which its environment is made, stepped and closed in."""
        return self.threads.get(row) or self.threads.setdefault(row, EnvThread())

    def drop(self, row: int) -> None:
        """Close a row's environment, in its own thread; the next to begin there is a fresh one.

        A thread that waits for its environment is left alone with it: should it go on one day, it
        closes it and ends.
        """
        drop(self.envs, self.threads, row)

    def close(self, patience: float = 10.0) -> None:
        """Close all environments; wait for those in threads so many seconds at most."""
        close_all(self.envs, self.threads, patience)

    @cached_property
    def ours(self) -> bool:
        """Whether these are environments of `rlchat_envs`; none is made to find out."""
        return next(iter(self.envs.values())).ours if self.envs else is_ours(self.config)

    def in_threads(self, workers: int, timeout: float) -> bool:
        """Whether each environment is to live in a thread of its own.

        Those of others are, so that one that hangs can be left behind; unless it says that it bears
        the main thread only. Ours are if several are to answer at the same time.

        Args:
            workers: how many are.
            timeout: seconds in which the first has to be made; 0 for no limit.

        Raises:
            UserError: several are, and the environment bears one thread only.
        """
        if self.ours and not workers:
            return False
        if alone := self.needs_main_thread(timeout):
            if workers:
                raise UserError(
                    f"expected --rollout.workers 0 with {self.config.env}, whose episodes draw "
                    f"from random states that all threads share; got {workers}; leave it out"
                )
            if 0 in self.threads:
                self.drop(0)
        return not alone

    def needs_main_thread(self, timeout: float) -> bool:
        """Whether the environment says that it bears the main thread only.

        If its class does not, one is made to find out, in a thread of its own.

        Raises:
            EnvError: it takes longer than so many seconds, or cannot be made.
        """
        if self.kind is not TextEnv:  # each has a process, and the main thread of that
            return False
        if self._single_threaded is None and single_threaded(entry_of(self.config.env)):
            self._single_threaded = True
        if self._single_threaded is None:
            if 0 in self.envs and 0 not in self.threads:
                self.drop(0)
            self._single_threaded = self.first(timeout).single_threaded
        return self._single_threaded

    def first(self, timeout: float) -> TextEnv:
        """The environment of the first row, made in its thread.

        Raises:
            EnvError: it takes longer than so many seconds, or cannot be made.
        """
        making = WorkerPool[int, TextEnv](0, self.thread, timeout)
        making.ask(0, self.__getitem__, 0)
        ((_, made),) = making.answers(block=True)
        if isinstance(made, EnvError):
            self.drop(0)
            raise made
        return made

    def worker_pool(self, workers: int, timeout: float) -> WorkerPool[int, Any]:
        """What calls the environments, each in its thread; see `in_threads`."""
        thread = self.thread if self.in_threads(workers, timeout) else None
        return WorkerPool(workers, thread, 0.0 if self.ours else timeout)

    _single_threaded: bool | None = field(default=None, init=False, repr=False)


def is_ours(config: EnvConfig) -> bool:
    """Whether an environment is one of `rlchat_envs`: what is registered says so.

    Only one that is registered by a function of somebody else's has to be made.

    Raises:
        UserError: the id is unknown.
    """
    entry = entry_of(config.env)
    if isinstance(entry, type):
        return issubclass(entry, DialogueEnv)
    if isinstance(entry, Maker):
        return True
    if single_threaded(entry):
        with TextEnv(config) as made:
            return made.ours
    with EnvPool(config) as pool:
        return pool.first(MAKING).ours


def replays(config: EnvConfig) -> bool:
    """Whether episodes of an environment can be played again: its seed and messages decide all.

    Those of `rlchat_envs` can; others if their ``metadata["deterministic"]`` says so.

    Raises:
        UserError: the id is unknown.
        EnvError: one had to be made to find out, and cannot be made.
    """
    if deterministic(entry_of(config.env)) or is_ours(config):
        return True
    with EnvPool(config) as pool:
        return deterministic(pool.first(MAKING).env)
