"""One iteration's learning: clipped minibatches for the policy, regression for the critic."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from rlchat.algorithms import ppo
from rlchat.algorithms.advantages import Estimated
from rlchat.algorithms.batch import Batch, action_positions, microbatches
from rlchat.algorithms.config import PPOConfig
from rlchat.algorithms.critic import Critic, features
from rlchat.algorithms.optimizer import MasterAdamW
from rlchat.distributed import Distributed
from rlchat.models.logits import token_logprobs
from rlchat.models.policy import Policy

CRITIC_NORM = 1.0


@dataclass
class Learner:
    """Policy and critic with their optimizers, and the processes that share the gradients."""

    policy: Policy
    critic: Critic
    policy_optimizer: MasterAdamW
    critic_optimizer: torch.optim.Adam
    ranks: Distributed
    skipped: int = field(default=0)  # non-finite updates in a row


def update_policy(
    learner: Learner, estimated: Estimated, config: PPOConfig, episodes: int, seed: tuple[int, ...]
) -> dict[str, float]:
    """Run the epochs of clipped minibatches over an iteration's episodes.

    Args:
        learner: is changed.
        estimated: this rank's episodes.
        config: of PPO.
        episodes: of the iteration, over all ranks; minibatches are drawn from all.
        seed: (seed, iteration), decides the order.

    Returns:
        Metrics: clip fraction, update KL, gradient norm, skipped updates.
    """
    batch, ranks = estimated.annotated.batch, learner.ranks
    actions = float(ranks.sum(ppo.wide(batch.action_mask.sum())))
    denominator = actions / config.minibatches
    sums = torch.zeros(4, dtype=torch.double)
    norms, skipped = [], 0
    for epoch in range(config.epochs):
        order = np.random.default_rng([*seed, epoch]).permutation(episodes)
        for chosen in np.array_split(order, config.minibatches):
            rows = torch.isin(batch.index, torch.from_numpy(chosen)).nonzero()[:, 0]
            sums += accumulate(learner, estimated, rows, config, denominator)
            ranks.sum_gradients(learner.policy_optimizer.parameters)
            norm = learner.policy_optimizer.clip_(config.gradient_norm)
            if math.isfinite(norm):
                learner.policy_optimizer.step()
                norms.append(norm)
                learner.skipped = 0
            else:
                learner.policy_optimizer.zero_grad()
                skipped += 1
                learner.skipped += 1
            _step_shared_critic(learner, math.isfinite(norm))
    total = ranks.sum(sums)
    seen = max(float(total[3]), 1.0)
    return {
        "clip_fraction": float(total[0]) / seen,
        "update_kl": float(total[1]) / seen,
        "ratio": float(total[2]) / seen,
        "gradient_norm": float(np.mean(norms)) if norms else math.nan,
        "skipped_updates": float(skipped),
    }


def accumulate(
    learner: Learner, estimated: Estimated, rows: Tensor, config: PPOConfig, denominator: float
) -> Tensor:
    """Accumulate the gradient of some rows; give (clipped, update KL, ratio, tokens) sums."""
    policy, batch = learner.policy, estimated.annotated.batch
    shared = learner.critic.config.states == "shared"
    sums = torch.zeros(4, dtype=torch.double)
    for part in microbatches(batch.lengths[rows], config.token_budget):
        own = rows[part]
        contexts = batch.contexts(own)
        packing = policy.packing(contexts.ids)
        where = action_positions(batch, own)
        starts = [estimated.annotated.cached_states[b] for b in own.tolist()]
        place = packing.at(*contexts.places(where.row, where.token - 1)).to(policy.device)
        start = packing.lay(contexts.parted(starts))
        before, middle = policy.trunk_states(start, packing, place, middle=shared)
        targets = batch.ids[own[where.row], where.token].to(policy.device)
        new_logprobs = token_logprobs(policy.head, before, targets)

        def of(
            x: Tensor,
            own: Tensor = own,
            where_token: Tensor = where.token,
            where_row: Tensor = where.row,
        ) -> Tensor:
            return x[own[where_row], where_token].to(policy.device)

        loss = ppo.policy_loss(
            new_logprobs,
            of(estimated.annotated.logprobs),
            of(estimated.advantages),
            config.clip,
            denominator,
            None if estimated.weights is None else of(estimated.weights),
        )
        total = loss.loss
        if shared:
            assert middle is not None
            seen = features(before, middle).cpu()
            total = total + _shared_value_loss(
                learner.critic, batch, own, where.row, where.token, seen, estimated, denominator
            ).to(total.device)
        total.backward()
        told = (loss.clipped, loss.kl_update, loss.ratio_sum)
        counts = torch.stack([ppo.wide(x) for x in told])
        sums += torch.cat([counts.cpu(), torch.tensor([float(len(place))], dtype=torch.double)])
    return sums


def _shared_value_loss(
    critic: Critic,
    batch: Batch,
    rows: Tensor,
    row: Tensor,
    token: Tensor,
    seen: Tensor,
    estimated: Estimated,
    denominator: float,
) -> Tensor:
    if critic.config.privileged:
        seen = torch.cat([seen, batch.privileged[rows[row], batch.turns[rows[row], token]]], dim=-1)
    old, target = (x[rows[row], token] for x in (estimated.annotated.values, estimated.returns))
    config = critic.config
    loss = ppo.value_loss(critic(seen), old, target, config.value_clip, denominator)
    return config.loss_weight * loss


def _step_shared_critic(learner: Learner, finite: bool) -> None:
    if learner.critic.config.states != "shared":
        return
    if finite:
        learner.ranks.sum_gradients(list(learner.critic.parameters()))
        learner.critic_optimizer.step()
    learner.critic_optimizer.zero_grad(set_to_none=True)


def fit_critic(learner: Learner, estimated: Estimated) -> float:
    """Fit the critic to this iteration's returns, on the states that the annotation computed.

    What is privileged first, a row a turn; then the network, by full-batch steps, the same on every
    rank. A shared critic's network learns with the policy instead.

    Returns:
        The loss before the last step, per action token.
    """
    critic, ranks = learner.critic, learner.ranks
    mask, ends = estimated.annotated.batch.action_mask, estimated.annotated.batch.turn_end
    states, returns = estimated.annotated.states, estimated.returns[mask]
    critic.weigh_facts(states[ends[mask]], estimated.returns[ends], ranks.sum)
    if critic.config.states == "shared":
        return math.nan
    values = estimated.annotated.values[mask]
    count = float(ranks.sum(torch.tensor(float(len(returns)))))
    loss = torch.zeros(())
    for _ in range(critic.config.epochs):
        loss = ppo.value_loss(critic(states), values, returns, critic.config.value_clip, count)
        loss.backward()
        ranks.sum_gradients(list(critic.parameters()))
        norm = torch.nn.utils.clip_grad_norm_(critic.parameters(), CRITIC_NORM)
        if not torch.isfinite(norm):
            learner.critic_optimizer.zero_grad(set_to_none=True)
            break
        learner.critic_optimizer.step()
        learner.critic_optimizer.zero_grad(set_to_none=True)
    return float(ranks.sum(loss.detach()))
