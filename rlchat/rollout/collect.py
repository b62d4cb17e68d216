"""Rollouts: the policy and the world talk, and what was said is written down as tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from rlchat.errors import UserError
from rlchat.inference.engine import EngineName, engine
from rlchat.models.chat_template import Rendering
from rlchat.models.generation_model import Speaker
from rlchat.rollout.environment import Outcome, World, Worlds, episode_seeds
from rlchat.rollout.workers import Desk
from rlchat.settings import expect
from rlchat_envs import Conversation


@dataclass(frozen=True)
class RolloutConfig:
    """How episodes are played."""

    rows: int = 64
    """Conversations in flight."""
    max_new_tokens: int = 48
    """Budget of one turn, in tokens."""
    max_tokens: int = 768
    """Budget of one episode, in tokens; it is truncated beyond."""
    cut_off_penalty: float = 0.2
    """Taken from the score of a turn that ran out of tokens."""
    workers: int = 0
    """Threads in which slow users (a server, say) answer side by side, each waited for alone; with
    0 they answer in turn, which keeps a run repeatable to the bit."""
    engine: EngineName = "own"
    """What speaks: own, or paged, transformers' continuous batching, which is made for GPUs."""

    def __post_init__(self) -> None:
        """Refuse what cannot be played."""
        for name in ("rows", "max_new_tokens"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")
        for name in ("cut_off_penalty", "workers"):
            expect(self, name, getattr(self, name) >= 0, "of at least 0")
        if self.max_tokens < 2 * self.max_new_tokens:
            raise UserError(
                f"expected max_tokens of at least two turns ({2 * self.max_new_tokens}); got "
                f"{self.max_tokens}"
            )


@dataclass
class Trajectory:
    """One episode with its tokens: flat and ragged.

    ``turns`` gives each action token's turn and -1 elsewhere; ``sampled_logprobs`` are nats under
    the sampler and 0 elsewhere; ``parts`` holds the named score parts of each turn; ``hidden`` what
    the world hid before each, and, if truncated, before the turn that would have followed.
    ``world`` is the world's own score, once another took the place of its ``parts``.
    ``costs`` names what was unsafe in each turn, ``knowledge`` counts what the desk looked up.
    ``starts`` (T - 1, D), if they were kept and the episode terminated, are the states of all
    tokens but the last after the layers that have nothing to train. ``spoken`` (A, 2, D), under the
    same conditions, are the states that its A action tokens were drawn from: the last layer's, and
    those two thirds up.
    """

    index: int
    seed: int
    ids: list[int]
    action_mask: list[bool] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    sampled_logprobs: list[float] = field(default_factory=list)
    parts: list[Mapping[str, float]] = field(default_factory=list)
    hidden: list[Mapping[str, Any]] = field(default_factory=list)
    conversation: Conversation = ()
    terminated: bool = False
    truncated: bool = False
    success: bool | None = None
    costs: list[Mapping[str, float]] = field(default_factory=list)
    knowledge: Mapping[str, int] = field(default_factory=dict)
    dropped: int = 0
    world: float | None = None
    starts: Tensor | None = None
    spoken: Tensor | None = None

    def __post_init__(self) -> None:
        """What is there at the start is observation."""
        self._observed(len(self.ids))

    @property
    def score(self) -> float:
        """Sum of all parts of all turns."""
        return sum(sum(p.values()) for p in self.parts)

    @property
    def cost(self) -> float:
        """Sum of all that was unsafe; never a part of the score."""
        return sum(sum(c.values()) for c in self.costs)

    def observe(self, ids: list[int]) -> None:
        """Append tokens that the policy did not sample."""
        self.ids += ids
        self._observed(len(ids))

    def act(self, ids: list[int], logprobs: list[float]) -> None:
        """Append a turn's sampled tokens."""
        self.ids += ids
        self.action_mask += [True] * len(ids)
        self.turns += [len(self.parts)] * len(ids)
        self.sampled_logprobs += logprobs

    def _observed(self, count: int) -> None:
        self.action_mask += [False] * count
        self.turns += [-1] * count
        self.sampled_logprobs += [0.0] * count


def collect(
    speaker: Speaker,
    rendering: Rendering,
    worlds: Worlds,
    episodes: Iterable[tuple[int, tuple[int, ...], tuple[int, ...]]],
    config: RolloutConfig,
    temperature: float = 1.0,
    on_episode: Callable[[Trajectory], None] | None = None,
    kept_layers: int = 0,
    keep_spoken: bool = False,
) -> list[Trajectory]:
    """Play episodes, many at a time, each at its own pace.

    A row whose episode has ended takes the next one at once; all that were started are finished.
    Who waits for the world waits alone.

    Args:
        speaker: the model that speaks.
        rendering: its tokens.
        worlds: a pool to play in.
        episodes: (index, keys of the world's seed, keys of the sampler's) of each.
        config: budgets.
        temperature: 1 in training, or logprobs would belong to another distribution.
        on_episode: told of each as it ends.
        kept_layers: layers whose states trajectories keep, for a training that starts after them.
        keep_spoken: whether trajectories keep the states that tokens were drawn from.

    Returns:
        The trajectories in the order of their indices.
    """
    waiting = deque(episodes)
    rows = min(config.rows, len(waiting))
    if rows == 0:
        return []
    slots, end = config.max_tokens + config.max_new_tokens, rendering.end_of_turn
    playing: dict[int, tuple[Trajectory, np.random.Generator]] = {}
    done: list[Trajectory] = []
    with (
        Desk[int, Conversation | Outcome](min(config.workers, rows)) as desk,
        engine(
            config.engine, speaker, rows, slots, end, temperature, kept_layers, keep_spoken
        ) as decoder,
    ):

        def begin(row: int) -> None:
            if waiting:
                index, world_keys, noise_keys = waiting.popleft()
                seed, _ = episode_seeds(*world_keys)
                playing[row] = Trajectory(index, seed, []), episode_seeds(*noise_keys)[1]
                decoder.forget(row)
                desk.ask(row, worlds[row].reset, seed)

        for row in range(rows):
            begin(row)
        while playing:
            for row, answer in desk.answers(block=not decoder.busy):
                trajectory, noise = playing[row]
                if isinstance(answer, Outcome):
                    _hear(trajectory, worlds[row], answer, rendering, config)
                else:  # of an opening that leaves no room for the agent, the end counts
                    opening = rendering.opening(answer)
                    trajectory.observe(opening[-(config.max_tokens - config.max_new_tokens) :])
                if not (trajectory.terminated or trajectory.truncated):
                    prompt = trajectory.ids[decoder.length(row) :]
                    decoder.submit(row, prompt, noise.random, config.max_new_tokens)
                    continue
                if kept_layers and trajectory.terminated:
                    trajectory.starts = decoder.starts(row)
                if keep_spoken and trajectory.terminated:
                    trajectory.spoken = decoder.spoken(row)
                del playing[row]
                done.append(trajectory)
                if on_episode is not None:
                    on_episode(trajectory)
                begin(row)
            for row, said in decoder.step().items() if decoder.busy else ():
                trajectory, _ = playing[row]
                trajectory.hidden.append(worlds[row].hidden)
                trajectory.act(said.ids, said.logprobs)
                desk.ask(row, worlds[row].step, rendering.text(said.ids))
    return sorted(done, key=lambda t: t.index)


def _hear(
    trajectory: Trajectory,
    world: World,
    outcome: Outcome,
    rendering: Rendering,
    config: RolloutConfig,
) -> None:
    """Write down how the world answered the turn just sampled."""
    finished = trajectory.ids[-1] == rendering.end_of_turn
    parts = dict(outcome.parts)
    if not finished:
        parts["cut_off"] = min(parts.get("cut_off", 0.0), -config.cut_off_penalty)
    trajectory.parts.append(parts)
    trajectory.conversation = world.conversation
    trajectory.success = outcome.success
    trajectory.costs.append(dict(outcome.costs))
    trajectory.knowledge = outcome.knowledge
    trajectory.dropped += outcome.dropped
    trajectory.terminated = outcome.terminated
    if outcome.terminated:
        return
    following = rendering.after(outcome.messages, cut=not finished)
    length = len(trajectory.ids) + len(following)
    trajectory.truncated = outcome.truncated or length > config.max_tokens - config.max_new_tokens
    # A truncated episode keeps the prompt of the turn that would have followed: its value is
    # read there.
    trajectory.observe(following[: config.max_tokens + config.max_new_tokens - len(trajectory.ids)])
    if trajectory.truncated:
        trajectory.hidden.append(world.hidden)
