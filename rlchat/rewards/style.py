"""A person's preferred style as a score in training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlchat.distributed import Distributed
from rlchat.feedback.style_profile import known_person
from rlchat_envs import Conversation
from rlchat_reward_models.learned import turns_of
from rlchat_reward_models.style import Array, manner


class StyleReward:
    """A person's taste in training, as they had it when the run began.

    A reply scores log σ(w·(φ − φ̄)), the log-probability that the person prefers it to one in the
    reference policy's average manner φ̄: never above 0, so that talking on earns nothing.
    """

    def __init__(self, person: str):
        """Learn the taste.

        Raises:
            UserError: that person has compared nothing.
        """
        self.taste: Array = known_person(person).taste.mean
        self.usual: Array = np.zeros_like(self.taste)
        self.settled = False

    def score(self, conversations: Sequence[Conversation]) -> list[list[float]]:
        """Score every reply of every conversation, in nats."""
        return [
            [-float(np.logaddexp(0, -self.taste @ (said - self.usual))) for said in manners(c)]
            for c in conversations
        ]

    def settle(self, conversations: Sequence[Conversation], ranks: Distributed) -> None:
        """Take the average manner from what the reference policy said, on all ranks."""
        said = ranks.gather([m for c in conversations for m in manners(c)])
        self.usual, self.settled = np.mean(said, axis=0), True


def manners(conversation: Conversation) -> list[Array]:
    """How every reply of an agent's is said."""
    return [manner(context, said.content) for context, (said,) in turns_of(conversation)]
