"""The verbs `feedback learn`, `versions` and `restore`: ratings change the agent, or do not."""

from __future__ import annotations

from pathlib import Path

from rlchat.algorithms import ppo
from rlchat.algorithms.annotate import annotate
from rlchat.algorithms.batch import pack
from rlchat.algorithms.config import PPOConfig
from rlchat.algorithms.critic import Critic, CriticConfig
from rlchat.cli.feedback import LearnOptions
from rlchat.cli.progress import Progress
from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.evaluation.evaluate import EvaluationResult, evaluate
from rlchat.feedback.store import Messages, Store, store_path
from rlchat.inference.model_agent import ModelAgent
from rlchat.models.adapter_io import base_spec
from rlchat.models.adapters import AdapterConfig
from rlchat.models.policy import Policy
from rlchat.rewards.composite import RewardConfig
from rlchat.rollout.collect import collect
from rlchat.rollout.environment import EnvConfig, EnvPool
from rlchat.rollout.seeding import Purpose
from rlchat.training.config import TrainConfig
from rlchat.training.gate import GateDecision, decide
from rlchat.training.kto import Thumb, learn_thumbs
from rlchat.training.loop import train
from rlchat.training.reward_monitor import RewardMonitorConfig
from rlchat.training.run_folder import RunFolder
from rlchat_envs import Conversation, Message

KL_EPISODES = 32


def _from_thumbs(options: LearnOptions, run: RunFolder, out: Path, progress: Progress) -> str:
    thumbs = read_thumbs(options.person, options.flip)
    if len(thumbs) < options.least:
        raise UserError(
            f"expected at least {options.least} thumbs to learn from; there are {len(thumbs)}; "
            "rate more in rlchat chat, or set --least"
        )
    good = sum(t.good for t in thumbs)
    origin = f"{good} good and {len(thumbs) - good} bad thumbs{', flipped' * options.flip}"
    progress.say(f"learning from {origin}")
    show_share = progress.share("learning")

    def report(done: float, loss: float) -> None:
        show_share(done, f"loss {loss:.3f}")

    learn_thumbs(run.adapter, thumbs, options.kto, out, options.seed, report)
    return origin


def _from_reward(options: LearnOptions, run: RunFolder, out: Path, progress: Progress) -> str:
    """A few iterations of PPO on what a reward model says, from the version that is there."""
    progress.say(f"practising for {options.iterations} iterations with {options.reward}")
    config = TrainConfig(
        env=options.env,
        users=options.users,
        policy=str(run.folder),
        run=out.parent / "run",
        iterations=options.iterations,
        seed=options.seed,
        evaluation=0,
        rollout=options.rollout,
        ppo=PPOConfig(),
        reward=RewardConfig(options.reward),
        watch=RewardMonitorConfig(every=0),
    )
    policy = Policy.create(base_spec(run.adapter), config.adapter, run.adapter, options.seed)
    practice = RunFolder(config.run)
    train(config, policy, practice, Distributed(), progress)
    practice.adapter.rename(out)
    return f"PPO on {options.reward}"


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
    options: LearnOptions, old: Path, new: Path, world: EnvConfig, progress: Progress
) -> GateDecision:
    """Let both versions talk to the same held-out users, and measure how far apart they are."""
    before = _played(options, "before", old, world, progress)
    after = _played(options, "after", new, world, progress)
    return decide(before, after, measure_kl(options, old, new, world), options.max_kl)


def _played(
    options: LearnOptions, name: str, adapter: Path, world: EnvConfig, progress: Progress
) -> EvaluationResult:
    policy = Policy.create(base_spec(adapter), AdapterConfig(), adapter)
    agent = ModelAgent.of(policy)
    watch = progress.counter(f"evaluating {name}", options.episodes)
    count, seed = options.episodes, options.seed
    return evaluate(name, agent, world, "dev", count, seed, 0.0, options.rollout, watch)


def measure_kl(options: LearnOptions, old: Path, new: Path, world: EnvConfig) -> float:
    """E[k1] to the old version in nats per token, on what the new one samples."""
    policy = Policy.create(base_spec(new), AdapterConfig(), new)
    policy.load_reference(old)
    keys = [
        (i, (options.seed, Purpose.EVALUATE, i), (options.seed, Purpose.ANSWER, i))
        for i in range(KL_EPISODES)
    ]
    worlds = EnvPool(world, "dev")
    played = collect(policy.generation_model(), policy.template, worlds, keys, options.rollout)
    policy.free_merged()
    batch = pack(played)
    critic = Critic(policy.hf.config.hidden_size, CriticConfig())
    seen = annotate(policy, critic, batch, PPOConfig().token_budget)
    k1 = ppo.k1(seen.logprobs, seen.ref_logprobs)
    return float(ppo.masked_moments(k1, batch.action_mask, ppo.alone)[0])


def _messages(messages: Messages) -> Conversation:
    return tuple(Message(m["role"], m["content"]) for m in messages)  # type: ignore[arg-type]
