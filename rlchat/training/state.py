"""The state of a training between iterations, in memory and on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from rlchat.algorithms.critic import Critic
from rlchat.algorithms.optimizer import MasterAdamW
from rlchat.algorithms.update import Learner
from rlchat.distributed import Distributed
from rlchat.models.adapters import POLICY
from rlchat.models.attention import text_config
from rlchat.models.policy import Policy
from rlchat.rewards.composite import CompositeReward
from rlchat.rollout.trajectory import Trajectory
from rlchat.statistics import RunningStd
from rlchat.training.config import TrainConfig
from rlchat.training.reward_monitor import RewardMonitor
from rlchat.training.run_folder import RunFolder

CHECKED = 8  # every so many iterations the sampler's logprobs are compared with a forward's
EXACT = 1e-4  # nats, mean: what the sampler's logprobs may be off and still be used as they are


@dataclass
class State:
    """The state of a training between iterations.

    Attributes:
        learner: policy, critic and optimizers.
        reward: what turns are worth.
        monitor: measures a learned reward.
        scale: running spread of all scores.
        beta: price of a nat of KL.
        gap: the sampler's, when it was last compared.
        scales: running spread of the scores of each environment, where there are several.
    """

    learner: Learner
    reward: CompositeReward
    monitor: RewardMonitor
    scale: RunningStd
    beta: float
    gap: float = math.inf
    scales: dict[str, RunningStd] = field(default_factory=dict)

    def add_scores(self, everyone: Sequence[Trajectory]) -> None:
        """Take the scores of an iteration's turns into account."""
        self.scale.add([sum(p.values()) for t in everyone for p in t.parts])
        for env, scale in self.scales.items():
            scale.add([sum(p.values()) for t in everyone if t.env == env for p in t.parts])

    def sampler_is_exact(self, iteration: int) -> bool:
        """Whether an iteration can take old logprobs from the sampler, and spare a forward.

        In float32 sampler and forward differ by rounding alone, which is seen to now and then; in
        half precision rounding is too much.
        """
        exact = self.learner.policy.dtype == torch.float32 and self.gap < EXACT
        return exact and iteration % CHECKED > 0

    @classmethod
    def begin(cls, config: TrainConfig, policy: Policy, ranks: Distributed) -> State:
        """Make the state before the first iteration."""
        reward = CompositeReward(config.reward)
        mixture = config.mixture
        monitor = RewardMonitor(config.watch, mixture, reward, config.seed, config.iterations)
        scales = {name: RunningStd() for name in mixture.names} if mixture.several else {}
        learner = make_learner(config, policy, ranks)
        return cls(learner, reward, monitor, RunningStd(), config.ppo.beta, scales=scales)

    def save(self, run: RunFolder, iteration: int) -> None:
        """Write the adapter, and all that going on from here needs."""
        learner = self.learner
        masters = learner.policy_optimizer.masters
        names = [name for name, _ in learner.policy.named_parameters()]
        weights = dict(zip(names, masters, strict=True))
        learner.policy.save(run.adapter, weights)
        if self.monitor.best is not None and self.monitor.best.iteration == iteration:
            learner.policy.save(run.best, weights)
        tensors = {f"policy/{k}": v for k, v in learner.policy_optimizer.tensors().items()}
        tensors |= {f"critic/{k}": v for k, v in learner.critic.state_dict().items()}
        for i, entry in learner.critic_optimizer.state_dict()["state"].items():
            tensors |= {f"adam/{k}.{i}": torch.as_tensor(v) for k, v in entry.items()}
        kept = {
            "iteration": iteration,
            "beta": self.beta,
            "gap": self.gap if math.isfinite(self.gap) else None,
            "scale": asdict(self.scale),
            **({"scales": {k: asdict(v) for k, v in self.scales.items()}} if self.scales else {}),
            "reward": self.reward.to_json(),
            "watch": self.monitor.to_json(),
        }
        run.save_checkpoint(tensors, kept)

    def restore(self, run: RunFolder) -> int:
        """Take up the state after the last finished iteration; give the number of the next one.

        Raises:
            UserError: the checkpoint is broken.
        """
        tensors, kept = run.load_checkpoint()
        try:
            _take_up(self.learner, tensors)
            self.scale = RunningStd(**kept["scale"])
            self.scales = {name: RunningStd(**kept["scales"][name]) for name in self.scales}
            self.beta = float(kept["beta"])
            gap = kept.get("gap")  # runs of before have none
            self.gap = math.inf if gap is None else float(gap)
            self.reward.take_up(kept["reward"])
            self.monitor.take_up(kept["watch"])
            return int(kept["iteration"]) + 1
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise run.broken_checkpoint() from error

    def return_to_best(self, run: RunFolder) -> None:
        """Make the policy in memory the adapter of the best measurement; optimizers stay."""
        best = load_file(run.best / "adapter_model.safetensors")
        set_peft_model_state_dict(self.learner.policy.model, best, adapter_name=POLICY)


def _take_up(learner: Learner, tensors: Mapping[str, torch.Tensor]) -> None:
    """Load what `save` wrote into optimizers and critic."""

    def under(prefix: str) -> dict[str, torch.Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    learner.policy_optimizer.load_tensors(under("policy/"))
    learner.critic.load_state_dict(under("critic/"))
    moments = under("adam/")  # of every parameter or, before the first step, of none
    adam = {
        i: {key: moments[f"{key}.{i}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        for i in range(len(list(learner.critic.parameters())) if moments else 0)
    }
    groups = learner.critic_optimizer.state_dict()["param_groups"]
    learner.critic_optimizer.load_state_dict({"state": adam, "param_groups": groups})


def make_learner(config: TrainConfig, policy: Policy, ranks: Distributed) -> Learner:
    """A critic and optimizers for a policy, of which the top layers train."""
    policy.train_top(config.ppo.layers)
    critic = Critic(text_config(policy.hf).hidden_size, config.critic, config.seed)
    return Learner(
        policy,
        critic,
        MasterAdamW(policy.parameters(), config.ppo.learning_rate),
        torch.optim.Adam(critic.parameters(), lr=config.critic.learning_rate),
        ranks,
    )
