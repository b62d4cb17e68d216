"""An update of a run from ratings: learned, measured on held-out users, accepted or not."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rlchat.algorithms import ppo
from rlchat.algorithms.annotate import annotate
from rlchat.algorithms.batch import pack
from rlchat.algorithms.config import PPOConfig
from rlchat.algorithms.critic import Critic, CriticConfig
from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.evaluation.evaluate import EvalConfig, EvaluationResult, evaluate
from rlchat.feedback.store import Messages, Store, store_path
from rlchat.inference.model_agent import ModelAgent
from rlchat.listener import Listener
from rlchat.models.adapter_io import base_spec
from rlchat.models.adapters import AdapterConfig
from rlchat.models.policy import Policy
from rlchat.rewards.composite import RewardConfig
from rlchat.rollout.collect import collect
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvConfig, EnvPool
from rlchat.rollout.seeding import Purpose
from rlchat.settings import SEEDS, expect, names
from rlchat.training.config import TrainConfig
from rlchat.training.gate import GateDecision, decide
from rlchat.training.kto import KtoConfig, Thumb, learn_thumbs
from rlchat.training.loop import train
from rlchat.training.reward_monitor import RewardMonitorConfig
from rlchat.training.run_folder import RunFolder
from rlchat.training.versions import Versions
from rlchat_envs import Conversation, Message

KL_EPISODES = 32


@dataclass(frozen=True)
class FeedbackUpdateConfig:
    """How a run learns from ratings, and what an update has to pass."""

    method: Literal["kto", "ppo"] = "kto"
    """kto learns from + and -; ppo from a reward model, which learned from pairs and edits."""
    person: str = ""
    """Whose thumbs; everybody's if nobody is named."""
    env: str = "rlchat/Support-v0"
    """Where held-out users come from, and those that ppo practises with."""
    users: str = ""
    """Families of users, comma-separated; the usual ones if none is named."""
    episodes: int = 200
    """Held-out conversations (dev side) that decide."""
    max_kl: float = 0.2
    """Bound of the KL to the version before, in nats per token."""
    reward: Path | None = None
    """For ppo: folder of a reward model (rlchat reward train)."""
    iterations: int = 4
    """For ppo: how many."""
    least: int = 10
    """Thumbs below which nothing is learned."""
    flip: bool = False
    """Take every thumb for its opposite: a harmful round, to see the gate refuse it."""
    seed: int = 0
    """Decides order and held-out users."""
    kto: KtoConfig = field(default_factory=KtoConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        for name in ("episodes", "iterations", "least"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")
        expect(self, "max_kl", self.max_kl > 0, "above 0")
        expect(self, "seed", 0 <= self.seed < SEEDS, f"of at least 0 and below {SEEDS}")
        if (self.method == "ppo") != (self.reward is not None):
            raise UserError(
                "expected --reward with --method ppo, and only then; got "
                f"{self.method} and {self.reward}"
            )


@dataclass(frozen=True)
class FeedbackUpdate:
    """What came of an update: the decision, and the numbers of the versions before and after."""

    decision: GateDecision
    before: int
    version: int


def update_from_feedback(
    run: RunFolder, config: FeedbackUpdateConfig, listener: Listener | None = None
) -> FeedbackUpdate:
    """Learn from ratings, measure on held-out users, and accept the update or roll it back.

    Args:
        run: its adapter is replaced only by an update that passes; every version is kept.
        config: what is learned from, and what an update has to pass.
        listener: told how it goes.

    Raises:
        UserError: too few ratings, or an environment that knows no success.
    """
    listener = listener or Listener()
    world = EnvConfig(config.env, names(config.users))
    if not EnvPool(world, "dev").ours:
        raise UserError(
            f"expected an environment that knows success, to judge by; {config.env} does not"
        )
    versions = Versions(run)
    with tempfile.TemporaryDirectory() as scratch:
        new = Path(scratch) / "adapter"
        learn = _from_thumbs if config.method == "kto" else _from_reward
        origin = learn(config, run, new, listener)
        before = versions.begin()
        decision = measure_update(config, run.adapter, new, world, listener)
        version = versions.keep(new, origin, decision)
        if decision.accepted:
            versions.use(version.number)
    return FeedbackUpdate(decision, before, version.number)


def _from_thumbs(
    config: FeedbackUpdateConfig, run: RunFolder, out: Path, listener: Listener
) -> str:
    thumbs = read_thumbs(config.person, config.flip)
    if len(thumbs) < config.least:
        raise UserError(
            f"expected at least {config.least} thumbs to learn from; there are {len(thumbs)}; "
            "rate more in rlchat chat, or set --least"
        )
    good = sum(t.good for t in thumbs)
    origin = f"{good} good and {len(thumbs) - good} bad thumbs{', flipped' * config.flip}"
    listener.say(f"learning from {origin}")
    show_share = listener.share("learning")

    def report(done: float, loss: float) -> None:
        show_share(done, f"loss {loss:.3f}")

    learn_thumbs(run.adapter, thumbs, config.kto, out, config.seed, report)
    return origin


def _from_reward(
    config: FeedbackUpdateConfig, run: RunFolder, out: Path, listener: Listener
) -> str:
    """A few iterations of PPO on what a reward model says, from the version that is there."""
    listener.say(f"practising for {config.iterations} iterations with {config.reward}")
    settings = TrainConfig(
        env=config.env,
        users=config.users,
        policy=str(run.folder),
        run=out.parent / "run",
        iterations=config.iterations,
        seed=config.seed,
        evaluation=0,
        rollout=config.rollout,
        ppo=PPOConfig(),
        reward=RewardConfig(config.reward),
        watch=RewardMonitorConfig(every=0),
    )
    policy = Policy.create(base_spec(run.adapter), settings.adapter, run.adapter, config.seed)
    practice = RunFolder(settings.run)
    train(settings, policy, practice, Distributed(), listener)
    practice.adapter.rename(out)
    return f"PPO on {config.reward}"


def read_thumbs(person: str = "", flip: bool = False) -> list[Thumb]:
    """Thumbs from the store, each reply's last.

    Raises:
        UserError: there is no store.
    """
    if not store_path().is_file():
        raise UserError(
            f"expected ratings; there is no {store_path()}; rate replies in rlchat chat first"
        )
    with Store.open(store_path()) as store:
        return [
            Thumb(_messages(r.reply.context), r.reply.text, (r.value > 0) != flip)
            for r in store.ratings(person)
            if r.kind == "thumb"
        ]


def measure_update(
    config: FeedbackUpdateConfig, old: Path, new: Path, world: EnvConfig, listener: Listener
) -> GateDecision:
    """Let both versions talk to the same held-out users, and measure how far apart they are."""
    before = _played(config, "before", old, world, listener)
    after = _played(config, "after", new, world, listener)
    return decide(before, after, measure_kl(config, old, new, world), config.max_kl)


def _played(
    config: FeedbackUpdateConfig, name: str, adapter: Path, world: EnvConfig, listener: Listener
) -> EvaluationResult:
    policy = Policy.create(base_spec(adapter), AdapterConfig(), adapter)
    agent = ModelAgent.of(policy)
    watch = listener.counter(f"evaluating {name}", config.episodes)
    settings = EvalConfig("dev", config.episodes, config.seed, 0.0, config.rollout)
    return evaluate(agent, world, settings, name, watch)


def measure_kl(config: FeedbackUpdateConfig, old: Path, new: Path, world: EnvConfig) -> float:
    """E[k1] to the old version in nats per token, on what the new one samples."""
    policy = Policy.create(base_spec(new), AdapterConfig(), new)
    policy.load_reference(old)
    keys = [
        (i, (config.seed, Purpose.EVALUATE, i), (config.seed, Purpose.ANSWER, i))
        for i in range(KL_EPISODES)
    ]
    worlds = EnvPool(world, "dev")
    played = collect(policy.generation_model(), policy.template, worlds, keys, config.rollout)
    policy.free_merged()
    batch = pack(played)
    critic = Critic(policy.hf.config.hidden_size, CriticConfig())
    seen = annotate(policy, critic, batch, PPOConfig().token_budget)
    k1 = ppo.k1(seen.logprobs, seen.ref_logprobs)
    return float(ppo.masked_moments(k1, batch.action_mask, ppo.alone)[0])


def _messages(messages: Messages) -> Conversation:
    return tuple(Message(m["role"], m["content"]) for m in messages)  # type: ignore[arg-type]
