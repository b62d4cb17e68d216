"""Tokens of a run's evaluation, read by its policy and critic as they are now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rlchat.algorithms.advantages import estimate, estimator_settings
from rlchat.algorithms.annotate import annotate
from rlchat.algorithms.batch import pack
from rlchat.algorithms.token_records import token_records
from rlchat.errors import UserError
from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.evaluation.report.sources import Source
from rlchat.listener import Listener
from rlchat.models.templates.thoughts import OFF
from rlchat.rollout.trajectory import Episode
from rlchat.training.inspection.episodes import OnEpisode, retold
from rlchat.training.inspection.opened_run import OpenedRun
from rlchat_envs.core.messages import to_row

AGENT = "PPO"  # in the evaluation of a run; others are not the run's policy
TOGETHER = 16  # episodes whose advantages are whitened together
Records = list[dict[str, Any]]


def read_evaluation_tokens(
    opened: OpenedRun, source: Source, most: int, listener: Listener
) -> None:
    """Add what the policy makes of its own evaluation's tokens to the dialogues of a report.

    Args:
        opened: the run.
        source: what a report has of it.
        most: episodes of each evaluation, failures first.
        listener: told how it goes.

    Raises:
        UserError: the agent thinks, and evaluations keep no thoughts; or the environment does not
            play an episode again.
    """
    if opened.policy.template.setting != OFF:
        raise UserError(
            "expected an agent that does not think, to read the tokens of its evaluation, which "
            f"keeps no thoughts; {source.name} does; leave --evaluation-tokens out"
        )
    known = {env.env for env in opened.config.mixture.envs}  # whose scores have a scale
    for result in (r for r in source.results if r.agent == AGENT and r.env.env in known):
        wanted = sorted(result.episodes, key=lambda e: (e.success is not False, e.index))[:most]
        on_episode = listener.counter(f"reading the evaluation of {source.name}", len(wanted))
        records = {r["index"]: r for r in evaluation_records(opened, result, wanted, on_episode)}
        for dialogue in source.dialogues:
            played = dialogue.played
            own = played.iteration is None and played.label == AGENT
            if own and played.env == result.env.env and dialogue.index in records:
                dialogue.tokens = records[dialogue.index]


def evaluation_records(
    opened: OpenedRun,
    result: EvaluationResult,
    episodes: Sequence[Episode],
    on_episode: OnEpisode = lambda episode: None,
) -> Records:
    """What policy and critic make of the tokens of an evaluation's episodes; see `token_records`.

    The tokens are those that the text has when it is written again; scores are those that the run
    was rewarded with. Users of an evaluation share no start: rloo compares with all others here.
    """
    found: Records = []
    for first in range(0, len(episodes), TOGETHER):
        own = episodes[first : first + TOGETHER]
        found += _together(opened, result, own)
        for episode in own:
            on_episode(episode)
    return found


def _together(opened: OpenedRun, result: EvaluationResult, episodes: Sequence[Episode]) -> Records:
    config, state, policy = opened.config, opened.state, opened.policy
    env = result.env.env if config.mixture.several else ""
    told = [
        retold(opened, _row(episode, env), result.split, result.env)
        for episode in episodes
        if episode.parts
    ]
    if not told:
        return []
    trajectories = state.reward.score(told, opened.ranks)
    batch = pack(trajectories)
    annotated = annotate(
        policy, state.learner.critic, batch, config.ppo.token_budget, range(len(trajectories))
    )
    settings = estimator_settings(config.ppo, config.critic, state.reward.compared)
    if settings.estimator == "rloo":
        settings = replace(settings, estimator="reinforce")
    estimated = estimate(
        annotated,
        settings,
        state.beta,
        state.scales or state.scale,
        [(t.index, len(t.parts)) for t in trajectories],
        envs=[t.env for t in trajectories if t.env],
    )
    return token_records(policy.template.tokenizer, estimated, most=None)


def _row(episode: Episode, env: str) -> dict[str, Any]:
    """An evaluation's episode as a line of the transcripts."""
    return {
        "index": episode.index,
        "seed": episode.seed,
        **to_row(episode.conversation),
        "parts": episode.parts,
        "costs": episode.costs,
        "success": episode.success,
        "terminated": episode.terminated,
        "truncated": episode.truncated,
        "env": env,
    }
