"""Which earlier messages a reply hung on, by what it loses without each and by attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from rlchat.algorithms import ppo
from rlchat.evaluation.attribution.flow import AttentionShares, WatchedPacking, told_attention
from rlchat.models.logits import token_logprobs
from rlchat.models.packing import Packing
from rlchat.models.policy import Policy
from rlchat.models.templates.context import prompts_of, turn_of
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.trajectory import Trajectory
from rlchat_envs import Conversation, declared

BLANKS = ("...", "#")
"""What takes a message's place. The first is what occlusion writes; the second only helps to find
where a message's tokens are, as no text begins or ends with both."""
BUDGET = 4096  # tokens of a forward


@dataclass(frozen=True)
class AgentTurn:
    """The tokens of an agent's turn: its ids, and which of them it sampled."""

    ids: list[int]
    sampled: list[bool]


@dataclass(frozen=True)
class MessageEffect:
    """What an earlier message did to a reply.

    Attributes:
        place: of the message in the conversation.
        occlusion: nats that the reply's log-probability loses where the message is replaced by
            three dots; below 0 if the message spoke against the reply.
        attention: share of the attention of the reply's tokens that lies on the message, the mean
            over layers and heads; NaN in a model without attention.
        contribution: the same with each weight times the length of the value that it takes; NaN in
            models that are run row by row, which do not tell values.
    """

    place: int
    occlusion: float
    attention: float
    contribution: float


@dataclass(frozen=True)
class Dependence:
    """What a reply hung on.

    Attributes:
        logprob: of the reply, in nats.
        messages: effects of all messages before it.
        own: share of attention, and of contributions, of the reply itself.
        marks: those of the chat template's marks; the first token of a row takes much attention in
            most models, whatever is said.
        agreement: Spearman's rank correlation of the occlusions' sizes with attention, and with
            contributions; NaN for fewer than three messages, or where those are NaN.
    """

    logprob: float
    messages: list[MessageEffect]
    own: tuple[float, float]
    marks: tuple[float, float]
    agreement: tuple[float, float]


def agent_turns(trajectory: Trajectory) -> list[AgentTurn]:
    """The turns of a trajectory; tokens that were written for the agent within one are of it."""
    found = []
    for turn in range(len(trajectory.parts)):
        own = [i for i, number in enumerate(trajectory.turns) if number == turn]
        whole = range(own[0], own[-1] + 1)
        ids = [trajectory.ids[i] for i in whole]
        found.append(AgentTurn(ids, [trajectory.turns[i] == turn for i in whole]))
    return found


@torch.no_grad()
def dependences(
    policy: Policy,
    conversation: Conversation,
    turns: Sequence[AgentTurn],
    rollout: RolloutConfig,
    wanted: Sequence[int] | None = None,
) -> list[Dependence]:
    """Find what replies hung on.

    Args:
        policy: gives probabilities and attention, with its adapter.
        conversation: the messages.
        turns: the tokens of each of the agent's messages in it.
        rollout: budgets, as the conversation was played.
        wanted: numbers of the turns that are asked about; None for all.
    """
    reader = _Reader(policy, conversation, turns, rollout)
    return [reader.dependence(k) for k in (range(len(turns)) if wanted is None else wanted)]


@dataclass
class _Reader:
    """A conversation and what the policy reads of it, as it is and with messages left out."""

    policy: Policy
    conversation: Conversation
    turns: Sequence[AgentTurn]
    rollout: RolloutConfig

    def __post_init__(self) -> None:
        places = range(len(self.conversation))
        self.said = [i for i in places if self.conversation[i].role == "assistant"]
        self.prompts = self._prompts(self.conversation, [turn.ids for turn in self.turns])
        self.blanked = [[self._without(i, blank) for blank in BLANKS] for i in places]

    def dependence(self, turn: int) -> Dependence:
        """What one reply hung on."""
        before, own = range(self.said[turn]), self.turns[turn]
        prompts = [self.prompts[turn], *(self.blanked[i][0][turn] for i in before)]
        known, *others = self._logprobs(prompts, own)
        spans = self._spans(turn)
        weights, taken = self._attention(self.prompts[turn], own, spans)
        effects = [
            MessageEffect(i, known - other, weights[i], taken[i])
            for i, other in zip(before, others, strict=True)
        ]
        sizes = [abs(effect.occlusion) for effect in effects]
        count = len(effects)
        return Dependence(
            known,
            effects,
            (weights[count], taken[count]),
            (weights[count + 1], taken[count + 1]),
            (rank_correlation(sizes, weights[:count]), rank_correlation(sizes, taken[:count])),
        )

    def _prompts(self, conversation: Conversation, ids: Sequence[list[int]]) -> list[list[int]]:
        rollout = self.rollout
        most = rollout.max_new_tokens, rollout.max_tokens
        return prompts_of(self.policy.template, conversation, ids, *most)

    def _without(self, place: int, blank: str) -> list[list[int]]:
        """What is read before each turn where a message is replaced."""
        changed = list(self.conversation)
        changed[place] = replace(changed[place], content=blank)
        ids = [turn.ids for turn in self.turns]
        if place in self.said:
            ids[self.said.index(place)] = turn_of(
                self.policy.template, blank, tools=declared(self.conversation)
            )
        return self._prompts(tuple(changed), ids)

    def _spans(self, turn: int) -> list[range]:
        """Where the tokens of each earlier message are in what is read before a turn.

        The tokens that change with a message are its own. Where the opening was too long, and other
        tokens come in from the left, those that an earlier message has are not a later one's.
        """
        ids, spans, taken = self.prompts[turn], [], 0
        for place in range(self.said[turn]):
            others = [blanked[turn] for blanked in self.blanked[place]]
            begin = min(_same(ids, other) for other in others)
            end = len(ids) - min(_same(ids[::-1], other[::-1]) for other in others)
            spans.append(range(max(begin, taken), max(begin, taken, end)))
            taken = spans[-1].stop
        return spans

    def _logprobs(self, prompts: Sequence[list[int]], turn: AgentTurn) -> list[float]:
        """The log-probability of a turn's sampled tokens after each of some prompts."""
        policy, found = self.policy, []
        ids = torch.tensor(turn.ids)
        (acts,) = torch.tensor(turn.sampled).nonzero(as_tuple=True)
        most = max(1, BUDGET // (max(map(len, prompts)) + len(ids)))
        for first in range(0, len(prompts), most):
            some = prompts[first : first + most]
            packing = policy.packing([torch.cat([torch.tensor(p), ids]) for p in some])
            row = torch.arange(len(some)).repeat_interleave(len(acts))
            place = torch.cat([len(p) + acts - 1 for p in some])
            at = packing.at(row, place).to(policy.device)
            last, _ = policy.trunk_states(packing.ids, packing, at)
            targets = ids[acts].repeat(len(some)).to(policy.device)
            logprobs = token_logprobs(policy.head, last, targets)
            found += ppo.wide(logprobs.view(len(some), -1)).sum(1).tolist()
        return found

    def _attention(
        self, prompt: list[int], turn: AgentTurn, spans: Sequence[range]
    ) -> tuple[list[float], list[float]]:
        """Shares of attention and of contributions: of each span, the turn itself, the rest."""
        (acts,) = torch.tensor(turn.sampled).nonzero(as_tuple=True)
        row = self.policy.packing([torch.tensor([*prompt, *turn.ids])])
        if not isinstance(row, Packing):
            return self._told([*prompt, *turn.ids], len(prompt) + acts - 1, spans, len(prompt))
        at = row.at(torch.zeros_like(acts), len(prompt) + acts - 1).to(self.policy.device)
        own = {name.name: getattr(row, name.name) for name in fields(row) if name.name != "masks"}
        watched = WatchedPacking(**own, shares=AttentionShares(at))
        self.policy.trunk_states(watched.ids, watched, at)
        said = range(len(prompt), len(prompt) + len(turn.ids))
        weights, taken = watched.shares.mean()
        own_spans = (*spans, said)
        return _parts(weights, watched.first, own_spans), _parts(taken, watched.first, own_spans)

    def _told(
        self, ids: list[int], at: Tensor, spans: Sequence[range], begin: int
    ) -> tuple[list[float], list[float]]:
        """Likewise of a model that is run row by row, which tells no values."""
        device, unknown = self.policy.device, [math.nan] * (len(spans) + 2)
        weights = told_attention(self.policy.hf, torch.tensor(ids, device=device), at.to(device))
        if weights is None:
            return unknown, unknown
        return _parts(weights, 0, (*spans, range(begin, len(ids)))), unknown


def _parts(weights: Tensor, first: int, spans: Sequence[range]) -> list[float]:
    """The sum of each span, which begins behind ``first`` other places, and of the rest."""
    found = [float(weights[first + s.start : first + s.stop].sum()) for s in spans]
    return [*found, max(0.0, float(weights.sum()) - sum(found))]


def _same(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two rows begin with alike."""
    shortest = min(len(one), len(other))
    return next((i for i in range(shortest) if one[i] != other[i]), shortest)


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's rank correlation; NaN for fewer than three values, constants, or any NaN."""
    if len(one) < 3 or any(math.isnan(x) for x in (*one, *other)):
        return math.nan
    if len(set(one)) == 1 or len(set(other)) == 1:
        return math.nan
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    """The place of each value in order; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    means: np.ndarray = (ends - counts + ends - 1) / 2
    return means[inverse]
