"""Remake the published table: the defaults of `rlchat train`, three seeds, the test side.

    make proof

Each seed has its own warm start. Base, warm start, PPO, demonstrator and expert play the same
200 test episodes, greedily and at temperature 1. Finished seeds are kept and not trained again;
a seed that was stopped goes on from its last iteration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from rich.console import Console

from rlchat.agents import Agent, ModelAgent, NamedAgent
from rlchat.cli import quiet
from rlchat.config import TrainConfig
from rlchat.evaluate import Result, difference, evaluate
from rlchat.files import write_json, write_text
from rlchat.pipeline import run_training
from rlchat.policy import POLICY, REFERENCE, Policy
from rlchat.runs import Run
from rlchat.tables import difference_table, markdown, results_table, with_interval

SEEDS = (0, 1, 2)
TEMPERATURES = (0.0, 1.0)


@dataclass(frozen=True)
class ProofOptions:
    """Train three seeds with the defaults and evaluate them on the test side."""

    out: Path = Path("runs/proof")
    """Run folders and results go there."""
    episodes: int = 200
    """Test episodes."""
    only: int = -1
    """One seed alone; -1 is all three."""


def main(options: ProofOptions) -> None:
    """Train what is missing, then evaluate and print."""
    console = Console()
    lines = []
    for seed in SEEDS if options.only < 0 else (options.only,):
        config = TrainConfig(run=options.out / f"seed-{seed}", seed=seed, evaluation=0)
        run = Run(config.run)
        if not finished(run, config):
            run_training(replace(config, resume=run.checkpoint.is_dir()), console)
        lines += judge(config, options.episodes, console)
        write_text(options.out / "table.md", "\n".join(lines) + "\n")
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def finished(run: Run, config: TrainConfig) -> bool:
    """Whether the run's last iteration is done."""
    return (
        run.checkpoint.is_dir()
        and int(run.load_checkpoint()[1]["iteration"]) == config.iterations - 1
    )


def judge(config: TrainConfig, episodes: int, console: Console) -> list[str]:
    """Evaluate one seed's agents; write everything, print tables, give Markdown."""
    path = config.run / "test.json"
    start = Run(config.run).warm_start
    policy = Policy.create(config.policy, config.adapter, start)
    trained = Policy.create(config.policy, config.adapter, Run(config.run).adapter)
    lines, kept = [f"### seed {config.seed}", ""], []
    for temperature in TEMPERATURES:
        results = []
        for name in ("base", "warm start", "PPO", "demonstrator", "expert"):
            agent = _agent(name, policy, trained)
            results.append(
                evaluate(
                    name, agent, config.world, "test", episodes, 0, temperature, config.rollout
                )
            )
        console.print(results_table(results))
        gained = difference(results[2], results[1])
        console.print(difference_table("PPO", "warm start", gained))
        kept += [r.to_json() for r in results]
        lines += report(results, temperature)
    write_json(path, kept)
    return lines


def report(results: list[Result], temperature: float) -> list[str]:
    """One temperature's table and the paired difference, in Markdown."""
    gained = difference(results[2], results[1])["success"]
    return [
        f"temperature {temperature:g}",
        "",
        markdown(results),
        "",
        f"PPO minus warm start, paired: success {with_interval(gained, '{:+.3f}')}",
        "",
    ]


def _agent(name: str, policy: Policy, trained: Policy) -> Agent:
    if name in ("demonstrator", "expert"):
        return NamedAgent(name)
    if name == "PPO":
        return ModelAgent(trained.rollout_model(POLICY), trained.rendering)
    adapter = None if name == "base" else REFERENCE
    return ModelAgent(policy.rollout_model(adapter), policy.rendering)


if __name__ == "__main__":
    quiet()
    main(tyro.cli(ProofOptions))
