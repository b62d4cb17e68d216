"""Branching rollouts: an episode goes on from a snapshot of it again, with another reply.

Of an environment that depends on nothing but its seed and what is said to it, a snapshot is brought
back by saying the same things again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, variance

from rlchat.errors import UserError
from rlchat.inference.agents import Agent
from rlchat.listener import Listener
from rlchat.rollout.collect import collect
from rlchat.rollout.config import BranchConfig, RolloutConfig
from rlchat.rollout.env_pool import EnvPool, replays
from rlchat.rollout.environment import EnvConfig, StepResult, TextEnv
from rlchat.rollout.episodes import conversation_settings, go_on, play_episodes, speaking
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat.rollout.trajectory import Episode
from rlchat_envs import Conversation, Message
from rlchat_reward_models.scorer import split_whole


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A point of an episode: its seed, and the agent's messages so far."""

    seed: int
    said: tuple[str, ...] = ()

    def then(self, reply: str) -> Snapshot:
        """The snapshot of the same episode after one more reply."""
        return replace(self, said=(*self.said, reply))


@dataclass
class Branch:
    """A reply at a snapshot, and what the episode scored from it to the end, once each time.

    ``reply`` is one message, or all that came after the snapshot.
    """

    snapshot: Snapshot
    context: Conversation
    reply: Conversation
    returns: list[float] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Text of a reply of one message."""
        (message,) = self.reply
        return message.content

    @property
    def mean(self) -> float:
        """Mean of the returns."""
        return fmean(self.returns)

    @property
    def squared_error(self) -> float:
        """Squared standard error of the mean; 0 where the reply itself ended the episode."""
        n = len(self.returns)
        return variance(self.returns) / n if n > 1 else 0.0


class ReplayEnv(TextEnv):
    """An environment whose episodes begin at a snapshot, and may end with the next reply."""

    def __init__(self, config: EnvConfig, split: str, once: bool):
        """Make the environment; ``once`` ends an episode with the agent's next reply."""
        super().__init__(config, split)
        self.once = once

    def replay(self, snapshot: Snapshot) -> Conversation:
        """Bring the episode to a snapshot, by the same seed and messages."""
        super().reset(snapshot.seed)
        for text in snapshot.said:
            super().step(text)
        return self.conversation

    def step(self, text: str) -> StepResult:
        """Give the agent's reply to the user, unless the episode ends with it."""
        if not self.once:
            return super().step(text)
        self.conversation = (*self.conversation, Message("assistant", text))
        return StepResult((), {}, True, False, None)


@dataclass
class ReplayPool(EnvPool):
    """Environments whose episode number i begins at snapshot number i."""

    snapshots: Sequence[Snapshot] = ()
    once: bool = False

    def make(self) -> ReplayEnv:
        """Make another environment that replays snapshots."""
        return ReplayEnv(self.config, self.split, self.once)

    def begin(self, row: int, index: int, seed: int) -> Conversation:
        """Begin an episode at its snapshot; what happens is decided by the snapshot's own seed."""
        env = self[row]
        assert isinstance(env, ReplayEnv)
        return env.replay(self.snapshots[index])


@dataclass(frozen=True)
class BranchingRollouts:
    """Episodes that part at a snapshot: other replies, and what becomes of each.

    Attributes:
        env: environment and users.
        split: side of goals and users.
        seed: decides dialogues, snapshots, replies and continuations.
        rollout: budgets.
        listener: told how it goes.
    """

    env: EnvConfig
    split: str = "train"
    seed: int = 0
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    listener: Listener = field(default_factory=Listener)

    def conversations(self, agent: Agent, dialogues: int, times: int) -> list[list[Branch]]:
        """Whole conversations with the same users: a list of ``times`` for each dialogue."""
        self._pool()
        seeds = [episode_seeds(self.seed, Purpose.BRANCH, i)[0] for i in range(dialogues)]
        many = [Snapshot(seed) for seed in seeds for _ in range(times)]
        played = self.play_on(agent, many)
        return [
            [
                Branch(Snapshot(seed), *split_whole(episode.conversation), [episode.score])
                for episode in played[i * times : (i + 1) * times]
            ]
            for i, seed in enumerate(seeds)
        ]

    def branches(self, agent: Agent, config: BranchConfig) -> list[list[Branch]]:
        """Different replies at one snapshot of every dialogue, drawn evenly from its turns."""
        pool = self._pool()
        numbers = range(config.dialogues)
        count = self.listener.counter("dialogues", config.dialogues)
        with pool:
            played = play_episodes(agent, pool, numbers, self.seed, 1.0, self.rollout, count)
        snapshots = []
        for trajectory in played:
            said = [m.content for m in trajectory.conversation if m.role == "assistant"]
            _, noise = episode_seeds(self.seed, Purpose.BRANCH, trajectory.index)
            turn = int(noise.integers(len(said)))
            snapshots.append(Snapshot(trajectory.seed, tuple(said[:turn])))
        many = [snapshot for snapshot in snapshots for _ in range(config.replies)]
        replies = self.play_on(agent, many, once=True)
        siblings: list[list[Branch]] = []
        for i, snapshot in enumerate(snapshots):
            own = replies[i * config.replies : (i + 1) * config.replies]
            context = own[0].conversation[:-1]
            different = dict.fromkeys(episode.conversation[-1:] for episode in own)
            siblings.append([Branch(snapshot, context, reply) for reply in different])
        return siblings

    def follow(self, branches: Sequence[Branch], follower: Agent, times: int) -> None:
        """Play every reply on to the end, ``times`` times, and add the returns to its branch."""
        open_ones: list[Branch] = []
        firsts: list[float] = []
        with TextEnv(self.env, self.split) as env:
            for branch in branches:
                result = replay(env, branch.snapshot.then(branch.text))
                first = sum(result.parts.values())
                if result.terminated or result.truncated:
                    branch.returns.append(first)
                else:
                    open_ones.append(branch)
                    firsts.append(first)
        self.listener.say(f"{len(open_ones)} of {len(branches)} replies leave the episode open")
        many = [b.snapshot.then(b.text) for b in open_ones for _ in range(times)]
        for number, episode in enumerate(self.play_on(follower, many)):
            open_ones[number // times].returns.append(firsts[number // times] + episode.score)

    def play_on(
        self,
        agent: Agent,
        snapshots: Sequence[Snapshot],
        once: bool = False,
        noises: Sequence[int] | None = None,
    ) -> list[Episode]:
        """Go on from snapshots to the end, or by one reply, each time with another noise.

        Args:
            agent: goes on.
            snapshots: where each begins.
            once: by one reply alone, which no user hears.
            noises: number of each one's noise, alike for those that are to be compared; None for
                another each time.

        Returns:
            The episodes, with the whole conversation of each and the parts of what was played.
        """
        count = self.listener.counter("replies" if once else "continuations", len(snapshots))
        purpose = Purpose.REPLY if once else Purpose.FOLLOW
        numbers = range(len(snapshots)) if noises is None else noises
        keys = [(self.seed, purpose, i) for i in numbers]
        if (model := agent.batched) is not None:
            episodes = [(i, key, key) for i, key in enumerate(keys)]
            with ReplayPool(self.env, self.split, snapshots=snapshots, once=once) as pool:
                return [
                    *collect(
                        model.generation,
                        model.template,
                        pool,
                        episodes,
                        self.rollout,
                        on_episode=count,
                    )
                ]
        with TextEnv(self.env, self.split) as env:
            return self._play_alone(agent, env, snapshots, keys, once, count)

    def _pool(self) -> EnvPool:
        if not replays(self.env):
            raise UserError(
                "expected an environment of rlchat envs, or one whose metadata says that it is "
                f"deterministic, so that its seed decides all that happens; got {self.env.env}; "
                "give preferences as files instead"
            )
        return EnvPool(self.env, self.split)

    def _play_alone(
        self,
        agent: Agent,
        env: TextEnv,
        snapshots: Sequence[Snapshot],
        keys: Sequence[tuple[int, ...]],
        once: bool,
        count: Callable[[object], None],
    ) -> list[Episode]:
        """Go on from snapshots with an agent that plays one episode at a time."""
        found = []
        settings = conversation_settings(env, 1.0, self.rollout)
        for number, snapshot in enumerate(snapshots):
            count(snapshot)
            _, noise = episode_seeds(*keys[number])
            replay(env, snapshot)
            speak = speaking(agent.start(int(noise.integers(2**31)), settings))
            episode = Episode(number, snapshot.seed)
            if once:
                reply = Message("assistant", speak(env))
                episode.conversation, episode.terminated = (*env.conversation, reply), True
            else:
                go_on(env, speak, episode)
            found.append(episode)
        return found


def replay(env: TextEnv, snapshot: Snapshot) -> StepResult:
    """Bring an environment back to a snapshot; give what its last reply caused."""
    env.reset(snapshot.seed)
    result = StepResult((), {}, False, False, None)
    for text in snapshot.said:
        result = env.step(text)
    return result
