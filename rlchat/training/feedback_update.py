"""The verbs `feedback learn`, `versions` and `restore`: ratings change the agent, or do not."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlchat.algorithms import ppo
from rlchat.algorithms.annotate import annotate
from rlchat.algorithms.batch import pack
from rlchat.algorithms.config import PPOConfig
from rlchat.algorithms.critic import Critic, CriticConfig
from rlchat.cli.progress import Progress
from rlchat.cli.terminal import say
from rlchat.distributed import Ranks
from rlchat.errors import UserError
from rlchat.evaluation.evaluate import Result, evaluate
from rlchat.feedback.store import Messages, Store, store_path
from rlchat.inference.agents import ModelAgent, adapter_folder
from rlchat.models.adapter_io import base_spec
from rlchat.models.adapters import POLICY, AdapterConfig
from rlchat.models.policy import Policy
from rlchat.rewards.composite import RewardConfig
from rlchat.rollout.collect import collect
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import WorldConfig, Worlds
from rlchat.rollout.seeding import Purpose
from rlchat.settings import SEEDS, expect, names
from rlchat.training.config import TrainConfig
from rlchat.training.gate import Verdict, judge_update
from rlchat.training.kto import KtoConfig, Thumb, learn_thumbs
from rlchat.training.loop import train
from rlchat.training.reward_monitor import WatchConfig
from rlchat.training.run_folder import Run
from rlchat.training.versions import Versions
from rlchat_envs import Conversation, Message

KL_EPISODES = 32


@dataclass(frozen=True)
class LearnOptions:
    """Let a run learn from ratings; what does harm on held-out users is rolled back."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder. Its adapter is replaced only by an update that passes; every version is kept."""
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


def run_learn(options: LearnOptions, console: Console) -> None:
    """Learn, measure, and accept or roll back."""
    run = _run(options.run)
    world = WorldConfig(options.env, names(options.users))
    if not Worlds(world, "dev").ours:
        raise UserError(
            f"expected an environment that knows success, to judge by; {options.env} does not"
        )
    versions = Versions(run)
    with (
        Progress(console, options.iterations) as progress,
        tempfile.TemporaryDirectory() as scratch,
    ):
        new = Path(scratch) / "adapter"
        if options.method == "kto":
            origin = _from_thumbs(options, run, new, progress)
        else:
            origin = _from_reward(options, run, new, progress)
        before = versions.begin()
        verdict = measure_update(options, run.adapter, new, world, progress)
        version = versions.keep(new, origin, verdict)
        if verdict.accepted:
            versions.use(version.number)
    if verdict.accepted:
        say(console, f"Accepted as version {version.number}: {verdict.reason}.")
        say(console, f"rlchat feedback restore {run.folder} {before} goes back.")
    else:
        say(console, f"Rolled back to version {before}: {verdict.reason}.")


def _from_thumbs(options: LearnOptions, run: Run, out: Path, progress: Progress) -> str:
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


def _from_reward(options: LearnOptions, run: Run, out: Path, progress: Progress) -> str:
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
        watch=WatchConfig(every=0),
    )
    policy = Policy.create(base_spec(run.adapter), config.adapter, run.adapter, options.seed)
    practice = Run(config.run)
    train(config, policy, practice, Ranks(), progress)
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
    options: LearnOptions, old: Path, new: Path, world: WorldConfig, progress: Progress
) -> Verdict:
    """Let both versions talk to the same held-out users, and measure how far apart they are."""
    before = _played(options, "before", old, world, progress)
    after = _played(options, "after", new, world, progress)
    return judge_update(before, after, measure_kl(options, old, new, world), options.max_kl)


def _played(
    options: LearnOptions, name: str, adapter: Path, world: WorldConfig, progress: Progress
) -> Result:
    policy = Policy.create(base_spec(adapter), AdapterConfig(), adapter)
    agent = ModelAgent(policy.speaker(POLICY), policy.rendering)
    watch = progress.counter(f"evaluating {name}", options.episodes)
    count, seed = options.episodes, options.seed
    return evaluate(name, agent, world, "dev", count, seed, 0.0, options.rollout, watch)


def measure_kl(options: LearnOptions, old: Path, new: Path, world: WorldConfig) -> float:
    """E[k1] to the old version in nats per token, on what the new one samples."""
    policy = Policy.create(base_spec(new), AdapterConfig(), new)
    policy.load_reference(old)
    keys = [
        (i, (options.seed, Purpose.EVALUATE, i), (options.seed, Purpose.ANSWER, i))
        for i in range(KL_EPISODES)
    ]
    worlds = Worlds(world, "dev")
    played = collect(policy.speaker(), policy.rendering, worlds, keys, options.rollout)
    policy.fall_silent()
    batch = pack(played)
    critic = Critic(policy.hf.config.hidden_size, CriticConfig())
    seen = annotate(policy, critic, batch, PPOConfig().token_budget)
    k1 = ppo.k1(seen.logprobs, seen.ref_logprobs)
    return float(ppo.masked_moments(k1, batch.action_mask, ppo.alone)[0])


@dataclass(frozen=True)
class VersionsOptions:
    """List the versions of a run: what training left, and every update from feedback."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""


def run_versions(options: VersionsOptions, console: Console) -> None:
    """Print a table."""
    versions = Versions(_run(options.run))
    known = versions.all()
    if not known:
        say(console, "No versions yet: rlchat feedback learn makes them.")
        return
    table = Table("version", "time", "from", "accepted", "why", box=None)
    current = versions.current
    for v in known:
        mark = f"{v.number} *" if v.number == current else str(v.number)
        cells = (mark, v.time, v.origin, "yes" if v.accepted else "no", v.reason)
        table.add_row(*(Text(cell) for cell in cells))
    table.caption = "* is what the run speaks with"
    console.print(table)


@dataclass(frozen=True)
class RestoreOptions:
    """Let a run speak with one of its versions again."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    version: Annotated[int, tyro.conf.Positional]
    """A number of `rlchat feedback versions`."""


def run_restore(options: RestoreOptions, console: Console) -> None:
    """Go back, or forth."""
    run = _run(options.run)
    Versions(run).use(options.version)
    say(console, f"{run.folder} speaks with version {options.version} now.")


def _run(folder: Path) -> Run:
    """A run folder with an adapter of its own.

    Raises:
        UserError: it is none.
    """
    if adapter_folder(folder) != folder / "adapter":
        raise UserError(
            f"expected a run folder, with an adapter in it; got {folder}; train one with rlchat "
            "train --run"
        )
    return Run(folder)


def _messages(messages: Messages) -> Conversation:
    return tuple(Message(m["role"], m["content"]) for m in messages)  # type: ignore[arg-type]
