"""The verb `feedback style`: what is known of a person's taste, from their comparisons."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlchat.cli.terminal import printable
from rlchat.errors import UserError
from rlchat.feedback.export import existing_store, preference_rows
from rlchat.feedback.store import Rating, Store
from rlchat.statistics import Z
from rlchat_reward_models.preferences import preference
from rlchat_reward_models.style import PARTS, Array, Taste, begin, differences, learn

SURE, LIKELY = 0.95, 0.75  # probabilities from which words say so


@dataclass(frozen=True)
class StyleOptions:
    """Say how a person likes to be spoken to, from /ab and /edit."""

    person: str = "me"
    """Whose taste."""


@dataclass(frozen=True)
class Known:
    """What is known of a person's taste, and how many comparisons it rests on."""

    taste: Taste
    own: int
    silent: int  # of the own, those whose replies no part tells apart
    others: int


def known(store: Store, person: str) -> Known:
    """Learn a person's taste, beginning with what everybody else's comparisons say."""
    ratings = list(store.ratings())
    own = _seen(r for r in ratings if r.session.person == person)
    others = _seen(r for r in ratings if r.session.person != person)
    silent = int((np.abs(own).max(axis=1, initial=0) == 0).sum())
    return Known(learn(begin(others), own), len(own), silent, len(others))


def known_person(person: str) -> Known:
    """The same of somebody who has compared replies.

    Raises:
        UserError: nobody of that name has.
    """
    with Store.open(existing_store()) as store:
        found = known(store, person)
    if found.own == found.silent:
        what = "only replies in the same manner" if found.own else "none"
        raise UserError(
            f"expected comparisons of {person}'s; there are {what}; rlchat feedback ask "
            f"--person {person} asks for some, and /ab and /edit in rlchat chat keep others"
        )
    return found


def run_style(options: StyleOptions, console: Console) -> None:
    """Print a person's taste.

    Raises:
        UserError: nobody of that name has compared replies.
    """
    show(options.person, known_person(options.person), console)


def show(person: str, found: Known, console: Console) -> None:
    """Print what is known, in words and numbers."""
    table = Table("part", "wants", "log-odds", box=None, padding=(0, 2, 0, 0))
    spreads = np.sqrt(np.diag(found.taste.covariance))
    for name, mean, spread in zip(PARTS, found.taste.mean, spreads, strict=True):
        numbers = f"{mean:+.1f} ({mean - Z * spread:+.1f} … {mean + Z * spread:+.1f})"
        table.add_row(name, in_words(mean, spread), numbers)
    console.print(table)
    silent = f", {found.silent} of them about replies in the same manner" if found.silent else ""
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
    """What a normal distribution of a weight says of its sign."""
    sure = 0.5 * (1 + math.erf(abs(mean) / spread / math.sqrt(2)))
    what = "more" if mean > 0 else "less"
    if sure >= SURE:
        return f"surely {what}"
    return f"rather {what}" if sure >= LIKELY else "not known"


def _seen(ratings: Iterable[Rating]) -> Array:
    return differences([preference(row, row["dialogue"]) for row in preference_rows(ratings)])
