"""The mathematics of multi-turn PPO, as pure functions of tensors.

Shapes: B episodes, T tokens. ``action_mask`` is True at tokens the policy sampled, end-of-turn
included; all else (user text, records, template) is state, and no recursion passes through it.
Masked-out slots may hold anything, NaN included. Quantities are per token, in nats or in units of
scaled score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over all ranks; the identity when there is one."""

MAX_LOG_RATIO = 20.0


def alone(x: Tensor) -> Tensor:
    """The reduction over one rank."""
    return x


@dataclass(frozen=True, slots=True)
class Discounts:
    """Discount and GAE decay inside a turn, and across the user's reply."""

    gamma_token: float = 1.0
    lambda_token: float = 1.0
    gamma_turn: float = 1.0
    lambda_turn: float = 0.95


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """The k1 estimate of KL(policy || reference) at a sampled token: its expectation is the KL.

    Schulman 2020, "Approximating KL divergence".
    """
    return logprobs - ref_logprobs


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """The k3 estimate of the same: exp(-k1) - 1 + k1, never negative, less variance."""
    minus_k1 = (ref_logprobs - logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return torch.expm1(minus_k1) - minus_k1


def rewards(
    scores: Tensor, kl: Tensor, action_mask: Tensor, turn_end: Tensor, beta: float
) -> Tensor:
    """r_j = [score of the turn, if j is its last action token] - beta * k1_j.

    Args:
        scores: (B, T), a turn's score on its last action token, 0 elsewhere.
        kl: (B, T), k1 per action token.
        action_mask: (B, T).
        turn_end: (B, T), True at the last action token of each turn.
        beta: price of a nat, in score units.

    Raises:
        ValueError: a score that lies on no turn's last action token would be lost.
    """
    if bool((scores.where(~turn_end, torch.zeros_like(scores)) != 0).any()):
        raise ValueError("expected scores on the last action token of a turn; got one elsewhere")
    if bool((turn_end & ~action_mask).any()):
        raise ValueError("expected turns to end on an action token; got an end on another")
    zero = torch.zeros_like(scores)
    return torch.where(turn_end, scores, zero) - beta * torch.where(action_mask, kl, zero)


def gae(
    rewards: Tensor,
    values: Tensor,
    bootstrap: Tensor,
    action_mask: Tensor,
    turn_end: Tensor,
    discounts: Discounts,
) -> Tensor:
    """Generalised advantages over the action tokens of a conversation, one recursion.

    delta_j = r_j + gamma_j V_{j+1} - V_j and A_j = delta_j + gamma_j lambda_j A_{j+1}, where j + 1
    is the next *action* token, across any user reply, and (gamma, lambda) are the turn's at a
    turn's last token and the token's elsewhere. Schulman et al. 2016.

    Args:
        rewards: (B, T).
        values: (B, T), V_j read before token j.
        bootstrap: (B,), the value after the last action: 0 if terminated.
        action_mask: (B, T).
        turn_end: (B, T).
        discounts: the two pairs.

    Returns:
        (B, T), 0 where the mask is False.
    """
    advantages = torch.zeros_like(values)
    next_value, next_advantage = bootstrap.clone(), torch.zeros_like(bootstrap)
    number = values.new_tensor  # Python numbers would become float32 whatever the values are
    gammas = torch.where(turn_end, number(discounts.gamma_turn), number(discounts.gamma_token))
    decays = torch.where(turn_end, number(discounts.lambda_turn), number(discounts.lambda_token))
    for t in reversed(range(values.shape[1])):
        gamma, decay = gammas[:, t], decays[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = delta + gamma * decay * next_advantage
        acts = action_mask[:, t]
        advantages[:, t] = torch.where(acts, advantage, advantages[:, t])
        next_advantage = torch.where(acts, advantage, next_advantage)
        next_value = torch.where(acts, values[:, t], next_value)
    return advantages


def others_mean(to_go: Tensor, reached: Tensor, groups: Tensor) -> Tensor:
    """Average over the *other* episodes of a group of what they had still to come at each turn.

    A baseline for the reward to come from a turn on that hangs on nothing of the own episode (leave
    one out): RLOO (Ahmadian et al. 2024) when a group shares a start; with one group for the whole
    batch it is REINFORCE with a batch baseline. Episodes that ended before a turn say nothing of
    it; where no other reached it, the baseline is 0, which is as unbiased.

    Args:
        to_go: (B, K), the reward to come from each turn's first action token on.
        reached: (B, K), whether the episode has that turn.
        groups: (B,), integer labels.
    """
    same = (groups[:, None] == groups[None, :]).to(to_go.dtype)
    others = same - torch.eye(len(groups), dtype=to_go.dtype, device=to_go.device)
    total = others @ torch.where(reached, to_go, torch.zeros_like(to_go))
    return total / (others @ reached.to(to_go.dtype)).clamp(min=1)


def wide(x: Tensor) -> Tensor:
    """Numbers in double precision, on the CPU where their device has none (Apple's)."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def masked_moments(x: Tensor, mask: Tensor, reduce: Reduce = alone) -> tuple[Tensor, Tensor]:
    """Mean and (biased) standard deviation over the True slots of all ranks."""
    kept = wide(x[mask])
    count, total = reduce(torch.stack([kept.new_tensor(kept.numel()), kept.sum()]))
    mean = total / count.clamp(min=1)
    squares = reduce(((kept - mean) ** 2).sum())
    std = (squares / count.clamp(min=1)).sqrt()
    return mean.to(x), std.to(x)


def whiten(x: Tensor, mask: Tensor, floor: float, reduce: Reduce = alone) -> Tensor:
    """Shift and scale to mean 0, std 1 over all action tokens of all ranks.

    The std is floored: without a signal, whitening would blow up noise to full size.

    Returns:
        (B, T), 0 where the mask is False.
    """
    mean, std = masked_moments(x, mask, reduce)
    return torch.where(mask, (x - mean) / std.clamp(min=floor), torch.zeros_like(x))


@dataclass(frozen=True, slots=True)
class Clip:
    """Bounds of how far one update may move a token's probability."""

    low: float = 0.2
    high: float = 0.28
    dual: float = 3.0  # bounds the loss where the advantage is negative; 0 is off


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """The loss of some tokens, and sums over them for the log."""

    loss: Tensor
    clipped: Tensor  # tokens whose ratio the clip held back
    kl_update: Tensor  # k3 of the update, KL(old || new)
    ratio_sum: Tensor


def policy_loss(
    new_logprobs: Tensor,
    logprobs: Tensor,
    advantages: Tensor,
    clip: Clip,
    denominator: float,
    weights: Tensor | None = None,
) -> PolicyLoss:
    """PPO's clipped surrogate over a flat list of action tokens (Schulman et al. 2017).

    sum_j w_j max(-rho_j A_j, -clip(rho_j, 1 - low, 1 + high) A_j) / denominator; where A_j < 0 the
    term is at most -dual * A_j (dual clip, Ye et al. 2020).

    Args:
        new_logprobs: (N,), under the policy being updated.
        logprobs: (N,), under the policy that sampled, from the training forward.
        advantages: (N,).
        clip: the bounds.
        denominator: action tokens of the whole iteration / minibatches, whatever the split: a
            sum over this is the same however tokens are dealt to microbatches and ranks.
        weights: (N,), truncated importance weights of the sampler, or None.
    """
    log_ratio = (new_logprobs - logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    ratio = log_ratio.exp()
    plain = -ratio * advantages
    held = -ratio.clamp(1 - clip.low, 1 + clip.high) * advantages
    losses = torch.maximum(plain, held)
    if clip.dual:
        losses = torch.where(advantages < 0, torch.minimum(losses, -clip.dual * advantages), losses)
    if weights is not None:
        losses = losses * weights
    return PolicyLoss(
        loss=losses.sum() / denominator,
        clipped=(held > plain).sum().detach(),
        kl_update=(torch.expm1(log_ratio) - log_ratio).sum().detach(),
        ratio_sum=ratio.sum().detach(),
    )


def importance_weights(logprobs: Tensor, sampled_logprobs: Tensor, most: float = 2.0) -> Tensor:
    """min(pi_train / pi_sampler, most): corrects for a sampler that rounds differently."""
    gap = (logprobs - sampled_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return gap.exp().clamp(max=most)


def value_loss(
    new_values: Tensor, values: Tensor, returns: Tensor, clip: float, denominator: float
) -> Tensor:
    """Half the squared error over action tokens, with the step from the old values clipped.

    Args:
        new_values: (N,), with gradient.
        values: (N,), before the update.
        returns: (N,), targets.
        clip: largest step that is credited; 0 is off.
        denominator: as in `policy_loss`.
    """
    errors = (new_values - returns) ** 2
    if clip:
        held = values + (new_values - values).clamp(-clip, clip)
        errors = torch.maximum(errors, (held - returns) ** 2)
    return 0.5 * errors.sum() / denominator


def explained_variance(
    values: Tensor, returns: Tensor, mask: Tensor, reduce: Reduce = alone
) -> float:
    """1 - Var(returns - values) / Var(returns); 1 is perfect, 0 is a constant's."""
    _, spread = masked_moments(returns, mask, reduce)
    _, left = masked_moments(returns - values, mask, reduce)
    return 0.0 if float(spread) == 0 else 1 - float(left / spread) ** 2


def adapt_beta(beta: float, kl: float, target: float, episodes: int, horizon: int) -> float:
    """The adaptive KL price: beta (1 + clip(kl/target - 1, +-0.2) n / horizon).

    Ziegler et al. 2019; ``kl`` is the mean k1 per action token, n and horizon count episodes.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return beta * (1 + error * episodes / horizon)
