"""Rollouts: a policy talks to environments, and what was said is written down as tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from rlchat.inference.engine import Engine, engine
from rlchat.inference.rows import Sampled
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.generation_model import GenerationModel
from rlchat.models.templates.context import Context
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
        UserError: a chat template without thoughts, or no room for them.
    """
    waiting = deque(episodes)
    rows = min(config.rows, len(waiting))
    if rows == 0:
        return []
    template = template.thinking(config.thinking)
    context = Context(template, config.max_new_tokens)
    context.check_room(config.max_tokens)
    slots = config.max_tokens + context.longest_turn
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
    playing: dict[int, tuple[Trajectory, Context, np.random.Generator]] = field(
        default_factory=dict
    )
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
            context = Context(self.template, self.config.max_new_tokens)
            _, noise = episode_seeds(*noise_keys)
            self.playing[row] = Trajectory(index, seed, []), context, noise
            self.decoder.forget(row)
            self.workers.ask(row, self.pool.begin, row, index, seed)

    def _go_on(self, row: int, answer: Conversation | StepResult) -> Trajectory | None:
        """Write down what a row's environment answered, and have the agent's next turn sampled.

        Returns:
            The row's trajectory, if its episode has ended.
        """
        trajectory, context, _ = self.playing[row]
        decoder, config = self.decoder, self.config
        if isinstance(answer, StepResult):
            known = _hear(trajectory, context, self.pool[row], answer, self.template, config)
            if known < decoder.length(row):
                decoder.rewind(row, known)
        else:
            context.open(answer, config.max_tokens - context.longest_turn)
            trajectory.observe(context.ids)
        if not (trajectory.terminated or trajectory.truncated):
            self._sample(row, context.first_tokens)
            return None
        # Of thoughts that were left out no states are kept.
        whole = trajectory.terminated and self.template.thoughts is None
        if self.kept.cached and whole:
            trajectory.cached_states = decoder.cached_states(row)
        if self.kept.sampled and whole:
            trajectory.sampled_states = decoder.sampled_states(row)
        del self.playing[row]
        return trajectory

    def _sample(self, row: int, most: int) -> None:
        """Have the agent go on in a row, by so many tokens."""
        _, context, noise = self.playing[row]
        self.decoder.submit(row, context.ids[self.decoder.length(row) :], noise.random, most)

    def _act(self, row: int, said: Sampled) -> None:
        """Write down what was sampled; if the turn has ended, tell the row's environment."""
        trajectory, context, _ = self.playing[row]
        trajectory.act(said.ids, said.logprobs)
        context.add(said.ids)
        if (more := context.goes_on()) is not None:
            written, most = more
            context.add(written)
            trajectory.observe(written)
            self._sample(row, most)
            return
        env, turn = self.pool[row], context.said
        trajectory.privileged.append(env.privileged)
        if self.template.thoughts is not None:
            trajectory.thoughts.append(self.template.thought(turn))
        self.workers.ask(row, env.step, self.template.text(turn, env.tools))


def _hear(
    trajectory: Trajectory,
    context: Context,
    env: TextEnv,
    outcome: StepResult,
    template: ChatTemplate,
    config: RolloutConfig,
) -> int:
    """Write down how the environment answered the turn just sampled.

    Returns:
        How many of the tokens before are still in the context.
    """
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
    before = len(context.ids)
    if outcome.terminated:
        return before
    known = context.hear(outcome.messages, cut=not finished)
    trajectory.truncated = outcome.truncated
    if len(context.ids) > config.max_tokens - context.longest_turn and not outcome.truncated:
        trajectory.truncated, trajectory.stopped_by = True, Ending.TOKEN_LIMIT
    # A truncated episode keeps the prompt of the turn that would have followed: its value is
    # read there.
    seen = context.ids[: config.max_tokens + context.longest_turn]
    if known < before:
        trajectory.begin(seen)
    else:
        trajectory.observe(seen[before:])
    if trajectory.truncated:
        trajectory.privileged.append(env.privileged)
    return known
