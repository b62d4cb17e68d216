"""Environments as the agent meets them: conversations in, messages out."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np

from rlchat.errors import UserError
from rlchat.rollout.hosting.answers import (
    FIVE,
    fit,
    read_following,
    read_opening,
    read_reset,
    read_reward,
    read_step,
    read_tools,
    told,
)
from rlchat.rollout.hosting.making import close_env, make_env, single_threaded, space_of
from rlchat.rollout.llm_users import MAX_NEW_TOKENS
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat.settings import expect
from rlchat_envs import (
    Case,
    Conversation,
    DialogueEnv,
    Message,
    Scenario,
    Tool,
    declare,
    declared,
)
from rlchat_envs.knowledge import Lookup
from rlchat_envs.wrappers.knowledge import KnowledgeWrapper
from rlchat_reward_models.stated_style import (
    Style,
    check_names,
    draw_style,
    state_style,
    style_parts,
)


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
    """Settings of an environment: its id, its users, its look-ups and the style it asks for."""

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
    stated_style: tuple[str, ...] = ()
    """Style that the system message asks for: brief or detailed, formal or friendly, plain or
    advanced; any draws it for each episode. None is stated if empty."""

    def __post_init__(self) -> None:
        """Refuse a message without tokens, and a style that is none.

        Raises:
            UserError: so it is.
        """
        expect(self, "user_max_new_tokens", self.user_max_new_tokens >= 1, "of at least 1")
        try:
            check_names(self.stated_style)
        except ValueError as error:
            raise UserError(str(error)) from error

    def style_of(self, seed: int) -> Style:
        """The style that the episode with this seed states; nothing else decides it."""
        if not self.stated_style:
            return ()
        return draw_style(self.stated_style, _style_rng(seed))

    def styled(self, conversation: Conversation, seed: int, split: str) -> Conversation:
        """A conversation of that episode, its style stated in the system message."""
        if not self.stated_style:
            return conversation
        rng = _style_rng(seed)
        style = draw_style(self.stated_style, rng)
        return state_style(conversation, style, split, rng)


def _style_rng(seed: int) -> np.random.Generator:
    return episode_seeds(seed, Purpose.STYLE)[1]


class TextEnv:
    """One episode at a time of a text environment, ours or any other.

    Ours show the conversation in ``info``; for any other it is built from observations and
    actions, its reward is the only score, and it has no split and no success. Functions that
    ``info["tools"]`` of ``reset`` declares are those of the conversation's first message. A stated
    style is added to the system message here, and each turn has a part for each of its axes:
    neither the environment nor its users know of it.
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
        self._seed = 0  # of the episode
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
        name, self._seed = self.config.env, seed
        with told(name, "reset", "(observation, info)"):
            answer: Any = self.env.reset(seed=seed)
            if self.ours:
                self.conversation = answer[1]["conversation"]
                self.privileged = answer[1]["privileged"]
            else:
                observation, info = read_reset(name, answer)
                self._known = read_opening(name, observation)
                self.conversation = declare(
                    self._known, read_tools(name, info, space_of(self.env, "action"))
                )
                self.privileged = {}
        self.conversation = self.config.styled(self.conversation, seed, self.split)
        return self.conversation

    def step(self, text: str) -> StepResult:
        """Give the agent's message to the environment; see `StepResult`.

        Raises:
            EnvError: the environment raised, or answered what cannot be used.
        """
        name = self.config.env
        style, before = self.config.style_of(self._seed), self.conversation
        with told(name, "step", FIVE):
            result = self._step_ours(text) if self.ours else self._step_foreign(text)
        if not style:
            return result
        parts = style_parts(style, before, text)
        return replace(result, parts={**result.parts, **parts})

    def _step_ours(self, text: str) -> StepResult:
        _, reward, terminated, truncated, info = self.env.step(text)
        read_reward(self.config.env, reward)
        before = len(self.conversation) + 1
        self.conversation = self.config.styled(info["conversation"], self._seed, self.split)
        self.privileged = info["privileged"]
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
    def tools(self) -> tuple[Tool, ...]:
        """The functions that the agent may call in this episode."""
        return declared(self.conversation)

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
