"""How simulated users talk beside how people, or the users of the demonstrations, do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from rlchat.errors import UserError
from rlchat.rollout.conversations import read_conversations
from rlchat.rollout.demonstrations import demonstrate
from rlchat.rollout.environment import WorldConfig
from rlchat.settings import names
from rlchat_envs.realism import HEADINGS, Talk, listen, rows
from rlchat_envs.users import FAMILIES


@dataclass(frozen=True)
class UsersOptions:
    """Measure how users talk: length, acts, words, and when they end it."""

    env: str = "rlchat/Support-v0"
    """An environment of `rlchat envs`, or module:Id of your own."""
    users: str = ",".join(FAMILIES)
    """Families to measure, comma-separated, each alone."""
    data: Path | None = None
    """Conversations to measure them by, JSON lines of {"messages": [{"role", "content"}, …]}; the
    demonstrations that a warm start learns from, if none is named."""
    split: Literal["train", "dev", "test"] = "train"
    """Side that goals and users come from."""
    episodes: int = 200
    """Conversations of each family with the demonstrator."""
    seed: int = 0
    """Decides them."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        if self.episodes < 1:
            raise UserError(f"expected episodes of at least 1; got {self.episodes}")


def run_users(options: UsersOptions, console: Console) -> None:
    """Print a row for what they are measured by, and one for each family.

    Raises:
        UserError: no such environment, family or file.
    """

    def talked(users: tuple[str, ...], split: str) -> Talk:
        world = WorldConfig(options.env, users)
        return listen(demonstrate(world, options.episodes, options.seed, split))

    if options.data is not None:
        measure, name = listen(read_conversations(options.data)), options.data.name
    else:
        measure, name = talked((), "train"), "demonstrations"
    talks = {name: measure} | {
        user: talked((user,), options.split) for user in names(options.users)
    }
    table = Table(*HEADINGS, box=None, title=f"{options.env}, {options.split} side")
    for row in rows(talks, measure):
        table.add_row(*row)
    table.caption = f"lengths, acts, words, turns: divergence from {name}, 0 to 1 bit"
    console.print(table)
