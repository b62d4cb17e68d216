"""An episode of a run, turn by turn: its parts, values, KL and where each advantage came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from rlchat.algorithms.advantages import estimator_settings, penalized_kl
from rlchat.algorithms.annotate import annotate
from rlchat.algorithms.attribution import Attribution, TurnAdvantage, attribute
from rlchat.algorithms.batch import pack
from rlchat.models.policy import Policy
from rlchat.rollout.trajectory import Trajectory
from rlchat.training.inspection.episodes import Episodes
from rlchat.training.inspection.opened_run import OpenedRun


@dataclass(frozen=True)
class TokenNumbers:
    """A token that the agent sampled.

    Attributes:
        text: of the token.
        logprob: in nats.
        kl: log-probability less that under the reference.
        value: what the critic expected before it, in units of scaled score.
        advantage: whitened, as the policy learns from it.
    """

    text: str
    logprob: float
    kl: float
    value: float
    advantage: float


@dataclass(frozen=True)
class ExplainedTurn:
    """One turn of the agent's.

    Attributes:
        place: of its message in the conversation.
        thought: before it, if the agent thinks.
        parts: the named score parts, unscaled.
        costs: what was unsafe.
        advantage: the turn's, as a sum of parts.
        value: what the critic expected before it, in units of scaled score.
        kl: sum over its tokens, in nats.
        tokens: those that the agent sampled.
    """

    place: int
    thought: str
    parts: Mapping[str, float]
    costs: Mapping[str, float]
    advantage: TurnAdvantage
    value: float
    kl: float
    tokens: list[TokenNumbers]


@dataclass(frozen=True)
class ExplainedEpisode:
    """An episode as the run sees it now.

    Attributes:
        trajectory: the episode.
        turns: of the agent.
        estimator: of advantages: gae, rloo or reinforce.
        unit: what a score is divided by to be in units of scaled score.
        beside: how many other episodes it was estimated with.
    """

    trajectory: Trajectory
    turns: list[ExplainedTurn]
    estimator: str
    unit: float
    beside: int


def explain_episode(opened: OpenedRun, episodes: Episodes) -> ExplainedEpisode:
    """Say what each turn of an episode was worth, and where its advantage came from.

    Policy, critic, reward and scale are the run's as they are now, not as they were when an
    episode of the transcripts was played.

    Args:
        opened: the run.
        episodes: the one that is asked about, and those beside it that advantages are compared
            and whitened with.
    """
    config, state, policy = opened.config, opened.state, opened.policy
    batch = pack(episodes.trajectories)
    annotated = annotate(policy, state.learner.critic, batch, config.ppo.token_budget)
    settings = estimator_settings(config.ppo, config.critic, state.reward.compared)
    scale = state.scales or state.scale
    found = attribute(
        annotated,
        [t.parts for t in episodes.trajectories],
        settings,
        state.beta,
        scale,
        [(t.index, len(t.parts)) for t in episodes.trajectories],
        [t.env for t in episodes.trajectories if t.env],
    )
    own, chosen = episodes.number, episodes.chosen
    spread = state.scales[chosen.env] if state.scales else state.scale
    numbers = {
        "logprob": annotated.logprobs[own],
        "kl": penalized_kl(annotated)[own],
        "value": annotated.values[own],
        "advantage": (found.total[own] - found.mean) / found.std,
    }
    return ExplainedEpisode(
        chosen,
        [_turn(policy, chosen, found, numbers, own, k) for k in range(len(chosen.parts))],
        settings.estimator,
        max(spread.std, settings.score_floor),
        len(episodes.trajectories) - 1,
    )


def _turn(
    policy: Policy,
    trajectory: Trajectory,
    found: Attribution,
    numbers: Mapping[str, torch.Tensor],
    row: int,
    turn: int,
) -> ExplainedTurn:
    """One turn; ``numbers`` are those of the row's tokens."""
    own = [i for i, number in enumerate(trajectory.turns) if number == turn]
    texts = token_texts(policy, [trajectory.ids[i] for i in own])
    read = {name: values[own].tolist() for name, values in numbers.items()}
    tokens = [
        TokenNumbers(text, *(read[name][j] for name in ("logprob", "kl", "value", "advantage")))
        for j, text in enumerate(texts)
    ]
    places = [i for i, m in enumerate(trajectory.conversation) if m.role == "assistant"]
    return ExplainedTurn(
        places[turn],
        trajectory.thoughts[turn] if trajectory.thoughts else "",
        trajectory.parts[turn],
        trajectory.costs[turn] if trajectory.costs else {},
        found.turn(row, turn),
        tokens[0].value,
        sum(token.kl for token in tokens),
        tokens,
    )


def token_texts(policy: Policy, ids: list[int]) -> list[str]:
    """The text of each token; of a character of several tokens, the last has all of it."""
    decode, texts, known = policy.template.tokenizer.decode, [], ""
    for i in range(len(ids)):
        whole = str(decode(ids[: i + 1]))
        if whole.endswith("\N{REPLACEMENT CHARACTER}") and i + 1 < len(ids):
            texts.append("")
            continue
        texts.append(whole[len(known) :])
        known = whole
    return texts
