"""PPO over conversations: the loop, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rlchat.algorithms import ppo
from rlchat.algorithms.advantages import estimate, estimator_settings
from rlchat.algorithms.annotate import annotate
from rlchat.algorithms.batch import pack
from rlchat.algorithms.token_records import considered, token_records
from rlchat.algorithms.update import fit_critic, update_policy
from rlchat.distributed import Distributed
from rlchat.errors import RunError
from rlchat.listener import Listener
from rlchat.models.device import peak_memory, release_memory
from rlchat.models.policy import Policy
from rlchat.rollout.collect import Failures, collect
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.hosting.answers import EnvError
from rlchat.rollout.hosting.isolated import kind_of
from rlchat.rollout.seeding import Purpose
from rlchat.rollout.trajectory import Trajectory
from rlchat.training.collapse import collapse
from rlchat.training.config import TrainConfig
from rlchat.training.failures import count_failures, give_up
from rlchat.training.metrics import Clock, by_environment, measure, without_tokens
from rlchat.training.run_folder import RunFolder
from rlchat.training.state import State

MOST_SKIPPED = 5  # non-finite updates in a row


def train(
    config: TrainConfig,
    policy: Policy,
    run: RunFolder,
    ranks: Distributed,
    listener: Listener | None = None,
) -> None:
    """Train a policy by PPO against simulated users.

    Where the reward monitor stops it, the policy ends as the adapter of the best measurement, in
    memory as in the run folder, and the iteration of the alarm leaves no checkpoint.

    Args:
        config: all settings.
        policy: its adapter is trained; its reference is what KL is measured to.
        run: metrics, transcripts, adapter and checkpoints go there, after every iteration.
        ranks: the processes that train together.
        listener: told how it goes.

    Raises:
        RunError: updates stayed non-finite, or the environment failed too often; the last good
            checkpoint is intact.
    """
    listener = listener or Listener()
    state, first = State.begin(config, policy, ranks), 0
    if config.resume and run.checkpoint.is_dir():
        first = state.restore(run)
    with config.mixture.pool("train", kind_of(config.rollout)) as pool:
        for iteration in range(first, config.iterations):
            if iterate(config, state, pool, run, iteration, listener):
                state.return_to_best(run)
                break


def iterate(
    config: TrainConfig,
    state: State,
    pool: EnvPool,
    run: RunFolder,
    iteration: int,
    listener: Listener,
) -> bool:
    """Play an iteration's episodes, learn from them, and write down what came of it.

    Returns:
        Whether the reward monitor stops the run here.
    """
    policy, ranks, clock = state.learner.policy, state.learner.ranks, Clock()
    exact = state.sampler_is_exact(iteration)
    failures = Failures(config.rollout.max_failed * config.episodes)
    try:
        trajectories = play(config, policy, pool, ranks, iteration, listener, exact, failures)
    except EnvError as error:
        give_up(config, error, run, iteration)
    played = len(trajectories)
    failed = count_failures(config, failures, played, run, iteration, ranks, listener)
    clock.lap("rollout")
    trajectories = state.reward.score(trajectories, ranks)
    clock.lap("score")
    listener.status(f"iteration {iteration}: learning")
    gathered = ranks.gather([without_tokens(t) for t in trajectories])
    everyone = sorted(gathered, key=lambda t: t.index)
    metrics, tokens = learn(config, state, trajectories, everyone, iteration, clock)
    refuse_to_diverge(state, run)
    adapt_prices(config, state, metrics)
    row = {"iteration": iteration, **metrics, **clock.rates(metrics["tokens"])}
    row |= {"peak_memory": peak_memory(), **failed}
    measured, alarm = monitor_reward(state, config, iteration, listener)
    stopped = bool(alarm) and config.watch.stop
    if ranks.main and stopped:
        run.take_best()  # before the line that records the stop: a kill between repeats both
    if ranks.main:
        run.append(iteration, row | measured, everyone, tokens)
        if not stopped:
            state.save(run, iteration)
        listener.iteration(row | measured)
        listener.dialogue(iteration, everyone[0])
    ranks.wait()
    return stopped


def learn(
    config: TrainConfig,
    state: State,
    trajectories: list[Trajectory],
    everyone: list[Trajectory],
    iteration: int,
    clock: Clock,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Update policy and critic on an iteration's episodes.

    Args:
        config: all settings.
        state: what is updated.
        trajectories: this rank's, with their tokens.
        everyone: those of all ranks in the order of their indices, without.
        iteration: its number.
        clock: gets a lap for the forward and one for the update.

    Returns:
        The iteration's metrics, and what was made of the tokens of some episodes.

    Raises:
        RunError: a score is no number, which would spoil the scale of all that come later.
    """
    learner, ranks = state.learner, state.learner.ranks
    scores = [sum(p.values()) for t in everyone for p in t.parts]
    if not all(map(math.isfinite, scores)):
        raise RunError(
            f"expected finite scores in iteration {iteration}; a turn's parts are "
            f"{_broken(everyone)}; mend the reward, and go on from the checkpoint with --resume"
        )
    state.add_scores(everyone)
    batch = pack(trajectories)
    budget = config.ppo.token_budget
    annotated = annotate(learner.policy, learner.critic, batch, budget, considered(batch))
    release_memory()
    clock.lap("annotate")
    settings = estimator_settings(config.ppo, config.critic, state.reward.compared)
    turns = [(t.index, len(t.parts)) for t in everyone]
    scale, envs = state.scales or state.scale, [t.env for t in everyone if t.env]
    estimated = estimate(annotated, settings, state.beta, scale, turns, ranks.sum, envs)
    tokens = ranks.gather(token_records(learner.policy.template.tokenizer, estimated))
    metrics = measure(estimated, everyone, ranks) | by_environment(everyone, state.scales)
    metrics |= collapse(everyone, config.ppo.group_size)
    if state.reward.rubric is not None:
        metrics |= state.reward.rubric.metrics(everyone)
    if state.sampler_is_exact(iteration):
        metrics["sampler_gap"] = math.nan
    else:
        state.gap = metrics["sampler_gap"]
    fit = fit_critic(learner, estimated)
    if iteration >= config.ppo.critic_warmup or config.critic.states == "shared":
        seed = (config.seed, iteration)
        metrics |= update_policy(learner, estimated, config.ppo, config.episodes, seed)
    release_memory()
    clock.lap("update")
    metrics |= {"beta": state.beta, "critic_loss": fit, "score_std": state.scale.std}
    metrics["cost_price"] = state.reward.multiplier
    return metrics, sorted(tokens, key=lambda record: int(record["index"]))


def _broken(played: Sequence[Trajectory]) -> str:
    """The parts of the first turn whose score is no number."""
    turns = (parts for t in played for parts in t.parts)
    broken = next(parts for parts in turns if not math.isfinite(sum(parts.values())))
    return ", ".join(f"{name} {value:g}" for name, value in broken.items())


def refuse_to_diverge(state: State, run: RunFolder) -> None:
    """Stop when updates stayed non-finite.

    Raises:
        RunError: so many in a row that it is no accident.
    """
    if (skipped := state.learner.skipped) >= MOST_SKIPPED:
        good = run.folder if run.checkpoint.is_dir() else run.warm_start
        raise RunError(
            f"{skipped} updates in a row were not finite; what was learned before is "
            f"in {good}; start another run from it with --policy and a lower "
            "--ppo.learning-rate"
        )


def adapt_prices(config: TrainConfig, state: State, metrics: Mapping[str, float]) -> None:
    """Move the prices of KL and of cost for the next iteration, by what this one had of both."""
    if config.ppo.kl_target:
        target, horizon = config.ppo.kl_target, config.ppo.kl_horizon
        state.beta = ppo.adapt_beta(state.beta, metrics["kl"], target, config.episodes, horizon)
    state.reward.price(metrics["cost"])


def monitor_reward(
    state: State, config: TrainConfig, iteration: int, listener: Listener
) -> tuple[dict[str, float], str]:
    """Measure on held-out users whether a learned reward is hacked, if it is time to.

    Returns:
        Metrics of the measurement, and an alarm in words; both are empty where nothing was done.
    """
    if not state.monitor.due(iteration, config.iterations - 1):
        return {}, ""
    listener.status(f"iteration {iteration}: measuring held-out users")
    learner = state.learner
    now = state.monitor.evaluate(learner.policy, config.rollout, iteration, learner.ranks)
    alarm = state.monitor.compare(now)
    if alarm:
        listener.warn(f"iteration {iteration}: {alarm}")
    told = {"watch/alarm": float(bool(alarm)), "watch/threshold": state.monitor.threshold}
    return now.metrics | told, alarm


def play(
    config: TrainConfig,
    policy: Policy,
    pool: EnvPool,
    ranks: Distributed,
    iteration: int,
    listener: Listener,
    keep_sampled_states: bool = False,
    failures: Failures | None = None,
) -> list[Trajectory]:
    """Collect this rank's share of an iteration's episodes.

    Episode i has the same goal, user and noise whoever plays it. Episodes of a group share goal
    and user, and differ in what is sampled. ``keep_sampled_states`` and ``failures`` are those of
    `collect`.
    """
    goals = (config.seed, Purpose.TRAIN, iteration)
    noise = (config.seed, Purpose.PLAY, iteration)
    episodes = [
        (i, (*goals, i // config.ppo.group_size), (*noise, i))
        for i in range(ranks.index, config.episodes, ranks.count)
    ]
    trajectories = collect(
        policy.generation_model(),
        policy.template,
        pool,
        episodes,
        config.rollout,
        on_episode=listener.rollout(iteration, len(episodes)),
        kept_layers=policy.shared_layers,
        keep_sampled_states=keep_sampled_states,
        failures=failures,
    )
    policy.free_merged()
    return trajectories
