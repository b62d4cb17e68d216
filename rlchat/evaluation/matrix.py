"""Many agents × environments × users: the same users for every agent, and what is done is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from rlchat.errors import NotThere, UserError
from rlchat.evaluation.blocks import BlockPlayer, Where
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import EvaluationResult, difference
from rlchat.evaluation.kept import KeptEpisodes
from rlchat.inference.agents import Agent
from rlchat.inference.load_agent import load_agent
from rlchat.listener import Listener
from rlchat.models.config import AdapterConfig
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.trajectory import Episode
from rlchat.settings import expect
from rlchat.statistics import Interval
from rlchat.statistics.power import looks


@dataclass(frozen=True)
class MatrixConfig:
    """How a matrix is played.

    Attributes:
        evaluation: which users, how many; with ``until_width`` how many at most.
        until_width: width of the intervals of success at which an environment is done; 0 plays
            all.
        processes: that play side by side.
        out: folder that episodes are kept in, from which the same evaluation goes on.
        base: the model that the agent ``base`` stands for.
        adapter: precision and device of models.
        against: agent whose paired differences of success to all others have to be as narrow as
            ``until_width`` too; none if empty.
    """

    evaluation: EvalConfig = field(default_factory=EvalConfig)
    until_width: float = 0.0
    processes: int = 1
    out: Path | None = None
    base: str = "smollm2-135m"
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    against: str = ""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "until_width", 0 <= self.until_width < 1, "from 0 to below 1")
        expect(self, "processes", self.processes >= 1, "of at least 1")

    @property
    def block(self) -> int:
        """Users that are played together, whoever plays them; all of them where nothing is cut.

        A model's numbers may depend in their last digits on the rows that it plays beside, so
        blocks depend neither on processes nor on where an evaluation was stopped.
        """
        config = self.evaluation
        if not (self.until_width or self.out or self.processes > 1):
            return config.episodes
        return -(-config.rollout.rows // config.trials)  # also where fewer users are asked for


@dataclass
class Cell:
    """One agent in one environment with its users: what was played, in order."""

    agent: str
    env: EnvConfig
    episodes: list[Episode] = field(default_factory=list)
    optimum: float | None = None
    there: bool = True  # whether the environment has such an agent

    def result(self, config: EvalConfig) -> EvaluationResult:
        """The episodes as an evaluation."""
        return EvaluationResult(
            self.agent,
            self.env,
            config.split,
            config.seed,
            config.temperature,
            self.episodes,
            self.optimum,
            config.trials,
        )


def evaluate_matrix(
    agents: Sequence[str],
    envs: Sequence[EnvConfig],
    config: MatrixConfig,
    listener: Listener | None = None,
) -> list[list[EvaluationResult | None]]:
    """Let every agent talk to the same users in every environment.

    Args:
        agents: names and folders, as `load_agent` takes them.
        envs: environments, each with its users.
        config: how it is played.
        listener: told how it goes.

    Returns:
        For each environment a result for each agent; None where an environment has no such agent,
        which one alone is refused for.

    Raises:
        UserError: no such agent or environment, or no success to stop by.
    """
    rows = [[Cell(agent, env) for agent in agents] for env in envs]
    with ExitStack() as stack:
        play = _Play(config, listener or Listener(), stack, alone=len(agents) * len(envs) == 1)
        open_rows = rows
        for users in play.looks:
            play.up_to(users, open_rows, agents)
            open_rows = [row for row in open_rows if not play.enough(row)]
            if not open_rows:
                break
    results = [
        [cell.result(config.evaluation) if cell.there else None for cell in row] for row in rows
    ]
    for env, row in zip(envs, results, strict=True):
        if not any(row):
            raise UserError(
                f"expected an agent that {env.env} has; got {', '.join(agents)}; name a model, a "
                "run folder or another agent"
            )
    return results


class _Play:
    """Plays cells, users after users, and keeps what was played."""

    def __init__(self, config: MatrixConfig, listener: Listener, stack: ExitStack, alone: bool):
        self.config, self.listener, self.alone = config, listener, alone
        self.players = stack.enter_context(BlockPlayer(config.processes))
        self.kept = None if config.out is None else KeptEpisodes(config.out)
        self._loaded: tuple[str, Agent] | None = None

    @property
    def looks(self) -> list[int]:
        """Numbers of users after which it may end."""
        most = self.config.evaluation.episodes
        return looks(most, self.config.block) if self.config.until_width else [most]

    def up_to(self, users: int, rows: Sequence[Sequence[Cell]], agents: Sequence[str]) -> None:
        """Play every cell of these rows until so many users were met; one agent after the other."""
        for place, name in enumerate(agents):
            cells = [row[place] for row in rows if row[place].there]
            agent = self.agent(name) if cells else None
            for cell in cells:
                assert agent is not None
                self.cell(cell, agent, users)

    def agent(self, name: str) -> Agent:
        """The agent of that name; one at a time is in memory."""
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None
            config = self.config
            loaded = load_agent(name, config.base, config.adapter, self.listener.say)
            self._loaded = name, loaded
        return self._loaded[1]

    def cell(self, cell: Cell, agent: Agent, users: int) -> None:
        """Play what is missing of a cell, block by block."""
        config = self.config
        where = Where(cell.agent, cell.env, config.evaluation, config.base, config.adapter)
        told, size = users * config.evaluation.trials, config.block * config.evaluation.trials
        if self.kept is not None:
            cell.episodes = self.kept.read(where, agent.version, config.block)
            if len(cell.episodes) < told:  # the last block may have been smaller
                del cell.episodes[len(cell.episodes) // size * size :]
        missing = [b for b in self._blocks(users) if b[1] > len(cell.episodes)]
        family = f", users {'+'.join(cell.env.users)}" if cell.env.users else ""
        style = f", style {'+'.join(cell.env.stated_style)}" if cell.env.stated_style else ""
        what = f"evaluating {cell.agent} in {cell.env.env}{family}{style}"
        on_episode = self.listener.counter(what, told)
        for episode in cell.episodes[:told]:
            on_episode(episode)
        try:
            for played, optimum in self.players.play(where, agent, missing, on_episode):
                cell.episodes += played
                cell.optimum = optimum
                if self.kept is not None:
                    self.kept.write(where, agent.version, config.block, cell.episodes)
        except NotThere:
            if self.alone:
                raise
            cell.there = False
        del cell.episodes[told:]
        if cell.there and cell.optimum is None:
            cell.optimum = self.players.optimum(cell.env, config.evaluation.split)

    def _blocks(self, users: int) -> Iterator[tuple[int, int]]:
        """Episodes of each block: the first, and one after the last."""
        trials, block = self.config.evaluation.trials, self.config.block
        for first in range(0, users, block):
            yield first * trials, min(first + block, users) * trials

    def enough(self, row: Sequence[Cell]) -> bool:
        """Whether an environment's intervals of success are narrow enough.

        They are every agent's own, and where a comparison is asked for those of the differences.
        """
        width = self.config.until_width
        if not width:
            return True
        results = [cell.result(self.config.evaluation) for cell in row if cell.there]
        for result in results:
            success = result.metrics.get("success")
            if success is None:
                raise UserError(
                    "expected an environment that tells success, to stop at a width of its "
                    f"interval; {result.env.env} does not; leave --until-width out"
                )
            if _width(success) > width:
                return False
        other = next((r for r in results if r.agent == self.config.against), None)
        return other is None or all(
            _width(difference(r, other)["success"]) <= width for r in results if r is not other
        )


def _width(interval: Interval) -> float:
    return interval.high - interval.low


def with_styles(envs: Sequence[EnvConfig], styles: Sequence[tuple[str, ...]]) -> list[EnvConfig]:
    """Each environment with each of these stated styles; as it is if there are none."""
    if not styles:
        return list(envs)
    return [replace(env, stated_style=style) for env in envs for style in styles]


def with_users(envs: Sequence[EnvConfig], families: Sequence[tuple[str, ...]]) -> list[EnvConfig]:
    """Each environment with each of these families of users; as it is if there are none."""
    if not families:
        return list(envs)
    return [replace(env, users=users) for env in envs for users in families]
