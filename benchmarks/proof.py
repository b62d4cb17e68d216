"""Remake the published table: the defaults of `rlchat train`, three seeds, the test side.

    make proof

Each seed has its own warm start. Base, warm start, PPO, demonstrator and expert play the same
200 test episodes, greedily and at temperature 1. What is finished is kept: a seed that was
stopped goes on from its last iteration, and one whose `test.json` is in its folder is done. On two
cores, two seeds can train side by side, each on one thread:
`OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/proof.py --only 1`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from rlchat.cli.libraries import quiet
from rlchat.cli.main import guarded
from rlchat.cli.train import run_training
from rlchat.errors import UserError
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import EvaluationResult, difference, evaluate
from rlchat.evaluation.summary import markdown, with_interval
from rlchat.files import write_json, write_text
from rlchat.inference.agents import Agent
from rlchat.inference.model_agent import ModelAgent
from rlchat.inference.scripted_agent import ScenarioAgent
from rlchat.models.adapters import POLICY
from rlchat.models.policy import REFERENCE, Policy
from rlchat.training.config import TrainConfig
from rlchat.training.run_folder import RunFolder, to_json

SEEDS = (0, 1, 2)
TEMPERATURES = (0.0, 1.0)
SAME_FOR_ALL = ("base", "demonstrator", "expert")
OWN = ("warm start", "PPO")


@dataclass(frozen=True)
class ProofOptions:
    """Train three seeds with the defaults and evaluate them on the test side."""

    out: Path = Path("runs/proof")
    """Run folders and results go there."""
    episodes: int = 200
    """Test episodes."""
    only: int = -1
    """Train and judge one seed alone, without the table; -1 is all three."""


def main(options: ProofOptions) -> None:
    """Train what is missing, evaluate what is missing, and print."""
    EvalConfig("test", options.episodes)  # refuses a wrong number before anything long
    if options.only not in (-1, *SEEDS):
        raise UserError(f"expected --only of {', '.join(map(str, SEEDS))}; got {options.only}")
    console = Console()
    for seed in SEEDS if options.only < 0 else (options.only,):
        config = TrainConfig(run=options.out / f"seed-{seed}", seed=seed, evaluation=0)
        run, results = RunFolder(config.run), config.run / "test.json"
        if judged(results, config, options.episodes):
            continue
        if run.iterations > config.iterations:
            raise UserError(
                f"expected a run of {config.iterations} iterations, today's default; {run.folder} "
                f"has {run.iterations}; delete it, or name another folder with --out"
            )
        if run.iterations < config.iterations:
            run_training(replace(config, resume=run.warm_start.is_dir()), console)
        judge(results, OWN, config, options.episodes)
    if options.only < 0:
        same = options.out / "test.json"
        if not judged(same, TrainConfig(evaluation=0), options.episodes):
            judge(same, SAME_FOR_ALL, TrainConfig(evaluation=0), options.episodes)
        text = table(options.out)
        write_text(options.out / "table.md", text)
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def settings(config: TrainConfig) -> dict[str, Any]:
    """What an agent came from, without where it lies."""
    return {k: v for k, v in to_json(asdict(config)).items() if k not in ("run", "resume")}


def judged(path: Path, config: TrainConfig, episodes: int) -> bool:
    """Whether ``path`` has results of these settings over so many episodes.

    Raises:
        UserError: it has those of other settings.
    """
    if not path.is_file():
        return False
    if json.loads(path.read_text("utf-8"))["settings"] != settings(config):
        raise UserError(
            f"expected results of today's defaults; {path} comes from others; delete it, or name "
            "another folder with --out"
        )
    return all(len(r.episodes) == episodes for r in read(path))


def judge(path: Path, agents: Sequence[str], config: TrainConfig, episodes: int) -> None:
    """Let agents play the test episodes at both temperatures; write what came of it to ``path``."""
    results = []
    for name in agents:
        agent = speaker(name, config)
        for temperature in TEMPERATURES:
            users = EvalConfig("test", episodes, 0, temperature, config.rollout)
            results.append(evaluate(agent, config.env_config, users, name))
    write_json(path, {"settings": settings(config), "results": [r.to_json() for r in results]})


def speaker(name: str, config: TrainConfig) -> Agent:
    """The agent of that name; base, warm start and PPO are a language model's."""
    if name in ("demonstrator", "expert"):
        return ScenarioAgent(name)
    run = RunFolder(config.run)
    if name == "base":
        policy, adapter = Policy.create(config.policy, config.adapter), None
    elif name == "PPO":
        policy, adapter = Policy.create(config.policy, config.adapter, run.adapter), POLICY
    else:
        policy, adapter = Policy.create(config.policy, config.adapter, run.warm_start), REFERENCE
    return ModelAgent.of(policy, adapter)


def read(path: Path) -> list[EvaluationResult]:
    """The results in a file that `judge` wrote."""
    return [EvaluationResult.from_json(r) for r in json.loads(path.read_text("utf-8"))["results"]]


def table(out: Path) -> str:
    """Everything that was measured, in Markdown."""
    lines = []
    for temperature in TEMPERATURES:
        same = [r for r in read(out / "test.json") if r.temperature == temperature]
        shown, gains = [same[0]], []
        expert = same[-1].metrics["success"].mean
        for seed in SEEDS:
            folder = out / f"seed-{seed}"
            own = [r for r in read(folder / "test.json") if r.temperature == temperature]
            shown += [replace(r, agent=f"{r.agent}, seed {seed}") for r in own]
            before, after = own
            gain = with_interval(difference(after, before)["success"], "{:+.3f}")
            share = after.metrics["success"].mean / expert
            gains.append(
                f"- seed {seed}: success {gain} over its warm start, paired; "
                f"{share:.0%} of the expert's"
            )
        lines += [f"temperature {temperature:g}", "", markdown([*shown, *same[1:]]), "", *gains, ""]
    return "\n".join(lines)


if __name__ == "__main__":
    quiet()
    hint = "; the same command goes on with what is finished"
    sys.exit(guarded(lambda: main(tyro.cli(ProofOptions)), "proof", hint))
