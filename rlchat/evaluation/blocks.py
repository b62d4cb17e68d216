"""Blocks of an evaluation's episodes: played here, or side by side in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any

from rlchat.errors import RunError
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import episode_from_json, episode_to_json, play
from rlchat.inference.agents import Agent
from rlchat.inference.load_agent import load_agent
from rlchat.models.config import AdapterConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.episodes import OnEpisode
from rlchat.rollout.trajectory import Episode

Played = tuple[list[Episode], float | None]
Block = tuple[int, int]


@dataclass(frozen=True)
class Where:
    """Who is measured where: all that another process needs to play the same."""

    agent: str
    env: EnvConfig
    config: EvalConfig
    base: str
    adapter: AdapterConfig


class BlockPlayer:
    """Plays blocks one after the other, or so many at a time; a context manager."""

    def __init__(self, processes: int = 1):
        """Start as many processes; with one, blocks are played in this one."""
        self._executor: ProcessPoolExecutor | None = None
        if processes > 1:
            spawn = multiprocessing.get_context("spawn")  # threads of torch do not bear a fork
            self._executor = ProcessPoolExecutor(
                processes, mp_context=spawn, initializer=_begin_process
            )

    def __enter__(self) -> BlockPlayer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the processes; what they have not begun is not played."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def play(
        self, where: Where, agent: Agent, blocks: Sequence[Block], on_episode: OnEpisode
    ) -> Iterator[Played]:
        """Play blocks, and give each with the environment's optimum, in their order."""
        if self._executor is None:
            for first, last in blocks:
                yield play_block(where, agent, first, last, on_episode)
            return
        found: list[Future[tuple[list[dict[str, Any]], float | None]]] = [
            self._executor.submit(_play_elsewhere, where, first, last) for first, last in blocks
        ]
        for future in found:
            try:
                kept, optimum = future.result()
            except BrokenExecutor as error:
                raise RunError(
                    "expected processes that live until the end; one was ended, perhaps for its "
                    "memory; use fewer --processes; what --out keeps is not played again"
                ) from error
            episodes = [episode_from_json(e) for e in kept]
            for episode in episodes:
                on_episode(episode)
            yield episodes, optimum

    def optimum(self, env: EnvConfig, split: str) -> float | None:
        """Turns of the best strategy, of an environment in which all was played before."""
        with EnvPool(env, split) as pool:
            return pool[0].optimum if pool.ours else None


def play_block(
    where: Where, agent: Agent, first: int, last: int, on_episode: OnEpisode | None = None
) -> Played:
    """Play some of an evaluation's episodes, in this process."""
    return play(agent, where.env, where.config, range(first, last), on_episode)


def _begin_process() -> None:
    """Leave what is to be said, Ctrl-C included, to the process that started this one."""
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))
    warnings.simplefilter("ignore")


def _play_elsewhere(
    where: Where, first: int, last: int
) -> tuple[list[dict[str, Any]], float | None]:
    agent = _loaded(where.agent, where.base, where.adapter)
    played, optimum = play_block(where, agent, first, last)
    return [episode_to_json(e) for e in played], optimum


@lru_cache(maxsize=1)
def _loaded(name: str, base: str, adapter: AdapterConfig) -> Agent:
    """The agent of the last block, which the next is mostly played by too."""
    return load_agent(name, base, adapter)
