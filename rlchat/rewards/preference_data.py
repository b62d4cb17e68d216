"""What the verb `reward build` does: preferences from simulators, people and files in one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from rlchat import files
from rlchat.cli.progress import Progress
from rlchat.cli.terminal import say
from rlchat.errors import UserError
from rlchat.feedback.export import stored_preferences
from rlchat.inference.agents import load_agent
from rlchat.rollout.branching import BranchConfig, Forest
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import WorldConfig
from rlchat.settings import SEEDS, expect, names
from rlchat_reward_models import chitchat
from rlchat_reward_models.preferences import Preference, preference, read_preferences, tidy


@dataclass(frozen=True)
class BuildOptions:
    """Collect preferences from simulators, people's ratings and files, in trl's format."""

    out: Path = Path("preferences.jsonl")
    """Where they go: JSON lines of prompt, chosen, rejected, weight, source, turn, dialogue."""
    simulate: bool = True
    """Compare sampled replies in simulated conversations by what becomes of them."""
    chitchat: bool = False
    """Add people's ratings of their conversations; needs pip install 'rlchat[people]'."""
    people: bool = False
    """Add what people chose and edited in rlchat chat."""
    file: tuple[Path, ...] = ()
    """Add files in any of trl's preference formats."""
    env: str = "rlchat/Support-v0"
    """Environment of the simulated conversations."""
    users: str = ""
    """Families of users, comma-separated; the usual ones if none is named."""
    split: Literal["train", "dev", "test"] = "train"
    """Side that goals come from."""
    speaker: str = "demonstrator"
    """Agent whose replies are compared: a run folder, or a name as for `rlchat eval`."""
    follower: str = ""
    """Agent that goes on after a reply, to the end; the speaker if none is named."""
    policy: str = "smollm2-135m"
    """The model that `base` stands for."""
    seed: int = 0
    """Decides conversations, replies and continuations."""
    branches: BranchConfig = field(default_factory=BranchConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "seed", 0 <= self.seed < SEEDS, f"of at least 0 and below {SEEDS}")
        if not (self.simulate or self.chitchat or self.people or self.file):
            raise UserError("expected a source of preferences; got none; leave --no-simulate out")
        if self.branches.whole and self.follower:
            raise UserError(
                "expected no follower where whole conversations are compared; got "
                f"{self.follower}; leave --follower or --branches.whole out"
            )


def run_build(options: BuildOptions, console: Console) -> None:
    """Collect, tidy and write preferences, and say how many there are of which kind."""
    files.check_place(options.out)
    found: list[Preference] = []
    for path in options.file:
        found += read_file(path)
    if options.people:
        found += [preference(row, row["dialogue"]) for row in stored_preferences()]
    if options.chitchat:
        found += _rated(options.seed)
    if options.simulate:
        with Progress(console) as progress:
            found += _simulated(options, progress)
    tidied = tidy(found)
    lines = [json.dumps(p.to_json(), ensure_ascii=False) + "\n" for p in tidied.preferences]
    files.write_text(options.out, "".join(lines))
    console.print(_counted(tidied.preferences))
    say(
        console,
        f"left out: {tidied.ties} ties, {tidied.duplicates} duplicates; "
        f"{tidied.contradictions} pairs contradicted one another and were weighed",
    )
    say(console, f"Written to {options.out}. Train on it:  rlchat reward train {options.out}")


def _simulated(options: BuildOptions, progress: Progress) -> list[Preference]:
    world = WorldConfig(options.env, names(options.users))
    say, counter = progress.say, progress.counter
    forest = Forest(world, options.split, options.seed, options.rollout, say, counter)
    speaker = load_agent(options.speaker, options.policy, say=progress.say)
    follower = speaker
    if options.follower and options.follower != options.speaker:
        follower = load_agent(options.follower, options.policy, say=progress.say)
    source = "conversations" if options.branches.whole else "simulator"
    return forest.preferences(speaker, follower, options.branches, source)


def _counted(preferences: Sequence[Preference]) -> Table:
    table = Table("source", "preferences", "clear", "held out", "dialogues", box=None)
    groups: dict[str, list[Preference]] = {}
    for p in preferences:
        groups.setdefault(p.source, []).append(p)
    for source, group in groups.items():
        clear, held = sum(p.clear for p in group), sum(p.held_out for p in group)
        dialogues = len({p.dialogue for p in group})
        cells = (len(group), f"{clear / len(group):.0%}", held, dialogues)
        table.add_row(source, *map(str, cells))
    return table


def _rated(seed: int) -> list[Preference]:
    try:
        return chitchat.preferences(chitchat.rated(chitchat.load()), seed=seed)
    except ValueError as error:
        raise UserError(str(error)) from error


def read_file(path: Path) -> list[Preference]:
    """Read preferences.

    Raises:
        UserError: there are none, or bad lines.
    """
    try:
        return read_preferences(path)
    except ValueError as error:
        raise UserError(str(error)) from error
