"""The verb `feedback ask`: a person compares replies, those first that tell most of their taste."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from rich.console import Console
from rich.text import Text

from rlchat.cli.rating_commands import compare
from rlchat.cli.tables import dialogue
from rlchat.cli.terminal import ReadLine, open_lines
from rlchat.feedback.store import Reply, Store, store_path
from rlchat.feedback.style_profile import Known, known, show
from rlchat.inference.agents import NamedAgent
from rlchat.rollout.branching import Branch, BranchConfig, Forest
from rlchat.rollout.environment import WorldConfig
from rlchat.settings import expect
from rlchat_reward_models.preferences import messages_to_json
from rlchat_reward_models.style import Array, manner

WORLDS = ("Support", "SupportHard", "Tutoring", "Medical", "Finance")
SPEAKER = "demonstrator"  # is kind at times, and curt at others


@dataclass(frozen=True)
class AskOptions:
    """Compare two replies, ten times: how do you like to be spoken to?"""

    person: str = "me"
    """Who is asked."""
    count: int = 10
    """How many questions, at most."""
    dialogues: int = 20
    """Played in each of five worlds, to ask about."""
    seed: int = 0
    """Of the dialogues, which are others after every comparison that is kept."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        for name in ("count", "dialogues"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")


@dataclass(frozen=True)
class Question:
    """Two replies of one moment that differ in manner."""

    env: str
    first: Branch
    second: Branch
    difference: Array  # (P,) of their manners


def run_ask(options: AskOptions, console: Console, read: ReadLine | None = None) -> None:
    """Ask, keep every answer at once, and say what is known then.

    Raises:
        UserError: the file cannot be written.
    """
    read = read or open_lines(console, "ask-history")
    console.print(
        Text(
            "Which of two replies is said the way you like it? Which is right does not matter.\n"
            f"Answers are kept in {store_path()}; rlchat feedback forget takes them back."
        ),
        soft_wrap=True,
    )
    found = _known(options.person)
    seed = options.seed + found.own
    moments = questions("train", seed, BranchConfig(options.dialogues, replies=6))
    left, order = [q for moment in moments for q in moment], np.random.default_rng(seed)
    for number in range(min(options.count, len(left))):
        told = found.taste.telling(np.array([q.difference for q in left]))
        question = left.pop(int(np.argmax(told)))
        console.print(Text(f"\nQuestion {number + 1} of {options.count}", "bold"))
        try:
            value = pose(question, bool(order.random() < 0.5), console, read)
        except (EOFError, KeyboardInterrupt):
            break
        if value is not None:
            keep(options.person, question, value)
            found = _known(options.person)
    show(options.person, found, console)


def questions(
    split: Literal["train", "test"], seed: int, config: BranchConfig
) -> Iterator[list[Question]]:
    """What there is to ask, a list for each moment of dialogues of scripted desks."""
    for name in WORLDS:
        forest = Forest(WorldConfig(f"rlchat/{name}-v0"), split, seed)
        for alike in forest.branches(NamedAgent(SPEAKER), config):
            said = [manner(branch.context, branch.text) for branch in alike]
            yield [
                Question(forest.world.env, alike[i], alike[j], said[i] - said[j])
                for i, j in combinations(range(len(alike)), 2)
                if (said[i] != said[j]).any()
            ]


def pose(
    question: Question, swapped: bool, console: Console, read: ReadLine
) -> Literal[1, 0, -1] | None:
    """Show a moment and its two replies, and hear which is better: see `opinions.compare`."""

    def show_text(text: Text) -> None:
        console.print(text, soft_wrap=True)

    console.print(dialogue(question.first.context), soft_wrap=True, end="")
    return compare(question.first.text, question.second.text, swapped, show_text, read)


def keep(person: str, question: Question, value: Literal[1, 0, -1]) -> None:
    """Keep an answer as /ab is kept: both replies, and how they compare."""
    first, second = question.first, question.second
    turn, context = len(first.moment.said), messages_to_json(first.context)
    with Store.open(store_path()) as store, store.writing():
        session = store.begin_session(person, SPEAKER, SPEAKER, question.env, 1.0)
        number = store.add_reply(session, Reply(turn, context, first.text))
        store.pair(number, second.text, value)
        store.add_reply(session, Reply(turn, context, second.text))


def _known(person: str) -> Known:
    """What is known now; the file is not open while a person thinks."""
    with Store.open(store_path()) as store:
        return known(store, person)
