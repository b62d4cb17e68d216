"""The verb `feedback style`: what is known of a person's taste, from their comparisons."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rlchat.errors import UserError
from rlchat.feedback.export import existing_store, preference_rows
from rlchat.feedback.store import Rating, Store
from rlchat_reward_models.preferences import preference
from rlchat_reward_models.style import Array, Taste, begin, differences, learn


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


def _seen(ratings: Iterable[Rating]) -> Array:
    return differences([preference(row, row["dialogue"]) for row in preference_rows(ratings)])
