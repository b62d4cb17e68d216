"""Rollouts: the policy and the world talk, and what was said is written down as tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import numpy as np

from rlchat.inference.engine import engine
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.generation_model import GenerationModel
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvPool, StepResult, TextEnv
from rlchat.rollout.seeding import episode_seeds
from rlchat.rollout.trajectory import Ending, Trajectory
from rlchat.rollout.workers import WorkerPool
from rlchat_envs import Conversation


def collect(
    generation: GenerationModel,
    template: ChatTemplate,
    pool: EnvPool,
    episodes: Iterable[tuple[int, tuple[int, ...], tuple[int, ...]]],
    config: RolloutConfig,
    temperature: float = 1.0,
    on_episode: Callable[[Trajectory], None] | None = None,
    kept_layers: int = 0,
    keep_sampled_states: bool = False,
) -> list[Trajectory]:
    """Play episodes, many at a time, each at its own pace.

    A row whose episode has ended takes the next one at once; all that were started are finished.
    Who waits for the world waits alone.

    Args:
        generation: the model that speaks.
        template: its tokens.
        pool: a pool to play in.
        episodes: (index, keys of the world's seed, keys of the sampler's) of each.
        config: budgets.
        temperature: 1 in training, or logprobs would belong to another distribution.
        on_episode: told of each as it ends.
        kept_layers: layers whose states trajectories keep, for a training that starts after them.
        keep_sampled_states: whether trajectories keep the states that tokens were drawn from.

    Returns:
        The trajectories in the order of their indices.
    """
    waiting = deque(episodes)
    rows = min(config.rows, len(waiting))
    if rows == 0:
        return []
    pool.check_workers(config.workers)
    slots, end = config.max_tokens + config.max_new_tokens, template.end_of_turn
    playing: dict[int, tuple[Trajectory, np.random.Generator]] = {}
    done: list[Trajectory] = []
    with (
        WorkerPool[int, Conversation | StepResult](min(config.workers, rows)) as workers,
        engine(
            config.engine,
            generation,
            rows,
            slots,
            end,
            temperature,
            kept_layers,
            keep_sampled_states,
        ) as decoder,
    ):

        def begin(row: int) -> None:
            if waiting:
                index, world_keys, noise_keys = waiting.popleft()
                seed, _ = episode_seeds(*world_keys)
                playing[row] = Trajectory(index, seed, []), episode_seeds(*noise_keys)[1]
                decoder.forget(row)
                workers.ask(row, pool.begin, row, index, seed)

        for row in range(rows):
            begin(row)
        while playing:
            for row, answer in workers.answers(block=not decoder.busy):
                trajectory, noise = playing[row]
                if isinstance(answer, StepResult):
                    _hear(trajectory, pool[row], answer, template, config)
                else:  # of an opening that leaves no room for the agent, the end counts
                    opening = template.opening(answer)
                    trajectory.observe(opening[-(config.max_tokens - config.max_new_tokens) :])
                if not (trajectory.terminated or trajectory.truncated):
                    prompt = trajectory.ids[decoder.length(row) :]
                    decoder.submit(row, prompt, noise.random, config.max_new_tokens)
                    continue
                if kept_layers and trajectory.terminated:
                    trajectory.cached_states = decoder.cached_states(row)
                if keep_sampled_states and trajectory.terminated:
                    trajectory.sampled_states = decoder.sampled_states(row)
                del playing[row]
                done.append(trajectory)
                if on_episode is not None:
                    on_episode(trajectory)
                begin(row)
            for row, said in decoder.step().items() if decoder.busy else ():
                trajectory, _ = playing[row]
                trajectory.privileged.append(pool[row].privileged)
                trajectory.act(said.ids, said.logprobs)
                workers.ask(row, pool[row].step, template.text(said.ids))
    return sorted(done, key=lambda t: t.index)


def _hear(
    trajectory: Trajectory,
    world: TextEnv,
    outcome: StepResult,
    template: ChatTemplate,
    config: RolloutConfig,
) -> None:
    """Write down how the world answered the turn just sampled."""
    finished = trajectory.ids[-1] == template.end_of_turn
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
    following = template.after(outcome.messages, cut=not finished)
    length = len(trajectory.ids) + len(following)
    trajectory.truncated = outcome.truncated
    if length > config.max_tokens - config.max_new_tokens and not outcome.truncated:
        trajectory.truncated, trajectory.stopped_by = True, Ending.TOKEN_LIMIT
    # A truncated episode keeps the prompt of the turn that would have followed: its value is
    # read there.
    trajectory.observe(following[: config.max_tokens + config.max_new_tokens - len(trajectory.ids)])
    if trajectory.truncated:
        trajectory.privileged.append(world.privileged)
