"""The verb `feedback style`: a person's preference weights, from their comparisons."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rlchat.errors import UserError
from rlchat.feedback.export import existing_store, preference_rows
from rlchat.feedback.store import Rating, Store
from rlchat_reward_models.preference_posterior import (
    PreferencePosterior,
    fit_posterior,
    population_prior,
)
from rlchat_reward_models.preferences import preference
from rlchat_reward_models.style_features import Array, feature_differences


@dataclass(frozen=True)
class Known:
    """A person's preference weights, and how many comparisons they rest on."""

    posterior: PreferencePosterior
    own: int
    silent: int  # of the own, those whose replies no feature tells apart
    others: int


def known(store: Store, person: str) -> Known:
    """Infer a person's preference weights, with a prior from everybody else's comparisons."""
    ratings = list(store.ratings())
    own = _seen(r for r in ratings if r.session.person == person)
    others = _seen(r for r in ratings if r.session.person != person)
    silent = int((np.abs(own).max(axis=1, initial=0) == 0).sum())
    return Known(fit_posterior(population_prior(others), own), len(own), silent, len(others))


def known_person(person: str) -> Known:
    """What is known of the style that a person prefers, who has compared replies.

    Raises:
        UserError: nobody of that name has.
    """
    with Store.open(existing_store()) as store:
        found = known(store, person)
    if found.own == found.silent:
        what = "only replies in the same style" if found.own else "none"
        raise UserError(
            f"expected comparisons of {person}'s; there are {what}; rlchat feedback ask "
            f"--person {person} asks for some, and /ab and /edit in rlchat chat keep others"
        )
    return found


def _seen(ratings: Iterable[Rating]) -> Array:
    return feature_differences(
        [preference(row, row["dialogue"]) for row in preference_rows(ratings)]
    )
