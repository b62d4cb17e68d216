"""Seeds of episodes: what is drawn for one purpose is drawn for no other."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """Purposes of seeds: what is drawn for one is drawn for no other."""

    TRAIN = 1  # goals and users
    PLAY = 2  # what is sampled in training
    DEMONSTRATE = 3
    EVALUATE = 4  # goals and users
    ANSWER = 5  # what is sampled in evaluations
    CHAT = 6
    BRANCH = 7  # where an episode branches
    FOLLOW = 8  # what becomes of replies
    REPLY = 9  # other replies at a branch
    CHOOSE = 10  # which of several environments an episode is played in
    STYLE = 11  # which style an episode states, and in which words


def episode_seeds(*keys: int) -> tuple[int, np.random.Generator]:
    """A seed for the environment and a generator for the sampler, from (seed, purpose, …, episode).

    They depend on nothing else, so that the same episodes are played whoever plays them.
    """
    env, noise = np.random.SeedSequence([k % 2**32 for k in keys]).spawn(2)
    return int(env.generate_state(1)[0]), np.random.default_rng(noise)
