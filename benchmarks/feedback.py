"""A stand-in for a person rates replies in the chat, by what becomes of them.

    python benchmarks/feedback.py runs/demo --ratings 30

It sits where a person sits, and types what a person types: `/user 1` lets the simulated customer
speak, `+` or `-` rates what the agent answered, `/reset` opens the next case. A reply is good if it
solves the case or brings it forward, and bad if it spoils it or brings nothing; that is decided on
a copy of the case, before the customer has answered.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.text import Text

from rlchat.cli.chat import Chat, environment_of
from rlchat.cli.libraries import quiet
from rlchat.cli.main import guarded
from rlchat.cli.options import ChatOptions
from rlchat.inference.load_agent import load_agent


@dataclass(frozen=True)
class StandInOptions:
    """Rate replies in the chat as a person would who knows what is right."""

    agent: Annotated[str, tyro.conf.Positional]
    """A run folder."""
    ratings: int = 30
    """How many."""
    person: str = "stand-in"
    """Whose ratings they are."""
    seed: int = 0
    """Decides cases and sampling."""


class StandIn:
    """Decides the next line of the one who sits before the chat."""

    def __init__(self, ratings: int):
        """So many ratings, then they leave."""
        self.left = ratings
        self.chat: Chat
        self._lines = self._talk()

    def __call__(self, who: Text) -> str:
        """The next line; the end of them ends the chat."""
        line = next(self._lines, None)
        if line is None:
            raise EOFError
        return line

    def _talk(self) -> Iterator[str]:
        while self.left:
            turns = len(self.chat.session.parts)
            yield "/user 1"
            if len(self.chat.session.parts) > turns:  # the agent answered
                self.left -= 1
                yield "+" if self.likes() else "-"
            if self.chat.session.solved is not None:
                yield "/reset"

    def likes(self) -> bool:
        """Whether the last reply is worth something."""
        session = self.chat.session
        if session.solved is not None:
            return session.solved
        assert session.case is not None
        case = copy.deepcopy(session.case)
        before, reply = case.potential, session.conversation[-1]
        assert reply.role == "assistant"
        for _ in range(2):  # customers who have to look something up want to be asked again
            reaction = case.hear(reply.content)
            if reaction.terminated:
                return reaction.resolution > 0
        return case.potential > before


def main(options: StandInOptions) -> None:
    """Talk and rate."""
    console = Console()
    chosen = ChatOptions(options.agent, split="train", seed=options.seed, person=options.person)
    person = StandIn(options.ratings)
    agent, world = load_agent(options.agent), environment_of(chosen)
    person.chat = Chat(chosen, agent, world, console, person)
    person.chat.begin()
    try:
        while person.chat.line(person(Text())):
            pass
    except EOFError:
        console.print(f"{options.ratings} replies rated.")


if __name__ == "__main__":
    quiet()
    sys.exit(guarded(lambda: main(tyro.cli(StandInOptions)), "feedback"))
