"""The training forward over a batch: logprobs, reference logprobs, values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rlchat.algorithms.batch import Batch, Positions, action_positions, microbatches
from rlchat.algorithms.critic import Critic, features
from rlchat.models.logits import token_logprobs, top_logprobs
from rlchat.models.packing import LaidRows
from rlchat.models.policy import REFERENCE, Policy

ALTERNATIVES = 5  # tokens that a policy is said to have considered, the sampled one among them

Alternatives = tuple[Tensor, Tensor]
"""The most probable tokens at each of A action tokens: ids (A, n) and logprobs (A, n)."""


@dataclass(frozen=True)
class Annotated:
    """A batch with what the training forward says of it, without gradient.

    ``logprobs``, ``ref_logprobs`` and ``values`` are (B, T) and 0 off the action tokens;
    ``bootstrap`` (B,) is the value after the last action of a truncated episode, 0 of a
    terminated one. ``states`` (N, F) are the critic's features of all action tokens, row by row.
    ``cached_states`` holds, for each row, where training forwards start: its token ids (T,), or its
    states (T, D) after the layers that have nothing to train. ``alternatives`` are those of the
    rows for which they were asked for.
    """

    batch: Batch
    logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor
    bootstrap: Tensor
    states: Tensor
    cached_states: list[Tensor]
    alternatives: Mapping[int, Alternatives] = field(default_factory=dict)


@torch.no_grad()
def annotate(
    policy: Policy, critic: Critic, batch: Batch, budget: int, considered: Collection[int] = ()
) -> Annotated:
    """Read logprobs, reference logprobs and values of every action token.

    One forward of the policy gives logprobs and the critic's states; the old logprobs come from
    here and not from the sampler, so that the first ratio is exactly 1. Where the rollout kept what
    tokens were drawn from, which it does if its arithmetic is the forward's, that is read instead.
    A policy that is still the reference, as in a run's first iteration, needs no forward of that.
    Of the rows ``considered`` the alternatives are read too: one more product a token.
    """
    shape = batch.ids.shape
    logprobs, ref_logprobs, values = (torch.zeros(shape) for _ in range(3))
    bootstrap = torch.zeros(shape[0])
    states: dict[int, Tensor] = {}
    starts: dict[int, Tensor] = {}
    alternatives: dict[int, Alternatives] = {}
    untrained = policy.is_reference
    for rows in microbatches(batch.lengths, budget):
        contexts = batch.contexts(rows)
        packing = policy.packing(contexts.ids)
        where = action_positions(batch, rows)
        start = _start(policy, batch, rows, packing)
        ends = packing.at(*contexts.places(torch.arange(len(rows)), batch.lengths[rows] - 1))
        acts = packing.at(*contexts.places(where.row, where.token - 1))
        at = torch.cat([acts, ends]).to(policy.device)
        targets = batch.ids[rows[where.row], where.token].to(policy.device)
        own = rows[where.row], where.token
        read = _sampled(batch, rows) or _forward(policy, packing, start, at, where, targets)
        logprobs[own] = batch.sampled_logprobs[own] if read.logprobs is None else read.logprobs
        parts = [packing.row(start, i) for i in range(len(contexts.ids))]
        for row, (b, whole) in enumerate(zip(rows.tolist(), contexts.joined(parts), strict=True)):
            starts[b] = whole
            acted = where.token[where.row == row]
            turns = batch.turns[b, acted]
            states[b] = with_privileged(read.acted[row], batch, critic, b, turns)
            if b in considered:
                alternatives[b] = _alternatives(policy, read, where.row == row)
            values[b, acted] = critic(states[b])
            if not batch.terminated[b]:
                after = with_privileged(read.after[row], batch, critic, b, turns[-1:] + 1)
                bootstrap[b] = critic(after)[0]
        if untrained and read.logprobs is not None:
            ref_logprobs[own] = read.logprobs
            continue
        with policy.using(REFERENCE):
            # Called as for the policy: where both are the same, so are their logprobs, to the bit.
            last, _ = policy.trunk_states(start, packing, at, middle=True)
        ref_logprobs[own] = token_logprobs(policy.head, last[: len(targets)], targets).cpu()
    everyone = range(shape[0])
    features_of_all = torch.cat([states[b] for b in everyone])
    kept = [starts[b] for b in everyone]
    return Annotated(
        batch, logprobs, ref_logprobs, values, bootstrap, features_of_all, kept, alternatives
    )


@dataclass(frozen=True)
class _Read:
    """Logprobs and states that a forward of the policy gives for some rows.

    ``logprobs`` (N,) of their action tokens, or None if they are the sampler's; the last layer's
    states ``last`` (N, D) before these; for each row the critic's features (A, F) before each of
    its action tokens, and (1, F) after its last token.
    """

    logprobs: Tensor | None
    last: Tensor
    acted: Sequence[Tensor]
    after: Sequence[Tensor]


def _alternatives(policy: Policy, read: _Read, own: Tensor) -> Alternatives:
    """The most probable tokens at those of the action tokens read that ``own`` (N,) says."""
    states = read.last[own.to(read.last.device)]
    ids, logprobs = top_logprobs(policy.head, states, ALTERNATIVES)
    return ids.cpu(), logprobs.cpu()


def _sampled(batch: Batch, rows: Tensor) -> _Read | None:
    """Take what the rollout kept of these rows; None if it did not keep it of all."""
    kept = [s for s in (batch.sampled_states[b] for b in rows.tolist()) if s is not None]
    if len(kept) < len(rows):
        return None
    last = torch.cat([s[:, 0] for s in kept])
    return _Read(None, last, [features(*s.unbind(1)).cpu() for s in kept], [])


def _forward(
    policy: Policy,
    packing: LaidRows,
    start: Tensor,
    at: Tensor,
    where: Positions,
    targets: Tensor,
) -> _Read:
    """Run the policy over these rows; ``at`` are the places before the targets, and rows' ends."""
    last, middle = policy.trunk_states(start, packing, at, middle=True)
    assert middle is not None
    logprobs = token_logprobs(policy.head, last[: len(targets)], targets).cpu()
    rows = len(at) - len(targets)
    acted, after = features(last, middle).cpu().split([len(targets), rows])
    counts = torch.bincount(where.row, minlength=rows).tolist()
    return _Read(logprobs, last[: len(targets)], acted.split(counts), after.split(1))


def _start(policy: Policy, batch: Batch, rows: Tensor, packing: LaidRows) -> Tensor:
    """Where these rows' forwards start: as the rollout left it, or computed.

    The state of a last token is not kept, nor needed: nothing is predicted from it.
    """
    kept = [s for s in (batch.cached_states[b] for b in rows.tolist()) if s is not None]
    if len(kept) < len(rows):
        return policy.frozen_prefix(packing)
    return packing.lay([nn.functional.pad(s, (0, 0, 0, 1)) for s in kept])


def with_privileged(seen: Tensor, batch: Batch, critic: Critic, b: int, turns: Tensor) -> Tensor:
    """Append privileged features of each token's turn, if the critic reads them."""
    return (
        torch.cat([seen, batch.privileged[b, turns]], dim=-1) if critic.config.privileged else seen
    )
