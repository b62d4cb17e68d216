"""Three studies over worlds and users, each on the test side: `worlds`, `families`, `facts`.

    python benchmarks/worlds.py worlds      # PPO against its warm start in four worlds
    python benchmarks/worlds.py families    # trained on some families of users, tested on others
    python benchmarks/worlds.py facts       # questions that need a fact, with and without look-ups

Every training starts with its own demonstrations. What is finished is kept in ``--out``: a training
that was stopped goes on, and an evaluation that is there is not done again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from rlchat.algorithms.config import PPOConfig
from rlchat.cli.libraries import quiet
from rlchat.cli.main import guarded
from rlchat.cli.train import run_training
from rlchat.errors import UserError
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import EvaluationResult, difference, evaluate
from rlchat.evaluation.summary import markdown, with_interval
from rlchat.files import write_json, write_text
from rlchat.inference.agents import Agent
from rlchat.inference.load_agent import load_agent
from rlchat.inference.model_agent import ModelAgent
from rlchat.models.adapters import POLICY
from rlchat.models.policy import REFERENCE, Policy
from rlchat.rollout.environment import EnvConfig
from rlchat.statistics import mean_interval, paired
from rlchat.training.config import TrainConfig, WarmStartConfig
from rlchat.training.run_folder import RunFolder, to_json

SCRIPTED = ("expert", "demonstrator", "random", "retrieval", "knowledge-graph")
WORLDS = ("Tutoring", "Medical", "Finance", "GuessNumber")
MIXED = ("terse", "chatty", "forgetful")
HELD_OUT = ("agenda", "impatient", "noisy", "adversarial")
LOOKUPS = ("", "bm25", "graph")
BEFORE, AFTER = "warm start", "PPO"


@dataclass(frozen=True)
class Budget:
    """How much a training gets."""

    demonstrations: int
    iterations: int  # of 64 episodes
    beta: float = PPOConfig().beta


# So many iterations take about a quarter of an hour on two cores; conversations differ in length.
BUDGETS = {
    "Tutoring": Budget(2_000, 9),
    "Medical": Budget(2_000, 24),
    # Three products in seven depend on a third question. With the usual price of leaving the warm
    # start, PPO forgets them before it has learnt when they are right.
    "Finance": Budget(2_000, 24, beta=0.1),
    "FinanceFacts": Budget(800, 8),
    "GuessNumber": Budget(2_000, 16),
    "Support": Budget(800, 10),  # four times
}


@dataclass(frozen=True)
class StudyOptions:
    """Train what a study needs, evaluate it on the test side, print its table."""

    study: Annotated[Literal["worlds", "families", "facts"], tyro.conf.Positional]
    """Which one."""
    out: Path = Path("runs/worlds")
    """Run folders and results go there."""
    episodes: int = 200
    """Test episodes."""
    seed: int = 0
    """Of the trainings; test users are always those of seed 0."""
    only: str = ""
    """Train and judge only trainings whose name starts so; a table only in `worlds`."""
    demonstrations: int | None = None
    """For the warm start; by default what the world's published results had."""
    iterations: int | None = None
    """Of PPO, 64 episodes each; by default likewise."""


def main(options: StudyOptions) -> None:
    """Train what is missing, evaluate what is missing, and print."""
    if options.episodes < 1:
        raise UserError(f"expected episodes of at least 1; got {options.episodes}")
    console = Console()
    trainings = {"worlds": worlds, "families": families, "facts": facts}[options.study](options)
    chosen = {n: t for n, t in trainings.items() if n.startswith(options.only)}
    if not chosen:
        raise UserError(f"expected --only of {', '.join(trainings)}; got {options.only!r}")
    for name, config in chosen.items():
        run = RunFolder(config.run)
        if run.iterations < config.iterations:
            console.print(f"training {name}", markup=False)
            run_training(replace(config, resume=run.warm_start.is_dir()), console)
        for world, agents in tested(options.study, config):
            judge(config, world, agents, options)
    if options.study == "worlds" or not options.only:  # the other tables need all of theirs
        text = TABLES[options.study](chosen, options)
        write_text(options.out / (f"{options.study}-{options.only}".rstrip("-") + ".md"), text)
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def training(
    options: StudyOptions, name: str, world: str, users: Sequence[str] = (), knowledge: str = ""
) -> TrainConfig:
    """The settings of one training."""
    budget = BUDGETS[world]
    demonstrations = options.demonstrations
    iterations = options.iterations
    return TrainConfig(
        env=f"rlchat/{world}-v0",
        users=",".join(users),
        knowledge=knowledge,
        run=options.out / f"{name}-seed-{options.seed}",
        seed=options.seed,
        iterations=budget.iterations if iterations is None else iterations,
        evaluation=0,
        warm_start=WarmStartConfig(
            demonstrations=budget.demonstrations if demonstrations is None else demonstrations
        ),
        ppo=PPOConfig(beta=budget.beta),
    )


def worlds(options: StudyOptions) -> dict[str, TrainConfig]:
    """One training a world."""
    return {w.lower(): training(options, w.lower(), w) for w in WORLDS}


def families(options: StudyOptions) -> dict[str, TrainConfig]:
    """One training on a mixture, and one on each part of it."""
    sets = {"mixed": MIXED} | {name: (name,) for name in MIXED}
    return {n: training(options, f"on-{n}", "Support", users) for n, users in sets.items()}


def facts(options: StudyOptions) -> dict[str, TrainConfig]:
    """One training without look-ups, and one with each kind."""
    named = {k or "nothing": k for k in LOOKUPS}
    return {n: training(options, f"facts-{n}", "FinanceFacts", (), k) for n, k in named.items()}


def tested(study: str, config: TrainConfig) -> list[tuple[EnvConfig, tuple[str, ...]]]:
    """Where which of a training's agents are tested.

    All in the training's own world; for `families`, PPO on one family after the other.
    """
    if study != "families":
        return [(config.env_config, (BEFORE, AFTER))]
    return [(replace(config.env_config, users=(n,)), (AFTER,)) for n in (*MIXED, *HELD_OUT)]


def judge(
    config: TrainConfig, world: EnvConfig, agents: Sequence[str], options: StudyOptions
) -> None:
    """Let warm start or PPO or both play the test users of a world, unless they have."""
    place = result_place(config, world)
    about = {"settings": to_json(asdict(config)), "episodes": options.episodes}
    if place.is_file() and json.loads(place.read_text("utf-8"))["about"] == about:
        return
    run, results = RunFolder(config.run), []
    kept = {BEFORE: (run.warm_start, REFERENCE), AFTER: (run.adapter, POLICY)}
    for name in agents:
        folder, adapter = kept[name]
        policy = Policy.create(config.policy, config.adapter, folder)
        agent = ModelAgent.of(policy, adapter)
        results.append(play(name, agent, world, config, options))
    write_json(place, {"about": about, "results": [r.to_json() for r in results]})


def play(
    name: str, agent: Agent, world: EnvConfig, config: TrainConfig, options: StudyOptions
) -> EvaluationResult:
    """Test episodes, greedily."""
    users = EvalConfig("test", options.episodes, rollout=config.rollout)
    return evaluate(agent, world, users, name)


def result_place(config: TrainConfig, world: EnvConfig) -> Path:
    """Where a training's results on a world's users are kept."""
    return config.run / f"test-{'-'.join(world.users) or 'usual'}.json"


def read(config: TrainConfig, world: EnvConfig) -> dict[str, EvaluationResult]:
    """What `judge` left: results by agent."""
    kept: Any = json.loads(result_place(config, world).read_text("utf-8"))
    return {r["agent"]: EvaluationResult.from_json(r) for r in kept["results"]}


def worlds_table(trainings: dict[str, TrainConfig], options: StudyOptions) -> str:
    """A table a world: scripted agents, the base, the warm start and PPO."""
    lines = []
    for name, config in trainings.items():
        kept = read(config, config.env_config)
        before, after = kept[BEFORE], kept[AFTER]
        known = agents_of(config.env_config)
        shown = [
            play(agent, load_agent(agent), config.env_config, config, options)
            for agent in (*(a for a in SCRIPTED if a in known), "base")
        ]
        lines += [f"### {config.env}", "", markdown([*shown, before, after]), ""]
        gain = difference(after, before)
        told = ", ".join(f"{m} {with_interval(i, '{:+.3f}')}" for m, i in gain.items())
        lines += [f"PPO over its warm start, paired: {told}. {seconds(config)} ({name}).", ""]
    return "\n".join(lines)


def agents_of(world: EnvConfig) -> tuple[str, ...]:
    """Scripted agents that a world has."""
    from rlchat.rollout.environment import TextEnv
    from rlchat_envs import DialogueEnv

    env = TextEnv(world).env.unwrapped
    assert isinstance(env, DialogueEnv)
    return (*env.scenario.agents, "retrieval")


def seconds(config: TrainConfig) -> str:
    """How long the iterations took, as they were recorded."""
    lines = (config.run / "metrics.jsonl").read_text("utf-8").splitlines()
    spent = sum(json.loads(line)["seconds"] for line in lines)
    return f"{config.iterations} iterations in {spent / 60:.1f} minutes"


def families_table(trainings: dict[str, TrainConfig], options: StudyOptions) -> str:
    """Success of what was trained on a row's families with a column's, and what is lost."""
    columns = (*MIXED, *HELD_OUT)
    lines = [f"| trained on | {' | '.join(columns)} | held out | lost on them |"]
    lines += [f"|{'---|' * (len(columns) + 3)}"]
    held, lost = {}, {}
    for name, config in trainings.items():
        played = {n: read(config, replace(config.env_config, users=(n,)))[AFTER] for n in columns}
        cells = [with_interval(played[n].metrics["success"], "{:.0%}") for n in columns]
        held[name] = mean_success(played, HELD_OUT)
        own = mean_success(played, config.env_config.users)
        lost[name] = [a - b for a, b in zip(own, held[name], strict=True)]
        cells += [with_interval(mean_interval(held[name], 0.0, 1.0), "{:.1%}")]
        cells += [with_interval(mean_interval(lost[name], -1.0, 1.0), "{:+.1%}")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "Mixed against each, paired by seed, on held-out families:", ""]
    for name in (n for n in trainings if n != "mixed"):
        success = with_interval(paired(held["mixed"], held[name], 1.0), "{:+.3f}")
        loss = with_interval(paired(lost["mixed"], lost[name], 1.0), "{:+.3f}")
        lines.append(f"- {name}: success {success}, loss {loss}")
    return "\n".join([*lines, ""])


def mean_success(played: Mapping[str, EvaluationResult], families: Sequence[str]) -> list[float]:
    """For each seed, the share of families whose user was content."""
    seeds = zip(*(played[name].episodes for name in families), strict=True)
    return [sum(bool(t.success) for t in users) / len(families) for users in seeds]


def facts_table(trainings: dict[str, TrainConfig], options: StudyOptions) -> str:
    """Warm start and PPO, and the paired difference to PPO without look-ups."""
    shown, gains = [], []
    without = read(trainings["nothing"], trainings["nothing"].env_config)[AFTER]
    for name, config in trainings.items():
        kept = read(config, config.env_config)
        shown += [replace(result, agent=f"{agent}, {name}") for agent, result in kept.items()]
        if name != "nothing":
            gain = with_interval(difference(kept[AFTER], without)["success"], "{:+.3f}")
            gains.append(f"- PPO with {name} over PPO without, paired: success {gain}")
    return "\n".join([markdown(shown), "", *gains, ""])


TABLES = {"worlds": worlds_table, "families": families_table, "facts": facts_table}


if __name__ == "__main__":
    quiet()
    hint = "; the same command goes on with what is finished"
    sys.exit(guarded(lambda: main(tyro.cli(StudyOptions)), "worlds", hint))
