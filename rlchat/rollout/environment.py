"""Environments as the agent meets them: conversations in, messages out."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

import rlchat_envs
from rlchat.errors import UserError
from rlchat.rollout.answers import (
    FIVE,
    read_following,
    read_opening,
    read_reset,
    read_reward,
    read_step,
    told,
)
from rlchat.rollout.knowledge import make_lookup
from rlchat.rollout.llm_users import make_writer
from rlchat_envs import Case, Conversation, DialogueEnv, Maker, Message, Scenario, Scorer
from rlchat_envs.knowledge import Lookup
from rlchat_envs.wrappers.knowledge import KnowledgeWrapper
from rlchat_reward_models import RuleScorer

WRITTEN = ("llm:", "llm-person:")  # how names of users begin who are spoken by a language model


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
        self.env = make_env(config, split)
        self.ours = isinstance(self.env.unwrapped, DialogueEnv)
        self.conversation: Conversation = ()
        self.privileged: Mapping[str, Any] = {}
        self._known: Conversation = ()  # as another's environment knows it, without lost letters

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
        return self.conversation

    def step(self, text: str) -> StepResult:
        """Give the agent's message to the environment; see `StepResult`.

        Raises:
            EnvError: the environment raised, or answered what cannot be used.
        """
        name = self.config.env
        action, dropped = (text, 0) if self.ours else _fit(text, _space(self.env, "action"))
        with told(name, "step", FIVE):
            answer: Any = self.env.step(action)
        if not self.ours:
            observation, reward, terminated, truncated, _ = read_step(name, answer)
            known = (*self._known, Message("assistant", action))
            following = read_following(name, observation, known)
            self._known = known + following
            self.conversation += (Message("assistant", text), *following)
            parts = {"reward": reward}
            return StepResult(following, parts, terminated, truncated, None, dropped=dropped)
        _, reward, terminated, truncated, info = answer
        read_reward(name, reward)
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

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        """The look-ups whose findings the agent gets."""
        return self.env.lookups if isinstance(self.env, KnowledgeWrapper) else ()

    @property
    def case(self) -> Case | None:
        """The episode's state, in which a person can take the user's place; None for others'."""
        env = self.env.unwrapped
        return env.case if isinstance(env, DialogueEnv) else None

    @property
    def scenario(self) -> Scenario | None:
        """The domain of an environment of `rlchat_envs`; None for others'."""
        env = self.env.unwrapped
        return env.scenario if isinstance(env, DialogueEnv) else None

    @property
    def scorer(self) -> Scorer | None:
        """The scorer of how things are said; None where there is none."""
        env = self.env.unwrapped
        return env.scorer if isinstance(env, DialogueEnv) else None

    @property
    def optimum(self) -> float | None:
        """Turns that the best strategy takes on average, where somebody has computed it."""
        return None if self.scenario is None else self.scenario.optimum


@dataclass
class EnvPool:
    """Environments of one kind, made when first needed: one for each conversation in flight."""

    config: EnvConfig
    split: str = "train"
    pool: list[TextEnv] = field(default_factory=list)

    def __getitem__(self, index: int) -> TextEnv:
        """The environment number ``index``."""
        while len(self.pool) <= index:
            self.pool.append(self.make())
        return self.pool[index]

    def make(self) -> TextEnv:
        """Make another environment of the kind."""
        return TextEnv(self.config, self.split)

    def begin(self, row: int, index: int, seed: int) -> Conversation:
        """Begin episode number ``index`` in environment number ``row``; see `TextEnv.reset`."""
        return self[row].reset(seed)

    @property
    def ours(self) -> bool:
        """Whether these are environments of `rlchat_envs`; none is made to find out."""
        return self.pool[0].ours if self.pool else is_ours(self.config)

    def check_workers(self, workers: int) -> None:
        """Refuse threads for environments that draw from random states of the whole process.

        Raises:
            UserError: there are to be threads, and the environment says that it bears one only.
        """
        if workers and self[0].env.metadata.get("single_threaded"):
            raise UserError(
                f"expected --rollout.workers 0 with {self.config.env}, whose episodes draw from "
                f"random states that all threads share; got {workers}; leave it out"
            )


def is_ours(config: EnvConfig) -> bool:
    """Whether an environment is one of `rlchat_envs`: what is registered says so.

    Only one that is registered by a function of somebody else's has to be made.

    Raises:
        UserError: the id is unknown.
    """
    declared = find_spec(config.env).entry_point
    entry: object = load_env_creator(declared) if isinstance(declared, str) else declared
    if isinstance(entry, type):
        return issubclass(entry, DialogueEnv)
    return isinstance(entry, Maker) or TextEnv(config).ours


def make_env(config: EnvConfig, split: str) -> gym.Env[str, str]:
    """Make a Gymnasium environment that exchanges text.

    Raises:
        UserError: the id is unknown, or its spaces are not text.
    """
    name, spec = config.env, find_spec(config.env)
    # Models that write for users come first: an error there is not about the environment.
    spoken = [name for name in config.users if name.startswith(WRITTEN)]
    writers = {name: make_writer(name.partition(":")[2]) for name in spoken}
    try:
        if isinstance(spec.entry_point, Maker):
            env = gym.make(
                spec.id,
                split=split,
                users=config.users,
                writers=writers,
                scorer=RuleScorer(),
                gamma=config.gamma,
                disable_env_checker=True,
            )
            if config.knowledge:
                env = KnowledgeWrapper(env, *(make_lookup(k) for k in config.knowledge))
        else:
            env = gym.make(spec.id, disable_env_checker=True)
    except (ValueError, TypeError, gym.error.Error) as error:
        raise UserError(f"{name} cannot be made: {error}") from error
    for kind in ("observation", "action"):
        space = _space(env, kind)
        if not isinstance(space, gym.spaces.Text | rlchat_envs.Utterance) and _is_numeric(space):
            raise UserError(
                f"expected an environment with text {kind}s; {name} has {space}; wrap it so that "
                "it speaks strings"
            )
    return env


def find_spec(name: str) -> EnvSpec:
    """Find a registered environment; a module before the colon is imported first.

    Raises:
        UserError: nothing is.
    """
    if ":" in name:
        module = name.partition(":")[0]
        if not all(part.isidentifier() for part in module.split(".")):
            raise UserError(f"expected module:Id, as in my_module:MyEnv-v0; got {name!r}")
        _import_here(module)
    try:
        return gym.spec(name.partition(":")[2] or name)
    except gym.error.Error as error:
        known = sorted(i for i in gym.registry if i.startswith("rlchat/"))
        near = get_close_matches(name, [*known, *gym.registry], n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(
            f"expected an environment such as {', '.join(known)}, or module:Id; got {name!r}{hint}"
        ) from error


def _import_here(module: str) -> None:
    """Import a module, from the working folder too, as under ``python -m``."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"expected an importable module before the colon; {module!r} is not: {error}; run "
            "from the folder that holds it"
        ) from error


def _space(env: gym.Env[str, str], kind: str) -> gym.Space[Any] | None:
    """A space that the environment declares; not all do."""
    return getattr(env, f"{kind}_space", None)


def _is_numeric(space: gym.Space[Any] | None) -> bool:
    return isinstance(
        space,
        gym.spaces.Box | gym.spaces.Discrete | gym.spaces.MultiDiscrete | gym.spaces.MultiBinary,
    )


def _fit(text: str, space: gym.Space[Any] | None) -> tuple[str, int]:
    """Make a text a member of a `spaces.Text`; count the characters that had to go."""
    if not isinstance(space, gym.spaces.Text):
        return text, 0
    kept = "".join(c for c in text if c in space.character_set)[: space.max_length]
    filler = " " if " " in space.character_set else sorted(space.character_set)[0]
    return kept.ljust(space.min_length, filler), len(text) - len(kept)
