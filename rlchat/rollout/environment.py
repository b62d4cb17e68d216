"""Environments as the agent meets them: conversations in, messages out."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import gymnasium as gym

from rlchat.errors import UserError
from rlchat.rollout.answers import (
    FIVE,
    EnvError,
    fit,
    read_following,
    read_opening,
    read_reset,
    read_reward,
    read_step,
    told,
)
from rlchat.rollout.llm_users import MAX_NEW_TOKENS
from rlchat.rollout.making import close_env, entry_of, make_env, single_threaded, space_of
from rlchat.rollout.workers import EnvThread, WorkerPool, close_all, drop
from rlchat.settings import expect
from rlchat_envs import Case, Conversation, DialogueEnv, Maker, Message, Scenario
from rlchat_envs.knowledge import Lookup
from rlchat_envs.wrappers.knowledge import KnowledgeWrapper

MAKING = 120.0  # seconds that one may take to be made, only to learn whose it is


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of one assistant message: what follows, its score, and whether it was the last."""

    messages: Conversation
    parts: Mapping[str, float]
    terminated: bool
    truncated: bool
    success: bool | None  # None where the environment tells no success
    costs: Mapping[str, float] = field(default_factory=dict)  # what was unsafe, by name
    knowledge: Mapping[str, int] = field(default_factory=dict)  # look-ups so far, hits among them
    dropped: int = 0  # characters that the environment's action space does not have


@dataclass(frozen=True)
class EnvConfig:
    """Settings of an environment: its id, its users and its look-ups."""

    env: str = "rlchat/Support-v0"
    """A Gymnasium id, or module:Id; text in, text out."""
    users: tuple[str, ...] = ()
    """Families of users; the usual ones if none is named."""
    gamma: float = 1.0
    """Discount per turn that progress is shaped with; the learner's own, or it would not cancel."""
    knowledge: tuple[str, ...] = ()
    """Sources that are looked up for the agent: bm25, dense, hybrid or graph, each with or without
    :PLACE."""
    user_max_new_tokens: int = MAX_NEW_TOKENS
    """Most tokens of one message of a user that a language model speaks for, thoughts included."""

    def __post_init__(self) -> None:
        """Refuse a message without tokens."""
        expect(self, "user_max_new_tokens", self.user_max_new_tokens >= 1, "of at least 1")


class TextEnv:
    """One episode at a time of a text environment, ours or any other.

    Ours show the conversation in ``info``; for any other it is built from observations and
    actions, its reward is the only score, and it has no split and no success.
    """

    def __init__(self, config: EnvConfig, split: str = "train"):
        """Make the environment that the settings name.

        Raises:
            UserError: no such environment, split or user, or one that does not exchange text.
        """
        self.config, self.split = config, split
        self.env = self._made()
        self.ours = isinstance(self.env.unwrapped, DialogueEnv)
        self.label = ""  # its name among several of a run, which tells episodes of them apart
        self.conversation: Conversation = ()
        self.privileged: Mapping[str, Any] = {}
        self._known: Conversation = ()  # as another's environment knows it, without lost letters
        # Whoever forgets to close it has it closed when nothing refers to it, or at the end; there
        # only in the main thread, as no other is waited for.
        self._closing = weakref.finalize(self, close_env, self.env)
        self._closing.atexit = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> TextEnv:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _made(self) -> gym.Env[str, str]:
        return make_env(self.config, self.split)

    def close(self) -> None:
        """Close the environment, once; what it raises at that costs nobody anything."""
        self._closing()

    def reset(self, seed: int) -> Conversation:
        """Start an episode; give the messages before the agent's first.

        Raises:
            EnvError: the environment raised, or gave no text.
        """
        name = self.config.env
        with told(name, "reset", "(observation, info)"):
            answer: Any = self.env.reset(seed=seed)
            if self.ours:
                self.conversation = answer[1]["conversation"]
                self.privileged = answer[1]["privileged"]
            else:
                self.conversation = self._known = read_opening(name, read_reset(name, answer))
                self.privileged = {}
        return self.conversation

    def step(self, text: str) -> StepResult:
        """Give the agent's message to the environment; see `StepResult`.

        Raises:
            EnvError: the environment raised, or answered what cannot be used.
        """
        name = self.config.env
        with told(name, "step", FIVE):
            return self._step_ours(text) if self.ours else self._step_foreign(text)

    def _step_ours(self, text: str) -> StepResult:
        _, reward, terminated, truncated, info = self.env.step(text)
        read_reward(self.config.env, reward)
        before = len(self.conversation) + 1
        self.conversation, self.privileged = info["conversation"], info["privileged"]
        return StepResult(
            self.conversation[before:],
            dict(info["parts"]),
            bool(terminated),
            bool(truncated),
            bool(info["success"]),
            info["costs"],
            info.get("knowledge", {}),
        )

    def _step_foreign(self, text: str) -> StepResult:
        name = self.config.env
        action, dropped = fit(text, space_of(self.env, "action"))
        observation, reward, terminated, truncated, _ = read_step(name, self.env.step(action))
        known = (*self._known, Message("assistant", action))
        following = read_following(name, observation, known, terminated or truncated)
        self._known = known + following
        self.conversation += (Message("assistant", text), *following)
        parts = {"reward": reward}
        return StepResult(following, parts, terminated, truncated, None, dropped=dropped)

    @property
    def single_threaded(self) -> bool:
        """Whether it says that it bears the main thread only."""
        return single_threaded(self.env)

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        """The look-ups whose findings the agent gets."""
        return self.env.lookups if isinstance(self.env, KnowledgeWrapper) else ()

    @property
    def dialogue(self) -> DialogueEnv | None:
        """The environment itself, in which a person can take the user's place; None for others'."""
        env = self.env.unwrapped
        return env if isinstance(env, DialogueEnv) else None

    @property
    def case(self) -> Case | None:
        """The episode's state; None for others'."""
        return None if self.dialogue is None else self.dialogue.case

    @property
    def scenario(self) -> Scenario | None:
        """The domain of an environment of `rlchat_envs`; None for others'."""
        return None if self.dialogue is None else self.dialogue.scenario

    @property
    def optimum(self) -> float | None:
        """Turns that the best strategy takes on average, where somebody has computed it."""
        return None if self.scenario is None else self.scenario.optimum


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
        kind: makes one; `rlchat.rollout.isolated.kind_of` makes them in processes of their own.
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
