"""Multi-turn PPO for dialogue on one page: the whole method, without options, resume or processes.

A conversation is one episode. The model's tokens are the actions; what the user says is the world's
answer, a part of the state: nothing is learned from it, and no recursion passes through it.
``python recipes/ppo_loop.py`` trains the warm-started agent that comes with the package. The
numbers are those of `rlchat.train`, whose critic also reads what the simulator hides from the
policy; tests/recipes/test_ppo_loop.py compares the two.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rlchat import EnvConfig, RolloutConfig, Trajectory
from rlchat.models.adapter_io import adapter_folder, base_spec
from rlchat.models.config import AdapterConfig
from rlchat.models.logits import token_logprobs
from rlchat.models.policy import REFERENCE, Policy
from rlchat.rollout.collect import collect
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.seeding import Purpose

POLICY_RATE, CRITIC_RATE = 2.5e-4, 5e-4  # learning rates
EPOCHS, MINIBATCHES, CRITIC_EPOCHS = 2, 4, 10
WIDTH = 256  # of the critic's one hidden layer
BETA = 0.03  # price of a nat of KL to the reference, in standard deviations of a turn's score
GAMMA_TURN, LAMBDA_TURN = 1.0, 0.95  # across the user's reply; inside a turn both are 1
CLIP_LOW, CLIP_HIGH, DUAL_CLIP = 0.2, 0.28, 3.0
FLOOR = 0.1  # no spread is taken for smaller: without a signal, noise would be blown up
ROUNDING = 1e-5  # nats; what float32 may make of two equal logprobs


def new_critic(size: int, seed: int) -> nn.Module:
    """Make what tells, before each action token, how much the rest will be worth: 0 at first."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Linear(2 * size, WIDTH), nn.Linear(WIDTH, 1)
    for parameter in layers[1].parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Flatten(0))


def counts(played: list[Trajectory]) -> list[int]:
    """How many of all action tokens are each episode's."""
    return [sum(e.action_mask) for e in played]


def forward(policy: Policy, episodes: list[Trajectory]) -> tuple[Tensor, Tensor, Tensor]:
    """Logprobs (N,) of all action tokens, and states before each (N, F) and at each end (B, F).

    The states are of the last layer and one two thirds up, normalized; the critic reads them.
    """
    packing = policy.packing([torch.tensor(e.ids) for e in episodes])  # no padding
    acts = [(b, j) for b, e in enumerate(episodes) for j, acts in enumerate(e.action_mask) if acts]
    row, place = torch.tensor(acts).unbind(1)
    ends = torch.tensor([len(e.ids) - 1 for e in episodes])
    # The state before a token predicts it: one to the left.
    at = torch.cat([packing.at(row, place - 1), packing.at(torch.arange(len(ends)), ends)])
    last, middle = policy.trunk_states(packing.ids, packing, at.to(policy.device), middle=True)
    targets = torch.tensor([episodes[b].ids[j] for b, j in acts], device=policy.device)
    logprobs = token_logprobs(policy.head, last[: len(acts)], targets).cpu()
    assert middle is not None
    layers = [nn.functional.layer_norm(x.float(), x.shape[-1:]) for x in (last, middle)]
    # Detached: the critic's loss leaves the policy's weights alone.
    before, after = torch.cat(layers, dim=-1).detach().cpu().split([len(acts), len(ends)])
    return logprobs, before, after


def gae(decay: float, rewards: Tensor, values: Tensor, ends: Tensor, bootstrap: Tensor) -> Tensor:
    """Advantages over one episode's action tokens, from the last to the first.

    delta = r + gamma V' - V, and A = delta + gamma lambda A' (Schulman et al. 2016). After a
    turn's last token comes the first of the next turn, across whatever the user said between.
    """
    out, value, advantage = torch.zeros_like(values), bootstrap, torch.zeros(())
    for j in reversed(range(len(values))):
        gamma, lam = (GAMMA_TURN, decay) if ends[j] else (1.0, 1.0)
        advantage = rewards[j] + gamma * value - values[j] + gamma * lam * advantage
        out[j], value = advantage, values[j]
    return out


def policy_loss(new: Tensor, old: Tensor, advantages: Tensor) -> Tensor:
    """PPO's clipped surrogate, summed over action tokens (Schulman et al. 2017)."""
    ratio = (new - old).clamp(-20, 20).exp()
    held = ratio.clamp(1 - CLIP_LOW, 1 + CLIP_HIGH)
    loss = torch.maximum(-ratio * advantages, -held * advantages)
    # Where the advantage is negative the clip sets no bound: the dual clip does (Ye et al. 2020).
    return torch.where(advantages < 0, torch.minimum(loss, -DUAL_CLIP * advantages), loss).sum()


def step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], loss: Tensor) -> None:
    """Take one step along the gradient, whose norm is held to 1."""
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad()


def estimate(
    played: list[Trajectory], kl: Tensor, values: Tensor, rest: list[Tensor], std: float
) -> tuple[Tensor, Tensor]:
    """Give advantages (N,) for the policy, whitened, and plain returns (N,) for the critic."""
    # A turn's score lies on its last token, in standard deviations of all scores so far. Leaving
    # the reference costs BETA a nat. Adam would make full steps of a KL that is only rounding.
    kl = torch.where(kl.abs() < ROUNDING, 0.0, kl)
    turns = [torch.tensor([k for k in e.turns if k >= 0] + [-1]) for e in played]
    ends = torch.cat([t[:-1] != t[1:] for t in turns])  # whether a token is its turn's last
    rewards = torch.zeros_like(values)
    rewards[ends] = torch.tensor([sum(parts.values()) for e in played for parts in e.parts])
    rewards = rewards / max(std, FLOOR) - BETA * kl
    own = [x.split(counts(played)) for x in (rewards, values, ends)]
    returns = torch.cat(list(map(partial(gae, 1.0), *own, rest))) + values
    advantages = torch.cat(list(map(partial(gae, LAMBDA_TURN), *own, rest)))
    exact = advantages.double()
    mean, spread = exact.mean().float(), exact.std(correction=0).float()
    return (advantages - mean) / spread.clamp(min=FLOOR), returns


def train(
    policy: Policy, envs: EnvPool, limits: RolloutConfig, iterations: int, episodes: int, seed: int
) -> None:
    """Train the policy's adapter; its reference adapter stays what it was."""
    policy.train_top(1.0)  # the adapter in all layers that have one
    weights, critic = policy.parameters(), new_critic(policy.hf.config.hidden_size, seed)
    optimizer = torch.optim.AdamW(weights, POLICY_RATE, weight_decay=0.0)
    critic_optimizer = torch.optim.Adam(critic.parameters(), CRITIC_RATE)
    scores: list[float] = []
    for iteration in range(iterations):
        # 1. Collect: the policy talks to simulated users. Seeds name what they are for.
        goals, noise = ((seed, p, iteration) for p in (Purpose.TRAIN, Purpose.PLAY))
        keys = [(i, (*goals, i), (*noise, i)) for i in range(episodes)]
        played = collect(policy.generation_model(), policy.template, envs, keys, limits)
        policy.free_merged()
        scores += [sum(parts.values()) for e in played for parts in e.parts]
        # 2. Annotate: what policy, reference and critic say of each action token. The old logprobs
        # are the forward's and not the sampler's, so that the first ratio is exactly 1.
        with torch.no_grad():
            old, states, after = forward(policy, played)
            with policy.using(REFERENCE):
                kl = old - forward(policy, played)[0]  # k1, whose mean is the KL (Schulman 2020)
            values = torch.cat([critic(x) for x in states.split(counts(played))])
            # Nothing comes after an end of the world's; an episode that a limit cut would go on.
            left = [critic(x)[0] for x in after.split(1)]
            rest = [v * (not e.terminated) for v, e in zip(left, played, strict=True)]
        # 3. Estimate: how much better each token was than what was to be expected.
        advantages, returns = estimate(played, kl, values, rest, float(np.std(scores)))
        # 4. The critic: regression on the returns.
        for _ in range(CRITIC_EPOCHS):
            loss = 0.5 * ((critic(states) - returns) ** 2).sum() / len(returns)
            step(critic_optimizer, list(critic.parameters()), loss)
        # 5. The policy: clipped steps on minibatches of episodes. The denominator is the same for
        # all, so that every token counts the same, whichever episode it is in.
        places = torch.arange(len(old)).split(counts(played))
        for epoch in range(EPOCHS):
            order = np.random.default_rng([seed, iteration, epoch]).permutation(episodes)
            for chosen in np.array_split(order, MINIBATCHES):
                rows = sorted(chosen.tolist())
                new, _, _ = forward(policy, [played[b] for b in rows])
                own = torch.cat([places[b] for b in rows])
                loss = policy_loss(new, old[own], advantages[own]) / (len(old) / MINIBATCHES)
                step(optimizer, weights, loss)
        solved = sum(bool(e.success) for e in played) / episodes
        print(f"{iteration}: success {solved:.0%}, KL {float(kl.mean()):.4f} nats a token")


if __name__ == "__main__":
    start = adapter_folder("starter:warm-start")
    assert start is not None
    learner = Policy.create(base_spec(start), AdapterConfig(), start)
    train(learner, EnvPool(EnvConfig()), RolloutConfig(), iterations=5, episodes=64, seed=0)
    learner.save(Path("runs/ppo-loop"))
