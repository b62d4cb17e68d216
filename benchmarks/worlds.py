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
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from rlchat.agents import Agent, ModelAgent, load_agent
from rlchat.cli import guarded, quiet
from rlchat.config import PPOConfig, TrainConfig, WarmStartConfig
from rlchat.errors import UserError
from rlchat.evaluate import Result, difference, evaluate
from rlchat.files import write_json, write_text
from rlchat.methods import POLICY
from rlchat.pipeline import run_training
from rlchat.policy import REFERENCE, Policy
from rlchat.runs import Run, to_json
from rlchat.tables import markdown, with_interval
from rlchat.worlds import WorldConfig

SCRIPTED = ("expert", "demonstrator", "random", "retrieval", "knowledge-graph")
WORLDS = ("Tutoring", "Medical", "Finance", "GuessNumber")
MIXED = ("agenda", "chatty", "impatient")
SINGLE = ("agenda", "chatty", "impatient")
HELD_OUT = ("terse", "noisy", "forgetful")
LOOKUPS = ("", "bm25", "graph")


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
    """Train and judge only trainings whose name starts so, without the table."""
    demonstrations: int = 800
    """For the warm start."""
    iterations: int = 16
    """Of PPO, 64 episodes each."""


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
        run = Run(config.run)
        if run.iterations < config.iterations:
            console.print(f"training {name}", markup=False)
            run_training(replace(config, resume=run.warm_start.is_dir()), console)
        for world in tested(options.study, config):
            judge(config, world, options)
    if not options.only:
        text = TABLES[options.study](trainings, options)
        write_text(options.out / f"{options.study}.md", text)
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def training(
    options: StudyOptions, name: str, env: str, users: Sequence[str] = (), knowledge: str = ""
) -> TrainConfig:
    """The settings of one training."""
    return TrainConfig(
        env=env,
        users=",".join(users),
        knowledge=knowledge,
        run=options.out / f"{name}-seed-{options.seed}",
        seed=options.seed,
        iterations=options.iterations,
        evaluation=0,
        warm_start=WarmStartConfig(demonstrations=options.demonstrations),
        ppo=PPOConfig(),
    )


def worlds(options: StudyOptions) -> dict[str, TrainConfig]:
    """One training a world."""
    return {w.lower(): training(options, w.lower(), f"rlchat/{w}-v0") for w in WORLDS}


def families(options: StudyOptions) -> dict[str, TrainConfig]:
    """One training on a mixture, and one on each of its families alone."""
    sets = {"mixed": MIXED} | {name: (name,) for name in SINGLE}
    return {n: training(options, f"on-{n}", "rlchat/Finance-v0", u) for n, u in sets.items()}


def facts(options: StudyOptions) -> dict[str, TrainConfig]:
    """One training without look-ups, and one with each kind."""
    return {
        k or "nothing": training(
            options, f"facts-{k or 'nothing'}", "rlchat/FinanceFacts-v0", (), k
        )
        for k in LOOKUPS
    }


def tested(study: str, config: TrainConfig) -> list[WorldConfig]:
    """Where a training is tested: in its own world, or on one family after the other."""
    if study != "families":
        return [config.world]
    return [replace(config.world, users=(name,)) for name in (*MIXED, *HELD_OUT)]


def judge(config: TrainConfig, world: WorldConfig, options: StudyOptions) -> None:
    """Let warm start and PPO play the test users of a world, unless they have."""
    place = result_place(config, world)
    about = {"settings": to_json(asdict(config)), "episodes": options.episodes}
    if place.is_file() and json.loads(place.read_text("utf-8"))["about"] == about:
        return
    run, results = Run(config.run), []
    for name, folder, adapter in (
        ("warm start", run.warm_start, REFERENCE),
        ("PPO", run.adapter, POLICY),
    ):
        policy = Policy.create(config.policy, config.adapter, folder)
        agent = ModelAgent(policy.speaker(adapter), policy.rendering)
        results.append(play(name, agent, world, config, options))
    write_json(place, {"about": about, "results": [r.to_json() for r in results]})


def play(
    name: str, agent: Agent, world: WorldConfig, config: TrainConfig, options: StudyOptions
) -> Result:
    """Test episodes, greedily."""
    return evaluate(name, agent, world, "test", options.episodes, 0, 0.0, config.rollout)


def result_place(config: TrainConfig, world: WorldConfig) -> Path:
    """Where a training's results on a world's users are kept."""
    return config.run / f"test-{'-'.join(world.users) or 'usual'}.json"


def read(config: TrainConfig, world: WorldConfig) -> tuple[Result, Result]:
    """Warm start and PPO, as `judge` left them."""
    kept: Any = json.loads(result_place(config, world).read_text("utf-8"))
    before, after = (Result.from_json(r) for r in kept["results"])
    return before, after


def worlds_table(trainings: dict[str, TrainConfig], options: StudyOptions) -> str:
    """A table a world: scripted agents, the base, the warm start and PPO."""
    lines = []
    for name, config in trainings.items():
        before, after = read(config, config.world)
        known = agents_of(config.world)
        shown = [
            play(agent, load_agent(agent), config.world, config, options)
            for agent in (*(a for a in SCRIPTED if a in known), "base")
        ]
        lines += [f"### {config.env}", "", markdown([*shown, before, after]), ""]
        gain = difference(after, before)
        told = ", ".join(f"{m} {with_interval(i, '{:+.3f}')}" for m, i in gain.items())
        lines += [f"PPO over its warm start, paired: {told}. {seconds(config)} ({name}).", ""]
    return "\n".join(lines)


def agents_of(world: WorldConfig) -> tuple[str, ...]:
    """Scripted agents that a world has."""
    from rlchat.worlds import World
    from rlchat_envs import DialogueEnv

    env = World(world).env.unwrapped
    assert isinstance(env, DialogueEnv)
    return (*env.scenario.agents, "retrieval")


def seconds(config: TrainConfig) -> str:
    """How long the iterations took, as they were recorded."""
    lines = (config.run / "metrics.jsonl").read_text("utf-8").splitlines()
    spent = sum(json.loads(line)["seconds"] for line in lines)
    return f"{config.iterations} iterations in {spent / 60:.1f} minutes"


def families_table(trainings: dict[str, TrainConfig], options: StudyOptions) -> str:
    """Success of what was trained on a row's families with a column's."""
    columns = (*MIXED, *HELD_OUT)
    lines = [f"| trained on | {' | '.join(columns)} | held out | lost on them |"]
    lines += [f"|{'---|' * (len(columns) + 3)}"]
    for name, config in trainings.items():
        results = {world.users[0]: read(config, world)[1] for world in tested("families", config)}
        cells = [with_interval(results[c].metrics["success"], "{:.0%}") for c in columns]
        held = [results[c].metrics["success"].mean for c in HELD_OUT]
        own = [results[c].metrics["success"].mean for c in config.world.users]
        mean, loss = sum(held) / len(held), sum(own) / len(own) - sum(held) / len(held)
        lines.append(f"| {name} | {' | '.join(cells)} | {mean:.0%} | {loss:+.0%} |")
    return "\n".join(lines)


def facts_table(trainings: dict[str, TrainConfig], options: StudyOptions) -> str:
    """Warm start and PPO, and the paired difference to PPO without look-ups."""
    shown, gains = [], []
    _, without = read(trainings["nothing"], trainings["nothing"].world)
    for name, config in trainings.items():
        before, after = read(config, config.world)
        shown += [
            replace(before, agent=f"warm start, {name}"),
            replace(after, agent=f"PPO, {name}"),
        ]
        if name != "nothing":
            gain = with_interval(difference(after, without)["success"], "{:+.3f}")
            gains.append(f"- PPO with {name} over PPO without, paired: success {gain}")
    return "\n".join([markdown(shown), "", *gains, ""])


TABLES = {"worlds": worlds_table, "families": families_table, "facts": facts_table}


if __name__ == "__main__":
    quiet()
    hint = "; the same command goes on with what is finished"
    sys.exit(guarded(lambda: main(tyro.cli(StudyOptions)), "worlds", hint))
