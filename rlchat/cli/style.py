"""Verbs `feedback style` and `feedback ask`: a person's preferred style."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlchat.cli.options import AskOptions, StyleOptions
from rlchat.cli.rating_commands import compare
from rlchat.cli.tables import dialogue
from rlchat.cli.terminal import ReadLine, open_lines, printable
from rlchat.feedback.store import store_path
from rlchat.feedback.style_profile import Known, known_person
from rlchat.rewards.elicitation import Question, keep, known_so_far, questions
from rlchat.rollout.config import BranchConfig
from rlchat.statistics import Z
from rlchat_reward_models.style_features import STYLE_FEATURES

SURE, LIKELY = 0.95, 0.75  # probabilities from which words say so


def run_style(options: StyleOptions, console: Console) -> None:
    """Print a person's preferred style.

    Raises:
        UserError: nobody of that name has compared replies.
    """
    show(options.person, known_person(options.person), console)


def show(person: str, found: Known, console: Console) -> None:
    """Print what is known, in words and numbers."""
    table = Table("feature", "wants", "log-odds", box=None, padding=(0, 2, 0, 0))
    spreads = np.sqrt(np.diag(found.posterior.covariance))
    for name, mean, spread in zip(STYLE_FEATURES, found.posterior.mean, spreads, strict=True):
        numbers = f"{mean:+.1f} ({mean - Z * spread:+.1f} … {mean + Z * spread:+.1f})"
        table.add_row(name, in_words(mean, spread), numbers)
    console.print(table)
    silent = f", {found.silent} of them about replies in the same style" if found.silent else ""
    console.print(
        Text(
            printable(
                f"{person}, from {found.own} comparison{'s' * (found.own != 1)}{silent}, beside "
                f"{found.others} of others. Log-odds of being preferred, per usual difference."
            )
        ),
        soft_wrap=True,
    )


def in_words(mean: float, spread: float) -> str:
    """Say in words what a normal distribution of a weight tells of its sign."""
    sure = 0.5 * (1 + math.erf(abs(mean) / spread / math.sqrt(2)))
    what = "more" if mean > 0 else "less"
    if sure >= SURE:
        return f"surely {what}"
    return f"rather {what}" if sure >= LIKELY else "not known"


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
    found = known_so_far(options.person)
    seed = options.seed + found.own
    moments = questions("train", seed, BranchConfig(options.dialogues, replies=6))
    left, order = [q for moment in moments for q in moment], np.random.default_rng(seed)
    for number in range(min(options.count, len(left))):
        told = found.posterior.expected_information(np.array([q.difference for q in left]))
        question = left.pop(int(np.argmax(told)))
        console.print(Text(f"\nQuestion {number + 1} of {options.count}", "bold"))
        try:
            value = pose(question, bool(order.random() < 0.5), console, read)
        except (EOFError, KeyboardInterrupt):
            break
        if value is not None:
            keep(options.person, question, value)
            found = known_so_far(options.person)
    show(options.person, found, console)


def pose(
    question: Question, swapped: bool, console: Console, read: ReadLine
) -> Literal[1, 0, -1] | None:
    """Show a moment and its two replies, and ask which is better; see `rating_commands.compare`."""

    def show_text(text: Text) -> None:
        console.print(text, soft_wrap=True)

    console.print(dialogue(question.first.context), soft_wrap=True, end="")
    return compare(question.first.text, question.second.text, swapped, show_text, read)
