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
from rlchat.rollout.environment import EnvPool
from rlchat.training.config import TrainConfig
from rlchat.training.run_folder import RunFolder


def measure_start(
    config: TrainConfig, policy: Policy, run: RunFolder, listener: Listener
) -> EvaluationResult:
    """Evaluate what PPO starts from on the dev side, greedily; once a run, if that is resumed.

    Without a warm start, and without a run to go on from, PPO starts from the base itself.
    """
    if kept := _kept(run.start, 0, config.evaluation):
        return kept[0]
    name = "base"
    if base_spec(run.warm_start) != config.policy:  # which named an adapter, that may be gone now
        name = "start"
    elif config.warm_start.demonstrations and EnvPool(config.env_config).ours:
        name = "warm start"
    result = _measure(config, name, ModelAgent.of(policy, REFERENCE), listener)
    policy.free_merged()
    _keep(run.start, 0, [result])
    listener.say(summary(result))
    return result


def measure_end(
    config: TrainConfig,
    policy: Policy,
    run: RunFolder,
    listener: Listener,
    before: EvaluationResult,
) -> list[EvaluationResult]:
    """Evaluate PPO and, where there are any, the scripted agents, on the users of the start.

    Kept with the number of iterations that were made: fewer than were asked for where the reward
    monitor stopped the run.
    """
    stopped = run.stopped
    iterations = config.iterations if stopped is None else stopped + 1
    if kept := _kept(run.evaluation, iterations, config.evaluation):
        return kept
    results = [before, _measure(config, "PPO", ModelAgent.of(policy, POLICY), listener)]
    if EnvPool(config.env_config).ours:
        for name in ("demonstrator", "expert"):
            results.append(_measure(config, name, ScenarioAgent(name), listener))
    _keep(run.evaluation, iterations, results)
    return results


def before_and_after(
    results: Sequence[EvaluationResult],
) -> tuple[EvaluationResult, EvaluationResult]:
    """The results at the start and at the end; runs of earlier versions evaluated more before."""
    place = [r.agent for r in results].index("PPO")
    return results[place - 1], results[place]


def _measure(config: TrainConfig, name: str, agent: Agent, listener: Listener) -> EvaluationResult:
    on_episode = listener.counter(f"evaluating {name} on unseen users", config.evaluation)
    settings = EvalConfig("dev", config.evaluation, config.seed, 0.0, config.rollout)
    return evaluate(agent, config.env_config, settings, name, on_episode)


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
