"""From trajectories to what an update needs: packed, annotated, estimated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlchat.algorithms import ppo
from rlchat.algorithms.critic import PRIVILEGED, Critic, features, hash_hidden
from rlchat.models.logits import token_logprobs
from rlchat.models.packing import Packing
from rlchat.models.policy import REFERENCE, Policy
from rlchat.rollout.trajectory import Trajectory
from rlchat.statistics import RunningStd

ROUNDING = 1e-5  # nats; what float32's rounding may make of two equal logprobs


@dataclass(frozen=True)
class Batch:
    """Episodes as right-padded rows. B episodes, T tokens, K turns.

    ``starts`` holds the states of a row's tokens but the last, and ``spoken`` (A, 2, D) those that
    its A action tokens were drawn from, where the rollout kept them.
    ``scores`` (B, T) lie on each turn's last action token, unscaled. ``turns`` (B, T) is -1 where
    nobody acts. ``hidden`` is (B, K or K + 1, PRIVILEGED). ``index`` (B,) is the episode's number
    in the iteration, over all ranks.
    """

    ids: Tensor
    lengths: Tensor
    action_mask: Tensor
    turn_end: Tensor
    turns: Tensor
    scores: Tensor
    sampled_logprobs: Tensor
    terminated: Tensor
    index: Tensor
    hidden: Tensor
    starts: list[Tensor | None]
    spoken: list[Tensor | None]

    @property
    def tokens(self) -> int:
        """Tokens that are not padding."""
        return int(self.lengths.sum())


@dataclass(frozen=True)
class Annotated:
    """A batch with what the training forward says of it, without gradient.

    ``logprobs``, ``ref_logprobs`` and ``values`` are (B, T) and 0 off the action tokens;
    ``bootstrap`` (B,) is the value after the last action of a truncated episode, 0 of a
    terminated one. ``states`` (N, F) are the critic's features of all action tokens, row by row.
    ``starts`` holds, for each row, where training forwards start: its token ids (T,), or its states
    (T, D) after the layers that have nothing to train.
    """

    batch: Batch
    logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor
    bootstrap: Tensor
    states: Tensor
    starts: list[Tensor]


@dataclass(frozen=True)
class Estimated:
    """An annotated batch with advantages (whitened), the critic's targets and sampler weights."""

    annotated: Annotated
    advantages: Tensor
    returns: Tensor
    weights: Tensor | None


def pack(trajectories: Sequence[Trajectory]) -> Batch:
    """Lay trajectories side by side, one row each."""
    rows, width = len(trajectories), max(len(t.ids) for t in trajectories)
    ids = torch.zeros(rows, width, dtype=torch.long)
    turns = torch.full((rows, width), -1)
    sampled = torch.zeros(rows, width)
    scores = torch.zeros(rows, width)
    turn_end = torch.zeros(rows, width, dtype=torch.bool)
    most = max(len(t.hidden) for t in trajectories)
    hidden = torch.zeros(rows, most, PRIVILEGED)
    for b, trajectory in enumerate(trajectories):
        length = len(trajectory.ids)
        ids[b, :length] = torch.tensor(trajectory.ids)
        turns[b, :length] = torch.tensor(trajectory.turns)
        sampled[b, :length] = torch.tensor(trajectory.sampled_logprobs)
        for k, parts in enumerate(trajectory.parts):
            last = int((turns[b] == k).nonzero()[-1])
            scores[b, last] = sum(parts.values())
            turn_end[b, last] = True
        for k, facts in enumerate(trajectory.hidden):
            hidden[b, k] = hash_hidden({**facts, "turn": k})  # which no world needs to tell
    return Batch(
        ids=ids,
        lengths=torch.tensor([len(t.ids) for t in trajectories]),
        action_mask=turns >= 0,
        turn_end=turn_end,
        turns=turns,
        scores=scores,
        sampled_logprobs=sampled,
        terminated=torch.tensor([t.terminated for t in trajectories]),
        index=torch.tensor([t.index for t in trajectories]),
        hidden=hidden,
        starts=[t.starts for t in trajectories],
        spoken=[t.spoken for t in trajectories],
    )


def microbatches(lengths: Tensor, budget: int) -> Iterator[Tensor]:
    """Deal rows to as few forwards as hold at most ``budget`` tokens each, one row at least."""
    forward: list[int] = []
    tokens = 0
    for row, length in enumerate(lengths.tolist()):
        if forward and tokens + length > budget:
            yield torch.tensor(forward)
            forward, tokens = [], 0
        forward.append(row)
        tokens += length
    if forward:
        yield torch.tensor(forward)


@torch.no_grad()
def annotate(policy: Policy, critic: Critic, batch: Batch, budget: int) -> Annotated:
    """Read logprobs, reference logprobs and values of every action token.

    One forward of the policy gives logprobs and the critic's states; the old logprobs come from
    here and not from the sampler, so that the first ratio is exactly 1. Where the rollout kept what
    tokens were drawn from, which it does if its arithmetic is the forward's, that is read instead.
    """
    shape = batch.ids.shape
    logprobs, ref_logprobs, values = (torch.zeros(shape) for _ in range(3))
    bootstrap = torch.zeros(shape[0])
    states: dict[int, Tensor] = {}
    starts: dict[int, Tensor] = {}
    for rows in microbatches(batch.lengths, budget):
        packing = policy.packing([batch.ids[b, : batch.lengths[b]] for b in rows])
        where = action_positions(batch, rows)
        start = _start(policy, batch, rows, packing)
        lengths = batch.lengths[rows]
        ends = packing.at(torch.arange(len(rows)), lengths - 1)
        at = torch.cat([packing.at(where.row, where.token - 1), ends]).to(policy.device)
        targets = batch.ids[rows[where.row], where.token].to(policy.device)
        own = rows[where.row], where.token
        read = _sampled(batch, rows) or _forward(policy, packing, start, at, where, targets)
        logprobs[own] = batch.sampled_logprobs[own] if read.logprobs is None else read.logprobs
        for row, b in enumerate(rows.tolist()):
            starts[b] = packing.row(start, row)
            acted = where.token[where.row == row]
            turns = batch.turns[b, acted]
            states[b] = _with_hidden(read.acted[row], batch, critic, b, turns)
            values[b, acted] = critic(states[b])
            if not batch.terminated[b]:
                after = _with_hidden(read.after[row], batch, critic, b, turns[-1:] + 1)
                bootstrap[b] = critic(after)[0]
        with policy.using(REFERENCE):
            # Called as for the policy: where both are the same, so are their logprobs, to the bit.
            last, _ = policy.hidden(start, packing, at, middle=True)
        ref_logprobs[own] = token_logprobs(policy.head, last[: len(targets)], targets).cpu()
    everyone = range(shape[0])
    return Annotated(
        batch,
        logprobs,
        ref_logprobs,
        values,
        bootstrap,
        torch.cat([states[b] for b in everyone]),
        [starts[b] for b in everyone],
    )


@dataclass(frozen=True)
class _Read:
    """What the policy says of some rows.

    ``logprobs`` (N,) of their action tokens, or None if they are the sampler's; for each row the
    critic's features (A, F) before each of its action tokens, and (1, F) after its last token.
    """

    logprobs: Tensor | None
    acted: Sequence[Tensor]
    after: Sequence[Tensor]


def _sampled(batch: Batch, rows: Tensor) -> _Read | None:
    """Take what the rollout kept of these rows; None if it did not keep it of all."""
    kept = [s for s in (batch.spoken[b] for b in rows.tolist()) if s is not None]
    if len(kept) < len(rows):
        return None
    return _Read(None, [features(*s.unbind(1)).cpu() for s in kept], [])


def _forward(
    policy: Policy,
    packing: Packing,
    start: Tensor,
    at: Tensor,
    where: Positions,
    targets: Tensor,
) -> _Read:
    """Run the policy over these rows; ``at`` are the places before the targets, and rows' ends."""
    last, middle = policy.hidden(start, packing, at, middle=True)
    assert middle is not None
    logprobs = token_logprobs(policy.head, last[: len(targets)], targets).cpu()
    rows = len(packing.rows)
    acted, after = features(last, middle).cpu().split([len(targets), rows])
    counts = torch.bincount(where.row, minlength=rows).tolist()
    return _Read(logprobs, acted.split(counts), after.split(1))


def _start(policy: Policy, batch: Batch, rows: Tensor, packing: Packing) -> Tensor:
    """Where these rows' forwards start: as the rollout left it, or computed.

    The state of a last token is not kept, nor needed: nothing is predicted from it.
    """
    kept = [s for s in (batch.starts[b] for b in rows.tolist()) if s is not None]
    if len(kept) < len(rows):
        return policy.below(packing)
    return packing.lay([nn.functional.pad(s, (0, 0, 0, 1)) for s in kept])


@dataclass(frozen=True, slots=True)
class Positions:
    """Action tokens of some rows: (N,) row in the microbatch, and (N,) place of the token."""

    row: Tensor
    token: Tensor


def action_positions(batch: Batch, rows: Tensor) -> Positions:
    """Find the action tokens of these rows, row by row."""
    row, token = batch.action_mask[rows].nonzero(as_tuple=True)
    return Positions(row, token)


def _with_hidden(seen: Tensor, batch: Batch, critic: Critic, b: int, turns: Tensor) -> Tensor:
    return torch.cat([seen, batch.hidden[b, turns]], dim=-1) if critic.config.privileged else seen


@dataclass(frozen=True)
class EstimatorSettings:
    """How advantages are made; see `rlchat.algorithms.config.PPOConfig`, which documents each."""

    estimator: str
    discounts: ppo.Discounts
    lambda_return: float
    group_size: int
    std_floor: float
    score_floor: float
    sampler_gap: float


def estimate(
    annotated: Annotated,
    settings: EstimatorSettings,
    beta: float,
    scale: RunningStd,
    everyone: Sequence[tuple[int, float]],
    reduce: ppo.Reduce = ppo.alone,
) -> Estimated:
    """Put the KL into the reward, then make advantages and the critic's targets.

    Args:
        annotated: this rank's episodes.
        settings: the estimator.
        beta: price of a nat of k1, in units of scaled score.
        scale: running spread of scores per turn; it has seen this iteration's.
        everyone: (index, score) of all ranks' episodes, for estimators that compare episodes.
        reduce: sums over ranks.
    """
    batch = annotated.batch
    mask = batch.action_mask
    unit = max(scale.std, settings.score_floor)
    kl = ppo.k1(annotated.logprobs, annotated.ref_logprobs)
    # Adam would make full steps of what is rounding between sampler and forward, if nothing else is
    # rewarded.
    kl = torch.where(kl.abs() < ROUNDING, 0.0, kl)
    rewards = ppo.rewards(batch.scores / unit, kl, mask, batch.turn_end, beta)

    def along(discounts: ppo.Discounts, values: Tensor, bootstrap: Tensor) -> Tensor:
        return ppo.gae(rewards, values, bootstrap, mask, batch.turn_end, discounts)

    d = settings.discounts
    target = ppo.Discounts(d.gamma_token, d.lambda_token, d.gamma_turn, settings.lambda_return)
    values, bootstrap = annotated.values, annotated.bootstrap
    returns = along(target, values, bootstrap) + values
    if settings.estimator == "gae":
        advantages = along(d, values, bootstrap)
    else:
        # Without a critic: the reward to come, minus what the others' episodes returned.
        plain = ppo.Discounts(d.gamma_token, 1.0, d.gamma_turn, 1.0)
        to_go = along(plain, torch.zeros_like(values), torch.zeros_like(bootstrap))
        baseline = _others(batch, settings, everyone, unit)
        advantages = torch.where(mask, to_go - baseline[:, None], torch.zeros_like(to_go))
    gap = (annotated.logprobs - batch.sampled_logprobs).abs()
    mean_gap, _ = ppo.masked_moments(gap, mask, reduce)
    return Estimated(
        annotated,
        ppo.whiten(advantages, mask, settings.std_floor, reduce),
        torch.where(mask, returns, torch.zeros_like(returns)),
        ppo.importance_weights(annotated.logprobs, batch.sampled_logprobs)
        if float(mean_gap) > settings.sampler_gap
        else None,
    )


def _others(
    batch: Batch,
    settings: EstimatorSettings,
    everyone: Sequence[tuple[int, float]],
    unit: float,
) -> Tensor:
    """The mean return of the other episodes: of the same start (rloo), or of all (reinforce)."""
    index = torch.tensor([i for i, _ in everyone])
    scores = torch.tensor([s for _, s in everyone], dtype=torch.float32) / unit
    groups = index // settings.group_size if settings.estimator == "rloo" else index * 0
    baseline = scores - ppo.group_advantages(scores, groups)
    place = {int(i): p for p, i in enumerate(index)}
    return torch.stack([baseline[place[int(i)]] for i in batch.index])
