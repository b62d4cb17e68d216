"""Evaluation of a training: the same unseen users before and after."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rlchat import files
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import EvaluationResult, evaluate
from rlchat.evaluation.summary import summary
from rlchat.inference.agents import Agent
from rlchat.inference.model_agent import ModelAgent
from rlchat.inference.scripted_agent import ScenarioAgent
from rlchat.listener import Listener
from rlchat.models.adapter_io import base_spec
from rlchat.models.adapters import POLICY
from rlchat.models.policy import REFERENCE, Policy
from rlchat.rollout.env_pool import is_ours
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.training.config import TrainConfig
from rlchat.training.run_folder import RunFolder


def measure_start(
    config: TrainConfig, policy: Policy, run: RunFolder, listener: Listener
) -> list[EvaluationResult]:
    """Evaluate what PPO starts from on the dev side, greedily; once a run, if that is resumed.

    Without a warm start, and without a run to go on from, PPO starts from the base itself.

    Returns:
        A result for each environment.
    """
    if kept := _kept(run.start, 0, config.evaluation):
        return kept
    name = "base"
    if base_spec(run.warm_start) != config.policy:  # which named an adapter, that may be gone now
        name = "start"
    elif config.warm_start.demonstrations and config.mixture.ours is not None:
        name = "warm start"
    agent = ModelAgent.of(policy, REFERENCE)
    results = [_measure(config, env, name, agent, listener) for env in config.mixture.envs]
    policy.free_merged()
    _keep(run.start, 0, results)
    for result in results:
        where = f"{result.env.env}: " if config.mixture.several else ""
        listener.say(f"{where}{summary(result)}")
    return results


def measure_end(
    config: TrainConfig,
    policy: Policy,
    run: RunFolder,
    listener: Listener,
    before: Sequence[EvaluationResult],
) -> list[EvaluationResult]:
    """Evaluate PPO and, where there are any, the scripted agents, on the users of the start.

    Kept with the number of iterations that were made: fewer than were asked for where the reward
    monitor stopped the run.

    Returns:
        The results of one environment after those of another; see `by_environment`.
    """
    stopped = run.stopped
    iterations = config.iterations if stopped is None else stopped + 1
    if kept := _kept(run.evaluation, iterations, config.evaluation):
        return kept
    results: list[EvaluationResult] = []
    agent = ModelAgent.of(policy, POLICY)
    for env, start in zip(config.mixture.envs, before, strict=True):
        results += [start, _measure(config, env, "PPO", agent, listener)]
        for name in _scripted(env):
            results.append(_measure(config, env, name, ScenarioAgent(name), listener))
    _keep(run.evaluation, iterations, results)
    return results


def _scripted(env: EnvConfig) -> list[str]:
    """The agents of a scenario's own that PPO is measured beside."""
    if not is_ours(env):
        return []
    with TextEnv(env, "dev") as made:
        agents = () if made.scenario is None else made.scenario.agents
        return [name for name in ("demonstrator", "expert") if name in agents]


def by_environment(results: Sequence[EvaluationResult]) -> list[list[EvaluationResult]]:
    """The results of each environment, in the order in which environments come first."""
    groups: dict[str, list[EvaluationResult]] = {}
    for result in results:
        groups.setdefault(result.env.env, []).append(result)
    return list(groups.values())


def before_and_after(
    results: Sequence[EvaluationResult],
) -> tuple[EvaluationResult, EvaluationResult]:
    """One environment's results at the start and at the end.

    Runs of earlier versions evaluated more before.
    """
    place = [r.agent for r in results].index("PPO")
    return results[place - 1], results[place]


def _measure(
    config: TrainConfig, env: EnvConfig, name: str, agent: Agent, listener: Listener
) -> EvaluationResult:
    where = f" in {env.env}" if config.mixture.several else ""
    on_episode = listener.counter(f"evaluating {name} on unseen users{where}", config.evaluation)
    settings = EvalConfig("dev", config.evaluation, config.seed, 0.0, config.rollout)
    return evaluate(agent, env, settings, name, on_episode)


def _keep(path: Path, iterations: int, results: Sequence[EvaluationResult]) -> None:
    """Keep the evaluation of a policy that has practised for so many iterations."""
    kept = {"iterations": iterations, "results": [r.to_json() for r in results]}
    files.write_json(path, kept)


def _kept(path: Path, iterations: int, episodes: int) -> list[EvaluationResult]:
    """The evaluation after so many iterations, over so many episodes, if it was kept."""
    try:
        kept = json.loads(path.read_text("utf-8"))
        results = [EvaluationResult.from_json(r) for r in kept["results"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    same = kept["iterations"] == iterations and len(results[0].episodes) == episodes
    return results if same else []
