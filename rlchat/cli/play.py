"""Playing the agent oneself, against the simulated user: what the policy sees, a person sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.text import Text

from rlchat.cli.tables import ending, label, parts_line, spoken
from rlchat.cli.terminal import ReadLine, open_lines, printable
from rlchat.errors import UserError
from rlchat.inference.scripted_agent import ScenarioAgent
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvConfig, EnvPool, StepResult, TextEnv
from rlchat.rollout.episodes import play_episode, play_episodes
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat.rollout.trajectory import Episode
from rlchat.settings import names
from rlchat_envs import Conversation, DialogueEnv


@dataclass(frozen=True)
class PlayOptions:
    """Play the agent against the simulated user; Ctrl-D leaves."""

    env: str = "rlchat/Support-v0"
    """Environment: a Gymnasium id, or module:Id from the working folder; text in, text out."""
    users: str = ""
    """Families of users, comma-separated; `rlchat envs` lists them."""
    knowledge: str = ""
    """What the desk looks up, comma-separated: bm25, dense or hybrid (the scenario's documents, or
    bm25:FOLDER of text files), graph (its facts, or graph:FILE.tsv or .ttl); nothing if empty."""
    split: Literal["train", "dev", "test"] = "dev"
    """Side that goals come from."""
    seed: int = 0
    """Decides users and goals, as in rlchat eval."""
    episodes: int = 1
    """How many users, one after the other."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        if self.episodes < 1:
            raise UserError(f"expected episodes of at least 1; got {self.episodes}")


def run_play(options: PlayOptions, console: Console, read: ReadLine | None = None) -> None:
    """Let a person play the agent.

    Args:
        options: against whom.
        console: shows the conversation.
        read: gives their lines; the terminal or standard input if None.

    Raises:
        UserError: no such environment, or one that does not speak text.
    """
    config = EnvConfig(options.env, names(options.users), knowledge=names(options.knowledge))
    worlds = EnvPool(config, options.split)
    world = worlds[0]
    read = read or open_lines(console, "play-history")
    try:
        for index in range(options.episodes):
            played = play_one(world, index, options.seed, console, read)
            _say(console, f"{ending(played).capitalize()}.")
            env = world.env.unwrapped
            if isinstance(env, DialogueEnv):
                _say(console, f"Right: {env.case.solution}.")
                if "expert" in env.scenario.agents:
                    expert = ScenarioAgent("expert")
                    rollout = RolloutConfig()
                    best = play_episodes(expert, worlds, [index], options.seed, 0.0, rollout)[0]
                    _say(console, f"The expert, on the same goal: {ending(best)}.")
    except (EOFError, KeyboardInterrupt):
        _say(console, "Goodbye.")


def play_one(world: TextEnv, index: int, seed: int, console: Console, read: ReadLine) -> Episode:
    """Let a person play one episode, the same that agents play in an evaluation.

    Returns:
        Its record.
    """

    def speak(env: TextEnv) -> str:
        if not any(m.role == "assistant" for m in env.conversation):
            _show(console, env.conversation)
        while not (line := read(label("assistant", "you")).strip()):
            pass
        return line

    def tell(result: StepResult) -> None:
        if result.dropped:
            _say(
                console, f"Left out, as the environment cannot read them: {result.dropped} letters."
            )
        _show(console, result.messages)
        _say(console, parts_line(result.parts))
        if result.costs:
            _say(console, f"unsafe: {', '.join(result.costs)}")

    env_seed, _ = episode_seeds(seed, Purpose.EVALUATE, index)
    return play_episode(world, speak, index, env_seed, tell)


def _show(console: Console, messages: Conversation) -> None:
    for message in messages:
        console.print(spoken(message), soft_wrap=not console.is_terminal)


def _say(console: Console, text: str) -> None:
    console.print(Text(printable(text), "dim"), soft_wrap=not console.is_terminal)
