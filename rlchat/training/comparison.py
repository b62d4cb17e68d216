"""What a training changed: the same unseen users before and after, and what to do next."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.panel import Panel

from rlchat import files
from rlchat.cli.progress import Progress
from rlchat.cli.tables import dialogue, difference_table, ending, results_table, summary
from rlchat.evaluation.evaluate import Result, difference, evaluate
from rlchat.inference.agents import ModelAgent, NamedAgent, adapter_folder
from rlchat.models.adapters import POLICY
from rlchat.models.policy import REFERENCE, Policy
from rlchat.rollout.environment import Worlds
from rlchat.training.config import TrainConfig
from rlchat.training.run_folder import Run


def measure_start(config: TrainConfig, policy: Policy, run: Run, progress: Progress) -> Result:
    """Evaluate what PPO starts from on the dev side, greedily; once a run, if that is resumed.

    Without a warm start, and without a run to go on from, PPO starts from the base itself.
    """
    if kept := _kept(run.start, 0, config.evaluation):
        return kept[0]
    name = "base"
    if adapter_folder(config.policy) is not None:
        name = "start"
    elif config.warm_start.demonstrations and Worlds(config.world).ours:
        name = "warm start"
    result = _measure(config, name, model_agent(policy, REFERENCE), progress)
    policy.fall_silent()
    _keep(run.start, 0, [result])
    progress.say(summary(result))
    return result


def measure_end(
    config: TrainConfig, policy: Policy, run: Run, progress: Progress, before: Result
) -> list[Result]:
    """Evaluate PPO and, where there are any, the scripted desks, on the users of the start."""
    if kept := _kept(run.evaluation, config.iterations, config.evaluation):
        return kept
    results = [before, _measure(config, "PPO", model_agent(policy, POLICY), progress)]
    if Worlds(config.world).ours:
        for name in ("demonstrator", "expert"):
            results.append(_measure(config, name, NamedAgent(name), progress))
    _keep(run.evaluation, config.iterations, results)
    return results


def before_and_after(results: Sequence[Result]) -> tuple[Result, Result]:
    """What PPO started from and what came of it; runs of earlier versions evaluated more before."""
    place = [r.agent for r in results].index("PPO")
    return results[place - 1], results[place]


def model_agent(policy: Policy, adapter: str) -> ModelAgent:
    """The agent that speaks with an adapter of a policy."""
    return ModelAgent(policy.speaker(adapter), policy.rendering)


def _measure(
    config: TrainConfig, name: str, agent: ModelAgent | NamedAgent, progress: Progress
) -> Result:
    watch = progress.counter(f"evaluating {name} on unseen users", config.evaluation)
    return evaluate(
        name,
        agent,
        config.world,
        "dev",
        config.evaluation,
        config.seed,
        0.0,
        config.rollout,
        watch,
    )


def _keep(path: Path, iterations: int, results: Sequence[Result]) -> None:
    """Keep the evaluation of a policy that has practised for so many iterations."""
    kept = {"iterations": iterations, "results": [r.to_json() for r in results]}
    files.write_json(path, kept)


def _kept(path: Path, iterations: int, episodes: int) -> list[Result]:
    """The evaluation after so many iterations, over so many episodes, if it was kept."""
    try:
        kept = json.loads(path.read_text("utf-8"))
        results = [Result.from_json(r) for r in kept["results"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    same = kept["iterations"] == iterations and len(results[0].episodes) == episodes
    return results if same else []


def show(results: Sequence[Result], run: Run, config: TrainConfig, console: Console) -> None:
    """Print the table, one dialogue before and after, and how to go on."""
    if results:
        before, after = before_and_after(results)
        console.print(results_table(results))
        console.print(difference_table("PPO", before.agent, difference(after, before)))
        pairs = list(zip(before.episodes, after.episodes, strict=True))
        gained = [p for p in pairs if p[1].success and not p[0].success]
        for title, episode in zip(("before PPO", "after PPO"), (gained or pairs)[0], strict=True):
            console.print(
                Panel(dialogue(episode.conversation), title=f"{title}: {ending(episode)}")
            )
    for line in next_steps(run, config):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def next_steps(run: Run, config: TrainConfig) -> Iterator[str]:
    """What can be done with a trained agent: commands, one a line."""
    command, ours = program(), Worlds(config.world).ours
    # In a foreign environment nobody can be the user: people talk to that agent without one.
    place_to_talk = config.env if ours else "''"
    more = config.iterations + 10
    policy = "" if config.policy == TrainConfig.policy else f" --policy {config.policy}"
    yield f"Talk to it:     {command} chat {run.folder} --env {place_to_talk}"
    yield f"Measure it:     {command} eval {run.folder} --env {config.env}"
    yield f"Read it:        {run.transcripts} has every conversation of its practice"
    if run.iterations == config.iterations:
        yield (
            f"Practise more:  {command} train --run {run.folder}{policy} --resume "
            f"--iterations {more} and the other options of this training"
        )


def program() -> str:
    """The command as it was started, which need not be on the path."""
    return sys.argv[0] if Path(sys.argv[0]).name == "rlchat" else "rlchat"
