"""Branches: the same moment of a conversation lived through again, with another reply.

A world depends on nothing but its seed and what is said to it, so a moment is brought back by
saying the same things again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, variance

from rlchat.errors import UserError
from rlchat.inference.agents import Agent, ModelAgent
from rlchat.rewards.comparisons import compare
from rlchat.rollout.collect import collect
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import Outcome, World, WorldConfig, Worlds
from rlchat.rollout.episodes import scripted, talk
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat_envs import Conversation, Message
from rlchat_reward_models.preferences import Preference
from rlchat_reward_models.scorer import split_whole


@dataclass(frozen=True)
class BranchConfig:
    """How replies are compared by what becomes of them."""

    dialogues: int = 2000
    """Simulated conversations; in each, one moment is looked at."""
    replies: int = 4
    """Sampled in a moment; all that differ are compared with one another."""
    continuations: int = 8
    """Of every reply, to the end of the conversation."""
    noise: float = 0.25
    """Of the rater, in score units: a difference as large as this counts about two thirds."""
    whole: bool = False
    """Compare whole conversations with the same customer instead, by what they scored; `replies`
    says how many of each."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        for name, least in (("dialogues", 1), ("replies", 2), ("continuations", 2)):
            if getattr(self, name) < least:
                raise UserError(f"expected {name} of at least {least}; got {getattr(self, name)}")
        if not self.noise > 0:
            raise UserError(f"expected noise above 0; got {self.noise}")


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of an episode: its seed, and what the agent has said so far."""

    seed: int
    said: tuple[str, ...] = ()

    def then(self, reply: str) -> Moment:
        """The moment after another reply."""
        return replace(self, said=(*self.said, reply))


@dataclass
class Branch:
    """A reply in a moment, and what the episode scored from it to the end, once each time.

    ``reply`` is one message, or all that came after the moment.
    """

    moment: Moment
    context: Conversation
    reply: Conversation
    returns: list[float] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Of a reply of one message."""
        (message,) = self.reply
        return message.content

    @property
    def mean(self) -> float:
        """Of the returns."""
        return fmean(self.returns)

    @property
    def squared_error(self) -> float:
        """Of that mean; 0 where the reply itself ended the episode, which leaves no chance."""
        n = len(self.returns)
        return variance(self.returns) / n if n > 1 else 0.0


class Revisit(World):
    """A world whose episodes begin at a moment, and may end with the agent's next reply."""

    def __init__(self, config: WorldConfig, split: str, moments: dict[int, Moment], once: bool):
        """Make the world; the seed of `reset` is the number of a moment."""
        super().__init__(config, split)
        self.moments, self.once = moments, once

    def reset(self, seed: int) -> Conversation:
        """Say again what was said up to the moment."""
        moment = self.moments[seed]
        super().reset(moment.seed)
        for text in moment.said:
            super().step(text)
        return self.conversation

    def step(self, text: str) -> Outcome:
        """Hear the reply, and answer it unless the episode ends here."""
        if not self.once:
            return super().step(text)
        self.conversation = (*self.conversation, Message("assistant", text))
        return Outcome((), {}, True, False, None)


@dataclass
class Revisits(Worlds):
    """A pool of such worlds."""

    moments: dict[int, Moment] = field(default_factory=dict)
    once: bool = False

    def __getitem__(self, index: int) -> World:
        """The world number ``index``."""
        while len(self.pool) <= index:
            self.pool.append(Revisit(self.config, self.split, self.moments, self.once))
        return self.pool[index]


@dataclass(frozen=True)
class Forest:
    """Where branches grow: a world, one side of it, and how episodes are played."""

    world: WorldConfig
    split: str = "train"
    seed: int = 0
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    say: Callable[[str], None] = lambda line: None
    counter: Callable[[str, int], Callable[[object], None]] = lambda what, total: lambda one: None
    """Makes a function that is called for each of so many."""

    def preferences(
        self, speaker: Agent, follower: Agent, config: BranchConfig, source: str
    ) -> list[Preference]:
        """Compare what a speaker might say, by how a follower fares after it.

        Args:
            speaker: plays the dialogues, and says the replies, at temperature 1.
            follower: goes on after a reply, to the end.
            config: how many, how often.
            source: is written into every preference.
        """
        if config.whole:
            return self._conversations(speaker, config, source)
        branches = self.branches(speaker, config)
        flat = [branch for alike in branches for branch in alike]
        self.follow(flat, follower, config.continuations)
        return [
            p
            for number, alike in enumerate(branches)
            for p in compare(alike, config.noise, source, f"{source}-{self.split}-{number}")
        ]

    def _conversations(self, speaker: Agent, config: BranchConfig, source: str) -> list[Preference]:
        """Whole conversations with the same customer, each compared with each."""
        self._worlds()
        seeds = [episode_seeds(self.seed, Purpose.BRANCH, i)[0] for i in range(config.dialogues)]
        many = [Moment(seed) for seed in seeds for _ in range(config.replies)]
        played = self._play(speaker, many, once=False)
        found: list[Preference] = []
        for i in range(config.dialogues):
            alike = [
                Branch(Moment(seeds[i]), *split_whole(conversation), [score])
                for conversation, score in played[i * config.replies : (i + 1) * config.replies]
            ]
            found += compare(alike, config.noise, source, f"{source}-{self.split}-{i}")
        return found

    def _worlds(self) -> Worlds:
        worlds = Worlds(self.world, self.split)
        if not worlds.ours:
            raise UserError(
                "expected an environment of rlchat envs, whose seed decides all that happens; got "
                f"{self.world.env}; give preferences as files instead"
            )
        return worlds

    def branches(self, speaker: Agent, config: BranchConfig) -> list[list[Branch]]:
        """One moment of every dialogue, drawn evenly from its turns, and replies in it."""
        worlds = self._worlds()
        numbers, watch = range(config.dialogues), self.counter("dialogues", config.dialogues)
        played = talk(speaker, worlds, numbers, self.seed, 1.0, self.rollout, watch)
        moments = []
        for trajectory in played:
            said = [m.content for m in trajectory.conversation if m.role == "assistant"]
            _, noise = episode_seeds(self.seed, Purpose.BRANCH, trajectory.index)
            moments.append(Moment(trajectory.seed, tuple(said[: int(noise.integers(len(said)))])))
        many = [moment for moment in moments for _ in range(config.replies)]
        replies = self._play(speaker, many, once=True)
        alike: list[list[Branch]] = []
        for i, moment in enumerate(moments):
            own = replies[i * config.replies : (i + 1) * config.replies]
            context = own[0][0][:-1]
            different = dict.fromkeys(conversation[-1:] for conversation, _ in own)
            alike.append([Branch(moment, context, reply) for reply in different])
        return alike

    def follow(self, branches: Sequence[Branch], follower: Agent, times: int) -> None:
        """Find out what becomes of every reply."""
        world, open_ones = World(self.world, self.split), []
        firsts: list[float] = []
        for branch in branches:
            outcome = live(world, branch.moment.then(branch.text))
            first = sum(outcome.parts.values())
            if outcome.terminated or outcome.truncated:
                branch.returns.append(first)
            else:
                open_ones.append(branch)
                firsts.append(first)
        self.say(f"{len(open_ones)} of {len(branches)} replies leave the episode open")
        many = [b.moment.then(b.text) for b in open_ones for _ in range(times)]
        for number, (_, score) in enumerate(self._play(follower, many, once=False)):
            open_ones[number // times].returns.append(firsts[number // times] + score)

    def _play(
        self, agent: Agent, moments: Sequence[Moment], once: bool
    ) -> list[tuple[Conversation, float]]:
        """Go on from moments, each time with another noise: conversations and later scores."""
        watch = self.counter("replies" if once else "continuations", len(moments))
        if isinstance(agent, ModelAgent):
            purpose = Purpose.BRANCH if once else Purpose.FOLLOW
            own = [(self.seed, purpose, i) for i in range(len(moments))]
            keys = [(i, key, key) for i, key in enumerate(own)]
            numbered = {episode_seeds(*k)[0]: m for k, m in zip(own, moments, strict=True)}
            worlds = Revisits(self.world, self.split, moments=numbered, once=once)
            played = collect(
                agent.speaker, agent.rendering, worlds, keys, self.rollout, on_episode=watch
            )
            return [(t.conversation, t.score) for t in played]
        world, played_out = World(self.world, self.split), []
        for number, moment in enumerate(moments):
            watch(moment)
            _, noise = episode_seeds(self.seed, Purpose.FOLLOW, number)
            live(world, moment)
            one = scripted(agent.name, world, int(noise.integers(2**31)), 1.0)
            if once:
                text = one.reply(world.conversation, world.hidden)
                said = (*world.conversation, Message("assistant", text))
                played_out.append((said, 0.0))
                continue
            score, over = 0.0, False
            while not over:
                outcome = world.step(one.reply(world.conversation, world.hidden))
                score += sum(outcome.parts.values())
                over = outcome.terminated or outcome.truncated
            played_out.append((world.conversation, score))
        return played_out


def live(world: World, moment: Moment) -> Outcome:
    """Bring a moment back; give what its last reply caused."""
    world.reset(moment.seed)
    outcome = Outcome((), {}, False, False, None)
    for text in moment.said:
        outcome = world.step(text)
    return outcome
