"""Updates: an epoch over real conversations, ours, padded, and the least that it could take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import floor
import torch
from bench import Report, SpeedOptions, runs
from torch import Tensor

from rlchat.algorithms.advantages import Estimated, estimate, estimator_settings
from rlchat.algorithms.annotate import annotate
from rlchat.algorithms.batch import Batch, pack
from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.algorithms.critic import Critic
from rlchat.algorithms.optimizer import MasterAdamW
from rlchat.algorithms.update import Learner, accumulate
from rlchat.distributed import Distributed
from rlchat.models.config import AdapterConfig
from rlchat.models.policy import Policy
from rlchat.rollout.demonstrations import demonstrate
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.trajectory import Trajectory
from rlchat.statistics import RunningStd

CONVERSATIONS = 32
PADDED = 4  # rows of a padded forward
FORWARD = 1024  # tokens of the products that the floor is measured with


@dataclass(frozen=True)
class Epoch:
    """Conversations that are ready to be learned from, and who learns."""

    learner: Learner
    estimated: Estimated
    annotate_seconds: float

    @classmethod
    def over(cls, policy: Policy, count: int) -> Epoch:
        """Annotate so many conversations, and time that once."""
        policy.train_top(AdapterConfig().layers)
        played = conversations(policy, count)
        critic, config = Critic(policy.hf.config.hidden_size, CriticConfig()), PPOConfig()
        optimizers = (
            MasterAdamW(policy.parameters(), 1e-4),
            torch.optim.Adam(critic.parameters()),
        )
        batch, begun = pack(played), time.perf_counter()
        annotated = annotate(policy, critic, batch, config.token_budget)
        seconds = time.perf_counter() - begun
        turns = [(t.index, len(t.parts)) for t in played]
        settings = estimator_settings(config, critic.config)
        estimated = estimate(annotated, settings, 0.03, RunningStd(), turns)
        return cls(Learner(policy, critic, *optimizers, Distributed(cpu=True)), estimated, seconds)

    @property
    def batch(self) -> Batch:
        """The conversations as rows."""
        return self.estimated.annotated.batch

    def learn(self, rows: int | None = None) -> None:
        """Accumulate the gradient of the first rows, or of all."""
        chosen = torch.arange(len(self.batch.lengths) if rows is None else rows)
        accumulate(self.learner, self.estimated, chosen, PPOConfig(), 1e3)

    def learn_padded(self) -> None:
        """One epoch the usual way: padded rows, all layers, logits of the whole vocabulary."""
        policy, count = self.learner.policy, len(self.batch.lengths)
        for rows in torch.arange(count).split(PADDED):
            width = int(self.batch.lengths[rows].max())
            ids, mask, gain, old = (
                x[rows, :width]
                for x in (
                    self.batch.ids,
                    self.batch.action_mask.float(),
                    self.estimated.advantages,
                    self.estimated.annotated.logprobs,
                )
            )
            logits: Tensor = policy.model(input_ids=ids, use_cache=False).logits[:, :-1].float()
            logprobs = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
            ratio, gain = (logprobs - old[:, 1:]).clamp(-20, 20).exp(), gain[:, 1:]
            loss = torch.maximum(-gain * ratio, -gain * ratio.clamp(0.8, 1.28)) * mask[:, 1:]
            (loss.sum() / 1000).backward()


def conversations(policy: Policy, episodes: int) -> list[Trajectory]:
    """Real conversations, of the scenario's demonstrator, as a rollout would leave them."""
    made = []
    for i, conversation in enumerate(demonstrate(EnvConfig(), episodes, 0)):
        tokenized = policy.template.conversation(conversation)
        trajectory = Trajectory(i, i, [], terminated=True)
        start = 0
        for end in range(1, len(tokenized.ids) + 1):
            acts = tokenized.action_mask[start]
            if end < len(tokenized.ids) and tokenized.action_mask[end] == acts:
                continue
            ids, start = tokenized.ids[start:end], end
            if not acts:
                trajectory.observe(ids)
                continue
            trajectory.privileged.append({"goal": i})
            trajectory.act(ids, [-1.0] * len(ids))
            trajectory.parts.append({"resolution": float(i % 3)})
        made.append(trajectory)
    return made


def time_updates(options: SpeedOptions, report: Report) -> None:
    """One epoch over 32 real conversations: ours, the usual way, and the floor."""
    policy = options.load()
    report.step(f"update, {CONVERSATIONS} conversations are annotated")
    epoch = Epoch.over(policy, CONVERSATIONS)
    epoch.learn(PADDED)  # reorders the weights, which happens once
    ours, _ = report.timed("update, ours", lambda _: epoch.learn(), options.repeats)
    policy.model.gradient_checkpointing_disable()
    theirs, _ = report.timed(
        "update, padded", lambda _: epoch.learn_padded(), options.usual_repeats
    )
    report.step("update, the floor: bare products")
    numbers = {
        "conversations": CONVERSATIONS,
        "repeats": options.repeats,
        "usual_repeats": options.usual_repeats,
        "annotate_seconds": epoch.annotate_seconds,
        "seconds": ours,
        "usual_seconds": theirs,
        "ratio_to_usual": theirs / ours,
    }
    numbers |= least(policy, epoch.batch)
    numbers["ratio_to_floor"] = ours / numbers["floor_seconds"]
    report.add("update", options, numbers)
    report.say(describe(numbers))


def least(policy: Policy, batch: Batch) -> dict[str, float]:
    """The seconds of an epoch's products on this machine, and what they are of."""
    hf = policy.hf.config
    layers = hf.num_hidden_layers - policy.first_trained_layer
    maps = floor.Products.of(floor.linear_maps(hf) * layers, policy.dtype)
    gflops = 2 * maps.parameters * FORWARD / maps.seconds(FORWARD, repeats=2) / 1e9
    head, lora = hf.vocab_size * hf.hidden_size, sum(p.numel() for p in policy.parameters())
    actions = int(batch.action_mask.sum())
    gflop = (batch.tokens * (4 * maps.parameters + 6 * lora) + actions * 4 * head) / 1e9
    return {
        "tokens": batch.tokens,
        "action_tokens": actions,
        "layers": layers,
        "frozen_millions": maps.parameters / 1e6,
        "adapter_millions": lora / 1e6,
        "head_millions": head / 1e6,
        "gflop": gflop,
        "gflops": gflops,
        "floor_seconds": gflop / gflops,
    }


def describe(numbers: dict[str, Any]) -> str:
    """The update's line."""
    n = numbers
    return (
        f"update, {n['conversations']} conversations, {n['tokens']} tokens, "
        f"{n['action_tokens']} of them actions: {n['seconds']:.1f} s an epoch "
        f"({n['tokens'] / n['seconds']:.0f} tokens/s, {runs(n['repeats'])}); padded, all layers, "
        f"whole vocabulary {n['usual_seconds']:.1f} s ({runs(n['usual_repeats'])}): "
        f"{n['ratio_to_usual']:.1f} times faster; floor {n['floor_seconds']:.1f} s = "
        f"({n['tokens']} tokens x (4 x {n['frozen_millions']:.1f}M frozen weights of "
        f"{n['layers']} layers + 6 x {n['adapter_millions']:.2f}M of the adapter) + "
        f"{n['action_tokens']} x 4 x {n['head_millions']:.1f}M of the head) at "
        f"{n['gflops']:.0f} GFLOP/s: {n['ratio_to_floor']:.2f} times the floor"
    )
