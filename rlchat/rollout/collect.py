"""Rollouts: a policy talks to environments, and what was said is written down as tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from rlchat.inference.decoder import Sampled
from rlchat.inference.engine import Engine, engine
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.generation_model import GenerationModel
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import StepResult, TextEnv
from rlchat.rollout.hosting.answers import EnvError
from rlchat.rollout.hosting.workers import WorkerPool
from rlchat.rollout.seeding import episode_seeds
from rlchat.rollout.trajectory import Ending, Trajectory
from rlchat_envs import Conversation

Episode = tuple[int, tuple[int, ...], tuple[int, ...]]
"""An episode's index, the keys of its environment's seed, and those of its sampler's."""
Answer = Conversation | StepResult
"""What an environment answers: how the conversation opens, or what follows a message."""


@dataclass
class Failures:
    """Episodes that failed in their environment: how many were begun again, and who failed twice.

    Attributes:
        allowed: how many may fail twice and be left out; one more ends the rollout.
    """

    allowed: float = 0.0
    retried: int = 0
    left_out: list[EnvError] = field(default_factory=list)

    def leave_out(self, error: EnvError) -> None:
        """Count an episode that failed twice.

        Raises:
            EnvError: its error, if it is one too many.
        """
        self.left_out.append(error)
        if len(self.left_out) > self.allowed:
            raise error


def collect(
    generation: GenerationModel,
    template: ChatTemplate,
    pool: EnvPool,
    episodes: Iterable[Episode],
    config: RolloutConfig,
    temperature: float = 1.0,
    on_episode: Callable[[Trajectory], None] | None = None,
    kept_layers: int = 0,
    keep_sampled_states: bool = False,
    failures: Failures | None = None,
) -> list[Trajectory]:
    """Play episodes, many at a time, each at its own pace.

    A row whose episode has ended takes the next one at once; all that were started are finished.
    A row that waits for its environment keeps no other row waiting. An episode that fails there is
    begun again once, in a fresh environment; another failure ends the rollout or is left out.

    Args:
        generation: the model that speaks.
        template: its tokens.
        pool: a pool to play in.
        episodes: (index, keys of the environment's seed, keys of the sampler's) of each.
        config: budgets.
        temperature: 1 in training, or logprobs would belong to another distribution.
        on_episode: told of each as it ends.
        kept_layers: layers whose states trajectories keep, for a training that starts after them.
        keep_sampled_states: whether trajectories keep the states that tokens were drawn from.
        failures: counts episodes that fail, and says how many may be left out: none if None.

    Returns:
        The trajectories in the order of their indices.

    Raises:
        EnvError: episodes failed twice, more than may be left out.
    """
    waiting = deque(episodes)
    rows = min(config.rows, len(waiting))
    if rows == 0:
        return []
    slots = config.max_tokens + config.max_new_tokens
    with (
        pool.worker_pool(config.workers, config.timeout) as workers,
        engine(
            config.engine,
            generation,
            rows,
            slots,
            template.stop_ids,
            temperature,
            kept_layers,
            keep_sampled_states,
        ) as decoder,
    ):
        kept = Kept(kept_layers > 0, keep_sampled_states)
        failures = failures or Failures()
        rollout = _Rollout(
            template, pool, config, decoder, workers, waiting, kept, on_episode, failures
        )
        return sorted(rollout.play(rows), key=lambda t: t.index)


@dataclass(frozen=True, slots=True)
class Kept:
    """Which of the decoder's states a trajectory that terminated takes with it."""

    cached: bool
    sampled: bool


@dataclass
class _Rollout:
    """Rows of conversations in progress, each with its trajectory and the noise of its sampler."""

    template: ChatTemplate
    pool: EnvPool
    config: RolloutConfig
    decoder: Engine
    workers: WorkerPool[int, Answer]
    waiting: deque[Episode]
    kept: Kept
    on_episode: Callable[[Trajectory], None] | None
    failures: Failures
    playing: dict[int, tuple[Trajectory, np.random.Generator]] = field(default_factory=dict)
    begun: dict[int, Episode] = field(default_factory=dict)  # by row, as the others are
    again: set[int] = field(default_factory=set)  # indices of episodes that have failed once

    def play(self, rows: int) -> list[Trajectory]:
        """Play all that waits; give the trajectories in the order in which they ended."""
        done: list[Trajectory] = []
        for row in range(rows):
            self._begin(row)
        while self.playing:
            for row, answer in self.workers.answers(block=not self.decoder.busy):
                if isinstance(answer, EnvError):
                    self._fail(row, answer)
                elif (ended := self._go_on(row, answer)) is not None:
                    done.append(ended)
                    if self.on_episode is not None:
                        self.on_episode(ended)
                    self._begin(row)
            for row, said in self.decoder.step().items() if self.decoder.busy else ():
                self._act(row, said)
        self.template.cuts.warn()
        return done

    def _fail(self, row: int, error: EnvError) -> None:
        """Begin a row's episode again in a fresh environment, or the next one if it has been."""
        del self.playing[row]
        self.pool.drop(row)
        episode = self.begun[row]
        if episode[0] in self.again:
            self.failures.leave_out(error)
        else:
            self.again.add(episode[0])
            self.failures.retried += 1
            self.waiting.appendleft(episode)
        self._begin(row)

    def _begin(self, row: int) -> None:
        """Begin the next episode in a row, if one waits."""
        if self.waiting:
            self.begun[row] = index, env_keys, noise_keys = self.waiting.popleft()
            seed, _ = episode_seeds(*env_keys)
            self.playing[row] = Trajectory(index, seed, []), episode_seeds(*noise_keys)[1]
            self.decoder.forget(row)
            self.workers.ask(row, self.pool.begin, row, index, seed)

    def _go_on(self, row: int, answer: Conversation | StepResult) -> Trajectory | None:
        """Write down what a row's environment answered, and have the agent's next turn sampled.

        Returns:
            The row's trajectory, if its episode has ended.
        """
        trajectory, noise = self.playing[row]
        most, decoder = self.config.max_new_tokens, self.decoder
        if isinstance(answer, StepResult):
            _hear(trajectory, self.pool[row], answer, self.template, self.config)
        else:  # of an opening that leaves no room for the agent, the end counts
            opening = self.template.opening(answer)
            trajectory.observe(opening[-(self.config.max_tokens - most) :])
        if not (trajectory.terminated or trajectory.truncated):
            decoder.submit(row, trajectory.ids[decoder.length(row) :], noise.random, most)
            return None
        if self.kept.cached and trajectory.terminated:
            trajectory.cached_states = decoder.cached_states(row)
        if self.kept.sampled and trajectory.terminated:
            trajectory.sampled_states = decoder.sampled_states(row)
        del self.playing[row]
        return trajectory

    def _act(self, row: int, said: Sampled) -> None:
        """Write down a turn that the agent has finished, and tell the row's environment."""
        trajectory, _ = self.playing[row]
        trajectory.privileged.append(self.pool[row].privileged)
        trajectory.act(said.ids, said.logprobs)
        env = self.pool[row]
        self.workers.ask(row, env.step, self.template.text(said.ids, env.tools))


def _hear(
    trajectory: Trajectory,
    env: TextEnv,
    outcome: StepResult,
    template: ChatTemplate,
    config: RolloutConfig,
) -> None:
    """Write down how the environment answered the turn just sampled."""
    finished = trajectory.ids[-1] in template.stop_ids
    parts = dict(outcome.parts)
    if not finished:
        parts["cut_off"] = min(parts.get("cut_off", 0.0), -config.cut_off_penalty)
    trajectory.parts.append(parts)
    trajectory.conversation, trajectory.env = env.conversation, env.label
    trajectory.success = outcome.success
    trajectory.costs.append(dict(outcome.costs))
    trajectory.knowledge = outcome.knowledge
    trajectory.dropped += outcome.dropped
    trajectory.terminated = outcome.terminated
    if outcome.terminated:
        return
    said = env.conversation[-1 - len(outcome.messages)].content if env.tools else ""
    following = template.after(outcome.messages, cut=not finished, said=said)
    length = len(trajectory.ids) + len(following)
    trajectory.truncated = outcome.truncated
    if length > config.max_tokens - config.max_new_tokens and not outcome.truncated:
        trajectory.truncated, trajectory.stopped_by = True, Ending.TOKEN_LIMIT
    # A truncated episode keeps the prompt of the turn that would have followed: its value is
    # read there.
    trajectory.observe(following[: config.max_tokens + config.max_new_tokens - len(trajectory.ids)])
    if trajectory.truncated:
        trajectory.privileged.append(env.privileged)
