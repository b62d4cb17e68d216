"""Several environments in one run: an episode's seed decides which one it is played in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import numpy as np

from rlchat.errors import UserError
from rlchat.rollout.env_pool import EnvPool, MakeEnv, is_ours
from rlchat.rollout.environment import EnvConfig, StepResult, TextEnv
from rlchat.rollout.seeding import Purpose
from rlchat.settings import names
from rlchat_envs import Conversation


@dataclass(frozen=True)
class Mixture:
    """Environments of a run, and how often each is played.

    Attributes:
        envs: settings of each; one alone is what most runs have.
        weights: how often each is played, in proportion to the others.
    """

    envs: tuple[EnvConfig, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse weights that are none, and an environment that is named twice.

        Raises:
            UserError: so it is.
        """
        if len(set(self.names)) < len(self.envs):
            raise UserError(
                f"expected different environments; got --env {','.join(e.env for e in self.envs)}; "
                "name each once, and say with --env-weights how often it is played"
            )
        sound = all(0 < weight < float("inf") for weight in self.weights)
        if len(self.weights) != len(self.envs) or not sound:
            raise UserError(
                f"expected a number above 0 for each of {len(self.envs)} environments in "
                f"--env-weights; got {','.join(f'{w:g}' for w in self.weights)}; leave it out to "
                "play all equally often"
            )

    @classmethod
    def of(cls, envs: Sequence[EnvConfig], weights: str = "") -> Mixture:
        """Environments with weights as the command line has them: ``"2,1"``, or equal ones.

        Raises:
            UserError: the weights are not one number above 0 for each.
        """
        try:
            found = tuple(float(weight) for weight in names(weights))
        except ValueError as error:
            raise UserError(
                f"expected numbers in --env-weights, as in 2,1; got {weights!r}"
            ) from error
        return cls(tuple(envs), found or (1.0,) * len(envs))

    @property
    def several(self) -> bool:
        """Whether there is more than one."""
        return len(self.envs) > 1

    @property
    def names(self) -> tuple[str, ...]:
        """The environments' Gymnasium ids: what metrics and transcripts call them by."""
        return tuple(config.env.rpartition(":")[2] for config in self.envs)

    @property
    def ours(self) -> Mixture | None:
        """The environments of `rlchat_envs` among them; None if there are none.

        Raises:
            UserError: an id is unknown.
        """
        kept = [pair for pair in zip(self.envs, self.weights, strict=True) if is_ours(pair[0])]
        envs, weights = tuple(env for env, _ in kept), tuple(weight for _, weight in kept)
        return Mixture(envs, weights) if kept else None

    def choose(self, seed: int) -> int:
        """Which environment the episode with this seed is played in; nothing else decides it."""
        if not self.several:
            return 0
        drawn = int(np.random.SeedSequence((seed, Purpose.CHOOSE)).generate_state(1)[0]) / 2**32
        *bounds, total = accumulate(self.weights)
        return bisect_right(bounds, drawn * total)

    def pool(self, split: str = "train", kind: MakeEnv = TextEnv) -> EnvPool:
        """A pool whose rows play any of them; see `EnvPool`."""
        if not self.several:
            return EnvPool(self.envs[0], split, kind)
        return MixedPool(self.envs[0], split, kind, mixture=self)


class MixedEnv(TextEnv):
    """One episode at a time, in the environment that its seed decides on."""

    def __init__(self, mixture: Mixture, split: str, kind: MakeEnv = TextEnv):
        """Make the first environment; the others are made when first needed."""
        self.mixture, self.split, self._kind = mixture, split, kind
        self._made_ones: dict[int, TextEnv] = {}
        self._turn_to(0)

    def close(self) -> None:
        """Close all that were made."""
        for made in self._made_ones.values():
            made.close()

    def reset(self, seed: int) -> Conversation:
        """Start an episode in the environment that the seed decides on; see `TextEnv.reset`."""
        self._turn_to(self.mixture.choose(seed))
        self._now.reset(seed)
        self._show()
        return self.conversation

    def step(self, text: str) -> StepResult:
        """Give the agent's message to the environment; see `TextEnv.step`."""
        result = self._now.step(text)
        self._show()
        return result

    def _turn_to(self, number: int) -> None:
        if number not in self._made_ones:
            self._made_ones[number] = self._kind(self.mixture.envs[number], self.split)
        self._now, self.label = self._made_ones[number], self.mixture.names[number]
        self._show()

    def _show(self) -> None:
        """Be for all to see what the environment of the episode is."""
        now = self._now
        self.config, self.env, self.ours = now.config, now.env, now.ours
        self.conversation, self.privileged = now.conversation, now.privileged


@dataclass
class MixedPool(EnvPool):
    """Environments of several kinds: each row has one of each kind that it has needed so far."""

    mixture: Mixture = field(kw_only=True)

    def make(self) -> MixedEnv:
        """Make another row's environment."""
        return MixedEnv(self.mixture, self.split, self.kind)

    @cached_property
    def ours(self) -> bool:
        """Whether all are environments of `rlchat_envs`."""
        return all(map(is_ours, self.mixture.envs))

    def needs_main_thread(self, timeout: float) -> bool:
        """Whether one of them is to live in the main thread; see `EnvPool.needs_main_thread`."""
        if self._single_threaded is None:
            self._single_threaded = False
            for config in self.mixture.envs:
                with EnvPool(config, self.split, self.kind) as pool:
                    if not pool.ours and pool.needs_main_thread(timeout):
                        self._single_threaded = True
        return self._single_threaded
