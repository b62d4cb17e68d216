"""An update of a run from ratings: learned, measured on held-out users, accepted or not."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlchat.algorithms import ppo
from rlchat.algorithms.annotate import annotate
from rlchat.algorithms.batch import pack
from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.algorithms.critic import Critic
from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import EvaluationResult, evaluate
from rlchat.feedback.export import existing_store
from rlchat.feedback.store import Messages, Rating, Store
from rlchat.inference.model_agent import ModelAgent
from rlchat.listener import Listener
from rlchat.models.adapter_io import base_spec
from rlchat.models.attention import text_config
from rlchat.models.config import AdapterConfig
from rlchat.models.policy import Policy
from rlchat.rewards.config import RewardConfig
from rlchat.rollout.collect import collect
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.seeding import Purpose
from rlchat.training.config import FeedbackUpdateConfig, RewardMonitorConfig, TrainConfig
from rlchat.training.gate import GateDecision, decide
from rlchat.training.kto import Thumb, learn_thumbs
from rlchat.training.loop import train
from rlchat.training.run_folder import RunFolder
from rlchat.training.versions import Versions
from rlchat_envs import Conversation
from rlchat_envs.core.messages import of_row

KL_EPISODES = 32


@dataclass(frozen=True)
class FeedbackUpdate:
    """The result of an update: the decision, and the versions before and after."""

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
        UserError: too few ratings, or an environment that tells no success.
    """
    listener = listener or Listener()
    env = config.env_of(run.folder)
    with TextEnv(env, "dev") as made:  # made, so that a wrong user is told before the learning
        ours = made.ours
    if not ours:
        raise UserError(
            f"expected an environment that tells success, to measure by; {env.env} does not"
        )
    versions = Versions(run)
    with tempfile.TemporaryDirectory() as scratch:
        new = Path(scratch) / "adapter"
        learn = _from_thumbs if config.method == "kto" else _from_reward
        origin = learn(config, run, env, new, listener)
        before = versions.begin()
        decision = measure_update(config, run.adapter, new, env, listener)
        version = versions.keep(new, origin, decision)
        if decision.accepted:
            versions.use(version.number)
    return FeedbackUpdate(decision, before, version.number)


def _from_thumbs(
    config: FeedbackUpdateConfig, run: RunFolder, env: EnvConfig, out: Path, listener: Listener
) -> str:
    given = own = read_thumbs(config.person)
    if not config.all_thumbs:
        own = given_to(run, env, given)
    if len(own) < config.least:
        others = f", and {len(given) - len(own)} of other agents or environments" * (own != given)
        remedy = ", take those with --all-thumbs" * (own != given)
        raise UserError(
            f"expected at least {config.least} thumbs to learn from; there are {len(own)} of "
            f"{run.folder} in {env.env}{others}; rate more in rlchat chat{remedy}, or set --least"
        )
    thumbs = [
        Thumb(_messages(r.reply.context), r.reply.text, (r.value > 0) != config.flip) for r in own
    ]
    good = sum(t.good for t in thumbs)
    origin = f"{good} good and {len(thumbs) - good} bad thumbs{', flipped' * config.flip}"
    listener.say(f"learning from {origin}")
    show_share = listener.share("learning")

    def report(done: float, loss: float) -> None:
        show_share(done, f"loss {loss:.3f}")

    learn_thumbs(run.adapter, thumbs, config.kto, out, config.seed, report)
    return origin


def _from_reward(
    config: FeedbackUpdateConfig, run: RunFolder, env: EnvConfig, out: Path, listener: Listener
) -> str:
    """A few iterations of PPO on what a reward model says, from the version that is there."""
    listener.say(f"practising for {config.iterations} iterations with {config.reward}")
    settings = TrainConfig(
        env=env.env,
        users=",".join(env.users),
        knowledge=",".join(env.knowledge),
        user_max_new_tokens=env.user_max_new_tokens,
        stated_style=",".join(env.stated_style),
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


def read_thumbs(person: str = "") -> list[Rating]:
    """Thumbs from the store, each reply's last.

    Raises:
        UserError: there is no store.
    """
    with Store.open(existing_store()) as store:
        return [rating for rating in store.ratings(person) if rating.kind == "thumb"]


def given_to(run: RunFolder, env: EnvConfig, ratings: Sequence[Rating]) -> list[Rating]:
    """Choose the ratings that were given to an adapter of a run, in an environment.

    An adapter is known by its weights, wherever it was; one that training or an update has replaced
    meanwhile, by the folder that it was in.
    """
    hashes, folder = Versions(run).hashes, run.folder.resolve()

    def lay_inside(agent: str) -> bool:
        place = Path(agent).resolve()
        return place.is_dir() and folder in (place, *place.parents)

    return [
        rating
        for rating in ratings
        if rating.session.env == env.env
        and (rating.session.version in hashes or lay_inside(rating.session.agent))
    ]


def measure_update(
    config: FeedbackUpdateConfig, old: Path, new: Path, env: EnvConfig, listener: Listener
) -> GateDecision:
    """Let both versions talk to the same held-out users, and measure how far apart they are."""
    before = _played(config, "before", old, env, listener)
    after = _played(config, "after", new, env, listener)
    return decide(before, after, measure_kl(config, old, new, env), config.max_kl)


def _played(
    config: FeedbackUpdateConfig, name: str, adapter: Path, env: EnvConfig, listener: Listener
) -> EvaluationResult:
    policy = Policy.create(base_spec(adapter), AdapterConfig(), adapter)
    agent = ModelAgent.of(policy)
    on_episode = listener.counter(f"evaluating {name}", config.episodes)
    settings = EvalConfig("dev", config.episodes, config.seed, 0.0, config.rollout)
    return evaluate(agent, env, settings, name, on_episode)


def measure_kl(config: FeedbackUpdateConfig, old: Path, new: Path, env: EnvConfig) -> float:
    """E[k1] to the old version in nats per token, on what the new one samples."""
    policy = Policy.create(base_spec(new), AdapterConfig(), new)
    policy.load_reference(old)
    keys = [
        (i, (config.seed, Purpose.EVALUATE, i), (config.seed, Purpose.ANSWER, i))
        for i in range(KL_EPISODES)
    ]
    with EnvPool(env, "dev") as pool:
        played = collect(policy.generation_model(), policy.template, pool, keys, config.rollout)
    policy.free_merged()
    batch = pack(played)
    critic = Critic(text_config(policy.hf).hidden_size, CriticConfig())
    seen = annotate(policy, critic, batch, PPOConfig().token_budget)
    k1 = ppo.k1(seen.logprobs, seen.ref_logprobs)
    return float(ppo.masked_moments(k1, batch.action_mask, ppo.alone)[0])


def _messages(messages: Messages) -> Conversation:
    told = messages[0].get("tools") if messages else None
    return of_row({"messages": messages, "tools": json.loads(told) if told else ()})
